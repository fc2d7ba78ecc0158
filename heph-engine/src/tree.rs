//! What is known of the workspace's directories: listings, packages, globs.
//!
//! All listings go through one [`Tree`], which remembers with which `stat` each was read. So a later run can prove by
//! one `lstat` a directory that nothing was added or removed.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heph_common::Digest;
use heph_common::ignore::Skip;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::stat::Stat;

mod directory;
mod glob;
mod packages;
pub mod pattern;

pub use glob::{GlobResult, escape_list, split_list};
pub use packages::{BuildPatterns, PackageDir};

/// File that marks the root of a workspace.
pub(crate) const WORKSPACE_MARK: &str = ".hephconfig";

/// Parts of the cache, each with a lock of its own.
const SHARDS: usize = 16;

/// What says that a directory is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirStat {
    /// Its identity and times when it was read.
    pub stat: Stat,
    /// Whether both times lay more than a clock tick before the reading. A later change could otherwise leave them as
    /// they are, so what is not settled proves nothing.
    pub settled: bool,
}

/// The entries of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The directory when it was read.
    pub stat: DirStat,
    /// Sorted by name, without `.git`, what `fs.skip` names, and the home of heph.
    pub entries: Vec<Entry>,
    /// Names that are not UTF-8, escaped; sorted.
    pub escaped: Vec<Entry>,
    /// Whether the directory is the root of another workspace.
    pub foreign: bool,
    digest: Digest,
}

impl Listing {
    /// The entry of a name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| (*entry.name).cmp(name))
            .ok()?;
        self.entries.get(at)
    }

    /// Digest of names and kinds: equal ones mean that nothing was added, removed or replaced by another kind.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: Box<str>,
    /// What it is; links are not followed.
    pub kind: Kind,
}

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A socket, pipe or device.
    Other,
}

/// The directories of one workspace; shared between threads.
pub struct Tree {
    root: PathBuf,
    skip: Skip,
    /// The home of heph relative to the root, when it lies inside.
    home: Option<String>,
    hasher: RandomState,
    shards: [Mutex<HashMap<Box<str>, Arc<Listing>>>; SHARDS],
    /// Directories that were read since [`Tree::newly_listed`] was asked.
    fresh: Mutex<Vec<Box<str>>>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Tree {
    /// The tree below `root`, an absolute path; `home` is the absolute path of heph's home.
    pub fn new(root: impl Into<PathBuf>, skip: Skip, home: Option<&Path>) -> Self {
        let root = root.into();
        let home = home.and_then(|home| home.strip_prefix(&root).ok()?.to_str().map(str::to_owned));
        Self {
            root,
            skip,
            home: home.filter(|home| !home.is_empty()),
            hasher: RandomState::new(),
            shards: Default::default(),
            fresh: Mutex::default(),
        }
    }

    /// The root of the workspace.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a directory is no part of the workspace: `.git`, skipped, or the home of heph. Only the path itself is looked
    /// at, not what is above it.
    pub fn is_pruned(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        name == ".git" || self.home.as_deref() == Some(path) || self.skip.skips(path)
    }

    /// The entries of a directory, relative to the root (empty for the root); read once.
    ///
    /// Only for a directory that the listing of the one above names; [`Self::find`] is for any other path. Fails as reading it
    /// does; a path through a symbolic link is no directory.
    pub fn list(&self, dir: &str) -> io::Result<Arc<Listing>> {
        if let Some(known) = self.shard(dir).get(dir) {
            return Ok(Arc::clone(known));
        }
        let listing = Arc::new(self.read(dir)?);
        self.shard(dir).insert(dir.into(), Arc::clone(&listing));
        lock(&self.fresh).push(dir.into());
        Ok(listing)
    }

    /// The directory at a path, relative to the root; `None` when nothing is there, when a link is on the way, or when it is left
    /// out or part of another workspace.
    ///
    /// Every directory above is listed too: a later run has to notice when one of them no longer leads here, or does so for the
    /// first time. Fails when one of them cannot be read.
    pub fn find(&self, dir: &str) -> Result<Option<Arc<Listing>>, Problem> {
        let Some(mut listing) = self.list_if_there("")? else {
            return Ok(None);
        };
        let mut start = 0;
        while start < dir.len() {
            let rest = dir.get(start..).unwrap_or_default();
            let end = start + rest.find('/').unwrap_or(rest.len());
            let name = dir.get(start..end).unwrap_or_default();
            if listing
                .get(name)
                .is_none_or(|entry| entry.kind != Kind::Directory)
            {
                return Ok(None);
            }
            match self.list_if_there(dir.get(..end).unwrap_or_default())? {
                Some(below) if !below.foreign => listing = below,
                _ => return Ok(None),
            }
            start = end + 1;
        }
        Ok(Some(listing))
    }

    /// The entries of a directory; `None` when it is none.
    fn list_if_there(&self, dir: &str) -> Result<Option<Arc<Listing>>, Problem> {
        match self.list(dir) {
            Ok(listing) => Ok(Some(listing)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(
                Problem::new(format!("cannot list the directory '{dir}': {error}"))
                    .hint("make it readable, or leave it out with 'fs.skip' in .hephconfig"),
            ),
        }
    }

    /// Every directory that was listed so far, with what it was at that time; sorted by path.
    pub fn export(&self) -> Vec<(String, DirStat)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            all.extend(shard.iter().map(|(dir, listing)| (dir.to_string(), listing.stat)));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Every directory that was read since the last call, with what it was and the digest of its entries.
    pub fn newly_listed(&self) -> Vec<(String, DirStat, Digest)> {
        let fresh = std::mem::take(&mut *lock(&self.fresh));
        let listed = fresh.into_iter().filter_map(|dir| {
            let listing = Arc::clone(self.shard(&dir).get(&dir)?);
            Some((dir.into_string(), listing.stat, listing.digest()))
        });
        listed.collect()
    }

    /// What the directory was when it was listed.
    pub fn stat_of(&self, dir: &str) -> Option<DirStat> {
        self.shard(dir).get(dir).map(|listing| listing.stat)
    }

    /// Whether a directory provably is as it was: one `lstat`.
    pub fn verify(&self, dir: &str, stat: &DirStat) -> bool {
        stat.settled && directory::stat(&self.root.join(dir)) == Some(stat.stat)
    }

    /// Forgets every listing that is not provably current; for a new run over the same tree.
    pub fn refresh(&self) {
        for shard in &self.shards {
            lock(shard).retain(|dir, listing| self.verify(dir, &listing.stat));
        }
    }

    /// Forgets one listing.
    pub fn forget(&self, dir: &str) {
        self.shard(dir).remove(dir);
    }

    /// The path of the workspace that a missing file was probably meant to be: the nearest name in its directory.
    pub fn nearest_file(&self, path: &str) -> Option<String> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let listing = self.find(dir).ok()??;
        let names = listing
            .entries
            .iter()
            .filter(|e| e.kind != Kind::Directory)
            .map(|e| &*e.name);
        heph_common::nearest(name, names).map(|name| join(dir, name))
    }

    fn shard(&self, dir: &str) -> MutexGuard<'_, HashMap<Box<str>, Arc<Listing>>> {
        let index = self.hasher.hash_one(dir) as usize % SHARDS;
        // The index is below the number of shards.
        lock(self.shards.get(index).unwrap_or(&self.shards[0]))
    }
}

/// A panic while a listing was stored leaves the map as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether any of the directories above a path is one that `is_one` accepts; the root is not asked about.
pub fn is_below(path: &str, is_one: impl Fn(&str) -> bool) -> bool {
    path.match_indices('/')
        .any(|(at, _)| path.get(..at).is_some_and(&is_one))
}

/// A path below a directory; the root is the empty one.
pub(crate) fn join(dir: &str, name: &str) -> String {
    match dir {
        "" => name.to_owned(),
        _ => format!("{dir}/{name}"),
    }
}

#[cfg(test)]
mod tests;
