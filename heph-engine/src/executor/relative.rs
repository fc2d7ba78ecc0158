//! Paths of plans: relative, without tricks.

use std::path::{Component, Path};

/// Whether `path` stays below the directory it is relative to, whatever that contains (links aside).
pub(super) fn is_plain(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\0')
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Whether `name` is one file name.
pub(super) fn is_name(name: &str) -> bool {
    is_plain(name) && !name.contains('/')
}

/// The directory part of a path; empty for a bare name.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Where a link in `directory` that says `target` leads, without looking at any file; `None` when that is outside.
pub(super) fn resolve(directory: &str, target: &Path) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for component in target.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_their_directory_are_not_plain() {
        for path in ["a", "a/b.c", "..a", "a..b/c"] {
            assert!(is_plain(path), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", "./a", "a/../b", "..", "a\0b"] {
            assert!(!is_plain(path), "{path:?}");
        }
    }

    #[test]
    fn links_resolve_within_the_workspace_only() {
        assert_eq!(resolve("a/b", Path::new("../c")).as_deref(), Some("a/c"));
        assert_eq!(resolve("a", Path::new("..")).as_deref(), Some(""));
        assert_eq!(resolve("a", Path::new("../../c")), None);
        assert_eq!(resolve("a", Path::new("/etc")), None);
    }
}
