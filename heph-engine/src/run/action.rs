//! Targets on their way: from inputs to key, from key to result or plan.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heph_cache::{Blob, Guard, Holder, Manifest, Store};
use heph_common::Digest;
use heph_proto::{
    Execute, Executed, Failed, FailureKind, Report, TargetOutcome, WouldRun, input, report, run_event,
};

use super::task::State;
use super::{Keyed, Last, Message, Run, fetch};
use crate::definition::{Action, Codegen};
use crate::flight::Landing;
use crate::gather::{Gathered, Products, gather, owner_names, pass_on, pre_key};
use crate::graph::{Id, Node};
use crate::keying::{action_key, passed_digest};
use crate::plan::{Blobs, Gone, PlanBase, plan, serves};
use crate::problem::Problem;
use crate::product::{Entry, Kind, Product};
use crate::slots::Held;
use crate::stalled::{STALL_LIMIT, is_stopped};

/// How often a target is made anew because content was gone or an input changed while it was read.
const MOST_RENEWALS: u8 = 5;

/// Blobs of the store, as plans name them.
pub(super) struct StoredBlobs<'a>(pub &'a Store);

impl Blobs for StoredBlobs<'_> {
    fn locate(&self, digest: &Digest, executable: bool) -> Option<input::Source> {
        match self.0.blob(digest, executable) {
            Ok(Some(Blob::Inline(bytes))) => Some(input::Source::Inline(bytes)),
            Ok(Some(Blob::File(path))) => Some(input::Source::BlobFile(path.to_string_lossy().into_owned())),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!("blob {digest} cannot be read: {error}");
                None
            }
        }
    }
}

/// How often a thread that waits for a lock looks whether its run has ended.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Nobody is waited for longer: doing the work twice costs less than waiting for what never comes.
const LOCK_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Waits until the lock is free or the run has ended; `None` where locks do not work, or where the holder makes no progress:
/// it is stopped, or has not even said that it holds the lock, which takes half a second.
fn wait_for_lock(store: &Store, key: &Digest, finished: &AtomicBool) -> Option<Guard> {
    let began = Instant::now();
    let mut stalled: Option<Instant> = None;
    while !finished.load(Ordering::Acquire) && began.elapsed() < LOCK_LIMIT {
        match store.locks().acquire(key, LOCK_PATIENCE) {
            Ok(None) => {}
            Ok(Some(guard)) => return Some(guard),
            Err(error) => {
                tracing::debug!("the lock of {key} cannot be waited for: {error}");
                return None;
            }
        }
        let makes_progress = match store.locks().holder(key) {
            Holder::Process(pid) => !is_stopped(pid),
            Holder::Elsewhere => true,
            Holder::Unknown => false,
        };
        match makes_progress {
            true => stalled = None,
            false if stalled.get_or_insert_with(Instant::now).elapsed() >= STALL_LIMIT => return None,
            false => {}
        }
    }
    None
}

impl Run<'_> {
    /// All that a target needs is done.
    pub(super) fn step(&mut self, id: Id) {
        let prepared = self.prepared;
        let node = prepared.graph.node(id);
        match &node.definition.action {
            Action::File { .. } | Action::Glob { .. } | Action::HostProgram { .. } | Action::OwnOutputs => {
                match prepared.leaves.get(&id) {
                    Some(Ok(product)) => self
                        .tasks
                        .done(id, Arc::clone(product), TargetOutcome::Unspecified),
                    Some(Err(problem)) => self.fail_input(id, problem.clone()),
                    None => self.fail_definition(
                        id,
                        Problem::new(format!(
                            "{} is nothing that can be an input",
                            node.definition.address
                        )),
                    ),
                }
            }
            Action::Group(_) => match pass_on(node, &self.tasks) {
                Ok(product) => self.done(id, product, TargetOutcome::UpToDate),
                Err(problem) => self.fail_definition(id, problem.at(node.definition.place.clone())),
            },
            Action::Query { .. } => match pass_on(node, &self.tasks) {
                Ok(product) => self.tasks.done(id, product, TargetOutcome::Unspecified),
                Err(problem) => self.fail_definition(id, problem),
            },
            Action::Command(_) | Action::Fetch(_) | Action::TextFile(_) => self.step_action(id, node),
        }
    }

    fn step_action(&mut self, id: Id, node: &Node) {
        let surroundings = &self.prepared.surroundings;
        let passed = passed_digest(node, surroundings);
        let pre_key = pre_key(node, self.surroundings_digest, passed, &self.tasks);
        let usable = node.definition.cache.enabled && !self.tasks.get(id).forced && !self.opens_shell(id);
        if usable
            && let Some(last) = self
                .last(id)
                .filter(|last| last.pre_key == pre_key && self.present.contains(&last.key))
        {
            let last = Arc::clone(last);
            if serves(node, surroundings, last.made_with()) {
                return self.have(id, last, TargetOutcome::UpToDate);
            }
        }
        let names = owner_names(&self.prepared.graph, node);
        let gathered = match gather(&self.prepared.graph, node, &self.tasks, &names) {
            Ok(gathered) => gathered,
            Err(problem) => return self.fail_definition(id, problem),
        };
        let (key, parts) = action_key(node, &gathered, surroundings);
        if usable && let Some(manifest) = self.look_up(node, &key) {
            return self.hit(id, (pre_key, key), &manifest);
        }
        let keyed = Keyed {
            pre_key,
            key,
            parts,
            lead: None,
            lock: None,
            unlocked: false,
        };
        self.keys.insert(id, keyed);
        if !(usable && self.ask_remote(id, node)) {
            self.missed(id);
        }
    }

    /// No cache has the result of a target.
    pub(super) fn missed(&mut self, id: Id) {
        let node = self.prepared.graph.node(id);
        let Some(keyed) = self.keys.remove(&id) else {
            return;
        };
        if self.start.dry_run {
            return self.would_run(id, node, &keyed.key, &keyed.parts);
        }
        self.note_reason(id, &keyed);
        self.keys.insert(id, keyed);
        if matches!(node.definition.action, Action::TextFile(_)) {
            return self.write_text(id, node);
        }
        self.enqueue(id);
    }

    pub(super) fn last(&self, id: Id) -> Option<&Arc<Last>> {
        self.lasts.get(&id).or_else(|| self.prepared.lasts.get(&id))
    }

    pub(super) fn look_up(&self, node: &Node, key: &Digest) -> Option<Arc<Manifest>> {
        match self.services.store.lookup(key, &self.origins) {
            Ok(found) => found.filter(|manifest| serves(node, &self.prepared.surroundings, manifest.sandbox)),
            Err(error) => {
                tracing::warn!("the store cannot be asked for {key}: {error}");
                None
            }
        }
    }

    /// Takes the lock of a target's key. `false`: somebody else has it, and it is waited for without holding anything up.
    ///
    /// A lock saves work and is not needed for a right result: where there is none, the target runs.
    fn lock(&mut self, id: Id) -> bool {
        let shared = self.prepared.graph.node(id).definition.cache.enabled;
        let Some(keyed) = self
            .keys
            .get_mut(&id)
            .filter(|keyed| shared && keyed.lock.is_none() && !keyed.unlocked)
        else {
            return true;
        };
        let key = keyed.key;
        if keyed.lead.is_none() {
            let own = self.own.clone();
            // A run that has ended does not mind.
            let told = move |landing| drop(own.send(Message::Landed(id, landing)));
            keyed.lead = self.services.flights.enter(key, self.start.client_pid, told);
            if keyed.lead.is_none() {
                self.tasks.set(id, State::Locked);
                let pid = self.services.flights.leader(&key).unwrap_or(0);
                self.say_waiting(id, pid);
                return false;
            }
        }
        match self.services.store.locks().try_acquire(&key) {
            Ok(Some(guard)) => {
                keyed.lock = Some(Arc::new(guard));
                true
            }
            Ok(None) => {
                self.tasks.set(id, State::Locked);
                let pid = self.services.store.locks().holder(&key).pid().unwrap_or(0);
                self.say_waiting(id, pid);
                let (store, own, finished) = (
                    Arc::clone(&self.services.store),
                    self.own.clone(),
                    Arc::clone(&self.finished),
                );
                std::thread::spawn(move || {
                    let guard = wait_for_lock(&store, &key, &finished);
                    // A run that has ended does not need it; the guard frees the lock.
                    drop(own.send(Message::Lock(id, guard)));
                });
                false
            }
            Err(error) => {
                tracing::debug!("no lock for {key}: {error}");
                true
            }
        }
    }

    fn say_waiting(&self, id: Id, pid: u32) {
        let address = self.prepared.graph.node(id).definition.address.to_string();
        self.send(run_event::Event::Waiting(heph_proto::Waiting { address, pid }));
    }

    pub(super) fn locked(&mut self, id: Id, guard: Option<Guard>) {
        if self.tasks.get(id).state != State::Locked {
            return;
        }
        let Some(keyed) = self.keys.get_mut(&id) else {
            return;
        };
        keyed.unlocked = guard.is_none();
        keyed.lock = guard.map(Arc::new);
        self.take_or_run(id);
    }

    /// Another run of this coordinator has ended the same work, or does not get on with it.
    pub(super) fn landed(&mut self, id: Id, landing: &Landing) {
        if self.tasks.get(id).state != State::Locked {
            return;
        }
        let forced = self.tasks.get(id).forced;
        match landing {
            Landing::Failed(failed) if !forced => return self.fail(id, Failed::clone(failed), 0),
            Landing::Failed(_) | Landing::Over => {}
            Landing::Stalled => {
                if let Some(keyed) = self.keys.get_mut(&id) {
                    keyed.unlocked = true;
                }
            }
        }
        self.take_or_run(id);
    }

    fn take_or_run(&mut self, id: Id) {
        let node = self.prepared.graph.node(id);
        let Some(keyed) = self.keys.get(&id) else {
            return;
        };
        let (pre_key, key) = (keyed.pre_key, keyed.key);
        // Whoever held it has probably published what is wanted here.
        if !self.tasks.get(id).forced
            && let Some(manifest) = self.look_up(node, &key)
        {
            return self.hit(id, (pre_key, key), &manifest);
        }
        self.enqueue(id);
    }

    pub(super) fn enqueue(&mut self, id: Id) {
        self.tasks.set(id, State::Queued);
        self.queue.push_back(id);
    }

    /// Sends plans while there are slots. Says whether one was sent or a target changed its state.
    pub(super) fn dispatch(&mut self) -> bool {
        let mut changed = false;
        while let Some(&id) = self.queue.front() {
            if self.tasks.get(id).state != State::Queued {
                self.queue.pop_front();
                continue;
            }
            let definition = &self.prepared.graph.node(id).definition;
            if self.exclusive || (definition.exclusive && self.running > 0) {
                break;
            }
            let limit = if self.start.jobs == 0 {
                u32::MAX
            } else {
                self.start.jobs
            };
            if self.running >= limit {
                break;
            }
            let Some(slots) = self.take_slots(definition.slots) else {
                break;
            };
            self.queue.pop_front();
            changed = true;
            // A waiter for a lock holds no slot.
            if self.lock(id) && !self.published_meanwhile(id) {
                self.execute(id, slots);
            }
        }
        changed
    }

    /// Whether another process has published the result while the target was queued.
    fn published_meanwhile(&mut self, id: Id) -> bool {
        let node = self.prepared.graph.node(id);
        let Some(keyed) = self
            .keys
            .get(&id)
            .filter(|_| node.definition.cache.enabled && !self.tasks.get(id).forced && !self.opens_shell(id))
        else {
            return false;
        };
        let (pre_key, key) = (keyed.pre_key, keyed.key);
        let Some(manifest) = self.look_up(node, &key) else {
            return false;
        };
        self.hit(id, (pre_key, key), &manifest);
        true
    }

    fn take_slots(&mut self, count: u32) -> Option<Held> {
        if self.asked_for_slots {
            return None;
        }
        let own = self.own.clone();
        let taken = self.services.slots.take(count, self.start.client_pid, move || {
            drop(own.send(Message::Slot))
        });
        self.asked_for_slots = taken.is_none();
        taken
    }

    /// Sends the plan of a target, unless an input is gone or the definition is wrong.
    fn execute(&mut self, id: Id, slots: Held) {
        let prepared = self.prepared;
        let node = prepared.graph.node(id);
        let must_not_repeat = node.definition.approval.is_some() || !node.definition.cache.enabled;
        if must_not_repeat && self.was_interrupted(node) {
            return self.fail_interrupted(id);
        }
        let names = owner_names(&prepared.graph, node);
        let made = match gather(&prepared.graph, node, &self.tasks, &names) {
            Ok(gathered) => self.plan(node, &gathered),
            Err(problem) => return self.fail_definition(id, problem),
        };
        match made {
            Ok(mut plan) => {
                plan.keep = self.opens_shell(id);
                let number = self.next_plan;
                self.next_plan += 1;
                self.plans.insert(number, (id, slots));
                self.running += 1;
                self.exclusive = node.definition.exclusive;
                self.tasks.set(id, State::Running);
                let shell = self.opens_shell(id);
                self.send(run_event::Event::Execute(Execute {
                    id: number,
                    plan: Some(plan),
                    shell,
                    tell_spawned: must_not_repeat,
                }));
            }
            Err(gone) => {
                let wanted = self.missing_inputs(id);
                if !self.fetch(id, gone, wanted, fetch::Awaiting::Execution) {
                    self.renew_producers(id, gone);
                }
            }
        }
    }

    /// Whether the target's command was started before, under a coordinator that is gone.
    fn was_interrupted(&self, node: &Node) -> bool {
        let interrupted = &self.start.interrupted;
        !interrupted.is_empty() && interrupted.contains(&node.definition.address.to_string())
    }

    fn plan(&self, node: &Node, gathered: &Gathered<'_>) -> Result<heph_proto::Plan, Gone> {
        let store = StoredBlobs(&self.services.store);
        let mut plan = plan(
            &self.prepared.root,
            node,
            gathered,
            &self.prepared.surroundings,
            &store,
        )?;
        plan.log_lines = self.start.log_lines;
        if matches!(plan.action, Some(heph_proto::plan::Action::Command(_))) {
            let surroundings = &self.prepared.surroundings;
            let is_first = self.base.get().is_none();
            let base = self.base.get_or_init(|| PlanBase::of(&surroundings.base));
            plan.base_digest.clone_from(&base.digest);
            if is_first {
                plan.base.clone_from(&base.programs);
            }
        }
        Ok(plan)
    }

    /// Whether a shell takes the place of the target's command.
    fn opens_shell(&self, id: Id) -> bool {
        self.start.shell && self.selected.contains(&id)
    }

    /// Content of a dependency is gone: whatever produced it runs again, and `id` waits for it.
    pub(super) fn renew_producers(&mut self, id: Id, gone: Gone) {
        self.keys.remove(&id);
        if self.stopping {
            return self.ended_cancelled(id);
        }
        let producers = self.producers(gone);
        tracing::info!("content {} is gone, its producer runs again", gone.digest);
        let Some(&first) = producers.first() else {
            let message = format!(
                "content {} of an input is gone, and nothing in this run produces it",
                gone.digest
            );
            return self.fail_internal(id, message);
        };
        if self.tasks.get(first).renewals >= MOST_RENEWALS {
            let address = &self.prepared.graph.node(first).definition.address;
            return self.fail_internal(
                id,
                format!("the outputs of {address} disappear from the store as soon as they are made"),
            );
        }
        for producer in producers {
            let task = self.tasks.get_mut(producer);
            task.forced = true;
            task.renewals += 1;
            let skipped = self.tasks.renew(&self.prepared.graph, producer);
            self.say_skipped(skipped);
        }
        if !self.tasks.get(id).state.is_final() {
            let skipped = self.tasks.again(&self.prepared.graph, id);
            self.say_skipped(skipped);
        }
    }

    pub(super) fn producers(&self, gone: Gone) -> Vec<Id> {
        let graph = &self.prepared.graph;
        let has = |id: Id| {
            let product = self.tasks.product(id);
            product.is_some_and(|product| {
                let is_it = |entry: &Entry| matches!(&entry.kind, Kind::File { digest, .. } if *digest == gone.digest);
                product.entries.iter().any(is_it)
            })
        };
        let mut producers = Vec::new();
        let mut pending = vec![gone.from];
        while let Some(id) = pending.pop() {
            let node = graph.node(id);
            if node.is_action() {
                producers.push(id);
            } else {
                pending.extend(
                    node.links
                        .iter()
                        .map(|link| link.target)
                        .filter(|target| has(*target)),
                );
            }
        }
        producers
    }

    /// A plan has ended.
    pub(super) fn executed(&mut self, executed: Executed) {
        let Some((id, slots)) = self.plans.remove(&executed.id) else {
            return;
        };
        drop(slots);
        self.running -= 1;
        self.exclusive = false;
        if self.tasks.get(id).state != State::Running {
            return;
        }
        let mut report = executed.report.unwrap_or_default();
        match report.outcome.take() {
            Some(report::Outcome::Completed(_)) if self.opens_shell(id) => self.left_shell(id),
            Some(report::Outcome::Completed(completed)) => self.completed(id, completed, &report),
            Some(report::Outcome::Failed(failed)) => self.command_failed(id, failed, &report),
            Some(report::Outcome::Stale(stale)) => self.stale(id, &stale.path),
            Some(report::Outcome::Cancelled(_)) | None => self.ended_cancelled(id),
        }
    }

    fn command_failed(&mut self, id: Id, failed: Failed, report: &Report) {
        let retries = self.prepared.graph.node(id).definition.retries;
        let again = matches!(
            failed.kind(),
            FailureKind::Command | FailureKind::Timeout | FailureKind::Fetch | FailureKind::Output
        );
        if again && self.tasks.get(id).retries < retries && !self.stopping {
            self.tasks.get_mut(id).retries += 1;
            return self.enqueue(id);
        }
        if again && let Some(lead) = self.keys.get_mut(&id).and_then(|keyed| keyed.lead.take()) {
            lead.fail(&failed);
        }
        self.fail(id, failed, report.wall_us);
    }

    /// An input changed after its digest was taken: the target is looked at anew.
    fn stale(&mut self, id: Id, path: &str) {
        self.keys.remove(&id);
        if self.stopping {
            return self.ended_cancelled(id);
        }
        let task = self.tasks.get_mut(id);
        task.renewals += 1;
        if task.renewals > MOST_RENEWALS {
            let message = format!("{path} keeps changing while it is read");
            return self.fail_internal(id, message);
        }
        let graph = &self.prepared.graph;
        for input in self.sources_of(id) {
            match self.fresh(input) {
                None => {}
                Some(Ok(product)) => self.tasks.replace(input, product),
                Some(Err(problem)) => return self.fail_definition(id, problem),
            }
        }
        let skipped = self.tasks.again(graph, id);
        self.say_skipped(skipped);
    }

    /// What a target reads of the workspace, directly and through groups and queries; what is passed on comes before who
    /// passes it on.
    fn sources_of(&self, id: Id) -> Vec<Id> {
        let graph = &self.prepared.graph;
        let mut order = Vec::new();
        let mut pending: Vec<(Id, bool)> = graph
            .node(id)
            .links
            .iter()
            .map(|link| (link.target, false))
            .collect();
        while let Some((id, is_expanded)) = pending.pop() {
            let node = graph.node(id);
            if node.is_action() || order.contains(&id) {
                continue;
            }
            if is_expanded {
                order.push(id);
            } else {
                pending.push((id, true));
                pending.extend(node.links.iter().map(|link| (link.target, false)));
            }
        }
        order
    }

    /// The product of a source file, a glob, or a name for such, as it is now.
    fn fresh(&self, id: Id) -> Option<Result<Arc<Product>, Problem>> {
        let node = self.prepared.graph.node(id);
        match &node.definition.action {
            Action::File { path } => Some(crate::leaf::file_product(&self.prepared.files, path)),
            Action::Glob { .. } => {
                let product = self.tasks.product(id)?;
                let paths: Vec<&str> = product.entries.iter().map(|entry| &*entry.path).collect();
                Some(crate::leaf::glob_product(&self.prepared.files, &paths))
            }
            Action::Group(_) | Action::Query { .. } => Some(pass_on(node, &self.tasks)),
            _ => None,
        }
    }

    /// A target has a stored result.
    fn have(&mut self, id: Id, last: Arc<Last>, outcome: TargetOutcome) {
        self.lasts.insert(id, Arc::clone(&last));
        self.keys.remove(&id);
        self.deliver(id, Arc::clone(&last.product), outcome);
    }

    /// The store has the result of a target.
    fn hit(&mut self, id: Id, (pre_key, key): (Digest, Digest), manifest: &Manifest) {
        self.hit_in(id, (pre_key, key), manifest, TargetOutcome::Local);
    }

    /// A cache has the result of a target.
    pub(super) fn hit_in(
        &mut self,
        id: Id,
        (pre_key, key): (Digest, Digest),
        manifest: &Manifest,
        outcome: TargetOutcome,
    ) {
        self.witness.hit(manifest.duration);
        let last = self.last_of(pre_key, key, manifest);
        self.have(id, last, outcome);
    }

    /// A target has its product: into the tree, where it belongs there, and on to its dependants.
    pub(super) fn deliver(&mut self, id: Id, product: Arc<Product>, outcome: TargetOutcome) {
        let codegen = match &self.prepared.graph.node(id).definition.action {
            Action::Command(command) => command.codegen,
            _ => None,
        };
        if let Some(codegen) = codegen
            && !self.start.dry_run
            && self.write_tree(id, &product, codegen, outcome)
        {
            return;
        }
        self.done(id, product, outcome);
    }

    pub(super) fn last_of(&self, pre_key: Digest, key: Digest, manifest: &Manifest) -> Arc<Last> {
        let product = Product::of(manifest);
        Arc::new(Last {
            pre_key,
            key,
            product,
            sandbox: manifest.sandbox as i32,
        })
    }

    fn would_run(&mut self, id: Id, node: &Node, key: &Digest, parts: &[heph_common::key::KeyPart]) {
        let address = node.definition.address.to_string();
        let reason = match () {
            () if self.tasks.get(id).forced => "forced".to_owned(),
            () if !node.definition.cache.enabled => "its results are not kept (cache = False)".to_owned(),
            () => crate::miss::reason(&self.services.store, &self.prepared.root, &address, key, parts),
        };
        self.send(run_event::Event::WouldRun(WouldRun { address, reason }));
        let skipped = self.tasks.failed(id, TargetOutcome::Unspecified);
        for dependant in skipped {
            let node = self.prepared.graph.node(dependant);
            if node.is_action() {
                let needed = node.definition.address.to_string();
                let reason = "a target that it needs would run".to_owned();
                self.send(run_event::Event::WouldRun(WouldRun {
                    address: needed,
                    reason,
                }));
            }
        }
    }

    /// Whether a command rewrites sources of the tree.
    pub(super) fn is_in_place(node: &Node) -> bool {
        matches!(&node.definition.action, Action::Command(command) if command.codegen == Some(Codegen::InPlace))
    }
}
