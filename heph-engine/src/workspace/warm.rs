//! What an earlier request prepared and how it ended, for the next one that asks the same.
//!
//! Only kept where a watcher tells what changed: a run in which nothing or little did then costs little.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use heph_cache::PresenceToken;
use heph_common::Digest;
use heph_common::query::Query;

use super::Workspace;
use super::prepare::Request;
use crate::definition::Action;
use crate::graph::{Graph, Id};
use crate::problem::{Problem, Problems};
use crate::product::Product;
use crate::run::Prepared;
use crate::run::task::{Dependants, ProductsByNode};

/// Requests of one workspace that are kept.
const KEPT: usize = 4;

/// Products of source files, globs and programs, and what is wrong with those that have none.
pub type Leaves = HashMap<Id, Result<Arc<Product>, Problem>>;

/// One earlier request.
#[derive(Debug)]
pub(super) struct Warm {
    fingerprint: Digest,
    selected: Arc<[Id]>,
    order: Arc<[Id]>,
    leaves: Arc<Leaves>,
    /// Leaves that rest on a file.
    by_path: HashMap<String, Vec<Id>>,
    programs: Vec<Id>,
    /// Targets that are looked at in every run: uncached ones, and those that write to the tree.
    always: Vec<Id>,
    /// Files that changed since this was prepared last.
    touched: BTreeSet<String>,
    /// Leaves whose products are not those that `settled` rests on.
    dirty: HashSet<Id>,
    settled: Option<Arc<Settled>>,
    /// Of its last preparation.
    serial: u64,
}

/// A run in which every target got its result.
#[derive(Debug)]
pub struct Settled {
    /// By number of the node.
    pub products: ProductsByNode,
    /// Who depends on a node, by its number, within the run.
    pub dependants: Dependants,
    /// Digest of the surroundings.
    pub surroundings: Digest,
    /// Taken before the store was asked what it has.
    pub token: PresenceToken,
    /// Targets in all that run or write something.
    pub actions: u64,
}

/// Which request a run belongs to, and what it need not do.
#[derive(Clone, Debug)]
pub struct Affected {
    fingerprint: Digest,
    serial: u64,
    /// How the last run ended, where it did, and what has to be looked at since; dependencies first.
    pub since: Option<(Arc<Settled>, Vec<Id>)>,
}

impl Settled {
    /// Whether the run used this product of a leaf.
    fn used(&self, id: Id, now: &Result<Arc<Product>, Problem>) -> bool {
        let used = self.products.get(id.index()).and_then(Option::as_ref);
        match (used, now) {
            (Some(used), Ok(now)) => used.digest() == now.digest(),
            _ => false,
        }
    }
}

impl Warm {
    /// Files that it rests on.
    pub fn paths(&self) -> impl Iterator<Item = &String> {
        self.by_path.keys()
    }

    /// These files changed, or may have.
    pub fn touch(&mut self, paths: &BTreeSet<String>) {
        // The smaller side is walked.
        if paths.len() <= self.by_path.len() {
            let known = paths.iter().filter(|path| self.by_path.contains_key(*path));
            self.touched.extend(known.cloned());
        } else {
            let touched = self.by_path.keys().filter(|path| paths.contains(*path));
            self.touched.extend(touched.cloned());
        }
    }

    fn affected(&self) -> Affected {
        let since = self.settled.as_ref().map(|settled| {
            let mut found = vec![false; settled.dependants.len()];
            let mut pending: Vec<Id> = self.dirty.iter().chain(&self.always).copied().collect();
            let mut any = false;
            while let Some(id) = pending.pop() {
                if let Some(found) = found.get_mut(id.index())
                    && !std::mem::replace(found, true)
                {
                    any = true;
                    pending.extend(settled.dependants.get(id.index()).into_iter().flatten());
                }
            }
            let affected = match any {
                true => self
                    .order
                    .iter()
                    .copied()
                    .filter(|id| found.get(id.index()) == Some(&true))
                    .collect(),
                false => Vec::new(),
            };
            (Arc::clone(settled), affected)
        });
        Affected {
            fingerprint: self.fingerprint,
            serial: self.serial,
            since,
        }
    }
}

impl Workspace {
    /// What names a request: those with equal names select the same targets and run them the same way while the workspace stays.
    /// `None` for requests that rest on more than the workspace.
    pub(super) fn fingerprint(&self, query: &Query, request: &Request) -> Option<Digest> {
        let mut rests_on_commits = request.since.is_some();
        query.visit(&mut |part| rests_on_commits |= matches!(part, Query::Changed(_)));
        if rests_on_commits || !self.trusted.is_possible() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(request.identity.as_bytes())
            .update(&(request.sandbox as i32).to_le_bytes())
            .update(query.to_string().as_bytes());
        Some(hasher.finalize().into())
    }

    /// Prepares a request from what an earlier one left; `None` when nothing is left of it.
    pub(super) fn prepare_warm(
        &mut self,
        fingerprint: &Digest,
        request: &Request,
    ) -> Result<Option<Prepared>, Problems> {
        let Some(at) = self.warm.iter().position(|warm| warm.fingerprint == *fingerprint) else {
            return Ok(None);
        };
        let surroundings = self.surroundings(request)?;
        // An error below leaves nothing half done: it is gone.
        let mut warm = self.warm.remove(at);
        let touched = std::mem::take(&mut warm.touched);
        let mut again: Vec<Id> = touched
            .iter()
            .filter_map(|path| warm.by_path.get(path))
            .flatten()
            .chain(&warm.programs)
            .copied()
            .collect();
        again.sort_unstable();
        again.dedup();
        if !again.is_empty() {
            let leaves = Arc::make_mut(&mut warm.leaves);
            for (id, now) in self.leaves(&again, request)? {
                if warm
                    .settled
                    .as_ref()
                    .is_some_and(|settled| settled.used(id, &now))
                {
                    warm.dirty.remove(&id);
                } else {
                    warm.dirty.insert(id);
                }
                leaves.insert(id, now);
            }
        }
        warm.serial = self.next_serial();
        let prepared = Prepared {
            root: self.root.clone(),
            graph: self.shared_graph(),
            selected: Arc::clone(&warm.selected),
            order: Arc::clone(&warm.order),
            leaves: Arc::clone(&warm.leaves),
            lasts: Arc::clone(&self.lasts),
            surroundings,
            files: Arc::clone(&self.files),
            affected: Some(warm.affected()),
        };
        self.warm.push(warm);
        Ok(Some(prepared))
    }

    /// Keeps what was prepared for the next request of the same name.
    pub(super) fn keep_warm(&mut self, fingerprint: Digest, prepared: &mut Prepared) {
        let mut by_path: HashMap<String, Vec<Id>> = HashMap::new();
        let mut programs = Vec::new();
        for &id in prepared.order.iter() {
            match &prepared.graph.node(id).definition.action {
                Action::File { path } => by_path.entry(path.clone()).or_default().push(id),
                Action::Glob { .. } => {
                    let files = self.globs.get(&id).map(Arc::clone);
                    for path in files.iter().flat_map(|found| &found.files) {
                        by_path.entry(path.clone()).or_default().push(id);
                    }
                }
                Action::HostProgram { .. } => programs.push(id),
                _ => {}
            }
        }
        let warm = Warm {
            fingerprint,
            selected: Arc::clone(&prepared.selected),
            order: Arc::clone(&prepared.order),
            leaves: Arc::clone(&prepared.leaves),
            by_path,
            programs,
            always: always(&prepared.graph, &prepared.order),
            touched: BTreeSet::new(),
            dirty: HashSet::new(),
            settled: None,
            serial: self.next_serial(),
        };
        prepared.affected = Some(warm.affected());
        self.warm.retain(|warm| warm.fingerprint != fingerprint);
        self.warm.push(warm);
        if self.warm.len() > KEPT {
            self.warm.remove(0);
        }
    }

    /// A number of its own for each preparation.
    fn next_serial(&mut self) -> u64 {
        self.preparations += 1;
        self.preparations
    }

    /// Takes over how a run ended in which every target got its result.
    pub(super) fn settled(&mut self, affected: &Affected, settled: Settled) {
        let same =
            |warm: &&mut Warm| warm.fingerprint == affected.fingerprint && warm.serial == affected.serial;
        // Another run that was prepared since may rest on later products than this one.
        if let Some(warm) = self.warm.iter_mut().find(same) {
            warm.settled = Some(Arc::new(settled));
            warm.dirty.clear();
        }
    }
}

/// Targets that are looked at in every run, of those that a run was about.
fn always(graph: &Graph, order: &[Id]) -> Vec<Id> {
    let is_always = |id: &Id| {
        let definition = &graph.node(*id).definition;
        let writes = matches!(&definition.action, Action::Command(command) if command.codegen.is_some());
        writes || (graph.node(*id).is_action() && !definition.cache.enabled)
    };
    order.iter().copied().filter(is_always).collect()
}
