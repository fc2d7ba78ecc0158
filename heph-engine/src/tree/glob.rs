//! Files that match patterns.

use std::collections::BTreeSet;

use super::pattern::{PatternError, Patterns, Reached};
use super::{Kind, Tree, join};
use crate::problem::Problem;

/// What a glob found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobResult {
    /// Files and symbolic links, relative to the workspace root, sorted.
    pub files: Vec<String>,
    /// Every directory that was listed, also those that do not exist; sorted.
    pub directories: Vec<String>,
}

/// Joins patterns into one text, as the arguments of `//@heph/fs:glob` hold them.
pub fn escape_list<S: AsRef<str>>(patterns: &[S]) -> String {
    let mut joined = String::new();
    for (index, pattern) in patterns.iter().enumerate() {
        if index > 0 {
            joined.push(',');
        }
        let (mut depth, mut escaped) = (0u32, false);
        for c in pattern.as_ref().chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => joined.push('\\'),
                _ => {}
            }
            joined.push(c);
        }
    }
    joined
}

/// Splits what [`escape_list`] joined: at commas outside of braces that no backslash precedes.
pub fn split_list(text: &str) -> Vec<String> {
    let mut patterns = vec![String::new()];
    let (mut depth, mut escaped) = (0u32, false);
    for c in text.chars() {
        let separates = c == ',' && depth == 0 && !escaped;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        match patterns.last_mut() {
            Some(last) if !separates => last.push(c),
            _ => patterns.push(String::new()),
        }
    }
    patterns.retain(|pattern| !pattern.is_empty());
    patterns
}

struct Walk<'a> {
    tree: &'a Tree,
    patterns: Patterns,
    exclude: Patterns,
    leave_out: &'a (dyn Fn(&str) -> bool + Sync),
    files: BTreeSet<String>,
    directories: BTreeSet<String>,
}

impl Tree {
    /// The files that match one of `patterns` and none of `exclude`, all relative to the workspace root; those for which
    /// `leave_out` says so are not among them.
    ///
    /// Only directories that can hold a match are read. Symbolic links are found as links and not followed. Other
    /// workspaces inside of this one are left out.
    pub fn glob(
        &self,
        patterns: &[String],
        exclude: &[String],
        leave_out: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<GlobResult, Problem> {
        let compile = |texts: &[String]| -> Result<Patterns, PatternError> {
            Patterns::new(texts.iter().map(String::as_str))
        };
        let describe = |error: PatternError| Problem::new(error.to_string());
        let mut walk = Walk {
            tree: self,
            patterns: compile(patterns).map_err(describe)?,
            exclude: compile(exclude).map_err(describe)?,
            leave_out,
            files: BTreeSet::new(),
            directories: BTreeSet::new(),
        };
        for (directory, reached) in walk.patterns.starts() {
            match self.find(&directory)? {
                Some(_) => walk.descend(directory, reached)?,
                None => {
                    walk.directories.insert(directory);
                }
            }
        }
        Ok(GlobResult {
            files: walk.files.into_iter().collect(),
            directories: walk.directories.into_iter().collect(),
        })
    }
}

impl Walk<'_> {
    /// Works off a list instead of recursing: a tree may be deeper than the stack.
    fn descend(&mut self, directory: String, reached: Reached) -> Result<(), Problem> {
        let mut todo = vec![(directory, reached)];
        while let Some((directory, reached)) = todo.pop() {
            let listing = self.tree.list_if_there(&directory)?;
            if let Some(listing) = listing.filter(|listing| !listing.foreign) {
                for entry in &listing.entries {
                    if entry.kind == Kind::Directory {
                        if let Some(next) = self.patterns.enter(&reached, &entry.name) {
                            todo.push((join(&directory, &entry.name), next));
                        }
                    } else if entry.kind != Kind::Other && self.patterns.accepts(&reached, &entry.name) {
                        let path = join(&directory, &entry.name);
                        if !self.exclude.matches(&path) && !(self.leave_out)(&path) {
                            self.files.insert(path);
                        }
                    }
                }
                for entry in listing
                    .escaped
                    .iter()
                    .filter(|entry| entry.kind != Kind::Directory)
                {
                    let path = join(&directory, &entry.name);
                    if self.patterns.accepts(&reached, &entry.name) && !self.exclude.matches(&path) {
                        return Err(Problem::new(format!(
                            "the name of '{path}' is not UTF-8, so no target can have it as an input"
                        ))
                        .hint("rename the file, or leave it out of the glob with 'exclude'"));
                    }
                }
            }
            self.directories.insert(directory);
        }
        Ok(())
    }
}
