//! What a run has from remote caches: results that were made elsewhere, and the contents of theirs that it needs.

use std::collections::HashSet;
use std::sync::Arc;

use heph_cache::Manifest;
use heph_cache::remote::Wanted;
use heph_common::Digest;
use heph_proto::{Notice, NoticeLevel, TargetOutcome, run_event};

use super::declared::Declared;
use super::task::State;
use super::{Message, Run};
use crate::definition::Action;
use crate::gather::{gather, owner_names};
use crate::graph::{Id, Node};
use crate::plan::{Gone, serves};
use crate::product::{Entry, Kind, Product, Source};

/// Kind of action of a target's command.
const KIND: &str = "target";

/// What a target waits to do until contents are there.
#[derive(Debug)]
pub(super) enum Awaiting {
    /// To run its command.
    Execution,
    /// To hand its outputs over.
    Delivery(Arc<Product>, TargetOutcome),
}

/// Whether results of a target are sent to remote caches and asked for there. What is written as quickly as it is asked for is not.
pub(super) fn is_shared(node: &Node) -> bool {
    let definition = &node.definition;
    definition.cache.enabled && definition.cache.remote && !matches!(definition.action, Action::TextFile(_))
}

impl Run<'_> {
    /// Asks the remote caches for the result of a target whose key is known. `false`: there are none to ask.
    pub(super) fn ask_remote(&mut self, id: Id, node: &Node) -> bool {
        let Some(remote) = self.remote.as_ref().filter(|remote| remote.reads()) else {
            return false;
        };
        let Some(keyed) = self.keys.get(&id).filter(|_| is_shared(node)) else {
            return false;
        };
        let own = self.own.clone();
        let declared = Declared::of(&node.definition.action);
        let check = move |manifest: &Manifest| declared.check(manifest);
        remote.look_up(KIND, keyed.key, check, move |found| {
            // A run that has ended does not need it.
            drop(own.send(Message::Remote(id, found)));
        });
        self.tasks.set(id, State::Remote);
        true
    }

    /// The remote caches have answered.
    pub(super) fn remote_answered(&mut self, id: Id, found: Option<&Manifest>) {
        self.tell_remote_warnings();
        if self.tasks.get(id).state != State::Remote || self.awaiting.contains_key(&id) {
            return;
        }
        let node = self.prepared.graph.node(id);
        let surroundings = &self.prepared.surroundings;
        let served = found.filter(|manifest| serves(node, surroundings, manifest.sandbox));
        match (served, self.keys.get(&id)) {
            (Some(manifest), Some(keyed)) if manifest.key == keyed.key => {
                let keys = (keyed.pre_key, keyed.key);
                // For `heph why-miss` and `heph cache purge`, as if it had been made here.
                let made = self.revision(manifest, keyed.parts.clone(), node.definition.cache.history);
                if let Err(error) = self.services.store.remember_parts(&keyed.key, &made) {
                    tracing::warn!(
                        "what the key of {} was made of is not kept: {error}",
                        manifest.address
                    );
                }
                self.hit_in(id, keys, manifest, TargetOutcome::Remote);
            }
            _ => self.missed(id),
        }
    }

    /// Fetches contents that a target needs. `false`: there is nowhere to fetch them from.
    pub(super) fn fetch(&mut self, id: Id, gone: Gone, wanted: Vec<Wanted>, awaiting: Awaiting) -> bool {
        let is_hopeless = |digest: &Digest| self.nowhere.contains(digest);
        let Some(remote) = self.remote.as_ref().filter(|remote| remote.reads()) else {
            return false;
        };
        let is_it = wanted.iter().any(|one| one.digest == gone.digest);
        if !is_it || self.stopping || wanted.iter().any(|one| is_hopeless(&one.digest)) {
            return false;
        }
        let own = self.own.clone();
        remote.fetch(KIND, wanted, move |missing| {
            drop(own.send(Message::Fetched(id, missing)));
        });
        self.awaiting.insert(id, awaiting);
        self.tasks.set(id, State::Remote);
        true
    }

    /// What was to be fetched is there, but for some. What is missing is made again.
    pub(super) fn fetched(&mut self, id: Id, missing: Vec<Digest>) {
        self.tell_remote_warnings();
        self.nowhere.extend(missing);
        let Some(awaiting) = self.awaiting.remove(&id) else {
            return;
        };
        if self.tasks.get(id).state != State::Remote {
            return;
        }
        match awaiting {
            Awaiting::Execution => self.enqueue(id),
            Awaiting::Delivery(product, outcome) => self.deliver(id, product, outcome),
        }
    }

    /// Contents of a target's inputs that the store has not.
    pub(super) fn missing_inputs(&self, id: Id) -> Vec<Wanted> {
        let graph = &self.prepared.graph;
        let node = graph.node(id);
        let names = owner_names(graph, node);
        let Ok(gathered) = gather(graph, node, &self.tasks, &names) else {
            return Vec::new();
        };
        let mut wanted = HashSet::new();
        for given in &gathered.inputs {
            self.want(&mut wanted, given.from, given.entry);
        }
        wanted.into_iter().collect()
    }

    /// Contents of those outputs of a target that `is_needed`, that the store has not.
    pub(super) fn missing_outputs(
        &self,
        id: Id,
        product: &Product,
        is_needed: impl Fn(&Entry) -> bool,
    ) -> Vec<Wanted> {
        let mut wanted = HashSet::new();
        for entry in product.entries.iter().filter(|entry| is_needed(entry)) {
            self.want(&mut wanted, id, entry);
        }
        wanted.into_iter().collect()
    }

    fn want(&self, wanted: &mut HashSet<Wanted>, from: Id, entry: &Entry) {
        let Kind::File { digest, .. } = &entry.kind else {
            return;
        };
        if !matches!(entry.source, Source::Store) {
            return;
        }
        // Through groups and queries, to who made it.
        let producers = self.producers(Gone {
            from,
            digest: *digest,
        });
        let keys = producers.iter().filter_map(|producer| self.last(*producer));
        wanted.extend(keys.filter_map(|last| self.wanted(last.key, entry)).next());
    }

    fn wanted(&self, key: Digest, entry: &Entry) -> Option<Wanted> {
        let Kind::File {
            digest, executable, ..
        } = &entry.kind
        else {
            return None;
        };
        let is_there = matches!(self.services.store.blob(digest, *executable), Ok(Some(_)));
        (!is_there).then_some(Wanted {
            key,
            digest: *digest,
            executable: *executable,
        })
    }

    /// What the caches say a user should know, once for each.
    pub(super) fn tell_remote_warnings(&self) {
        let Some(remote) = &self.remote else { return };
        for warning in remote.take_warnings() {
            self.send(run_event::Event::Notice(Notice {
                level: NoticeLevel::Warning.into(),
                code: "remote-cache".to_owned(),
                message: warning.message,
                hint: warning.hint,
            }));
        }
    }
}
