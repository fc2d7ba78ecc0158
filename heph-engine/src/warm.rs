//! The workspaces that a coordinator keeps in memory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use heph_common::Digest;

use crate::workspace::Workspace;

/// Root, and the digest of the settings.
type Key = (PathBuf, Digest);

/// Warm workspaces. Who works on one holds it; what nobody holds may be dropped.
#[derive(Debug, Default)]
pub(crate) struct Workspaces {
    known: HashMap<Key, Known>,
    /// Counts uses.
    now: u64,
}

#[derive(Debug)]
struct Known {
    workspace: Arc<Mutex<Workspace>>,
    used: u64,
}

impl Workspaces {
    /// A workspace that is known, which counts as a use of it. One in which a fault left something half done is not known.
    pub(crate) fn used(&mut self, key: &Key) -> Option<Arc<Mutex<Workspace>>> {
        let known = self.known.get_mut(key)?;
        if known.workspace.is_poisoned() {
            return None;
        }
        self.now += 1;
        known.used = self.now;
        Some(Arc::clone(&known.workspace))
    }

    /// Keeps a workspace, unless somebody else was quicker. Gives the one that is kept.
    pub(crate) fn insert(&mut self, key: Key, workspace: Arc<Mutex<Workspace>>) -> Arc<Mutex<Workspace>> {
        if let Some(known) = self.used(&key) {
            return known;
        }
        self.now += 1;
        let known = Known {
            workspace: Arc::clone(&workspace),
            used: self.now,
        };
        self.known.insert(key, known);
        workspace
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Mutex<Workspace>>> {
        let all = self.known.values();
        all.map(|known| Arc::clone(&known.workspace)).collect()
    }

    /// The one that was used longest ago, of those that nobody holds.
    pub(crate) fn oldest(&self) -> Option<(Key, Arc<Mutex<Workspace>>)> {
        let free = self
            .known
            .iter()
            .filter(|(_, known)| Arc::strong_count(&known.workspace) == 1);
        let (key, known) = free.min_by_key(|(_, known)| known.used)?;
        Some((key.clone(), Arc::clone(&known.workspace)))
    }

    /// Forgets a workspace that nobody but the caller holds, and gives it back to be dropped outside.
    pub(crate) fn remove(&mut self, key: &Key, held: Arc<Mutex<Workspace>>) -> Option<Arc<Mutex<Workspace>>> {
        let known = self.known.get(key)?;
        // One for the map, one for the caller. Others get theirs from the map, which is locked.
        let is_free = Arc::ptr_eq(&known.workspace, &held) && Arc::strong_count(&held) == 2;
        if !is_free {
            return None;
        }
        self.known.remove(key);
        Some(held)
    }

    /// Roots, sorted, each once.
    pub(crate) fn roots(&self) -> Vec<PathBuf> {
        let mut roots: Vec<_> = self.known.keys().map(|(root, _)| root.clone()).collect();
        roots.sort();
        roots.dedup();
        roots
    }
}
