//! YAML as a tree of values that know their places.

use serde::{Deserialize, Serialize};

use super::{Place, Problem};
use crate::package::printable;

/// A value of a configuration file and where it stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Value {
    /// What it is.
    pub data: Data,
    /// Where it begins; of a scalar, all of it.
    pub place: Place,
}

/// The shapes of a value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Data {
    /// Nothing, `~` or `null`.
    Null,
    /// Text, a number or a truth value, as it was written.
    Scalar {
        /// What stands there, without quotes.
        text: String,
        /// Whether it was quoted (or a block, or tagged `!!str`), and so cannot be anything but text.
        quoted: bool,
    },
    /// A list.
    List(Vec<Value>),
    /// A mapping, in the order of the file; keys are unique.
    Map(Vec<Entry>),
}

/// A key of a mapping and its value.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// What it stands for.
    pub value: Value,
}

impl Value {
    /// The value of a key, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.data {
            Data::Map(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| &entry.value),
            Data::Null | Data::Scalar { .. } | Data::List(_) => None,
        }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar { text, .. } => Some(text),
            Data::Null | Data::List(_) | Data::Map(_) => None,
        }
    }

    /// What this is, for `found …`.
    pub fn describe(&self) -> String {
        match &self.data {
            Data::Null => "nothing".to_owned(),
            Data::Scalar { text, quoted: true } if text.is_empty() => "an empty text".to_owned(),
            Data::Scalar { text, quoted: true } => format!("the text \"{}\"", printable(text)),
            Data::Scalar { text, quoted: false } => format!("'{}'", printable(text)),
            Data::List(_) => "a list".to_owned(),
            Data::Map(_) => "a mapping".to_owned(),
        }
    }

    /// The problem of a value that is something else than `expected`.
    pub fn unexpected(&self, expected: &str) -> Problem {
        Problem::at(
            &self.place,
            format!("expected {expected}, found {}", self.describe()),
        )
    }

    /// How the value looks on one line.
    pub fn show(&self) -> String {
        match &self.data {
            Data::Null => "null".to_owned(),
            Data::Scalar { text, quoted: true } => format!("{text:?}"),
            Data::Scalar { text, quoted: false } => text.clone(),
            Data::List(items) => {
                let items: Vec<String> = items.iter().map(Self::show).collect();
                format!("[{}]", items.join(", "))
            }
            Data::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|entry| format!("{}: {}", entry.key, entry.value.show()))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }
}
