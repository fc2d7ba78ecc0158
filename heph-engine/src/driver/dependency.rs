//! Dependencies: addresses in groups.

use heph_common::Address;

use super::shape::{self, Wrong};
use crate::definition::{Dependency, Role};
use crate::spec::Value;
use crate::tree::pattern::is_glob;

/// The dependencies that a value names, in its order; those of one group are named once.
pub(super) fn dependencies(package: &str, role: Role, value: &Value) -> Result<Vec<Dependency>, Wrong> {
    let mut dependencies: Vec<Dependency> = Vec::new();
    for (group, texts) in shape::groups(value)? {
        let start = dependencies.len();
        for text in texts {
            let dependency = Dependency {
                role,
                group: group.clone(),
                address: address(package, role, &text)?,
            };
            if !dependencies
                .get(start..)
                .unwrap_or_default()
                .contains(&dependency)
            {
                dependencies.push(dependency);
            }
        }
    }
    Ok(dependencies)
}

fn address(package: &str, role: Role, text: &str) -> Result<Address, Wrong> {
    Address::parse_relative(text, package).map_err(|error| {
        let shown = text.escape_debug();
        if text.is_empty() {
            return Wrong::new("has an empty text, which is no address");
        }
        if text.contains(':') || text.starts_with("//") {
            return Wrong(format!("is wrong: {error}"), error.hint);
        }
        let wrong = Wrong::new(format!("has '{shown}', which is no address"));
        match (is_glob(text), text.contains(['/', '.'])) {
            (true, _) => wrong.hint(format!("files are written glob(\"{shown}\")")),
            (false, false) if role == Role::Tool => wrong.hint(format!(
                "a program of the host is \"//@heph/bin:{shown}\", a target of this package \":{shown}\""
            )),
            (false, true) => wrong.hint(format!("a file is written file(\"{shown}\")")),
            (false, false) => wrong.hint(format!(
                "write \":{shown}\" for a target of this package, file(\"{shown}\") for a file"
            )),
        }
    })
}

/// Names of dependency groups that are there.
pub(super) fn known_groups(value: &Value, known: &[&str]) -> Result<Vec<String>, Wrong> {
    let groups = shape::texts(value)?;
    match groups.iter().find(|group| !known.contains(&group.as_str())) {
        None => Ok(groups),
        Some(unknown) => {
            let wrong = Wrong::new(format!(
                "names '{}', which is no group of 'deps' or 'runtime_deps'",
                unknown.escape_debug()
            ));
            Err(match heph_common::nearest(unknown, known.iter().copied()) {
                Some(nearest) => wrong.hint(format!("did you mean '{nearest}'?")),
                None if known.iter().all(|group| group.is_empty()) => {
                    wrong.hint("give 'deps' a dictionary of groups")
                }
                None => wrong.hint(format!("there are {}", known.join(", "))),
            })
        }
    }
}
