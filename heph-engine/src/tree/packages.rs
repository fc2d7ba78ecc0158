//! Directories that are packages.

use std::num::NonZero;
use std::sync::{Condvar, Mutex, PoisonError};

use heph_common::ignore::Skip;

use super::pattern::{Pattern, PatternError};
use super::{Kind, Listing, Tree, join};
use crate::problem::{Problem, Problems};

/// A package: a directory with BUILD files.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageDir {
    /// Path of the directory relative to the root; empty for the root.
    pub package: String,
    /// Names of its BUILD files, sorted.
    pub build_files: Vec<String>,
}

/// Which files are BUILD files, and which directories have none (options `patterns` and `skip` of the buildfile plugin).
#[derive(Clone, Debug)]
pub struct BuildPatterns {
    names: Vec<Pattern>,
    skip: Skip,
}

impl BuildPatterns {
    /// Names that count when the option is absent.
    pub const DEFAULT: [&'static str; 2] = ["BUILD", "*.BUILD"];

    /// File name patterns, and directories to skip.
    pub fn new<S: AsRef<str>>(names: &[S], skip: Skip) -> Result<Self, PatternError> {
        let names = names.iter().map(|name| Pattern::new(name.as_ref()));
        Ok(Self {
            names: names.collect::<Result<_, _>>()?,
            skip,
        })
    }

    /// Whether the file at a path has the name of a BUILD file.
    pub fn is_build_file(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.names.iter().any(|pattern| pattern.matches(name))
    }

    fn skips(&self, path: &str) -> bool {
        self.skip.skips(path)
    }

    fn skips_above(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter()
            .any(|end| path.get(..end).is_some_and(|above| self.skips(above)))
    }

    fn build_files(&self, listing: &Listing) -> Vec<String> {
        let files = listing
            .entries
            .iter()
            .filter(|entry| matches!(entry.kind, Kind::File | Kind::Link));
        files
            .filter(|file| self.is_build_file(&file.name))
            .map(|file| file.name.to_string())
            .collect()
    }
}

/// Directories that still have to be listed, and how many workers are busy with one.
#[derive(Default)]
struct Queue {
    todo: Vec<String>,
    busy: usize,
    found: Vec<PackageDir>,
    problems: Problems,
}

impl Tree {
    /// Every package at `prefix` and below, sorted; the empty prefix stands for the whole workspace.
    ///
    /// A prefix that is no directory has none. Fails with one problem for each directory that cannot be read.
    pub fn packages(&self, patterns: &BuildPatterns, prefix: &str) -> Result<Vec<PackageDir>, Problems> {
        if patterns.skips_above(prefix) || self.find(prefix).map_err(|problem| vec![problem])?.is_none() {
            return Ok(Vec::new());
        }
        let shared = (
            Mutex::new(Queue {
                todo: vec![prefix.to_owned()],
                ..Queue::default()
            }),
            Condvar::new(),
        );
        let workers = std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(8);
        // Small trees are done before a thread has started.
        self.work(patterns, &shared, Some(64));
        let unfinished = !lock(&shared.0).todo.is_empty();
        if unfinished {
            std::thread::scope(|scope| {
                for _ in 1..workers {
                    scope.spawn(|| self.work(patterns, &shared, None));
                }
                self.work(patterns, &shared, None);
            });
        }
        let mut queue = shared.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !queue.problems.is_empty() {
            queue.problems.sort_by(|a, b| a.message.cmp(&b.message));
            return Err(queue.problems);
        }
        queue.found.sort_unstable();
        Ok(queue.found)
    }

    /// The package in one directory; `None` when it has no BUILD file or is no directory of the workspace.
    pub fn package(&self, patterns: &BuildPatterns, package: &str) -> Result<Option<PackageDir>, Problem> {
        if patterns.skips_above(package) {
            return Ok(None);
        }
        let build_files = self.find(package)?.map(|listing| patterns.build_files(&listing));
        let build_files = build_files.filter(|found| !found.is_empty());
        Ok(build_files.map(|build_files| PackageDir {
            package: package.to_owned(),
            build_files,
        }))
    }

    /// Lists directories until none is left, or `limit` of them are done.
    fn work(
        &self,
        patterns: &BuildPatterns,
        (queue, changed): &(Mutex<Queue>, Condvar),
        mut limit: Option<usize>,
    ) {
        let mut guard = lock(queue);
        loop {
            if limit == Some(0) {
                return;
            }
            let Some(dir) = guard.todo.pop() else {
                if guard.busy == 0 {
                    changed.notify_all();
                    return;
                }
                guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            limit = limit.map(|left| left - 1);
            guard.busy += 1;
            drop(guard);
            let outcome = self.list_if_there(&dir).map(|listing| {
                let Some(listing) = listing.filter(|listing| !listing.foreign) else {
                    return (Vec::new(), Vec::new());
                };
                let below = listing
                    .entries
                    .iter()
                    .filter(|entry| entry.kind == Kind::Directory);
                let below = below
                    .map(|entry| join(&dir, &entry.name))
                    .filter(|path| !patterns.skips(path));
                (below.collect::<Vec<_>>(), patterns.build_files(&listing))
            });
            guard = lock(queue);
            guard.busy -= 1;
            match outcome {
                Ok((below, build_files)) => {
                    guard.todo.extend(below);
                    if !build_files.is_empty() {
                        guard.found.push(PackageDir {
                            package: dir,
                            build_files,
                        });
                    }
                }
                Err(problem) => guard.problems.push(problem),
            }
            changed.notify_all();
        }
    }
}

fn lock(queue: &Mutex<Queue>) -> std::sync::MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
