//! The engine of one coordinator: its store, its locks, and the workspaces that are warm.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use heph_cache::remote::{Caller, Remotes};
use heph_cache::{
    History, LockBackend as StoreLock, MemoryOptions, Store, StoreError, StoreOptions, history,
};
use heph_common::config::{Config, LockBackend};
use heph_common::query::Query;
use heph_common::{Digest, Exit, clock};
use heph_proto::{
    Finished, Notice, NoticeLevel, RunError, RunEvent, RunRecord, RunRequest, SandboxMode, Start, Summary,
    run_event, run_request,
};

use crate::branch::branch;
use crate::problem::{Problem, Problems};
use crate::run::deeds::Deeds;
use crate::run::{Message, Outcome, Run, Services};
use crate::slots::Slots;
use crate::warm::Workspaces;
use crate::watch::Watching;
use crate::workspace::snapshot;
use crate::workspace::{Request, Workspace, settings_digest};

mod remote;

pub use heph_cache::history::keep as keep_history;

/// What is needed to open an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The home, absolute.
    pub home: PathBuf,
    /// Merged configuration; settings of the home are taken from it.
    pub config: Arc<Config>,
    /// Job slots.
    pub jobs: u32,
    /// Name of this build of heph: state of another build is not read.
    pub build: String,
    /// Watches workspaces, for an engine that outlives a run.
    pub watching: Option<Arc<dyn Watching>>,
    /// Program and arguments that call [`keep_history`]; empty to look after the history in this process.
    pub keeper: Vec<OsString>,
}

/// Store, locks and warm workspaces of one home.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    services: Services,
    history: History,
    workspaces: Mutex<Workspaces>,
}

impl Drop for Engine {
    /// An engine goes with its process: to free what it knows piece by piece would be a good part of a short run.
    fn drop(&mut self) {
        let workspaces = self.workspaces.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::forget(std::mem::take(workspaces));
    }
}

/// The workspace of a request, read from its message.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Absolute path of its root.
    pub root: PathBuf,
    /// Merged configuration.
    pub config: Arc<Config>,
    /// Package of the caller's directory.
    pub package: String,
    /// The caller's environment.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Digest of configuration, package and environment.
    pub identity: Digest,
}

impl Engine {
    /// Opens the store of a home. Fails when it cannot be written or read.
    pub fn open(options: EngineOptions) -> Result<Self, StoreError> {
        let config = &options.config;
        let store = Store::open(&options.home, store_options(config))?;
        let store = Arc::new(store);
        let services = Services {
            remotes: Arc::new(Remotes::new(
                Arc::clone(&store),
                &state_of(&options),
                &config.uploads,
            )),
            store,
            slots: Arc::new(Slots::new(options.jobs)),
            flights: Arc::default(),
        };
        let state = state_of(&options);
        Ok(Self {
            history: History::new(state, options.keeper.clone()),
            options,
            services,
            workspaces: Mutex::default(),
        })
    }

    /// Its store.
    pub fn store(&self) -> &Arc<Store> {
        &self.services.store
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        &self.options.home
    }

    /// The warm state of a workspace: from memory, else from what an earlier process left.
    pub fn workspace(&self, asked: &Asked) -> Result<Arc<Mutex<Workspace>>, Problems> {
        let key = (asked.root.clone(), settings_digest(&asked.config));
        // A fault in the middle of something may have left half of it: then all is read again.
        if let Some(known) = lock(&self.workspaces).used(&key) {
            return Ok(known);
        }
        let mut workspace = Workspace::open(&asked.root, &self.options.home, &asked.config)?;
        workspace.load(&self.snapshot_file(&asked.root, workspace.settings()));
        if let Some(watching) = &self.options.watching {
            workspace.watched_by(Arc::clone(watching));
        }
        let workspace = Arc::new(Mutex::new(workspace));
        Ok(lock(&self.workspaces).insert(key, workspace))
    }

    fn snapshot_file(&self, root: &Path, settings: Digest) -> PathBuf {
        snapshot::file(&state_of(&self.options), root, settings)
    }

    /// What was run in its home.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether it outlives its runs: then what it knows stays in memory, and is saved when it ends.
    pub fn stays(&self) -> bool {
        self.options.watching.is_some()
    }

    /// For the time after an answer. An engine that stays has the workspace watched; any other leaves what is known of it to the
    /// next process and waits until results are on disk.
    pub fn rest(&self, asked: &Asked) {
        let Ok(workspace) = self.workspace(asked) else {
            return;
        };
        if self.stays() {
            lock(&workspace).settle();
            return;
        }
        self.save(&workspace);
        self.flush();
    }

    /// Leaves all that is known to the next process; for the end of an engine that stays.
    pub fn save_all(&self) {
        let workspaces = lock(&self.workspaces).all();
        for workspace in workspaces.iter().filter(|workspace| !workspace.is_poisoned()) {
            self.save(workspace);
        }
        self.flush();
    }

    /// Drops what is known of the workspace that was used longest ago and that nobody uses, once it is saved; its root. `None` when
    /// there is no such workspace.
    pub fn drop_oldest(&self) -> Option<PathBuf> {
        loop {
            let (key, workspace) = lock(&self.workspaces).oldest()?;
            if !workspace.is_poisoned() {
                self.save(&workspace);
            }
            // Whoever asked for it meanwhile keeps it.
            if let Some(dropped) = lock(&self.workspaces).remove(&key, workspace) {
                drop(dropped);
                return Some(key.0);
            }
        }
    }

    /// Drops everything that only makes the next run quicker and that nobody uses, once it is saved. Says how many workspaces that were.
    pub fn cool(&self) -> usize {
        let dropped = std::iter::from_fn(|| self.drop_oldest()).count();
        self.flush();
        self.services.store.relax();
        dropped
    }

    /// Roots of the workspaces of which something is kept in memory, sorted.
    pub fn warm_roots(&self) -> Vec<PathBuf> {
        lock(&self.workspaces).roots()
    }

    fn save(&self, workspace: &Mutex<Workspace>) {
        let mut workspace = lock(workspace);
        let file = self.snapshot_file(workspace.root(), workspace.settings());
        if let Err(error) = workspace.save(&file) {
            tracing::warn!("what is known of the workspace could not be saved: {error}");
        }
    }

    fn flush(&self) {
        if let Err(error) = self.services.store.flush() {
            tracing::warn!("results could not be written to the store: {error}");
        }
    }

    /// One run, on the caller's thread, from its first event to its last. What it hears comes through `inbox`; `own` sends there.
    pub fn run(
        &self,
        start: &Start,
        own: Sender<Message>,
        inbox: &Receiver<Message>,
        events: &dyn Fn(RunEvent),
    ) {
        let began = Began::now();
        if let Err(problems) = self.try_run(start, &began, (own, inbox), events) {
            let exit = exit_of(&problems);
            let error = wire_error(exit, problems);
            let finished = Finished {
                exit_code: exit.code().into(),
                summary: Some(Summary::default()),
                error: Some(error),
            };
            self.note(start, &began, &finished, Deeds::default());
            events(RunEvent {
                event: Some(run_event::Event::Finished(finished)),
            });
        }
    }

    fn try_run(
        &self,
        start: &Start,
        began: &Began,
        (own, inbox): (Sender<Message>, &Receiver<Message>),
        events: &dyn Fn(RunEvent),
    ) -> Result<(), Problems> {
        let asked = Asked::read(start.workspace.as_ref())?;
        let live = self.services.store.begin_run();
        if let Err(error) = &live {
            tracing::warn!("the run could not be announced to others that trim the store: {error}");
        }
        let query = Query::parse(&start.query, "").map_err(|error| vec![Problem::new(error.to_string())])?;
        let workspace = self.workspace(&asked)?;
        let request = self.request(&asked, start.selector.clone(), &start.since, start.sandbox());
        let prepared = lock(&workspace).prepare(&query, &request)?;
        let caller = Caller {
            config: &asked.config,
            environment: &asked.environment,
            branch: &|| branch(&asked.root, &asked.environment),
            platform: &prepared.surroundings.platform.name,
        };
        let remote = self.services.remotes.session(&caller);
        // The last event is held back until what was learnt is with the workspace.
        let Outcome {
            lasts,
            settled,
            finished,
            deeds,
        } = Run::new(
            &prepared,
            start,
            &self.services,
            remote.clone(),
            (own, inbox),
            events,
        )
        .run();
        lock(&workspace).remember(prepared, lasts, settled);
        if let Some(remote) = &remote {
            remote.end();
        }
        if remote.is_some() && !self.stays() && finished.exit_code != i32::from(Exit::Cancelled.code()) {
            self.drain(&asked, inbox, events);
        }
        self.note(start, began, &finished, deeds);
        events(RunEvent {
            event: Some(run_event::Event::Finished(finished)),
        });
        drop(live);
        Ok(())
    }

    /// Waits for uploads, which nobody would go on with for now, and says what is left.
    fn drain(&self, asked: &Asked, inbox: &Receiver<Message>, events: &dyn Fn(RunEvent)) {
        let patience = asked.config.uploads.drain_timeout;
        let is_over = || {
            inbox.try_iter().any(|message| {
                let cancelled =
                    |request: RunRequest| matches!(request.request, Some(run_request::Request::Cancel(_)));
                match message {
                    Message::Closed => true,
                    Message::Request(request) => cancelled(request),
                    _ => false,
                }
            })
        };
        let left = self.services.remotes.drain(patience, is_over);
        if left.known == 0 {
            return;
        }
        let causes = left
            .resting
            .iter()
            .map(|resting| format!(" (cache '{}': {})", resting.cache, resting.cause));
        let later = "the next run with this home goes on with it";
        let hint = match left.resting.first() {
            Some(resting) => format!("{}; {later}", resting.hint),
            None => later.to_owned(),
        };
        let waiting = match left.known {
            1 => "1 result waits".to_owned(),
            count => format!("{count} results wait"),
        };
        events(RunEvent {
            event: Some(run_event::Event::Notice(Notice {
                level: NoticeLevel::Warning.into(),
                code: "uploads-left".to_owned(),
                message: format!("{waiting} to be uploaded{}", causes.collect::<String>()),
                hint,
            })),
        });
    }

    /// For the history, which writes it down after the answer.
    fn note(&self, start: &Start, began: &Began, finished: &Finished, deeds: Deeds) {
        // What only looks, or is a person's own work, says nothing of builds.
        if start.dry_run || start.shell {
            return;
        }
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let root = start.workspace.as_ref().map(|of| of.root.clone());
        let mut record = RunRecord {
            id: String::new(),
            started_unix_ms: began.unix_ms,
            duration_us: us(began.at.elapsed()),
            root: root.unwrap_or_default(),
            selector: start.selector.clone(),
            daemon: self.stays(),
            sandbox: deeds.sandbox.into(),
            exit_code: finished.exit_code,
            summary: finished.summary,
            uncached: deeds.uncached,
            command_us: us(deeds.commands),
            saved_us: us(deeds.saved),
            executions: deeds.executions,
            more_executions: 0,
        };
        history::identify(&mut record);
        self.history.note(record);
    }

    /// What a request says, in the engine's words.
    pub fn request(&self, asked: &Asked, selector: String, since: &str, sandbox: SandboxMode) -> Request {
        Request {
            config: Arc::clone(&asked.config),
            identity: asked.identity,
            selector,
            since: (!since.is_empty()).then(|| since.to_owned()),
            environment: Arc::clone(&asked.environment),
            sandbox,
        }
    }
}

impl Asked {
    /// Reads the workspace of a request.
    pub fn read(workspace: Option<&heph_proto::Workspace>) -> Result<Self, Problems> {
        let workspace = workspace.ok_or_else(|| vec![Problem::new("the request names no workspace")])?;
        let config: Config = serde_json::from_slice(&workspace.config).map_err(|error| {
            vec![Problem::new(format!(
                "the request's configuration cannot be read: {error}"
            ))]
        })?;
        let environment: BTreeMap<String, String> = workspace
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let variables = environment
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let identity = [&workspace.config[..], workspace.package.as_bytes()];
        let identity = Digest::of_parts(identity.into_iter().chain(variables));
        Ok(Self {
            root: PathBuf::from(&workspace.root),
            config: Arc::new(config),
            package: workspace.package.clone(),
            environment: Arc::new(environment),
            identity,
        })
    }
}

/// When a run began.
struct Began {
    at: Instant,
    unix_ms: u64,
}

impl Began {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            unix_ms: clock::unix_ms(),
        }
    }
}

/// Where what one build remembers for itself lies.
fn state_of(options: &EngineOptions) -> PathBuf {
    let state = heph_common::home::Home::at(&options.home).state_dir();
    state.join(&options.build)
}

fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        spill_threshold: config.cache.spill_threshold.bytes(),
        max_size: config.cache.max_size.map(|size| size.bytes()),
        memory: MemoryOptions {
            per_entry: config.mem_cache.per_entry.bytes() as usize,
            capacity: config.mem_cache.capacity.bytes() as usize,
        },
        lock: match config.lock.backend {
            LockBackend::Fs => StoreLock::Fs,
            LockBackend::Mem => StoreLock::Mem,
        },
        ..StoreOptions::default()
    }
}

/// The exit code of a request that failed as a whole.
pub fn exit_of(problems: &[Problem]) -> Exit {
    match problems {
        [problem] if problem.message.starts_with("no targets matched") => Exit::Failure,
        _ => Exit::Usage,
    }
}

/// Problems as the wire has them.
pub fn wire_error(exit: Exit, problems: Problems) -> RunError {
    let problems = problems.into_iter().map(|problem| heph_proto::Problem {
        message: problem.message,
        place: problem.place.map(|place| place.to_string()).unwrap_or_default(),
        hint: problem.hint.unwrap_or_default(),
    });
    RunError {
        exit_code: exit.code().into(),
        problems: problems.collect(),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
