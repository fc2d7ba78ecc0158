//! Files that targets say they put into the source tree beside its sources: no glob finds them, whether they are there or not.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Package, Workspace};
use crate::definition::{Action, Codegen, Output, OutputKind};
use crate::tree::is_below;
use crate::tree::pattern::Pattern;

/// Outputs with `codegen = "copy"`.
#[derive(Debug, Default)]
pub(super) struct Declared {
    files: HashSet<String>,
    directories: HashSet<String>,
    patterns: Vec<Pattern>,
}

impl Declared {
    /// Whether the file at a path is one of them.
    pub fn holds(&self, path: &str) -> bool {
        self.files.contains(path)
            || (!self.directories.is_empty() && is_below(path, |above| self.directories.contains(above)))
            || self.patterns.iter().any(|pattern| pattern.matches(path))
    }

    fn add(&mut self, output: &Output) {
        match output.kind {
            OutputKind::File => drop(self.files.insert(output.path.clone())),
            OutputKind::Directory => drop(self.directories.insert(output.path.clone())),
            // What is no pattern was refused when the target was defined.
            OutputKind::Glob => self.patterns.extend(Pattern::new(&output.path)),
        }
    }
}

impl Package {
    fn copied(&self) -> impl Iterator<Item = &Output> {
        let commands = self
            .targets
            .values()
            .filter_map(|target| match &target.as_ref().ok()?.action {
                Action::Command(command) if command.codegen == Some(Codegen::Copy) => Some(command),
                _ => None,
            });
        commands.flat_map(|command| &command.outputs)
    }
}

impl Workspace {
    /// What all packages declare that are evaluated.
    pub(super) fn declared(&mut self) -> Arc<Declared> {
        let packages = &self.packages;
        let declared = self.declared.get_or_insert_with(|| {
            let mut declared = Declared::default();
            packages
                .values()
                .flat_map(|package| package.copied())
                .for_each(|output| declared.add(output));
            Arc::new(declared)
        });
        Arc::clone(declared)
    }

    /// Takes over packages that were evaluated.
    pub(super) fn add_packages(&mut self, found: Vec<(String, Arc<Package>)>) {
        if found.iter().any(|(_, package)| package.copied().next().is_some()) {
            self.declared = None;
            // They may have found what is declared only now.
            self.globs.clear();
            self.warm.clear();
        }
        for (_, package) in &found {
            for file in &package.files {
                if !self.trusted.holds(&file.path) {
                    self.trusted.remains_open(&file.path);
                }
            }
        }
        self.packages.extend(found);
    }
}
