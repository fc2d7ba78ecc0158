//! One run: the conversation with the service, the commands that it asks for, and everybody who watches.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heph_daemon::connect::{is_cut_off, is_going_away};
use heph_proto::heph_client::HephClient;
use heph_proto::run_event::Event as Told;
use heph_proto::run_request::Request;
use heph_proto::{
    CancelRun, Execute, Executed, Finished, Notice, Outputs, Plan, Report, RunEvent, RunRequest, Spawned,
    Start, WriteTree, Written,
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::error::Result;
use crate::liveness::{Liveness, News};
use crate::render::{Event, Observer};
use crate::signals::Signals;

pub mod approval;
pub mod outputs;
pub mod profile;
pub mod record;
pub mod report;

/// Times a second that what runs is shown anew.
const TICK: Duration = Duration::from_millis(100);

/// Commands that are killed end within this time.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Why a run is given up whose user wants to leave.
const SILENT: &str = "its service does not answer";

/// Messages on their way to the service; more than commands can run at once.
const REQUESTS: usize = 1024;

/// Runs commands and writes files on this machine.
pub trait Executor: Send + Sync + 'static {
    /// Takes what a plan says for those after it, in the order in which they come.
    fn learn(&self, _plan: &mut Plan) {}
    /// Runs a plan to its end, or a shell in its place, and says on `progress` when its command has been started.
    fn execute(
        &self,
        id: u64,
        plan: Plan,
        shell: bool,
        progress: Progress,
    ) -> impl Future<Output = Report> + Send;
    /// Puts files into the source tree; how many changed.
    fn write_tree(&self, write: WriteTree) -> impl Future<Output = Written> + Send;
    /// Kills the command of one plan.
    fn kill(&self, id: u64);
    /// Kills all commands and starts no other.
    fn kill_all(&self);
}

/// How a plan that is under way tells the run about itself.
#[derive(Clone)]
pub struct Progress {
    id: u64,
    done: mpsc::UnboundedSender<Done>,
    spawned: Arc<Mutex<Vec<(u64, Instant)>>>,
    /// Whether the service waits to hear of it.
    is_told: bool,
}

impl Progress {
    /// The command runs now.
    ///
    /// Who shows it hears of it with the next thing that happens: waking the run for each would cost more than the rest.
    pub fn spawned(&self) {
        lock(&self.spawned).push((self.id, Instant::now()));
        if self.is_told {
            // Nobody listens when the run has ended.
            let _ = self.done.send(Done::Spawned(self.id));
        }
    }

    /// Nothing is drawn on the terminal until [`Progress::resume`]; returns when that is so.
    pub async fn suspend(&self) {
        let (quiet, is_quiet) = oneshot::channel();
        let _ = self.done.send(Done::Suspend(quiet));
        let _ = is_quiet.await;
    }

    /// The terminal is no longer needed.
    pub fn resume(&self) {
        let _ = self.done.send(Done::Resume);
    }
}

/// What a run begins with.
#[derive(Debug, Default)]
pub struct Opening {
    /// What is asked for.
    pub start: Start,
    /// What this side has to say before anything happens.
    pub notices: Vec<Notice>,
}

/// How a conversation about a run ended.
#[derive(Debug)]
pub enum Ending {
    /// With the last event.
    Ended(Ended),
    /// The service went away before.
    Lost(Lost),
}

/// What is known of a run whose service went away. Nothing of it runs any more.
#[derive(Debug, Default)]
pub struct Lost {
    /// Whether anything had begun: else the service only was on its way out.
    pub had_begun: bool,
    /// Targets whose commands had been started, of those whose start the service wanted to hear of.
    pub interrupted: Vec<String>,
}

/// What a run left behind.
#[derive(Debug, Default)]
pub struct Ended {
    /// The last event.
    pub finished: Finished,
    /// Outputs of selected targets, when they were asked for.
    pub outputs: Vec<Outputs>,
    /// Files of the source tree that the run itself wrote, relative to the root.
    pub written: HashSet<PathBuf>,
}

/// Runs once, as `opening` says, and tells `observers` what happens.
///
/// # Errors
/// When the service refuses, or breaks though it is in this process: then `daemon`, its number, is `None`.
pub async fn run<E: Executor>(
    (client, daemon): (&mut HephClient<Channel>, Option<u32>),
    opening: Opening,
    executor: Arc<E>,
    signals: &mut Signals,
    observers: &mut [Box<dyn Observer>],
) -> Result<Ending> {
    let (requests, receiver) = mpsc::channel(REQUESTS);
    let Opening { start, notices } = opening;
    let selector = start.selector.clone();
    let is_shell = start.shell;
    let mut conversation = Conversation {
        began: Instant::now(),
        requests,
        executor,
        observers,
        plans: HashMap::new(),
        spawned: Arc::default(),
        begun: HashSet::new(),
        log_lines: start.log_lines,
        is_silent: false,
        news: Vec::new(),
        ended: Ended::default(),
    };
    conversation.send(Request::Start(start)).await;
    let mut liveness = Liveness::of(client, daemon);
    let cannot_leave = daemon.is_none();
    let opened = {
        let mut opening = pin!(client.run(ReceiverStream::new(receiver)));
        loop {
            tokio::select! {
                biased;
                opened = &mut opening => break opened,
                // Nothing has begun that would have to be ended.
                () = signals.asked() => return Ok(Ending::Lost(Lost::default())),
                news = liveness.news() => conversation.heard(news, &liveness),
            }
        }
    };
    let mut events = match opened {
        Ok(events) => events.into_inner(),
        Err(status) if !cannot_leave && (is_going_away(&status) || is_cut_off(&status)) => {
            return Ok(Ending::Lost(Lost::default()));
        }
        Err(status) => return Err(status.into()),
    };
    conversation.tell(&Event::Begin(&selector));
    for notice in &notices {
        conversation.tell(&Event::Notice(notice));
    }
    // Bounded by the plans under way, whose number the service decides.
    let (done, mut reports) = mpsc::unbounded_channel();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut is_over = false;
    let status = loop {
        tokio::select! {
            biased;
            () = signals.asked() => {
                conversation.cancel(is_over).await;
                liveness.hurry();
                if conversation.is_silent {
                    break tonic::Status::unavailable(SILENT);
                }
            }
            news = liveness.news() => {
                conversation.heard(news, &liveness);
                if conversation.is_silent && signals.were_asked() {
                    break tonic::Status::unavailable(SILENT);
                }
            }
            _ = tick.tick(), if !is_over => conversation.tick(),
            Some(report) = reports.recv() => conversation.done(report).await,
            event = events.message() => match event {
                Ok(Some(RunEvent { event: Some(Told::Finished(mut finished)) })) => {
                    is_over = true;
                    if is_shell && finished.exit_code == 0 {
                        // Whoever leaves a shell has seen what there was to see.
                        finished.summary = None;
                    }
                    conversation.tell(&Event::Finished(&finished));
                    conversation.ended.finished = finished;
                }
                Ok(Some(RunEvent { event: Some(event) })) => conversation.event(event, &done),
                Ok(Some(RunEvent { event: None })) => {}
                // Between the last event and the end of the stream, what was learnt is written down for the next run.
                _ if is_over => return Ok(Ending::Ended(conversation.ended)),
                Ok(None) => break tonic::Status::unavailable("its service ended before the run did"),
                Err(status) => break status,
            },
        }
    };
    let was_cut_off = is_cut_off(&status);
    conversation.abandon(&mut reports, signals).await;
    match cannot_leave || !was_cut_off {
        true => Err(status.into()),
        false => Ok(Ending::Lost(Lost {
            had_begun: true,
            interrupted: conversation.begun.into_iter().collect(),
        })),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that this side was asked to do has been done.
enum Done {
    Spawned(u64),
    Executed(u64, Box<Report>),
    Written(String, Written),
    Suspend(oneshot::Sender<()>),
    Resume,
}

struct Conversation<'a, E> {
    began: Instant,
    requests: mpsc::Sender<RunRequest>,
    executor: Arc<E>,
    observers: &'a mut [Box<dyn Observer>],
    /// Addresses of the plans that are under way.
    plans: HashMap<u64, String>,
    /// Plans whose commands were started since the last look.
    spawned: Arc<Mutex<Vec<(u64, Instant)>>>,
    /// Targets whose commands were started, of those whose start the service wanted to hear of.
    begun: HashSet<String>,
    /// Lines of a failed command's log that are shown.
    log_lines: u32,
    /// The service does not answer, and may never.
    is_silent: bool,
    /// What of that was told: each once.
    news: Vec<News>,
    ended: Ended,
}

impl<E: Executor> Conversation<'_, E> {
    fn tell_spawned(&mut self) {
        let spawned = std::mem::take(&mut *lock(&self.spawned));
        for (id, when) in spawned {
            if let Some(address) = self.plans.get(&id) {
                let at = when.saturating_duration_since(self.began);
                for observer in self.observers.iter_mut() {
                    observer.see(at, &Event::Started(address));
                }
            }
        }
    }

    fn tell(&mut self, event: &Event<'_>) {
        self.tell_spawned();
        let at = self.began.elapsed();
        for observer in self.observers.iter_mut() {
            observer.see(at, event);
        }
    }

    fn tick(&mut self) {
        self.tell_spawned();
        let at = self.began.elapsed();
        for observer in self.observers.iter_mut() {
            observer.tick(at);
        }
    }

    /// Whether the service answers, said once.
    fn heard(&mut self, news: News, liveness: &Liveness) {
        self.is_silent = news == News::Silent;
        if !self.news.contains(&news) {
            self.news.push(news);
            self.tell(&Event::Notice(&liveness.notice(news)));
        }
    }

    async fn send(&mut self, request: Request) {
        // A service that is gone is noticed at the events.
        let _ = self
            .requests
            .send(RunRequest {
                request: Some(request),
            })
            .await;
    }

    async fn cancel(&mut self, is_over: bool) {
        if !is_over {
            self.tell(&Event::Cancelling);
        }
        self.executor.kill_all();
        self.send(Request::Cancel(CancelRun {})).await;
    }

    /// The service is gone: ends what runs, and waits until it has, so that it can be run again.
    async fn abandon(&mut self, reports: &mut mpsc::UnboundedReceiver<Done>, signals: &mut Signals) {
        self.executor.kill_all();
        let ended = async {
            while !self.plans.is_empty() {
                match reports.recv().await {
                    Some(Done::Executed(id, _)) => drop(self.plans.remove(&id)),
                    Some(Done::Spawned(id)) => self.note_begun(id),
                    Some(Done::Suspend(quiet)) => drop(quiet.send(())),
                    Some(Done::Written(..) | Done::Resume) => {}
                    None => return,
                }
            }
        };
        tokio::select! {
            () = ended => {}
            // A second time there is no return from it.
            () = signals.asked() => {}
            () = tokio::time::sleep(KILL_LIMIT) => tracing::warn!("commands that were killed did not end in time"),
        }
    }

    fn note_begun(&mut self, id: u64) {
        self.begun.extend(self.plans.get(&id).cloned());
    }

    fn event(&mut self, event: Told, done: &mpsc::UnboundedSender<Done>) {
        match event {
            Told::Execute(execute) => self.execute(execute, done),
            Told::Write(write) => self.write(write, done),
            Told::Kill(kill) => self.executor.kill(kill.id),
            Told::Planned(planned) => self.tell(&Event::Planned(&planned)),
            Told::Target(mut target) => {
                if let (0, Some(failed)) = (self.log_lines, &mut target.failed) {
                    failed.log_tail.clear();
                }
                self.tell(&Event::Target(&target));
            }
            Told::UpToDate(up_to_date) => self.tell(&Event::UpToDate(up_to_date.count)),
            Told::Notice(notice) => self.tell(&Event::Notice(&notice)),
            Told::WouldRun(would) => self.tell(&Event::WouldRun(&would)),
            Told::Waiting(waiting) => self.tell(&Event::Waiting(&waiting.address, waiting.pid)),
            Told::Outputs(outputs) => {
                self.tell(&Event::Outputs(&outputs));
                self.ended.outputs.push(outputs);
            }
            // The loop ends with it.
            Told::Finished(_) => {}
        }
    }

    fn execute(&mut self, execute: Execute, done: &mpsc::UnboundedSender<Done>) {
        let Execute {
            id,
            plan,
            shell,
            tell_spawned,
        } = execute;
        let mut plan = plan.unwrap_or_default();
        self.executor.learn(&mut plan);
        self.plans.insert(id, plan.address.clone());
        let executor = Arc::clone(&self.executor);
        let progress = Progress {
            id,
            done: done.clone(),
            spawned: Arc::clone(&self.spawned),
            is_told: tell_spawned,
        };
        tokio::spawn(async move {
            let done = progress.done.clone();
            let report = Box::new(executor.execute(id, plan, shell, progress).await);
            let _ = done.send(Done::Executed(id, report));
        });
    }

    fn write(&mut self, write: WriteTree, done: &mpsc::UnboundedSender<Done>) {
        if !write.frozen {
            self.ended
                .written
                .extend(write.files.iter().map(|file| PathBuf::from(&file.path)));
        }
        let executor = Arc::clone(&self.executor);
        let done = done.clone();
        tokio::spawn(async move {
            let address = write.address.clone();
            let written = executor.write_tree(write).await;
            let _ = done.send(Done::Written(address, written));
        });
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Spawned(id) => {
                self.note_begun(id);
                self.send(Request::Spawned(Spawned { id })).await;
            }
            Done::Executed(id, report) => {
                self.tell_spawned();
                self.plans.remove(&id);
                self.send(Request::Executed(Executed {
                    id,
                    report: Some(*report),
                }))
                .await;
            }
            Done::Suspend(quiet) => {
                self.tell(&Event::Suspended);
                let _ = quiet.send(());
            }
            Done::Resume => self.tell(&Event::Resumed),
            Done::Written(address, written) => {
                if written.changed > 0 {
                    self.tell(&Event::Wrote(&address, written.changed));
                }
                self.send(Request::Written(written)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
