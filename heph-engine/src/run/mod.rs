//! One run: from a prepared graph to results.
//!
//! A run is one loop on one thread. It owns the state of every target and talks by messages: plans and events go out,
//! reports come in. Whatever waits for another process (locks) waits on a thread of its own and sends a message.

mod action;
mod codegen;
mod declared;
pub mod deeds;
mod ending;
mod fetch;
mod publish;
pub mod task;

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Receiver, Sender};
use heph_cache::remote::{Remotes, Session};
use heph_cache::{Guard, Manifest, OriginFilter, PresenceToken, Store};
use heph_common::Digest;
use heph_common::key::KeyPart;
use heph_proto::{Finished, RunEvent, RunRequest, SandboxMode, Start, TargetOutcome, run_event, run_request};
use serde::{Deserialize, Serialize};

use crate::file_table::FileTable;
use crate::flight::{Flights, Landing, Lead};
use crate::graph::{Graph, Id};
use crate::plan::PlanBase;
use crate::product::Product;
use crate::slots::{Held, Wanted};
use crate::surroundings::Surroundings;
use crate::workspace::{Affected, Leaves, Settled};
use deeds::{Deeds, Witness};
use task::{State, Tasks};

/// A graph that is ready to run: checked against the disk, selected, in order.
#[derive(Debug)]
pub struct Prepared {
    /// Workspace root.
    pub root: PathBuf,
    /// The graph.
    pub graph: Arc<Graph>,
    /// What was selected, in the order of addresses.
    pub selected: Arc<[Id]>,
    /// What was selected and all it needs, dependencies first.
    pub order: Arc<[Id]>,
    /// Products of source files, globs and programs; what is wrong with those that have none.
    pub leaves: Arc<Leaves>,
    /// How targets of the workspace ended last time.
    pub lasts: Arc<HashMap<Id, Arc<Last>>>,
    /// The machine and the caller.
    pub surroundings: Surroundings,
    /// Digests of the workspace's files.
    pub files: Arc<FileTable>,
    /// What of it has to be looked at, where a watcher told what changed since an equal run.
    pub affected: Option<Affected>,
}

/// How a target ended last time: what lets the next run skip it without building its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Last {
    /// Digest of everything that the key is made of; see [`crate::gather::pre_key`].
    pub pre_key: Digest,
    /// The action key.
    pub key: Digest,
    /// What it gave.
    pub product: Arc<Product>,
    /// Isolation it was made with, as `heph_proto::SandboxMode`.
    pub sandbox: i32,
}

impl Last {
    /// Isolation it was made with.
    pub fn made_with(&self) -> SandboxMode {
        SandboxMode::try_from(self.sandbox).unwrap_or_default()
    }
}

/// What a run needs of its coordinator.
#[derive(Clone, Debug)]
pub struct Services {
    /// The store, and the locks between processes.
    pub store: Arc<Store>,
    /// Job slots of the coordinator.
    pub slots: Arc<crate::slots::Slots>,
    /// What its runs execute at the moment.
    pub flights: Arc<Flights>,
    /// Its remote caches.
    pub remotes: Arc<Remotes>,
}

/// What a run hears.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "few are under way, and nearly all are requests"
)]
pub enum Message {
    /// From the client.
    Request(RunRequest),
    /// A lock was waited for and is held now.
    Lock(Id, Option<Guard>),
    /// Another run of this coordinator has ended the same work.
    Landed(Id, Landing),
    /// The remote caches have answered.
    Remote(Id, Option<Arc<Manifest>>),
    /// Contents that a target waits for were fetched, but for these.
    Fetched(Id, Vec<Digest>),
    /// A job slot may be free.
    Slot,
    /// The client is gone.
    Closed,
}

/// What a run leaves behind.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How targets ended, for the next run.
    pub lasts: Vec<(Id, Arc<Last>)>,
    /// What the next equal run can rest on, when every target got its result.
    pub settled: Option<Settled>,
    /// The last event, to be sent when what was learnt is kept.
    pub finished: Finished,
    /// What it did, for the history.
    pub deeds: Deeds,
}

/// A run in progress.
pub struct Run<'a> {
    prepared: &'a Prepared,
    start: &'a Start,
    services: &'a Services,
    inbox: &'a Receiver<Message>,
    /// To this run's own inbox, for threads that wait in its place.
    own: Sender<Message>,
    events: &'a dyn Fn(RunEvent),
    origins: OriginFilter,
    /// The remote caches of this run, where it has any.
    remote: Option<Arc<Session>>,
    /// What to do with a target once its contents are there.
    awaiting: HashMap<Id, fetch::Awaiting>,
    /// Contents that could not be had from any cache in this run.
    nowhere: HashSet<Digest>,
    tasks: Tasks,
    /// What is not done already, dependencies first.
    looked_at: &'a [Id],
    keys: HashMap<Id, Keyed>,
    queue: VecDeque<Id>,
    plans: HashMap<u64, (Id, Held)>,
    next_plan: u64,
    /// The base set, once a plan has brought it to the client.
    base: OnceCell<PlanBase>,
    running: u32,
    exclusive: bool,
    /// Stored results that are there, of those that the last run left.
    present: HashSet<Digest>,
    lasts: HashMap<Id, Arc<Last>>,
    /// Taken before the store was asked what it has; where the next run may rest on this one.
    token: Option<PresenceToken>,
    surroundings_digest: Digest,
    cancelled: bool,
    stopping: bool,
    failed: bool,
    told_not_isolated: bool,
    asked_for_slots: bool,
    /// Targets whose end was told.
    told: HashSet<Id>,
    up_to_date: u64,
    selected: HashSet<Id>,
    writing: HashMap<u64, Writing>,
    /// Microseconds that commands took.
    wall: HashMap<Id, u64>,
    witness: Witness,
    /// Set when the run ends, for threads that wait in its place.
    finished: Arc<AtomicBool>,
    /// Keeps as many slots as were asked for.
    _wanted: Wanted,
}

/// A target whose outputs the client writes to the tree.
struct Writing {
    id: Id,
    product: Arc<Product>,
    outcome: TargetOutcome,
}

/// The key of a target whose inputs are known.
struct Keyed {
    pre_key: Digest,
    key: Digest,
    parts: Vec<KeyPart>,
    /// Among the runs of this coordinator.
    lead: Option<Lead>,
    /// Among processes.
    lock: Option<Arc<Guard>>,
    /// Whether the lock was waited for in vain: it runs without.
    unlocked: bool,
}

impl<'a> Run<'a> {
    /// A run of what is prepared.
    pub fn new(
        prepared: &'a Prepared,
        start: &'a Start,
        services: &'a Services,
        remote: Option<Arc<Session>>,
        (own, inbox): (Sender<Message>, &'a Receiver<Message>),
        events: &'a dyn Fn(RunEvent),
    ) -> Self {
        let surroundings_digest = prepared.surroundings.digest();
        let affected = prepared.affected.as_ref().and_then(|affected| {
            let (settled, affected) = affected.since.as_ref()?;
            let holds = settled.surroundings == surroundings_digest
                && !(start.force || start.shell || start.verbose || start.want_outputs)
                && services.store.unchanged_since(&settled.token);
            holds.then_some((&**settled, affected.as_slice()))
        });
        let token = match affected {
            // It holds for what the settled run had, and for as long as that one did.
            Some((settled, _)) => Some(settled.token),
            None if prepared.affected.is_some() => services.store.presence_token().ok(),
            None => None,
        };
        Self {
            tasks: match affected {
                Some((settled, affected)) => {
                    Tasks::since(&prepared.graph, &prepared.order, settled, affected)
                }
                None => Tasks::new(&prepared.graph, &prepared.order, start.force),
            },
            looked_at: affected.map_or(&prepared.order, |(_, affected)| affected),
            token,
            up_to_date: affected.map_or(0, |(settled, affected)| {
                let graph = &prepared.graph;
                settled.actions - affected.iter().filter(|id| graph.node(**id).is_action()).count() as u64
            }),
            selected: prepared.selected.iter().copied().collect(),
            surroundings_digest,
            lasts: HashMap::new(),
            keys: HashMap::new(),
            queue: VecDeque::new(),
            plans: HashMap::new(),
            present: HashSet::new(),
            origins: remote
                .as_ref()
                .map_or_else(OriginFilter::local, |remote| remote.origins()),
            remote,
            awaiting: HashMap::new(),
            nowhere: HashSet::new(),
            next_plan: 1,
            base: OnceCell::new(),
            running: 0,
            exclusive: false,
            cancelled: false,
            stopping: false,
            failed: false,
            told_not_isolated: false,
            asked_for_slots: false,
            told: HashSet::new(),
            writing: HashMap::new(),
            wall: HashMap::new(),
            witness: Witness::default(),
            finished: Arc::new(AtomicBool::new(false)),
            _wanted: services.slots.want(start.jobs),
            prepared,
            start,
            services,
            inbox,
            own,
            events,
        }
    }

    /// Runs to the end. Everything that can be built is built; the exit code tells whether all was.
    pub fn run(mut self) -> Outcome {
        self.find_present();
        self.events_planned();
        while !self.tasks.finished() {
            self.settle();
            if self.tasks.finished() {
                break;
            }
            self.flush_up_to_date();
            match self.inbox.recv() {
                Ok(message) => self.hear(message),
                Err(_) => self.cancel(),
            }
            // Whatever else has come in is heard before new plans are made.
            while let Ok(message) = self.inbox.try_recv() {
                self.hear(message);
            }
        }
        self.finished.store(true, std::sync::atomic::Ordering::Release);
        self.end()
    }

    /// Does all that can be done without waiting.
    fn settle(&mut self) {
        loop {
            while let Some(id) = self.tasks.next_ready() {
                self.step(id);
                // A command that has to run starts before more keys are computed: the client is idle meanwhile.
                self.dispatch();
            }
            if !self.dispatch() {
                return;
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Request(request) => match request.request {
                Some(run_request::Request::Executed(executed)) => self.executed(executed),
                Some(run_request::Request::Written(written)) => self.written(written),
                Some(run_request::Request::Cancel(_)) => self.cancel(),
                Some(run_request::Request::Spawned(_) | run_request::Request::Start(_)) | None => {}
            },
            Message::Lock(id, guard) => self.locked(id, guard),
            Message::Landed(id, landing) => self.landed(id, &landing),
            Message::Remote(id, found) => self.remote_answered(id, found.as_deref()),
            Message::Fetched(id, missing) => self.fetched(id, missing),
            Message::Slot => self.asked_for_slots = false,
            Message::Closed => {
                self.cancel();
                self.abandon();
            }
        }
    }

    fn find_present(&mut self) {
        let keys: Vec<Digest> = self
            .looked_at
            .iter()
            .filter_map(|id| self.prepared.lasts.get(id))
            .map(|last| last.key)
            .collect();
        match self.services.store.contains_all(&keys, &self.origins) {
            Ok(found) => {
                self.present = keys
                    .iter()
                    .zip(found)
                    .filter(|(_, found)| *found)
                    .map(|(key, _)| *key)
                    .collect()
            }
            // Without an answer nothing counts as present: looked up one by one, or made again.
            Err(error) => tracing::warn!("the store cannot be asked: {error}"),
        }
    }

    /// Stops what can be stopped; what runs is ended by the client, whose reports are waited for.
    fn cancel(&mut self) {
        self.cancelled = true;
        self.stop();
    }

    /// Nothing new is started. What has not started is cancelled.
    fn stop(&mut self) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.queue.clear();
        for id in self.tasks.unfinished() {
            if !matches!(self.tasks.get(id).state, State::Running | State::Writing) {
                self.ended_cancelled(id);
            }
        }
        for &plan in self.plans.keys() {
            self.send(run_event::Event::Kill(heph_proto::KillPlan { id: plan }));
        }
    }

    /// The client is gone: no report will come any more.
    fn abandon(&mut self) {
        self.plans.clear();
        for id in self.tasks.unfinished() {
            self.ended_cancelled(id);
        }
    }

    fn send(&self, event: run_event::Event) {
        (self.events)(RunEvent { event: Some(event) });
    }
}
