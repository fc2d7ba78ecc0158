//! Addresses, packages, labels.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Answer, VERSION, json};
use crate::select::Selection;
use crate::workspace::Workspace;

/// Addresses alone: the answer to a query.
pub(super) fn targets(selection: &Selection) -> Answer {
    #[derive(Serialize)]
    struct Targets {
        version: u32,
        targets: Vec<String>,
    }
    json(&Targets {
        version: VERSION,
        targets: selection.iter().map(ToString::to_string).collect(),
    })
}

#[derive(Serialize)]
struct Packages {
    version: u32,
    packages: Vec<Package>,
}

#[derive(Serialize)]
struct Package {
    package: String,
    files: Vec<String>,
    targets: usize,
}

/// Every package with its BUILD files.
pub(super) fn packages(workspace: &mut Workspace) -> Answer {
    let mut names = workspace.all_packages()?;
    names.sort_unstable();
    workspace.evaluate_packages(&names)?;
    let described = names.into_iter().map(|package| {
        let known = workspace.package(&package);
        let files = known
            .map(|known| known.build_files.as_slice())
            .unwrap_or_default();
        Package {
            files: files
                .iter()
                .map(|file| crate::tree::join(&package, file))
                .collect(),
            targets: known.map_or(0, |known| known.targets.len()),
            package,
        }
    });
    json(&Packages {
        version: VERSION,
        packages: described.collect(),
    })
}

#[derive(Serialize)]
struct Labels {
    version: u32,
    labels: Vec<Label>,
}

#[derive(Serialize)]
struct Label {
    label: String,
    targets: usize,
}

/// Every label with the number of its targets.
pub(super) fn labels(workspace: &mut Workspace) -> Answer {
    let packages = workspace.all_packages()?;
    workspace.evaluate_packages(&packages)?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let known = packages.iter().filter_map(|package| workspace.package(package));
    for definition in known.flat_map(|package| package.targets.values().flatten()) {
        for label in &definition.labels {
            *counts.entry(label).or_default() += 1;
        }
    }
    let labels = counts.into_iter().map(|(label, targets)| Label {
        label: label.to_owned(),
        targets,
    });
    json(&Labels {
        version: VERSION,
        labels: labels.collect(),
    })
}
