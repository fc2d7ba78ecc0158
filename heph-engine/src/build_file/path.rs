//! Paths and patterns as BUILD files write them.

use crate::tree::pattern;

/// A path of a BUILD file relative to the workspace root; the error is a fragment.
///
/// `.` and `..` are resolved; a path never leaves the workspace.
pub(crate) fn resolve(package: &str, path: &str) -> Result<String, String> {
    check(path)?;
    let mut segments: Vec<&str> = package.split('/').filter(|s| !s.is_empty()).collect();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments
                    .pop()
                    .ok_or_else(|| format!("'{path}' leaves the workspace"))?;
            }
            _ => segments.push(segment),
        }
    }
    Ok(segments.join("/"))
}

/// A pattern of a BUILD file relative to the workspace root; the error is a fragment.
///
/// `.` and `..` may stand at its beginning; a pattern never leaves the workspace.
pub(crate) fn resolve_pattern(package: &str, text: &str) -> Result<String, String> {
    check(text)?;
    let mut rest = text;
    let mut segments: Vec<&str> = package.split('/').filter(|s| !s.is_empty()).collect();
    loop {
        if let Some(tail) = rest.strip_prefix("./") {
            rest = tail.trim_start_matches('/');
        } else if let Some(tail) = rest.strip_prefix("../") {
            rest = tail.trim_start_matches('/');
            segments
                .pop()
                .ok_or_else(|| format!("'{text}' leaves the workspace"))?;
        } else {
            break;
        }
    }
    let mut resolved = segments
        .iter()
        .map(|segment| pattern::escape(segment))
        .collect::<Vec<_>>()
        .join("/");
    if !resolved.is_empty() {
        resolved.push('/');
    }
    resolved.push_str(rest);
    pattern::Pattern::new(rest).map_err(|error| {
        pattern::PatternError {
            pattern: text.to_owned(),
            ..error
        }
        .to_string()
    })?;
    Ok(resolved)
}

/// Joins paths as text: `.` and doubled slashes go, `..` takes the segment before it; `.` when nothing is left.
pub(super) fn clean(parts: &[&str]) -> String {
    let mut segments: Vec<&str> = Vec::new();
    // Like a file system and unlike Python, what follows an absolute path stays below it.
    let joined: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    let absolute = joined.first().is_some_and(|first| first.starts_with('/'));
    for segment in joined.iter().flat_map(|part| part.split('/')) {
        match segment {
            "" | "." => {}
            ".." if absolute && segments.is_empty() => {}
            ".." if segments.last().is_some_and(|last| *last != "..") => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let path = segments.join("/");
    match (absolute, path.is_empty()) {
        (true, _) => format!("/{path}"),
        (false, true) => ".".to_owned(),
        (false, false) => path,
    }
}

fn check(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("a path must not be empty".to_owned());
    }
    if path.starts_with('/') {
        return Err(format!(
            "'{}' is absolute; paths are relative to the package",
            path.escape_debug()
        ));
    }
    if path.contains(char::is_control) {
        return Err(format!("'{}' has a control character", path.escape_debug()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_workspace() {
        assert_eq!(resolve("a/b", "x.c").as_deref(), Ok("a/b/x.c"));
        assert_eq!(resolve("a/b", "./c//x.c").as_deref(), Ok("a/b/c/x.c"));
        assert_eq!(resolve("a/b", "../x.c").as_deref(), Ok("a/x.c"));
        assert_eq!(resolve("", "x.c").as_deref(), Ok("x.c"));
        insta::assert_snapshot!(resolve("a", "../../x").unwrap_err(), @"'../../x' leaves the workspace");
        insta::assert_snapshot!(resolve("a", "/x").unwrap_err(), @"'/x' is absolute; paths are relative to the package");
        insta::assert_snapshot!(resolve("a", "x\ny").unwrap_err(), @r#"'x\ny' has a control character"#);
        insta::assert_snapshot!(resolve("a", "").unwrap_err(), @"a path must not be empty");
    }

    #[test]
    fn patterns_take_the_package_literally() {
        assert_eq!(resolve_pattern("a[1]", "*.c").as_deref(), Ok("a\\[1\\]/*.c"));
        assert_eq!(resolve_pattern("a/b", "../**/x").as_deref(), Ok("a/**/x"));
        assert_eq!(resolve_pattern("", "./*.{c,h}").as_deref(), Ok("*.{c,h}"));
        insta::assert_snapshot!(resolve_pattern("a", "../../*.c").unwrap_err(), @"'../../*.c' leaves the workspace");
        insta::assert_snapshot!(resolve_pattern("a", "x/../*.c").unwrap_err(), @"'x/../*.c' is not a glob pattern: '..' leaves the directory");
        insta::assert_snapshot!(resolve_pattern("a", "[x").unwrap_err(), @"'[x' is not a glob pattern: a '[' is not closed");
    }

    #[test]
    fn paths_join_as_text() {
        assert_eq!(clean(&["a", "b/", "../c"]), "a/c");
        assert_eq!(clean(&["a", ".."]), ".");
        assert_eq!(clean(&["..", "a"]), "../a");
        assert_eq!(clean(&["/", "..", "a"]), "/a");
        assert_eq!(clean(&["", "a", "/b"]), "a/b");
        assert_eq!(clean(&[]), ".");
    }
}
