//! The provider of targets that people write: BUILD files in Starlark.
//!
//! Each package is evaluated once and by itself; what it reads besides its own files is recorded with the result. Files
//! that several packages load are evaluated once per session and shared.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use heph_common::Digest;
use serde::{Deserialize, Serialize};

use crate::problem::{Place, Problem, Problems};
use crate::spec::{Spec, Value};
use crate::stat::Stat;
use crate::tree::{BuildPatterns, Tree};

mod catalog;
#[expect(
    unsafe_code,
    unused_qualifications,
    reason = "what starlark derives for the type of its extra value"
)]
mod context;
mod error;
mod functions;
mod json;
mod limits;
mod module;
mod observe;
pub(crate) mod path;
pub(crate) mod snippet;
mod source;
mod target;
mod value;

pub use catalog::{FUNCTIONS, Function};
pub(crate) use error::called_from;
pub(crate) use functions::processors;
pub use observe::{Observation, Question};
pub(crate) use target::{ENGINE_KEYS, TRANSITIVE_KEYS};

/// Decides by its path relative to the root whether a file was generated into the source tree, so that no glob matches it.
pub type Generated = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What evaluating one package gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Path of the package.
    pub package: String,
    /// Its BUILD files and every file that they loaded, also through others; sorted by path.
    pub files: Vec<ReadFile>,
    /// Its targets, in the order they were made.
    pub specs: Vec<Spec>,
    /// Settings for providers, in the order they were made.
    pub provider_states: Vec<ProviderState>,
    /// What else of the workspace the result rests on.
    pub observed: Vec<Observation>,
    /// What was printed, line by line.
    pub printed: Vec<String>,
}

/// A file that evaluation has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFile {
    /// Relative to the workspace root.
    pub path: String,
    /// Of its content.
    pub digest: Digest,
    /// When it was read; a link is followed.
    pub stat: Stat,
    /// Whether an equal `stat` later proves an equal content (see [`Stat::settled`]).
    pub settled: bool,
}

/// Settings for a provider in a package and below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderState {
    /// Name of the provider.
    pub provider: String,
    /// Path of the package.
    pub package: String,
    /// The settings, in the order they were written.
    pub config: Vec<(String, Value)>,
    /// The call that made them.
    pub place: Place,
}

/// Evaluates the BUILD files of one workspace; shared between threads.
pub struct BuildFiles {
    tree: Arc<Tree>,
    patterns: BuildPatterns,
    default_driver: Option<String>,
    generated: Generated,
    modules: Mutex<HashMap<String, Arc<module::Module>>>,
}

impl std::fmt::Debug for BuildFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildFiles")
            .field("tree", &self.tree)
            .finish_non_exhaustive()
    }
}

impl BuildFiles {
    /// For the BUILD files that `patterns` name; targets without driver get `default_driver`.
    pub fn new(
        tree: Arc<Tree>,
        patterns: BuildPatterns,
        default_driver: Option<String>,
        generated: Generated,
    ) -> Self {
        Self {
            tree,
            patterns,
            default_driver,
            generated,
            modules: Mutex::default(),
        }
    }

    /// The directories of the workspace.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Which files are BUILD files.
    pub fn patterns(&self) -> &BuildPatterns {
        &self.patterns
    }

    /// Evaluates one package; a directory without BUILD files has no targets.
    ///
    /// Fails with everything that could be found wrong in one go. May run on many threads at once.
    pub fn evaluate(&self, package: &str) -> Result<Evaluated, Problems> {
        limits::on_large_stack(|| self.evaluate_here(package))
    }

    /// Evaluates packages in parallel, on as many threads as there are cores; results in the order of the packages.
    pub fn evaluate_all<S: AsRef<str> + Sync>(&self, packages: &[S]) -> Vec<Result<Evaluated, Problems>> {
        let workers = std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(packages.len());
        if workers == 0 {
            return Vec::new();
        }
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Result<Evaluated, Problems>>>> =
            packages.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            limits::on_large_stack(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(package), Some(result)) = (packages.get(index), results.get(index)) else {
                        return;
                    };
                    let evaluated = self.evaluate_here(package.as_ref());
                    *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(evaluated);
                }
            });
        };
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(work);
            }
            work();
        });
        let lost = || Err(vec![Problem::new("evaluation was interrupted")]);
        results
            .into_iter()
            .map(|result| {
                result
                    .into_inner()
                    .unwrap_or_else(PoisonError::into_inner)
                    .unwrap_or_else(lost)
            })
            .collect()
    }

    /// Forgets loaded files that have changed since; for a new run over the same workspace.
    pub fn refresh(&self) {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever loads a changed file is out of date with it: few files are loaded, so all are evaluated again.
        if !modules
            .values()
            .all(|module| module.file.is_current(self.tree.root()))
        {
            modules.clear();
        }
    }
}

#[cfg(test)]
mod tests;
