//! The driver `group`: outputs of other targets, at other places if wanted.

use std::collections::BTreeMap;

use super::dependency::dependencies;
use super::keys::Keys;
use super::shape::{self, Wrong};
use super::{Driver, DriverContext, common};
use crate::definition::{Action, Definition, GroupAction, Role};
use crate::problem::{Problem, Problems};
use crate::spec::{Spec, Value};
use crate::tree::pattern::{Pattern, PatternError};

pub(super) struct GroupDriver;

impl Driver for GroupDriver {
    fn name(&self) -> &str {
        "group"
    }

    fn define(&self, spec: &Spec, context: &DriverContext<'_>) -> Result<Definition, Problems> {
        let mut keys = Keys::of(spec, context);
        let package = &spec.address.package;
        let dependencies = keys
            .get("deps", |value| dependencies(package, Role::Source, value))
            .unwrap_or_default();
        let action = GroupAction {
            include: keys.get("include", patterns).unwrap_or_default(),
            exclude: keys.get("exclude", patterns).unwrap_or_default(),
            strip_prefix: keys.get("strip_prefix", path),
            prefix: keys.get("prefix", path),
            rename: keys.get("rename", rename).unwrap_or_default(),
        };
        let definition = common::definition(&mut keys, dependencies, Action::Group(action));
        keys.finish(Some(definition))
    }
}

fn patterns(value: &Value) -> Result<Vec<String>, Wrong> {
    let patterns = shape::texts(value)?;
    let compiled: Result<Vec<Pattern>, PatternError> =
        patterns.iter().map(|pattern| Pattern::new(pattern)).collect();
    compiled.map_err(|error| Wrong::new(format!("is wrong: {error}")))?;
    Ok(patterns)
}

/// A path relative to the workspace root, without slashes at its ends.
fn path(value: &Value) -> Result<String, Wrong> {
    let text = shape::text(value)?;
    relative(&text)
}

fn relative(text: &str) -> Result<String, Wrong> {
    let resolved = crate::build_file::path::resolve("", text).map_err(|problem| {
        Wrong::new(format!(
            "is wrong: {}",
            problem.replace("the package", "the workspace")
        ))
    })?;
    match resolved.is_empty() {
        true => Err(Wrong::new(format!(
            "has '{}', which is the workspace itself",
            text.escape_debug()
        ))),
        false => Ok(resolved),
    }
}

fn rename(value: &Value) -> Result<BTreeMap<String, String>, Wrong> {
    match value {
        Value::String(text) => Ok(BTreeMap::from([(String::new(), relative(text)?)])),
        Value::Dict(_) => {
            let mut names = BTreeMap::new();
            for (old, new) in shape::dictionary(value)? {
                names.insert(relative(&old)?, relative(&new)?);
            }
            Ok(names)
        }
        other => Err(Wrong::shape("text or a dictionary of paths", other)),
    }
}

impl GroupAction {
    /// The entries that the group has: their new paths and what came with them, sorted by path.
    ///
    /// Paths are relative to the workspace root. Entries that are equal in all are one. Fails when nothing is left of something, when
    /// two entries meet at one path, and when a path that is named is not there.
    pub fn apply<T: PartialEq>(&self, entries: Vec<(String, T)>) -> Result<Vec<(String, T)>, Problem> {
        let compile = |patterns: &[String]| -> Result<Vec<Pattern>, Problem> {
            patterns
                .iter()
                .map(|pattern| Pattern::new(pattern).map_err(|error| Problem::new(error.to_string())))
                .collect()
        };
        let (include, exclude) = (compile(&self.include)?, compile(&self.exclude)?);
        let matches = |patterns: &[Pattern], path: &str| patterns.iter().any(|pattern| pattern.matches(path));
        let given: Vec<String> = entries.iter().map(|(path, _)| path.clone()).collect();
        let mut kept = Vec::new();
        for (path, payload) in entries {
            if (include.is_empty() || matches(&include, &path)) && !matches(&exclude, &path) {
                kept.push((path.clone(), self.moved(&path)?, payload));
            }
        }
        if kept.is_empty() && !(include.is_empty() && exclude.is_empty()) {
            let what = if include.is_empty() {
                "'exclude' leaves nothing".to_owned()
            } else {
                format!("nothing matches {}", self.include.join(", "))
            };
            let problem = Problem::new(format!(
                "{what} of the {} outputs of its dependencies",
                given.len()
            ));
            return Err(match given.is_empty() {
                true => problem,
                false => problem.hint(format!(
                    "paths are relative to the workspace root: {}",
                    some_of(&given)
                )),
            });
        }
        self.rename(&mut kept)?;
        kept.sort_by(|a, b| a.1.cmp(&b.1));
        let mut result: Vec<(String, String, T)> = Vec::new();
        for entry in kept {
            match result.last() {
                Some(last) if last.1 == entry.1 && last.2 == entry.2 => {}
                Some(last) if last.1 == entry.1 => {
                    let both = match last.0 == entry.0 {
                        true => format!("two outputs are '{}'", last.0),
                        false => format!("'{}' and '{}' both become '{}'", last.0, entry.0, entry.1),
                    };
                    return Err(
                        Problem::new(both).hint("tell them apart with 'include', 'exclude' or 'rename'")
                    );
                }
                _ => result.push(entry),
            }
        }
        for (_, path, _) in &result {
            let mut above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
            let file = above.find(|above| {
                result
                    .binary_search_by(|(_, other, _)| other.as_str().cmp(above))
                    .is_ok()
            });
            if let Some(file) = file {
                return Err(Problem::new(format!(
                    "'{file}' cannot be a file and hold '{path}'"
                )));
            }
        }
        Ok(result
            .into_iter()
            .map(|(_, path, payload)| (path, payload))
            .collect())
    }

    fn moved(&self, path: &str) -> Result<String, Problem> {
        let mut moved = path;
        if let Some(prefix) = &self.strip_prefix {
            moved = path
                .strip_prefix(prefix.as_str())
                .and_then(|rest| rest.strip_prefix('/'))
                .ok_or_else(|| {
                    Problem::new(format!(
                        "'{path}' does not lie below '{prefix}', which 'strip_prefix' names"
                    ))
                    .hint("leave it out with 'include' or 'exclude'")
                })?;
        }
        Ok(match &self.prefix {
            Some(prefix) => format!("{prefix}/{moved}"),
            None => moved.to_owned(),
        })
    }

    fn rename<T>(&self, kept: &mut [(String, String, T)]) -> Result<(), Problem> {
        if let Some(new) = self.rename.get("") {
            let [only] = kept else {
                let paths: Vec<String> = kept.iter().map(|(path, ..)| path.clone()).collect();
                return Err(
                    Problem::new(format!("'rename' gives one name to {} outputs", kept.len())).hint(format!(
                        "rename a dictionary of paths, or choose one with 'include': {}",
                        some_of(&paths)
                    )),
                );
            };
            only.1.clone_from(new);
            return Ok(());
        }
        let paths: Vec<&str> = kept.iter().map(|(_, path, _)| path.as_str()).collect();
        if let Some(missing) = self.rename.keys().find(|old| !paths.contains(&old.as_str())) {
            let problem = Problem::new(format!("there is no '{missing}' to rename"));
            return Err(match heph_common::nearest(missing, paths.iter().copied()) {
                Some(nearest) => problem.hint(format!("did you mean '{nearest}'?")),
                None => problem.hint(format!("there are {}", some_of(&paths))),
            });
        }
        for (_, path, _) in kept {
            if let Some(new) = self.rename.get(path.as_str()) {
                path.clone_from(new);
            }
        }
        Ok(())
    }
}

/// The first few of several paths.
fn some_of<S: AsRef<str>>(paths: &[S]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = paths.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match paths.len() > SHOWN {
        true => format!("{} and {} more", shown.join(", "), paths.len() - SHOWN),
        false => shown.join(", "),
    }
}
