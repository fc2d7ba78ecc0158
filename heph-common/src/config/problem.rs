//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::nearest;
use crate::package::printable;

/// A stretch of a line of a configuration file.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The file as messages name it: relative to the workspace root where it lies there.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u32,
    /// In characters, counted from 1.
    pub column: u32,
    /// In characters, at least 1.
    pub length: u32,
    /// The whole line.
    pub text: Arc<str>,
}

/// One fault of a configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// Where it is; `None` for a file that cannot be read.
    pub place: Option<Place>,
    /// What is wrong, as a fragment.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Problem {
    /// A fault at a place.
    pub fn at(place: &Place, message: impl Into<String>) -> Self {
        Self {
            place: Some(place.clone()),
            message: message.into(),
            hint: None,
        }
    }

    /// A fault that has no place in a file.
    pub fn nowhere(message: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what would be right.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the nearest of the valid words, or all of them.
    pub fn nearest_hint<'a>(self, word: &str, valid: impl IntoIterator<Item = &'a str> + Clone) -> Self {
        match nearest(word, valid.clone()) {
            Some(near) => self.hint(format!("did you mean '{near}'?")),
            None => {
                let all: Vec<&str> = valid.into_iter().collect();
                self.hint(format!("valid here: {}", all.join(", ")))
            }
        }
    }
}

/// Characters of a line that are shown with a problem.
const SHOWN: usize = 100;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        f.write_str(&printable(&self.message))?;
        if let Some(place) = &self.place {
            let (column, length) = (place.column.saturating_sub(1) as usize, place.length as usize);
            let skipped = (column + length.min(SHOWN)).saturating_sub(SHOWN).min(column);
            let shown: String = place.text.chars().skip(skipped).take(SHOWN).collect();
            let before: String = shown.chars().take(column - skipped).collect();
            let room = SHOWN.saturating_sub(column - skipped);
            let margin = place.line.to_string().len();
            write!(
                f,
                "\n{:margin$} |\n{} | {}",
                "",
                place.line,
                shown.replace(char::is_control, " ")
            )?;
            write!(f, "\n{:margin$} | {}", "", " ".repeat(before.chars().count()))?;
            f.write_str(&"^".repeat(length.clamp(1, room.max(1))))?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {}", printable(hint)),
            None => Ok(()),
        }
    }
}

/// All faults of a configuration; at least one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConfigErrors {
    /// In the order of the files and of the places in them.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// What paths in a configuration are relative to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Base {
    /// What relative paths begin at; without it they are refused.
    pub root: Option<PathBuf>,
    /// What `~` stands for; without it, it is refused.
    pub home: Option<PathBuf>,
}

/// Collects problems while values are decoded.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    pub(super) base: Base,
}

impl Problems {
    /// No problems yet; paths are resolved as `base` says.
    pub fn new(base: Base) -> Self {
        Self {
            list: Vec::new(),
            base,
        }
    }

    /// Adds one.
    pub fn add(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// The value when there are no problems.
    pub fn into_result<T>(self, value: T) -> Result<T, ConfigErrors> {
        let mut problems = self.list;
        if problems.is_empty() {
            return Ok(value);
        }
        problems.dedup();
        Err(ConfigErrors { problems })
    }

    /// Puts the problems that were added since there were `since` in the order of their places.
    pub(super) fn sort_since(&mut self, since: usize) {
        if let Some(tail) = self.list.get_mut(since..) {
            tail.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.column)));
        }
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }
}
