//! Dropping what is not provably current.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use super::{Directory, Package, Workspace, in_parallel};
use crate::build_file::{Observation, ReadFile};
use crate::executor::Record;
use crate::file_table::FileTable;

impl Workspace {
    /// Drops what is not provably current; for the beginning of a run.
    pub fn refresh(&mut self) {
        self.refresh_root();
        let generated_changed = self.refresh_generated();
        let directories_changed = self.refresh_directories();
        // Files that were loaded by packages which could not be evaluated belong to no package that is known.
        self.loader.refresh_loaded();
        if directories_changed {
            self.discovered = None;
        }
        if directories_changed || generated_changed {
            self.globs.clear();
            self.dirty = true;
        }
        let read = self.read_again();
        let stale = self.stale_packages(directories_changed, generated_changed, &read);
        self.note_stats(&stale, read);
        if stale.is_empty() && !directories_changed {
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
            self.dirty = true;
        }
    }

    /// Takes over which files heph has put into the tree; whether they are others than before.
    fn refresh_generated(&mut self) -> bool {
        let generated: BTreeSet<String> = match Record::read(&self.home, &self.root) {
            Ok(record) => record.files().map(|(path, _)| path.to_owned()).collect(),
            Err(error) => {
                tracing::warn!("{error}");
                return false;
            }
        };
        let mut known = self.generated.write().unwrap_or_else(PoisonError::into_inner);
        let changed = **known != generated;
        if changed {
            *known = Arc::new(generated);
        }
        changed
    }

    /// Forgets the graph but not how targets ended.
    fn unlink(&mut self) {
        let old = std::mem::take(&mut self.graph);
        self.globs.clear();
        let lasts = std::mem::take(&mut self.lasts);
        self.orphans.extend(
            lasts
                .into_iter()
                .map(|(id, last)| (old.node(id).definition.address.clone(), last)),
        );
    }

    fn refresh_directories(&mut self) -> bool {
        self.note_directories();
        let known: Vec<(&String, &Directory)> = self.directories.iter().collect();
        let current = in_parallel(&known, |(path, directory)| {
            self.tree().verify(path, &directory.stat)
        });
        let stale: Vec<String> = known
            .iter()
            .zip(current)
            .filter(|(_, current)| !current)
            .map(|((path, _), _)| (*path).clone())
            .collect();
        let mut changed = false;
        for path in stale {
            self.tree().forget(&path);
            let before = self.directories.remove(&path).map(|directory| directory.entries);
            // A directory whose times changed, or prove nothing yet, may still have the same entries.
            let after = self.tree().list(&path).ok().map(|listing| listing.digest());
            changed |= before != after;
        }
        self.note_directories();
        changed
    }

    /// Takes over what the tree has listed.
    pub(super) fn note_directories(&mut self) {
        for (path, stat, entries) in self.loader.tree().listed() {
            self.directories.insert(path, Directory { stat, entries });
        }
    }

    /// The files of packages of which a `stat` does not prove that they are what they were, as they are now; `None` for those
    /// that cannot be read.
    fn read_again(&self) -> HashMap<String, Option<ReadFile>> {
        let mut seen: HashMap<&str, Vec<&ReadFile>> = HashMap::new();
        for file in self.packages.values().flat_map(|package| &package.files) {
            let same = seen.entry(&file.path).or_default();
            if !same.contains(&file) {
                same.push(file);
            }
        }
        let files: Vec<(&str, Vec<&ReadFile>)> = seen.into_iter().collect();
        let read = in_parallel(&files, |(path, seen)| {
            let proved = seen.iter().all(|file| file.is_current(&self.root));
            (!proved).then(|| ((*path).to_owned(), ReadFile::read(&self.root, path).ok()))
        });
        read.into_iter().flatten().collect()
    }

    /// Packages whose files, directory or observations are not what they were.
    fn stale_packages(
        &self,
        directories_changed: bool,
        generated_changed: bool,
        read: &HashMap<String, Option<ReadFile>>,
    ) -> HashSet<String> {
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
