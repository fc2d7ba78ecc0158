//! The executor as its caller sees it, and the threads behind it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use heph_proto::{Plan, Report, SandboxMode, WriteTree, Written};
use tokio::sync::oneshot;

use super::base::Bases;
use super::control::Control;
use super::jobserver::Jobserver;
use super::options::ExecutorOptions;
use super::places::Places;
use super::protocol::Isolation;
use super::stop::Stop;
use super::supervisor::Supervisor;
use super::tree;
use super::worker::Worker;

/// Runs plans. Starting one is cheap; processes and threads come when they are needed.
#[derive(Debug)]
pub struct Executor {
    shared: Arc<Shared>,
}

/// What all workers use.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: ExecutorOptions,
    pub(super) stage: PathBuf,
    pub(super) has_stage: AtomicBool,
    pub(super) supervisor: Supervisor,
    pub(super) bases: Bases,
    pub(super) jobserver: Jobserver,
    pub(super) obstacle: Mutex<Option<String>>,
    pub(super) places: Places,
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// Work for the next worker that is free.
pub(super) type Job = Box<dyn FnOnce(&mut Worker<'_>) + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: Vec<std::thread::JoinHandle<()>>,
    is_closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

/// What isolation this machine gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Strict, or standard where that does not work.
    pub mode: SandboxMode,
    /// Why not strict; a fragment for people.
    pub obstacle: Option<String>,
}

impl Executor {
    /// An executor for the given home.
    pub fn new(options: ExecutorOptions) -> Self {
        let shared = Shared {
            stage: options.home.join("stage"),
            has_stage: AtomicBool::new(false),
            supervisor: Supervisor::new(options.supervisor.clone()),
            bases: Bases::default(),
            jobserver: Jobserver::new(options.jobs),
            obstacle: Mutex::default(),
            places: Places::new(options.home.join("sandbox")),
            queue: Mutex::default(),
            wake: Condvar::new(),
            options,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Keeps what a plan says for those after it, which only name it: the programs of its base set.
    ///
    /// To be called in the order in which plans come; [`Executor::execute`] is too late when several wait.
    pub fn learn(&self, plan: &mut Plan) {
        self.shared.bases.learn(plan);
    }

    /// Carries a plan out and says how it ended. Nothing that it started is left when this returns.
    ///
    /// The caller limits how many run at once; each uses a thread meanwhile.
    pub async fn execute(&self, mut plan: Plan, control: Control) -> Report {
        self.learn(&mut plan);
        self.work(move |worker, reply| worker.execute(plan, control, reply))
            .await
    }

    /// Puts files into the source tree, or says how it differs; blocks.
    ///
    /// Nothing is written over a file that has other content than the request expects or than heph wrote before.
    pub fn write_tree(&self, request: &WriteTree, workspace_root: &Path) -> Written {
        tree::write(&self.shared.options.home, request, workspace_root)
    }

    /// Why strict mode does not work here, once that was found out.
    pub fn obstacle(&self) -> Option<String> {
        self.shared
            .obstacle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Finds out what isolation this machine gives, by a trial of all that strict mode needs.
    pub async fn probe(&self) -> Probe {
        let (reply, answer) = oneshot::channel();
        self.submit(Box::new(move |worker| {
            let result = worker.strict_channel(&Isolation::default()).map(drop);
            let _ = reply.send(result.err().map(|error| error.to_string()));
        }));
        let obstacle = match answer.await {
            Ok(obstacle) => obstacle,
            Err(_) => Some("the executor was shut down".to_owned()),
        };
        let mode = match obstacle {
            None => SandboxMode::Strict,
            Some(_) => SandboxMode::Standard,
        };
        Probe { mode, obstacle }
    }

    /// Ends everything that runs; plans in flight are reported as failed. Further plans are refused.
    pub fn shutdown(&self) {
        let threads = {
            let mut queue = self.shared.lock();
            queue.is_closed = true;
            queue.jobs.clear();
            std::mem::take(&mut queue.threads)
        };
        self.shared.wake.notify_all();
        self.shared.supervisor.shut_down();
        let own = std::thread::current().id();
        for thread in threads {
            if thread.thread().id() != own {
                let _ = thread.join();
            }
        }
        self.shared.places.close();
    }

    /// Has a worker produce a report.
    pub(super) async fn work(
        &self,
        job: impl FnOnce(&mut Worker<'_>, oneshot::Sender<Report>) + Send + 'static,
    ) -> Report {
        let (reply, answer) = oneshot::channel();
        self.submit(Box::new(move |worker| job(worker, reply)));
        match answer.await {
            Ok(report) => report,
            Err(_) => Report {
                outcome: Some(Stop::internal("the executor was shut down").into_outcome()),
                ..Report::default()
            },
        }
    }

    fn submit(&self, job: Job) {
        let mut queue = self.shared.lock();
        if queue.is_closed {
            return;
        }
        queue.jobs.push_back(job);
        if queue.jobs.len() <= queue.idle {
            drop(queue);
            self.shared.wake.notify_one();
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new()
            .name("heph-worker".to_owned())
            .spawn(move || Worker::serve(&shared));
        match thread {
            Ok(thread) => queue.threads.push(thread),
            // One of the others comes to it; without any, dropping the job reports the failure.
            Err(_) if queue.threads.is_empty() => queue.jobs.clear(),
            Err(_) => {}
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    /// The next job; `None` when there will be none.
    pub(super) fn next_job(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.is_closed {
                return None;
            }
            queue.idle += 1;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
