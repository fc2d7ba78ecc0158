//! This machine's hands: what the service decides is run and written here.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heph_engine::engine::keep_history;
use heph_engine::executor::{self, Cancel, Control, ExecutorOptions, Proxies};
use heph_proto::report::Outcome;
use heph_proto::{Cancelled, Failed, FailureKind, Plan, Report, WriteTree, Written};

use crate::context::Context;
use crate::run::approval::Approver;
use crate::run::{Executor, Progress};
use crate::workspace::Workspace;

/// First argument of a process that looks after the commands of another one.
const SUPERVISE: &str = "__supervise";

/// First argument of a process that takes runs into the history; the second one says where that is.
const KEEP: &str = "__keep-history";

/// Does, until the process ends, what it was started for by another process of heph, if it was.
pub fn serve_if_asked() {
    let mut arguments = std::env::args_os().skip(1);
    let Some(first) = arguments.next() else {
        return;
    };
    if first == SUPERVISE {
        executor::supervise();
    }
    if first == KEEP
        && let Some(directory) = arguments.next()
    {
        let kept = keep_history(Path::new(&directory));
        std::process::exit(if kept.is_ok() { 0 } else { 1 });
    }
}

/// Program and arguments that take runs into the history.
pub fn keeper() -> Vec<OsString> {
    vec![program().into(), KEEP.into()]
}

/// Runs plans in sandboxes below the home.
pub struct Local {
    executor: Arc<executor::Executor>,
    root: PathBuf,
    approver: Approver,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    cancels: HashMap<u64, Cancel>,
    /// Nothing more is started.
    over: bool,
}

impl Local {
    /// Hands for the runs of one workspace. Nothing is started before it is needed.
    pub fn new(context: &Context, workspace: &Workspace, jobs: Option<u32>, approver: Approver) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let variable = |names: [&str; 2]| {
            names
                .into_iter()
                .find_map(|name| context.variable(name))
                .map(str::to_owned)
        };
        let options = ExecutorOptions {
            home: workspace.home.clone(),
            supervisor: vec![program().into(), SUPERVISE.into()],
            jobs: jobs.map_or(cores, |jobs| jobs as usize),
            hidden: context.variable("HOME").map(PathBuf::from).into_iter().collect(),
            proxies: Proxies {
                http: variable(["http_proxy", "HTTP_PROXY"]),
                https: variable(["https_proxy", "HTTPS_PROXY"]),
                none: variable(["no_proxy", "NO_PROXY"]),
            },
            term: context.variable("TERM").map(Into::into),
        };
        Self {
            executor: Arc::new(executor::Executor::new(options)),
            root: workspace.root.clone(),
            approver,
            running: Mutex::default(),
        }
    }

    /// From now on plans are run again, after a round in which all were killed.
    pub fn begin(&self) {
        *self.running() = Running::default();
        self.approver.give_up(false);
    }

    async fn shell(&self, plan: Plan, cancel: Cancel, progress: &Progress) -> Report {
        let open = || OpenOptions::new().read(true).write(true).open("/dev/tty");
        let (input, output) = match open().and_then(|input| Ok((input, open()?))) {
            Ok((input, output)) => (input.into(), output.into()),
            Err(error) => return failed(fault(&format!("a shell needs a terminal: {error}"))),
        };
        progress.suspend().await;
        let terminal = executor::Terminal { input, output };
        let report = self
            .executor
            .shell(
                plan,
                terminal,
                Control {
                    cancel,
                    spawned: None,
                },
            )
            .await;
        progress.resume();
        report
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This program, also when its file has been replaced since.
pub fn program() -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from("/proc/self/exe");
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("heph"))
}

impl Executor for Local {
    fn learn(&self, plan: &mut Plan) {
        self.executor.learn(plan);
    }

    async fn execute(&self, id: u64, plan: Plan, shell: bool, progress: Progress) -> Report {
        let cancel = Cancel::new();
        {
            let mut running = self.running();
            if running.over {
                return cancelled();
            }
            running.cancels.insert(id, cancel.clone());
        }
        let report = match self.approver.approve(&plan, &progress).await {
            _ if cancel.is_cancelled() => cancelled(),
            Err(refused) => failed(refused),
            Ok(()) if shell => self.shell(plan, cancel, &progress).await,
            Ok(()) => {
                let spawned: Box<dyn FnOnce() + Send> = Box::new(move || progress.spawned());
                self.executor
                    .execute(
                        plan,
                        Control {
                            cancel,
                            spawned: Some(spawned),
                        },
                    )
                    .await
            }
        };
        self.running().cancels.remove(&id);
        report
    }

    async fn write_tree(&self, write: WriteTree) -> Written {
        let id = write.id;
        let (executor, root) = (Arc::clone(&self.executor), self.root.clone());
        let written = tokio::task::spawn_blocking(move || executor.write_tree(&write, &root)).await;
        written.unwrap_or_else(|error| Written {
            id,
            failed: Some(fault(&error.to_string())),
            changed: 0,
        })
    }

    fn kill(&self, id: u64) {
        if let Some(cancel) = self.running().cancels.get(&id) {
            cancel.cancel();
        }
    }

    fn kill_all(&self) {
        self.approver.give_up(true);
        let mut running = self.running();
        running.over = true;
        for cancel in running.cancels.values() {
            cancel.cancel();
        }
    }
}

fn cancelled() -> Report {
    Report {
        outcome: Some(Outcome::Cancelled(Cancelled {})),
        ..Report::default()
    }
}

fn failed(failed: Failed) -> Report {
    Report {
        outcome: Some(Outcome::Failed(failed)),
        ..Report::default()
    }
}

fn fault(message: &str) -> Failed {
    Failed {
        kind: FailureKind::Internal.into(),
        message: message.to_owned(),
        ..Failed::default()
    }
}
