//! Whether a result from elsewhere is one of this target: what it declares, all of it and nothing else.
//!
//! The key of a result says what it was made of, not what came of it. Somebody who can write to a bucket could have a target give
//! `.git/hooks/pre-commit`, which copied outputs or generated files would put into the tree.

use globset::{GlobBuilder, GlobMatcher};
use heph_cache::{Entry, Manifest};

use crate::definition::{Action, CommandAction, Output, OutputKind};
use crate::product::SUPPORT_GROUP;

/// The outputs that a target declares.
#[derive(Debug)]
pub(super) struct Declared {
    all: Vec<Declaration>,
}

#[derive(Debug)]
struct Declaration {
    group: String,
    path: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    File,
    Directory,
    Glob(Option<GlobMatcher>),
}

impl Declared {
    /// Those of what a target does.
    pub(super) fn of(action: &Action) -> Self {
        let all = match action {
            Action::Command(command) => of_command(command),
            Action::Fetch(fetch) => vec![Declaration {
                group: String::new(),
                path: fetch.out.clone(),
                kind: Kind::File,
            }],
            // None of these has results of its own in remote caches.
            _ => Vec::new(),
        };
        Self { all }
    }

    /// Why a result is not one of this target, as a fragment.
    pub(super) fn check(&self, manifest: &Manifest) -> Result<(), String> {
        let mut met = vec![false; self.all.len()];
        for output in &manifest.outputs {
            let is_directory = output.entry == Entry::Directory;
            let mut known = false;
            for (declaration, met) in self.all.iter().zip(&mut met) {
                if declaration.group == output.group && declaration.covers(&output.path, is_directory) {
                    (known, *met) = (true, true);
                }
            }
            if !known {
                let path = output.path.escape_debug();
                return Err(format!(
                    "it has the output {path}, which the target does not declare"
                ));
            }
        }
        match self.all.iter().zip(met).find(|(_, met)| !met) {
            Some((missing, _)) => Err(format!("it lacks the output {}", missing.path)),
            None => Ok(()),
        }
    }
}

fn of_command(command: &CommandAction) -> Vec<Declaration> {
    let declaration = |output: &Output, group: &str| Declaration {
        group: group.to_owned(),
        path: output.path.clone(),
        kind: match output.kind {
            OutputKind::File => Kind::File,
            OutputKind::Directory => Kind::Directory,
            OutputKind::Glob => {
                let glob = GlobBuilder::new(&output.path).literal_separator(true).build();
                Kind::Glob(glob.ok().map(|glob| glob.compile_matcher()))
            }
        },
    };
    let own = command.outputs.iter();
    let support = command.support_files.iter();
    own.map(|output| declaration(output, &output.group))
        .chain(support.map(|output| declaration(output, SUPPORT_GROUP)))
        .collect()
}

impl Declaration {
    fn covers(&self, path: &str, is_directory: bool) -> bool {
        match &self.kind {
            Kind::File => path == self.path && !is_directory,
            Kind::Directory => match path.strip_prefix(&self.path) {
                Some("") => is_directory,
                Some(below) => self.path.is_empty() || below.starts_with('/'),
                None => false,
            },
            Kind::Glob(glob) => !is_directory && glob.as_ref().is_some_and(|glob| glob.is_match(path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(all: Vec<(&str, &str, Kind)>) -> Declared {
        let all = all.into_iter().map(|(group, path, kind)| Declaration {
            group: group.to_owned(),
            path: path.to_owned(),
            kind,
        });
        Declared { all: all.collect() }
    }

    fn glob(text: &str) -> Kind {
        let glob = GlobBuilder::new(text).literal_separator(true).build().unwrap();
        Kind::Glob(Some(glob.compile_matcher()))
    }

    /// What a manifest with these outputs is told; those that end in a slash are directories.
    fn check(declared: &Declared, outputs: &[(&str, &str)]) -> Result<(), String> {
        let link = || Entry::Symlink {
            target: "x".to_owned(),
        };
        let outputs = outputs.iter().map(|(group, path)| heph_cache::Output {
            group: (*group).to_owned(),
            path: path.trim_end_matches('/').to_owned(),
            entry: if path.ends_with('/') {
                Entry::Directory
            } else {
                link()
            },
        });
        let manifest = Manifest {
            kind: "target".to_owned(),
            key: heph_common::Digest::of(b""),
            outputs: outputs.collect(),
            log: None,
            exit_code: 0,
            platform: String::new(),
            sandbox: heph_proto::SandboxMode::Strict,
            address: String::new(),
            producer: String::new(),
            created_unix_ms: 0,
            duration: std::time::Duration::ZERO,
        };
        declared.check(&manifest)
    }

    #[test]
    fn only_what_is_declared_and_all_of_it_is_a_result() {
        let all = declared(vec![
            ("", "a/file", Kind::File),
            ("", "a/tree", Kind::Directory),
            ("docs", "a/*.md", glob("a/*.md")),
            (SUPPORT_GROUP, "lib", Kind::File),
        ]);
        let honest = [
            ("", "a/file"),
            ("", "a/tree/b/c"),
            ("", "a/tree/empty/"),
            ("docs", "a/x.md"),
            (SUPPORT_GROUP, "lib"),
        ];
        assert_eq!(check(&all, &honest), Ok(()));
        for at in [0, 3, 4] {
            let mut less = honest.to_vec();
            less.remove(at);
            assert!(check(&all, &less).unwrap_err().contains("it lacks"), "{less:?}");
        }
        for more in [
            ("", "a/other"),
            ("", "a/file/"),
            ("", "a/treeb"),
            ("", "a/tree"),
            ("", "a/x.md"),
            ("docs", "a/b/x.md"),
            ("docs", "a/y.md/"),
            ("other", "a/file"),
            ("", ".git/hooks/pre-commit"),
        ] {
            let mut all_of_it = honest.to_vec();
            all_of_it.push(more);
            let why = check(&all, &all_of_it).unwrap_err();
            assert!(why.contains("does not declare"), "{more:?}: {why}");
        }
        // An empty directory is one, and an empty set of outputs is what nothing declares.
        let empty = declared(vec![("", "a/tree", Kind::Directory)]);
        assert_eq!(check(&empty, &[("", "a/tree/")]), Ok(()));
        assert_eq!(check(&declared(Vec::new()), &[]), Ok(()));
    }
}
