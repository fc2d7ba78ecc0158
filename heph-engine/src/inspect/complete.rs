//! Completion of addresses on a command line.

use std::collections::BTreeSet;
use std::sync::Arc;

use heph_common::query::Pattern;
use serde::Serialize;

use super::{Answer, VERSION, json};
use crate::definition::Definition;
use crate::problem::Problems;
use crate::workspace::Workspace;

/// Candidates beyond this many help nobody.
const MOST: usize = 200;

#[derive(Serialize)]
struct Candidates {
    version: u32,
    candidates: BTreeSet<Candidate>,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    value: String,
    description: Option<String>,
}

impl Candidate {
    fn place(value: String) -> Self {
        Self {
            value,
            description: None,
        }
    }
}

/// What an address that begins with `text` can be, in the package `current`. What is wrong in the workspace only means that
/// there are fewer candidates.
pub(super) fn complete(workspace: &mut Workspace, text: &str, current: &str) -> Answer {
    let mut candidates = match text.split_once(':') {
        Some((package, name)) => targets(workspace, package, name, current),
        None => places(workspace, text, current),
    };
    candidates.retain(|candidate| candidate.value.starts_with(text));
    if let [only] = candidates.iter().collect::<Vec<_>>().as_slice()
        && let Some(package) = only.value.strip_suffix(':').map(str::to_owned)
    {
        candidates.extend(targets(workspace, &package, "", current));
    }
    while candidates.len() > MOST {
        candidates.pop_last();
    }
    json(&Candidates {
        version: VERSION,
        candidates,
    })
}

/// The package that the text before a colon, or before the last slash, means.
fn resolve(text: &str, current: &str) -> Option<String> {
    match text {
        "" => Some(current.to_owned()),
        "//" => Some(String::new()),
        text => match Pattern::parse(text, current) {
            Ok(Pattern::Package(package)) => Some(package),
            _ => None,
        },
    }
}

/// Targets of the package `written` whose names begin with `name`.
fn targets(workspace: &mut Workspace, written: &str, name: &str, current: &str) -> BTreeSet<Candidate> {
    let Some(package) =
        resolve(written, current).filter(|package| workspace.is_package(package).unwrap_or(false))
    else {
        return BTreeSet::new();
    };
    if workspace
        .evaluate_packages(std::slice::from_ref(&package))
        .is_err()
    {
        return BTreeSet::new();
    }
    let known = workspace.package(&package).map(|known| &known.targets);
    let fitting = known
        .into_iter()
        .flatten()
        .filter(|(target, _)| target.starts_with(name));
    let candidate = |(target, definition): (&String, &Result<Arc<Definition>, Problems>)| {
        let description = definition
            .as_ref()
            .ok()
            .and_then(|definition| definition.description.clone());
        Candidate {
            value: format!("{written}:{target}"),
            description,
        }
    };
    fitting.map(candidate).collect()
}

/// Packages whose paths begin with the text: `//pkg:` where it has targets, `//pkg/` where there are others below.
fn places(workspace: &mut Workspace, text: &str, current: &str) -> BTreeSet<Candidate> {
    let mut candidates = BTreeSet::new();
    if let "" | "/" = text {
        candidates.extend(targets(workspace, "", "", current));
        candidates.extend(places(workspace, "//", current));
        return candidates;
    }
    // What is written up to the last slash is a directory, what follows the beginning of a name.
    let directory = match (text.strip_prefix("//"), text.rsplit_once('/')) {
        (Some(path), _) => path.rsplit_once('/').map_or("//", |(directory, _)| {
            text.get(..directory.len() + 2).unwrap_or_default()
        }),
        (None, Some((directory, _))) if !directory.is_empty() => directory,
        _ => return BTreeSet::new(),
    };
    let written = if directory == "//" {
        "//".to_owned()
    } else {
        format!("{directory}/")
    };
    let Some(name) = text.strip_prefix(&written) else {
        return BTreeSet::new();
    };
    let Some(package) = resolve(directory, current) else {
        return BTreeSet::new();
    };
    let Ok(below) = workspace.packages_below(&package) else {
        return BTreeSet::new();
    };
    if name.is_empty() && below.contains(&package) {
        candidates.insert(Candidate::place(format!("{directory}:")));
    }
    for path in &below {
        let rest = match package.as_str() {
            "" => Some(path.as_str()),
            package => path.strip_prefix(package).and_then(|rest| rest.strip_prefix('/')),
        };
        let Some(rest) = rest.filter(|rest| !rest.is_empty() && rest.starts_with(name)) else {
            continue;
        };
        let value = match rest.split_once('/') {
            None => format!("{written}{rest}:"),
            Some((child, _)) => format!("{written}{child}/"),
        };
        candidates.insert(Candidate::place(value));
    }
    candidates
}
