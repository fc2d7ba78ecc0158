//! The words that select targets, shared by all commands that take some.

use clap_complete::ArgValueCompleter;
use heph_common::{Query, selector};

use crate::error::{CommandError, Result};

/// Which targets are meant.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Selection {
    /// Targets: //pkg:name, :name, //pkg/..., ./..., or a label and places to look for it in
    #[arg(value_name = "SELECTOR", add = ArgValueCompleter::new(crate::commands::complete::selectors))]
    pub words: Vec<String>,
    /// Selects with the query language, as in '//... && !label(slow)'.
    #[arg(
        short = 'e',
        long = "expression",
        value_name = "EXPR",
        conflicts_with = "words"
    )]
    pub expression: Option<String>,
}

/// What has changed of a selection.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Since {
    /// Only targets whose inputs differ from this git commit, and what depends on them.
    #[arg(long = "since", value_name = "REF")]
    pub commit: Option<String>,
}

/// A selection as the service wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The query, absolute.
    pub query: String,
    /// What the user wrote, for messages.
    pub selector: String,
}

impl Selection {
    /// Whether nothing was selected explicitly.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty() && self.expression.is_none()
    }

    /// The query that is meant in the package `current`. Nothing selected is the package itself.
    pub fn resolve(&self, current: &str) -> Result<Selected> {
        let query = match &self.expression {
            Some(expression) => Query::parse(expression, current),
            None => selector::from_words(&self.words, current),
        };
        self.selected(query, current)
    }

    /// As [`Selection::resolve`], and a single word may be an expression too: there is no doubt about what is meant
    /// where targets are only looked at.
    pub fn resolve_leniently(&self, current: &str) -> Result<Selected> {
        if let ([word], None) = (self.words.as_slice(), &self.expression)
            && selector::from_words(&self.words, current).is_err()
            && let Ok(query) = Query::parse(word, current)
        {
            return self.selected(Ok(query), current);
        }
        self.resolve(current)
    }

    /// As [`Selection::resolve`], but nothing selected is the whole workspace.
    pub fn or_everything(&self) -> Self {
        let mut selection = self.clone();
        if selection.is_empty() {
            selection.words.push("//...".to_owned());
        }
        selection
    }

    fn selected(
        &self,
        query: Result<Query, heph_common::query::ParseQueryError>,
        current: &str,
    ) -> Result<Selected> {
        let query = query.map_err(|error| {
            let said = CommandError::usage(error.to_string());
            match error.hint {
                Some(hint) => said.hint(hint),
                None => said,
            }
        })?;
        let selector = match (&self.expression, self.words.as_slice()) {
            (Some(expression), _) => expression.clone(),
            (None, []) => format!("//{current}"),
            (None, words) => words.join(" "),
        };
        Ok(Selected {
            query: query.to_string(),
            selector,
        })
    }
}
