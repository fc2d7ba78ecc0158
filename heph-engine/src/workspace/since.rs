//! What a difference from a commit may concern.

use std::collections::HashSet;

use heph_common::package::is_below;
use heph_common::query::{Query, Reach};

use super::Workspace;
use crate::build_file::Question;
use crate::changes::Changes;
use crate::definition::Action;
use crate::graph::Id;
use crate::tree::pattern::Pattern;

/// Files that differ from a commit, and the packages that they concern.
#[derive(Debug)]
pub(crate) struct Concerned<'a> {
    workspace: &'a Workspace,
    changes: &'a Changes,
    /// Packages that differ, or are or were there only on one side.
    packages: HashSet<&'a str>,
}

impl Workspace {
    /// What the files that differ concern, among the packages that are evaluated.
    pub(crate) fn concerned<'a>(&'a self, changes: &'a Changes) -> Concerned<'a> {
        let mut concerned = Concerned {
            workspace: self,
            changes,
            packages: HashSet::new(),
        };
        let build_files = changes
            .paths()
            .filter(|path| concerned.is_build_file(path))
            .map(|path| path.rsplit_once('/').map_or("", |(package, _)| package));
        let mut packages: HashSet<&str> = build_files.collect();
        let differs = |(_, package): &(_, &std::sync::Arc<super::Package>)| {
            package.files.iter().any(|file| changes.contains(&file.path))
                || package
                    .observed
                    .iter()
                    .any(|observed| concerned.may_answer_otherwise(&observed.question))
        };
        packages.extend(
            self.packages
                .iter()
                .filter(differs)
                .map(|(name, _)| name.as_str()),
        );
        concerned.packages = packages;
        concerned
    }
}

impl Concerned<'_> {
    /// Whether the BUILD files of a package, or what they asked, differ.
    pub(crate) fn package(&self, package: &str) -> bool {
        self.packages.contains(package)
    }

    /// Whether what a target made from its address stands for may differ.
    pub(crate) fn leaf(&self, id: Id) -> bool {
        match &self.workspace.graph.node(id).definition.action {
            Action::File { path } => self.changes.contains(path),
            Action::Glob { patterns, exclude } => self.may_match(patterns, exclude),
            Action::Query { expression } => self.may_select_others(expression),
            _ => false,
        }
    }

    fn may_answer_otherwise(&self, question: &Question) -> bool {
        match question {
            Question::Glob { patterns, exclude } => self.may_match(patterns, exclude),
            Question::Packages { prefix, below } => self.changes.paths().any(|path| {
                let package = path.rsplit_once('/').map_or("", |(package, _)| package);
                let asked = match below {
                    true => is_below(package, prefix),
                    false => package == prefix,
                };
                asked && self.is_build_file(path)
            }),
        }
    }

    /// Whether a file that differs may be, or have been, among the matches of a glob.
    fn may_match(&self, patterns: &[String], exclude: &[String]) -> bool {
        let compile = |texts: &[String]| {
            texts
                .iter()
                .filter_map(|text| Pattern::new(text).ok())
                .collect::<Vec<_>>()
        };
        let (patterns, exclude) = (compile(patterns), compile(exclude));
        let matches =
            |path: &str| patterns.iter().any(|p| p.matches(path)) && !exclude.iter().any(|p| p.matches(path));
        self.changes.paths().any(matches)
    }

    /// Whether a target that a query selects now, or selected before, is of a package that differs.
    fn may_select_others(&self, expression: &str) -> bool {
        Query::parse(expression, "").is_ok_and(|query| {
            self.packages
                .iter()
                .any(|package| query.reach_in(package) != Reach::Nothing)
        })
    }

    fn is_build_file(&self, path: &str) -> bool {
        self.workspace
            .loader
            .patterns()
            .is_some_and(|patterns| patterns.is_build_file(path))
    }
}
