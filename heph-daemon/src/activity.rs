//! What goes on at the moment: connections, requests, runs; and what went wrong with nobody there to be told.
//!
//! Everything that a daemon waits for to end is counted here, so that whether it may go is one look.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heph_common::clock::unix_ms;
use heph_common::duration::Shown;
use heph_proto::run_event::Event;
use heph_proto::{BackgroundProblem, RunEvent, RunStatus, Start, TargetOutcome};
use tokio::sync::watch;

/// Problems of the background that are kept; older ones are in the log.
const PROBLEMS_KEPT: usize = 20;

/// How busy a coordinator is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Clients that are connected.
    pub connections: usize,
    /// Requests that are being answered, runs among them.
    pub requests: usize,
    /// Clients among the connected ones that wait for the end of the process.
    pub farewells: usize,
}

/// How a coordinator was asked to go.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Wish {
    /// It was not.
    #[default]
    Stay,
    /// Once its requests are answered; why.
    Finish(String),
    /// Now: its runs are cancelled; why.
    Cancel(String),
}

/// The registry.
#[derive(Debug)]
pub struct Activity {
    state: Mutex<State>,
    load: watch::Sender<Load>,
    wish: watch::Sender<Wish>,
    /// Whether runs are told of in the log.
    is_logged: bool,
}

#[derive(Debug, Default)]
struct State {
    going: bool,
    next_run: u64,
    runs: BTreeMap<u64, Live>,
    roots: BTreeSet<PathBuf>,
    problems: VecDeque<BackgroundProblem>,
    /// Of these, how many of the youngest no run has told its client.
    untold: usize,
}

struct Live {
    status: RunStatus,
    cancel: Box<dyn Fn() + Send>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.status.fmt(f)
    }
}

/// Something that is counted, until it is dropped.
#[derive(Debug)]
pub struct Counted {
    activity: Arc<Activity>,
    of: fn(&mut Load) -> &mut usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let of = self.of;
        self.activity
            .load
            .send_modify(|load| *of(load) = of(load).saturating_sub(1));
    }
}

/// A run that goes on, until it is dropped.
#[derive(Debug)]
pub struct Running {
    activity: Arc<Activity>,
    id: u64,
    began: Instant,
    has_results: AtomicBool,
    _request: Counted,
}

impl Activity {
    /// Nothing goes on yet. With `is_logged`, runs are told of in the log.
    pub fn new(is_logged: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            load: watch::Sender::default(),
            wish: watch::Sender::default(),
            is_logged,
        })
    }

    /// A client has connected.
    pub fn connected(self: &Arc<Self>) -> Counted {
        self.count(|load| &mut load.connections)
    }

    /// A client waits for the end of the process.
    pub(crate) fn farewell(self: &Arc<Self>) -> Counted {
        self.count(|load| &mut load.farewells)
    }

    /// A request has come; `None` when nothing new is taken.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Counted> {
        // Counted under the same lock under which `go` is decided: it is either refused or waited for.
        let state = self.state();
        (!state.going).then(|| self.count(|load| &mut load.requests))
    }

    fn count(self: &Arc<Self>, of: fn(&mut Load) -> &mut usize) -> Counted {
        self.load.send_modify(|load| *of(load) += 1);
        Counted {
            activity: Arc::clone(self),
            of,
        }
    }

    /// A request is a run, with a client of this process number (0 where unknown); `cancel` stops it.
    pub(crate) fn begin(
        self: &Arc<Self>,
        request: Counted,
        start: &Start,
        client_pid: u32,
        cancel: impl Fn() + Send + 'static,
    ) -> Running {
        let root = start
            .workspace
            .as_ref()
            .map(|of| of.root.clone())
            .unwrap_or_default();
        let mut state = self.state();
        state.next_run += 1;
        let id = state.next_run;
        state.roots.insert(PathBuf::from(&root));
        let status = RunStatus {
            id,
            root,
            selector: start.selector.clone(),
            started_unix_ms: unix_ms(),
            client_pid,
            ..RunStatus::default()
        };
        if self.is_logged {
            tracing::info!(
                "run {id} of {} began in {}{}",
                status.selector,
                status.root,
                match client_pid {
                    0 => String::new(),
                    pid => format!(", for process {pid}"),
                }
            );
        }
        let cancel = Box::new(cancel);
        state.runs.insert(id, Live { status, cancel });
        Running {
            activity: Arc::clone(self),
            id,
            began: Instant::now(),
            has_results: AtomicBool::new(false),
            _request: request,
        }
    }

    /// A workspace was looked at.
    pub(crate) fn visited(&self, root: &str) {
        let mut state = self.state();
        if !state.roots.contains(std::path::Path::new(root)) {
            state.roots.insert(PathBuf::from(root));
        }
    }

    /// Something went wrong in the background: it is shown to whoever asks for the status.
    pub fn problem(&self, message: String) {
        tracing::warn!("{message}");
        let mut state = self.state();
        if state.problems.len() == PROBLEMS_KEPT {
            state.problems.pop_front();
        }
        state.problems.push_back(BackgroundProblem {
            at_unix_ms: unix_ms(),
            message,
        });
        state.untold = (state.untold + 1).min(state.problems.len());
    }

    /// Problems of the background that no client was told yet, oldest first.
    pub(crate) fn take_untold(&self) -> Vec<String> {
        let mut state = self.state();
        let told = state.problems.len() - std::mem::take(&mut state.untold);
        let untold = state.problems.iter().skip(told);
        untold.map(|problem| problem.message.clone()).collect()
    }

    /// Nothing new is taken from now on.
    pub fn go(&self) {
        self.state().going = true;
    }

    /// Cancels all runs.
    pub fn cancel_runs(&self) {
        for live in self.state().runs.values() {
            (live.cancel)();
        }
    }

    /// How busy it is, and each time that changes.
    pub fn load(&self) -> watch::Receiver<Load> {
        self.load.subscribe()
    }

    /// Somebody asks the process to go.
    pub fn ask(&self, wish: Wish) {
        // A wish that is milder than the one before changes nothing.
        self.wish.send_if_modified(|known| {
            let is_stronger = std::mem::discriminant(known) != std::mem::discriminant(&wish) && *known < wish;
            if is_stronger {
                *known = wish;
            }
            is_stronger
        });
    }

    /// How it was asked to go, and each time that changes.
    pub fn wish(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    /// Runs that go on, oldest first.
    pub fn runs(&self) -> Vec<RunStatus> {
        self.state()
            .runs
            .values()
            .map(|live| live.status.clone())
            .collect()
    }

    /// Roots of the workspaces that were worked on, sorted.
    pub fn roots(&self) -> Vec<PathBuf> {
        self.state().roots.iter().cloned().collect()
    }

    /// What went wrong in the background, oldest first.
    pub fn problems(&self) -> Vec<BackgroundProblem> {
        self.state().problems.iter().cloned().collect()
    }

    /// Whether nothing new is taken.
    pub fn is_going(&self) -> bool {
        self.state().going
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    /// Whether it has made anything.
    pub(crate) fn has_results(&self) -> bool {
        self.has_results.load(Ordering::Relaxed)
    }

    /// An event of the run passes by.
    pub(crate) fn see(&self, event: &RunEvent) {
        let mut state = self.activity.state();
        let Some(live) = state.runs.get_mut(&self.id) else {
            return;
        };
        match &event.event {
            Some(Event::Planned(planned)) => live.status.total = planned.total,
            Some(Event::UpToDate(up_to_date)) => live.status.done += up_to_date.count,
            Some(Event::Target(target)) => {
                live.status.done += 1;
                if target.outcome() == TargetOutcome::Executed {
                    self.has_results.store(true, Ordering::Relaxed);
                }
            }
            Some(Event::Finished(finished)) if self.activity.is_logged => {
                tracing::info!("run {} {}", self.id, ending(finished, self.began.elapsed()));
            }
            _ => {}
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.activity.state().runs.remove(&self.id);
    }
}

fn ending(finished: &heph_proto::Finished, took: Duration) -> String {
    // Microseconds say nothing here.
    let took = Shown(Duration::from_millis(
        u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    ));
    let summary = finished.summary.unwrap_or_default();
    let done = format!(
        "{} {}, {} executed, {} failed, {} cancelled",
        summary.total,
        if summary.total == 1 { "target" } else { "targets" },
        summary.executed,
        summary.failed,
        summary.cancelled
    );
    match &finished.error {
        Some(error) => {
            let first = error
                .problems
                .first()
                .map_or("", |problem| problem.message.as_str());
            format!("failed after {took}: {first}")
        }
        None => format!("ended after {took} with code {}: {done}", finished.exit_code),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use heph_proto::{Planned, TargetDone, UpToDate};

    use super::*;

    fn event(event: Event) -> RunEvent {
        RunEvent { event: Some(event) }
    }

    #[test]
    fn a_run_is_listed_with_its_progress_until_it_ends() {
        let activity = Activity::new(false);
        let start = Start {
            selector: "//...".into(),
            workspace: Some(heph_proto::Workspace {
                root: "/w".into(),
                ..Default::default()
            }),
            ..Start::default()
        };
        let running = activity.begin(activity.admit().unwrap(), &start, 7, || {});
        running.see(&event(Event::Planned(Planned {
            selected: 2,
            total: 9,
        })));
        running.see(&event(Event::UpToDate(UpToDate { count: 3 })));
        running.see(&event(Event::Target(TargetDone::default())));
        let runs = activity.runs();
        let [run] = runs.as_slice() else {
            panic!("{runs:?}")
        };
        assert_eq!((run.done, run.total, run.client_pid), (4, 9, 7));
        assert_eq!((run.root.as_str(), run.selector.as_str()), ("/w", "//..."));
        assert_eq!(activity.load().borrow().requests, 1);
        drop(running);
        assert!(activity.runs().is_empty());
        assert_eq!(*activity.load().borrow(), Load::default());
        assert_eq!(activity.roots(), [PathBuf::from("/w")]);
    }

    #[test]
    fn nothing_new_is_taken_once_it_goes_and_runs_can_be_cancelled() {
        let activity = Activity::new(false);
        let cancelled = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&cancelled);
        let cancel = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let running = activity.begin(activity.admit().unwrap(), &Start::default(), 0, cancel);
        activity.go();
        assert!(activity.admit().is_none());
        activity.cancel_runs();
        assert_eq!(cancelled.load(Ordering::Relaxed), 1);
        drop(running);
        activity.cancel_runs();
        assert_eq!(cancelled.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_milder_wish_does_not_take_back_a_stronger_one() {
        let activity = Activity::new(false);
        let wish = activity.wish();
        activity.ask(Wish::Cancel("now".into()));
        activity.ask(Wish::Finish("later".into()));
        assert_eq!(*wish.borrow(), Wish::Cancel("now".into()));
    }

    #[test]
    fn the_last_problems_are_kept() {
        let activity = Activity::new(false);
        for number in 0..30 {
            activity.problem(format!("problem {number}"));
        }
        let problems = activity.problems();
        assert_eq!(problems.len(), PROBLEMS_KEPT);
        assert_eq!(problems.first().unwrap().message, "problem 10");
        assert_eq!(activity.take_untold().len(), PROBLEMS_KEPT);
        activity.problem("one more".to_owned());
        assert_eq!(activity.take_untold(), ["one more"]);
        assert!(activity.take_untold().is_empty());
    }
}
