//! Finding a program on PATH.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use heph_common::{Digest, KeyBuilder, nearest};
use serde::{Deserialize, Serialize};

use super::evidence::{Contents, Evidence, Watched, all_unchanged};
use super::identity::{self, Identity};
use super::place::{Private, outermost};
use super::proxy::{self, Behind};
use crate::problem::Problem;

/// A program of the host and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// The name it was looked for by.
    pub name: String,
    /// Where it was found on PATH; for a proxy the program that it selects.
    pub path: PathBuf,
    /// The same without symlinks: what a link called `name` should lead to.
    pub resolved: PathBuf,
    /// Programs that it looks for on PATH, by name (`as`, `ld` for a compiler); resolved.
    pub brings: Vec<(String, PathBuf)>,
    /// Files and directories outside of the [system's](super::SYSTEM_DIRECTORIES) that it needs to see; sorted.
    pub visible: Vec<PathBuf>,
    /// Its identity.
    pub digest: Digest,
    /// Everything that was looked at.
    pub files: Vec<Watched>,
    /// Digest of where and how it was looked for.
    context: Digest,
}

/// Why a tool cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// No directory of PATH has it.
    #[error("no program '{name}' on PATH")]
    NotFound {
        /// The name.
        name: String,
        /// Programs of similar names, nearest first.
        nearest: Vec<String>,
    },
    /// The name has a slash, is empty or not a file's.
    #[error("'{name}' is not the name of a program")]
    Name {
        /// The name.
        name: String,
    },
    /// A program that only chooses another one chose none.
    #[error("cannot tell which '{name}' is meant: {problem}")]
    Proxy {
        /// The name.
        name: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// Symlinks that lead to each other.
    #[error("too many symlinks: {path}")]
    Loop {
        /// Where it began.
        path: PathBuf,
    },
    /// A file that belongs to it cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ToolError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { nearest, .. } if nearest.is_empty() => {
                Some("install it, or add its directory to PATH".to_owned())
            }
            Self::NotFound { nearest, .. } => Some(format!("did you mean {}?", alternatives(nearest))),
            Self::Name { name } if name.contains('/') => {
                Some("a program is named without its directory, such as //@heph/bin:git".to_owned())
            }
            Self::Proxy { hint, .. } => Some(hint.clone()),
            Self::Name { .. } | Self::Loop { .. } | Self::Unreadable { .. } => None,
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
fn alternatives(words: &[String]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => words.join(""),
    }
}

impl From<ToolError> for Problem {
    fn from(error: ToolError) -> Self {
        let hint = error.hint();
        Self {
            hint,
            ..Self::new(error.to_string())
        }
    }
}

/// Finds programs as one caller would. What it reads is remembered for all of them.
#[derive(Debug)]
pub struct ToolFinder {
    path: Vec<PathBuf>,
    variables: BTreeMap<&'static str, String>,
    home: Option<PathBuf>,
    workspace: PathBuf,
    private: Private,
    contents: Contents,
}

/// Stand-ins of stand-ins.
const PROXY_LIMIT: usize = 8;

impl ToolFinder {
    /// A finder for the caller's PATH, environment and home directory, in the workspace at `workspace` (absolute).
    /// Entries of PATH that are not absolute are left out.
    pub fn new(
        path: &[PathBuf],
        environment: &BTreeMap<String, String>,
        home: Option<&Path>,
        workspace: &Path,
    ) -> Self {
        let mut directories: Vec<PathBuf> = Vec::new();
        for directory in path.iter().filter(|directory| directory.is_absolute()) {
            if !directories.contains(directory) {
                directories.push(directory.clone());
            }
        }
        let variable = |name: &'static str| {
            let value = environment.get(name).filter(|value| !value.is_empty())?;
            Some((name, value.clone()))
        };
        Self {
            path: directories,
            variables: proxy::VARIABLES.into_iter().filter_map(variable).collect(),
            private: Private::new(home, workspace),
            home: home.map(Path::to_owned),
            workspace: workspace.to_owned(),
            contents: Contents::default(),
        }
    }

    /// Finds a program and tells its identity. `known` is what an earlier run found: it is returned as it is while
    /// nothing has changed, and what has not changed of it is not read again.
    pub fn find(&self, name: &str, known: Option<&Tool>) -> Result<Tool, ToolError> {
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(ToolError::Name {
                name: name.to_owned(),
            });
        }
        if let Some(known) = known {
            if known.name == name && self.is_current(known) {
                return Ok(known.clone());
            }
            self.contents.remember(&known.files);
        }
        let mut evidence = Evidence::new(&self.contents);
        let Some((path, resolved)) = self.search(&mut evidence, name)? else {
            return Err(self.not_found(name));
        };
        let mut identity = Identity::new(self, &mut evidence, name);
        identity.add_tool(name, &path, &resolved)?;
        let (digest, brings, visible) = identity.finish();
        let visible = outermost(visible);
        Ok(Tool {
            name: name.to_owned(),
            path,
            resolved,
            brings,
            visible,
            digest,
            files: evidence.finish(),
            context: self.context(name),
        })
    }

    /// Whether [`find`](Self::find) would find the same: it was asked in the same way, and nothing has changed.
    pub fn is_current(&self, tool: &Tool) -> bool {
        tool.context == self.context(&tool.name) && Self::unchanged(tool)
    }

    /// Whether everything that was looked at is as it was. One system call a file.
    pub fn unchanged(tool: &Tool) -> bool {
        all_unchanged(&tool.files)
    }

    /// Directories of PATH.
    pub fn path(&self) -> &[PathBuf] {
        &self.path
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    pub(crate) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    pub(crate) fn workspace(&self) -> &Path {
        &self.workspace
    }

    pub(crate) fn private(&self) -> &Private {
        &self.private
    }

    /// The program behind `name`: its path, and the same without symlinks.
    pub(crate) fn search(
        &self,
        evidence: &mut Evidence<'_>,
        name: &str,
    ) -> Result<Option<(PathBuf, PathBuf)>, ToolError> {
        for directory in &self.path {
            let path = directory.join(name);
            if let Some(found) = self.behind(evidence, name, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Looks behind every stand-in; `None` for what must be passed over.
    pub(crate) fn behind(
        &self,
        evidence: &mut Evidence<'_>,
        name: &str,
        mut path: PathBuf,
    ) -> Result<Option<(PathBuf, PathBuf)>, ToolError> {
        for _ in 0..PROXY_LIMIT {
            let Some(resolved) = evidence.executable(&path)? else {
                return Ok(None);
            };
            match proxy::behind(self, evidence, name, &path, &resolved)? {
                Behind::Itself => return Ok(Some((path, resolved))),
                Behind::Next => return Ok(None),
                Behind::Program(program) => path = program,
            }
        }
        Err(ToolError::Loop { path })
    }

    /// Everything but the file system that the answer depends on.
    fn context(&self, name: &str) -> Digest {
        let bytes = |path: &PathBuf| path.as_os_str().as_encoded_bytes().to_vec();
        let mut key = KeyBuilder::new("tool-context");
        key.part("build", env!("CARGO_PKG_VERSION").as_bytes())
            .part("format", &identity::FORMAT.to_le_bytes())
            .part("name", name.as_bytes())
            .list("path", self.path.iter().map(bytes))
            .list(
                "variables",
                self.variables
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            )
            .list("home", self.home.iter().map(bytes))
            .part("workspace", &bytes(&self.workspace));
        key.finish().0
    }

    fn not_found(&self, name: &str) -> ToolError {
        const SUGGESTIONS: usize = 3;
        let entries = self
            .path
            .iter()
            .filter_map(|directory| std::fs::read_dir(directory).ok());
        let names = entries
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names.dedup();
        let mut found = Vec::new();
        while found.len() < SUGGESTIONS {
            let Some(next) = nearest(name, names.iter().map(String::as_str)).map(str::to_owned) else {
                break;
            };
            names.retain(|name| *name != next);
            found.push(next);
        }
        ToolError::NotFound {
            name: name.to_owned(),
            nearest: found,
        }
    }
}
