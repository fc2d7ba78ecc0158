//! Dropping what is not provably current.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use heph_common::Digest;

use super::trusted::Suspects;
use super::{Directory, Package, Workspace, in_parallel};
use crate::build_file::{Observation, ReadFile};
use crate::executor::Record;
use crate::file_table::FileTable;
use crate::watch::Watched;

impl Workspace {
    /// Drops what is not provably current; for the beginning of a run.
    ///
    /// Where a watcher tells what changed, only that is looked at.
    pub fn refresh(&mut self) {
        self.refresh_root();
        // What was listed since is among the suspects.
        self.note_directories();
        let suspects = self.trusted.suspects();
        match &suspects {
            Suspects::All => self.warm.clear(),
            Suspects::These(paths) => self.warm.iter_mut().for_each(|warm| warm.touch(paths)),
        }
        self.refresh_suspects(&suspects);
    }

    pub(super) fn refresh_suspects(&mut self, suspects: &Suspects) {
        let generated_changed = self.refresh_generated();
        let directories_changed = self.refresh_directories(suspects);
        if suspects.any() {
            // Files that were loaded by packages which could not be evaluated belong to no package that is known.
            self.loader.refresh_loaded();
        }
        if directories_changed || generated_changed {
            self.globs.clear();
            self.warm.clear();
            self.dirty = true;
        }
        let read = self.read_again(suspects);
        let stale = self.stale_packages(directories_changed, generated_changed, &read);
        self.note_stats(&stale, read);
        let other_packages = directories_changed && self.discover_again();
        if stale.is_empty() && !other_packages {
            return;
        }
        tracing::debug!(
            packages = stale.len(),
            directories_changed,
            "the workspace changed"
        );
        self.dirty = true;
        for package in &stale {
            self.packages.remove(package);
        }
        self.declared = None;
        self.unlink();
    }

    /// Another directory may have taken the place of the one that is open.
    fn refresh_root(&mut self) {
        if !self.files.is_current()
            && let Ok(files) = FileTable::open(&self.root)
        {
            tracing::debug!("{} is another directory now", self.root.display());
            self.files = Arc::new(files);
            self.trusted.renew();
            self.dirty = true;
        }
    }

    /// Takes over which files heph has put into the tree; whether they are others than before.
    ///
    /// A file that is not what heph wrote is somebody's own: a source, unless a target says that it makes it.
    fn refresh_generated(&mut self) -> bool {
        let record = match Record::read(&self.home, &self.root) {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!("{error}");
                return false;
            }
        };
        let generated: BTreeSet<String> = record
            .files()
            .filter(|(path, written)| self.is_as_written(path, *written))
            .map(|(path, _)| path.to_owned())
            .collect();
        let mut known = self.generated.write().unwrap_or_else(PoisonError::into_inner);
        let changed = **known != generated;
        if changed {
            *known = Arc::new(generated);
        }
        changed
    }

    /// Whether the file that heph wrote is still that one, or gone.
    fn is_as_written(&mut self, path: &str, written: Digest) -> bool {
        if self.trusted.holds(path)
            && let Some(state) = self.files.remembered(path)
        {
            return state.digest == written;
        }
        self.trusted.look(path, Watched::File);
        let Ok(state) = self.files.state(path) else {
            return true;
        };
        self.trusted.looked_at(path);
        state.digest == written
    }

    /// Forgets the graph but not how targets ended.
    fn unlink(&mut self) {
        let old = std::mem::take(&mut self.graph);
        self.globs.clear();
        self.warm.clear();
        let lasts = std::mem::take(&mut self.lasts);
        self.orphans.extend(
            lasts
                .iter()
                .map(|(id, last)| (old.node(*id).definition.address.clone(), Arc::clone(last))),
        );
    }

    /// Looks at the directories that may have changed; whether any has other entries than before.
    fn refresh_directories(&mut self, suspects: &Suspects) -> bool {
        let looked_at: Vec<(String, Directory)> = match suspects {
            Suspects::All => self
                .directories
                .iter()
                .map(|(path, directory)| (path.clone(), *directory))
                .collect(),
            Suspects::These(paths) => paths
                .iter()
                .filter_map(|path| Some((path.clone(), *self.directories.get(path)?)))
                .collect(),
        };
        if looked_at.is_empty() {
            return false;
        }
        for (path, _) in &looked_at {
            self.trusted.look(path, Watched::Directory);
        }
        let current = in_parallel(&looked_at, |(path, directory)| {
            self.tree().verify(path, &directory.stat)
        });
        let mut changed = false;
        for ((path, before), current) in looked_at.into_iter().zip(current) {
            if !current {
                self.tree().forget(&path);
                // A directory whose times changed, or prove nothing yet, may still have the same entries.
                let now = self.tree().list(&path).ok();
                changed |= now.as_ref().map(|now| now.digest()) != Some(before.entries);
                match now {
                    Some(now) => {
                        let directory = Directory {
                            stat: now.stat,
                            entries: now.digest(),
                        };
                        self.directories.insert(path.clone(), directory);
                    }
                    None => drop(self.directories.remove(&path)),
                }
            }
            if self.directories.contains_key(&path) {
                self.trusted.looked_at(&path);
            }
        }
        changed
    }

    /// Takes over what the tree has listed.
    pub(super) fn note_directories(&mut self) {
        for (path, stat, entries) in self.loader.tree().newly_listed() {
            let directory = Directory { stat, entries };
            // What was listed just now is looked at again in the next run, and watched by then.
            if !self.trusted.holds(&path) {
                self.trusted.remains_open(&path);
            }
            self.directories.insert(path, directory);
        }
    }

    /// Looks for packages again, after directories changed; whether there may be others than before.
    fn discover_again(&mut self) -> bool {
        let Some(before) = self.discovered.take() else {
            return true;
        };
        let Ok(found) = self.loader.packages("") else {
            return true;
        };
        let now: Vec<String> = found.into_iter().map(|found| found.package).collect();
        let changed = now != before;
        self.discovered = Some(now);
        changed
    }

    /// The files of packages of which a `stat` does not prove that they are what they were, as they are now; `None` for those
    /// that cannot be read.
    fn read_again(&mut self, suspects: &Suspects) -> HashMap<String, Option<ReadFile>> {
        if !suspects.any() {
            return HashMap::new();
        }
        let mut seen: HashMap<&str, Vec<&ReadFile>> = HashMap::new();
        let files = self.packages.values().flat_map(|package| &package.files);
        for file in files.filter(|file| suspects.has(&file.path)) {
            let same = seen.entry(&file.path).or_default();
            if !same.contains(&file) {
                same.push(file);
            }
        }
        for path in seen.keys() {
            self.trusted.look(path, Watched::File);
        }
        let files: Vec<(&str, Vec<&ReadFile>)> = seen.into_iter().collect();
        let root = &self.root;
        let looked_at = in_parallel(&files, |(path, seen)| {
            let proved = seen.iter().all(|file| file.is_current(root));
            let now = (!proved).then(|| ReadFile::read(root, path).ok());
            ((*path).to_owned(), now)
        });
        drop(files);
        if self.trusted.is_possible() {
            for (path, _) in &looked_at {
                // A BUILD file may be a source too: then trust in it is trust in both.
                match self.files.remembered(path).map(|_| self.files.state(path)) {
                    None | Some(Ok(_)) => self.trusted.looked_at(path),
                    Some(Err(_)) => self.trusted.remains_open(path),
                }
            }
        }
        let read = looked_at.into_iter();
        read.filter_map(|(path, now)| Some((path, now?))).collect()
    }

    /// Packages whose files, directory or observations are not what they were.
    fn stale_packages(
        &self,
        directories_changed: bool,
        generated_changed: bool,
        read: &HashMap<String, Option<ReadFile>>,
    ) -> HashSet<String> {
        if read.is_empty() && !directories_changed && !generated_changed {
            return HashSet::new();
        }
        let differs = |file: &ReadFile| {
            read.get(&file.path)
                .is_some_and(|now| now.as_ref().is_none_or(|now| now.digest != file.digest))
        };
        let is_stale = |name: &str, package: &Package| {
            package.files.iter().any(differs)
                || (directories_changed && !self.has_build_files(name, package))
                || ((directories_changed || generated_changed) && !self.still_observed(&package.observed))
        };
        self.packages
            .iter()
            .filter(|(name, package)| is_stale(name, package))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// A file that was written anew with the same content is proved by its new `stat` from now on.
    fn note_stats(&mut self, stale: &HashSet<String>, read: HashMap<String, Option<ReadFile>>) {
        if read.is_empty() {
            return;
        }
        for (name, package) in &mut self.packages {
            if stale.contains(name) || !package.files.iter().any(|file| read.contains_key(&file.path)) {
                continue;
            }
            for file in &mut Arc::make_mut(package).files {
                if let Some(Some(now)) = read.get(&file.path) {
                    self.dirty |= now.settled;
                    *file = now.clone();
                }
            }
        }
    }

    fn still_observed(&self, observed: &[Observation]) -> bool {
        let same = |before: &Observation| {
            self.loader
                .observe(before.question.clone())
                .is_ok_and(|now| now.answer == before.answer)
        };
        observed.iter().all(same)
    }

    fn has_build_files(&self, name: &str, package: &Package) -> bool {
        self.loader
            .package(name)
            .is_ok_and(|found| found.is_some_and(|found| found.build_files == package.build_files))
    }
}
