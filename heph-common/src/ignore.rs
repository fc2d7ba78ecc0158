//! What tree walks leave out: the patterns of `fs.skip`.
//!
//! A pattern without `*`, `?`, `[` and `{` is a path relative to the workspace root and matches that path exactly.
//! Any other is a glob over such paths, in which `*` and `?` stay within a directory and `**` does not. A leading
//! `./` and a trailing `/` change nothing. Whatever is pruned is pruned with all below it; that is up to the walk,
//! which does not enter a directory for which [`Skip::skips`] is true. `.git` is left out at every depth.

use std::collections::BTreeSet;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// A pattern cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{pattern}' is not a pattern: {problem}")]
pub struct SkipError {
    /// The pattern as it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A set of patterns, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Skip {
    literal: BTreeSet<String>,
    globs: GlobSet,
}

impl Skip {
    /// Fails on the first pattern that is no glob or leaves the workspace.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, SkipError> {
        let mut literal = BTreeSet::new();
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns.iter().map(AsRef::as_ref).flat_map(with_directory) {
            match read(pattern)? {
                Pattern::Literal(path) => {
                    literal.insert(path);
                }
                Pattern::Glob(glob) => {
                    globs.add(glob);
                }
            }
        }
        let globs = globs.build().map_err(|error| SkipError {
            pattern: error.glob().unwrap_or_default().to_owned(),
            problem: error.kind().to_string(),
        })?;
        Ok(Self { literal, globs })
    }

    /// Checks one pattern.
    pub fn check(pattern: &str) -> Result<(), SkipError> {
        read(pattern).map(drop)
    }

    /// Whether a directory or file is left out. `path` is relative to the workspace root, with `/` between segments.
    pub fn skips(&self, path: &str) -> bool {
        path == ".git"
            || path.ends_with("/.git")
            || self.literal.contains(path)
            || (!self.globs.is_empty() && self.globs.is_match(path))
    }
}

enum Pattern {
    Literal(String),
    Glob(Glob),
}

/// A pattern, and what else it leaves out: what leaves out all below a directory leaves out the directory.
fn with_directory(pattern: &str) -> impl Iterator<Item = &str> {
    let directory = pattern
        .strip_suffix("/**")
        .filter(|directory| !matches!(*directory, "" | "." | "**"));
    std::iter::once(pattern).chain(directory)
}

fn read(pattern: &str) -> Result<Pattern, SkipError> {
    let error = |problem: &str| SkipError {
        pattern: pattern.to_owned(),
        problem: problem.to_owned(),
    };
    let mut path = pattern;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest.trim_start_matches('/');
    }
    let path = path.trim_end_matches('/');
    if path.is_empty() || path == "." {
        return Err(error("it names the workspace itself or nothing"));
    }
    if path.starts_with('/') {
        return Err(error("patterns are relative to the workspace root"));
    }
    if path.split('/').any(|segment| segment == "..") {
        return Err(error("'..' leaves the workspace"));
    }
    if !path.contains(['*', '?', '[', '{']) {
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty() && *s != ".").collect();
        return Ok(Pattern::Literal(segments.join("/")));
    }
    GlobBuilder::new(path)
        .literal_separator(true)
        .build()
        .map(Pattern::Glob)
        .map_err(|e| error(&e.kind().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(patterns: &[&str]) -> Skip {
        Skip::new(patterns).unwrap()
    }

    #[test]
    fn a_literal_path_matches_itself_alone() {
        for pattern in ["vendor", "./vendor", "vendor/", ".//vendor"] {
            let skip = skip(&[pattern]);
            assert!(skip.skips("vendor"), "{pattern}");
            assert!(!skip.skips("vendor2"), "{pattern}");
            assert!(!skip.skips("a/vendor"), "{pattern}");
        }
        assert!(skip(&["a/./b//c"]).skips("a/b/c"));
    }

    #[test]
    fn a_glob_matches_workspace_paths() {
        let any = skip(&["**/generated/**"]);
        assert!(any.skips("a/generated/b"));
        assert!(any.skips("generated/b"));
        assert!(!any.skips("a/generate/b"));
        let dir = skip(&["**/generated"]);
        assert!(dir.skips("generated"));
        assert!(dir.skips("a/b/generated"));
        let one = skip(&["*.tmp"]);
        assert!(one.skips("x.tmp"));
        assert!(!one.skips("a/x.tmp"));
        assert!(skip(&["./{a,b}/[xy]?"]).skips("b/y1"));
    }

    #[test]
    fn git_is_always_left_out() {
        let skip = skip(&[]);
        assert!(skip.skips(".git"));
        assert!(skip.skips("third_party/lib/.git"));
        assert!(!skip.skips(".github"));
        assert!(!skip.skips("a.git"));
    }

    #[test]
    fn wrong_patterns_are_named() {
        let shown = |pattern| Skip::new(&[pattern]).unwrap_err().to_string();
        insta::assert_snapshot!(shown("a[b"), @"'a[b' is not a pattern: unclosed character class; missing ']'");
        insta::assert_snapshot!(shown("../x"), @"'../x' is not a pattern: '..' leaves the workspace");
        insta::assert_snapshot!(shown("/abs"), @"'/abs' is not a pattern: patterns are relative to the workspace root");
        insta::assert_snapshot!(shown("./"), @"'./' is not a pattern: it names the workspace itself or nothing");
    }
}
