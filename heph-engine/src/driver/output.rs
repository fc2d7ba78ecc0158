//! Declared outputs.

use super::shape::{self, Wrong};
use crate::build_file::path;
use crate::definition::{Output, OutputKind};
use crate::spec::Value;
use crate::tree::pattern::{Pattern, escape};

/// The outputs that a value declares, in its order.
pub(super) fn outputs(package: &str, value: &Value) -> Result<Vec<Output>, Wrong> {
    let mut outputs = Vec::new();
    for (group, texts) in shape::groups(value)? {
        if texts.is_empty() {
            let named = if group.is_empty() {
                String::new()
            } else {
                format!(" for group '{group}'")
            };
            return Err(
                Wrong::new(format!("has an empty list{named}")).hint("leave it out, or name an output")
            );
        }
        for text in texts {
            outputs.push(output(package, &group, &text)?);
        }
    }
    Ok(outputs)
}

/// One output; a path that ends with `/` is a directory, one with wildcards a glob.
pub(super) fn output(package: &str, group: &str, text: &str) -> Result<Output, Wrong> {
    let shown = text.escape_debug();
    let wrong = |problem: &str| Wrong::new(format!("has '{shown}', which {problem}"));
    let trimmed = text.strip_prefix("./").unwrap_or(text);
    let bare = trimmed.trim_end_matches('/');
    if text.is_empty() {
        return Err(Wrong::new("has an empty path"));
    }
    if text.starts_with('/') {
        return Err(wrong("is absolute").hint("outputs are relative to the package"));
    }
    if text.contains(char::is_control) {
        return Err(wrong("has a control character"));
    }
    if bare.is_empty() || bare == "." {
        return Err(
            wrong("is the package itself").hint("give the output a directory of its own, such as \"dist/\"")
        );
    }
    if bare.split('/').any(|segment| segment == "..") {
        return Err(wrong("leaves the package")
            .hint("a target writes below its own package; a group can give outputs another place"));
    }
    if bare
        .split('/')
        .any(|segment| segment.is_empty() || segment == ".")
    {
        return Err(wrong("has '//' or '/./' in it"));
    }
    // A `\` alone is more likely a path of another system than an escape.
    let glob = bare.contains(['*', '?', '[', '{']);
    if bare.contains('\\') && !glob {
        return Err(wrong("has a backslash").hint("segments of a path are separated by '/'"));
    }
    let kind = match (glob, trimmed.ends_with('/')) {
        (true, true) => return Err(wrong("is a glob of directories").hint(format!("write \"{bare}/**\""))),
        (true, false) => OutputKind::Glob,
        (false, true) => OutputKind::Directory,
        (false, false) => OutputKind::File,
    };
    let path = match kind {
        OutputKind::Glob => {
            Pattern::new(bare).map_err(|error| Wrong::new(format!("is wrong: {error}")))?;
            let package = package.split('/').map(escape).collect::<Vec<_>>().join("/");
            crate::tree::join(&package, bare)
        }
        _ => path::resolve(package, bare).map_err(Wrong::new)?,
    };
    Ok(Output {
        group: group.to_owned(),
        path,
        kind,
    })
}

/// A path that is one file.
pub(super) fn file(package: &str, value: &Value) -> Result<String, Wrong> {
    let text = shape::text(value)?;
    let output = output(package, "", &text)?;
    match output.kind {
        OutputKind::File => Ok(output.path),
        _ => Err(Wrong::new(format!(
            "must be one file, and '{}' is not",
            text.escape_debug()
        ))),
    }
}

/// What is declared twice.
pub(super) fn duplicate<'a>(outputs: impl Iterator<Item = &'a Output>) -> Option<Wrong> {
    let mut seen: Vec<&Output> = Vec::new();
    for output in outputs {
        if let Some(first) = seen.iter().find(|first| first.path == output.path) {
            let group = |output: &Output| match output.group.as_str() {
                "" => "the default group".to_owned(),
                group => format!("group '{group}'"),
            };
            let groups = match first.group == output.group {
                true => format!("in {}", group(first)),
                false => format!("in {} and {}", group(first), group(output)),
            };
            return Some(Wrong::new(format!("declares '{}' twice, {groups}", output.path)));
        }
        seen.push(output);
    }
    None
}
