//! What evaluation asks of the workspace, so that the same can be asked again.

use heph_common::Digest;
use serde::{Deserialize, Serialize};

use super::BuildFiles;
use crate::problem::{Problem, Problems};

/// A question about the workspace, and the answer it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// What was asked.
    pub question: Question,
    /// Of the answer: equal digests mean equal answers.
    pub answer: Digest,
    /// Directories whose listings the answer rests on; empty for packages, which rest on all below their directory.
    pub directories: Vec<String>,
}

/// A question about the workspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Question {
    /// Which files match (`heph.fs.glob`).
    Glob {
        /// Relative to the workspace root.
        patterns: Vec<String>,
        /// Relative to the workspace root.
        exclude: Vec<String>,
    },
    /// Which packages there are at a path and below (`heph.core.packages`).
    Packages {
        /// The path.
        prefix: String,
        /// Whether those below count.
        below: bool,
    },
}

impl BuildFiles {
    /// Asks a question (again): the paths that are the answer, and the observation of it.
    pub fn observe(&self, question: Question) -> Result<(Vec<String>, Observation), Problems> {
        let (answer, directories) = match &question {
            Question::Glob { patterns, exclude } => {
                let found = self
                    .tree
                    .glob(patterns, exclude, &*self.generated)
                    .map_err(|problem| vec![problem])?;
                (found.files, found.directories)
            }
            Question::Packages { prefix, below: true } => {
                let found = self.tree.packages(&self.patterns, prefix)?;
                (found.into_iter().map(|found| found.package).collect(), Vec::new())
            }
            Question::Packages { prefix, below: false } => {
                let found = self
                    .tree
                    .package(&self.patterns, prefix)
                    .map_err(|problem: Problem| vec![problem])?;
                (
                    found.map(|found| found.package).into_iter().collect(),
                    vec![prefix.clone()],
                )
            }
        };
        // No path holds a line break's neighbour NUL, so the text is unambiguous.
        let digest = Digest::of(answer.join("\0").as_bytes());
        Ok((
            answer,
            Observation {
                question,
                answer: digest,
                directories,
            },
        ))
    }
}
