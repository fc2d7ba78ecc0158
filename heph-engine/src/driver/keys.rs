//! The keys of one target, taken one by one; what is left at the end is unknown.

use std::fs;
use std::path::Path;

use super::DriverContext;
use super::shape::Wrong;
use crate::build_file::{called_from, snippet};
use crate::problem::{Problem, Problems};
use crate::spec::{Spec, Value};

/// Reads the keys of a spec and collects what is wrong with them.
pub(super) struct Keys<'s> {
    spec: &'s Spec,
    root: &'s Path,
    known: Vec<&'static str>,
    problems: Problems,
}

impl<'s> Keys<'s> {
    pub fn of(spec: &'s Spec, context: &DriverContext<'s>) -> Self {
        Self {
            spec,
            root: context.root,
            known: Vec::new(),
            problems: Problems::new(),
        }
    }

    /// The target.
    pub fn spec(&self) -> &'s Spec {
        self.spec
    }

    /// The value of a key, which is known from now on.
    pub fn take(&mut self, key: &'static str) -> Option<&'s Value> {
        self.known.push(key);
        self.spec
            .config
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The value of a key as `read` understands it; `None` when it is absent or wrong.
    pub fn get<T>(&mut self, key: &'static str, read: impl FnOnce(&Value) -> Result<T, Wrong>) -> Option<T> {
        let value = self.take(key)?;
        self.check(key, read(value))
    }

    /// The value of a key that has to be there.
    pub fn require<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        if !self.spec.config.iter().any(|(name, _)| name == key) {
            self.known.push(key);
            let problem = Problem::new(format!(
                "{} needs '{key}': driver '{}' cannot do without",
                self.spec.address, self.spec.driver
            ));
            self.problems
                .push(self.placed(problem.hint(format!("add {key} = {example}")), None));
            return None;
        }
        self.get(key, read)
    }

    /// The value, or `None` after recording what is wrong with it.
    pub fn check<T>(&mut self, key: &str, read: Result<T, Wrong>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.wrong(key, wrong);
                None
            }
        }
    }

    /// Records what is wrong with a key.
    pub fn wrong(&mut self, key: &str, Wrong(problem, hint): Wrong) {
        let mut problem = Problem::new(format!("'{key}' of {} {problem}", self.spec.address));
        problem.hint = hint;
        self.problems.push(self.placed(problem, Some(key)));
    }

    /// The value when nothing is wrong; reports the keys that nobody asked for.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Problems> {
        for (key, _) in &self.spec.config {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let problem = Problem::new(format!(
                "driver '{}' has no key '{}'",
                self.spec.driver,
                key.escape_debug()
            ));
            let candidates = self.known.iter().chain(&crate::build_file::ENGINE_KEYS).copied();
            let problem = match heph_common::nearest(key, candidates) {
                Some(nearest) => problem.hint(format!("did you mean '{nearest}'?")),
                None => {
                    let mut all = self.known.clone();
                    all.sort_unstable();
                    problem.hint(format!("it has {}", all.join(", ")))
                }
            };
            self.problems.push(self.placed(problem, Some(key)));
        }
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self.problems),
        }
    }

    fn placed(&self, problem: Problem, key: Option<&str>) -> Problem {
        placed(problem, self.spec, key, self.root)
    }
}

/// The problem at the argument of the target's call, or at the call, with the line as the file has it now.
pub(super) fn placed(mut problem: Problem, spec: &Spec, key: Option<&str>, root: &Path) -> Problem {
    let Some(place) = &spec.place else { return problem };
    problem.place = Some(place.clone());
    let source = fs::read_to_string(root.join(&place.file)).unwrap_or_default();
    if let Some(call) = snippet::offset(&source, place) {
        let argument = key.and_then(|key| snippet::argument(&source, call, key));
        let range = argument.unwrap_or_else(|| {
            let name = source.get(call..).and_then(|rest| rest.find('(')).unwrap_or(1);
            call..call + name
        });
        problem.place = Some(snippet::place(&place.file, &source, range.start));
        problem.message = format!("{}\n{}", problem.message, snippet::snippet(&source, range));
    }
    problem.message += &called_from(&spec.callers);
    problem
}
