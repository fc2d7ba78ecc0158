//! What providers find: targets as they were written.

use std::time::Duration;

use heph_common::Address;
use serde::{Deserialize, Serialize};

use crate::problem::Place;

/// A target as it was written, before its driver has looked at it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Its address, without an output.
    pub address: Address,
    /// The call that made it; `None` for generated ones.
    pub place: Option<Place>,
    /// The calls of macros that led there, innermost first; empty when it stands in the BUILD file itself.
    pub callers: Vec<Place>,
    /// Name of its driver.
    pub driver: String,
    /// Labels, sorted, without duplicates.
    pub labels: Vec<String>,
    /// For people.
    pub description: Option<String>,
    /// Time its command may take.
    pub timeout: Option<Duration>,
    /// Confirmation it needs.
    pub approval: Option<Approval>,
    /// What it hands to whoever depends on it, in the form of the common keys.
    pub transitive: Vec<(String, Value)>,
    /// Everything else, for the driver, in the order it was written.
    pub config: Vec<(String, Value)>,
}

/// A person's confirmation that a target needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Groups that are told.
    pub notice: Vec<String>,
}

/// A value of a BUILD file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    String(String),
    /// A list or tuple.
    List(Vec<Value>),
    /// A dictionary with text keys, or a struct; in the order it was written.
    Dict(Vec<(String, Value)>),
}

impl Value {
    /// What it is, for messages: `text`, `a list`.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) => "a number",
            Self::Float(_) => "a number with a fraction",
            Self::String(_) => "text",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
        }
    }
}
