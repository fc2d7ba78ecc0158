//! Package paths: `cmd/server`, the empty one for the root, `@heph/fs` for what a provider makes.
//!
//! A package path is a list of segments joined by `/`. A segment is any text without whitespace, control
//! characters and `: | , = " \`, and it is none of `.`, `..` and `...`. A path whose first segment begins with
//! `@` belongs to a provider, and no directory of the workspace stands behind it.

use std::borrow::Cow;

/// What is wrong with a path, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Offset in bytes from the beginning of the checked text.
    pub offset: usize,
    /// A fragment such as `expected a directory name, found '..'`.
    pub problem: Cow<'static, str>,
}

impl Flaw {
    pub(crate) fn new(offset: usize, problem: impl Into<Cow<'static, str>>) -> Self {
        Self {
            offset,
            problem: problem.into(),
        }
    }
}

/// Whether `c` may stand in a segment of a package or in the name of a target, an argument or an output.
pub fn is_segment_char(c: char) -> bool {
    !matches!(c, '/' | ':' | '|' | ',' | '=' | '"' | '\\') && !c.is_whitespace() && !c.is_control()
}

/// Whether the package is a provider's: its first segment begins with `@`.
pub fn is_provider(package: &str) -> bool {
    package.starts_with('@')
}

/// Whether `package` is `ancestor` or lies below it. The root package is above all but the providers' packages.
pub fn is_below(package: &str, ancestor: &str) -> bool {
    if ancestor.is_empty() {
        return !is_provider(package);
    }
    package
        .strip_prefix(ancestor)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Checks a package path relative to the workspace root. The empty path is the root package.
pub(crate) fn check(path: &str) -> Result<(), Flaw> {
    if path.is_empty() {
        return Ok(());
    }
    check_segments(path, "a directory name")
}

/// Checks the segments of a path that is not empty; `what` names a segment in messages.
pub(crate) fn check_segments(path: &str, what: &str) -> Result<(), Flaw> {
    let mut offset = 0;
    for segment in path.split('/') {
        if let Some((at, c)) = segment.char_indices().find(|(_, c)| !is_segment_char(*c)) {
            return Err(Flaw::new(
                offset + at,
                format!("{} cannot be part of {what}", quoted(c)),
            ));
        }
        match segment {
            "" => return Err(Flaw::new(offset, format!("{what} is missing"))),
            "." | ".." | "..." => {
                return Err(Flaw::new(offset, format!("expected {what}, found '{segment}'")));
            }
            _ => offset += segment.len() + 1,
        }
    }
    Ok(())
}

/// Resolves `relative` (`.`, `./s`, `../s`, `../../s/t`) against the package `current`.
///
/// Fails when it would leave the workspace and when a segment is no directory name.
pub(crate) fn resolve(relative: &str, current: &str) -> Result<String, Flaw> {
    let mut segments: Vec<&str> = current.split('/').filter(|s| !s.is_empty()).collect();
    let mut offset = 0;
    for segment in relative.split('/') {
        match segment {
            "." => {}
            ".." => {
                if segments.pop().is_none() {
                    return Err(Flaw::new(offset, "'..' leaves the workspace"));
                }
            }
            _ => {
                check_segments(segment, "a directory name").map_err(|flaw| Flaw {
                    offset: offset + flaw.offset,
                    ..flaw
                })?;
                segments.push(segment);
            }
        }
        offset += segment.len() + 1;
    }
    Ok(segments.join("/"))
}

/// Whether the text of the symlink at `path` leads out of the workspace, or of whatever `path` is relative to; symlinks on its way are not followed.
pub fn link_leaves(path: &str, target: &str) -> bool {
    let mut depth = path
        .split('/')
        .filter(|part| !part.is_empty())
        .count()
        .saturating_sub(1);
    if target.starts_with('/') {
        return true;
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

/// What stands at `offset` of `text`, for the tail of a message.
pub(crate) fn found(text: &str, offset: usize) -> String {
    match text.get(offset..).and_then(|rest| rest.chars().next()) {
        Some(c) => quoted(c),
        None => "the end".to_owned(),
    }
}

/// The text with control characters escaped, fit for one line of a message.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| match c.is_control() {
        true => c.escape_debug().to_string(),
        false => c.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

/// A character in single quotes, escaped when it does not print.
pub(crate) fn quoted(c: char) -> String {
    match c {
        '\'' | '"' | '\\' => format!("'{c}'"),
        _ => format!("'{}'", c.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_package_stays_in_the_workspace() {
        assert_eq!(resolve("./a", "x/y").unwrap(), "x/y/a");
        assert_eq!(resolve("../a/b", "x/y").unwrap(), "x/a/b");
        assert_eq!(resolve("..", "x").unwrap(), "");
        assert_eq!(resolve(".", "").unwrap(), "");
        assert_eq!(resolve("../../a", "x").unwrap_err().offset, 3);
    }

    #[test]
    fn below_is_by_segment_and_leaves_providers_out_of_the_root() {
        assert!(is_below("a/b", "a"));
        assert!(is_below("a", "a"));
        assert!(!is_below("ab", "a"));
        assert!(is_below("a", ""));
        assert!(!is_below("@heph/fs", ""));
        assert!(is_below("@heph/fs", "@heph"));
    }
}
