//! The query language: which targets are meant.
//!
//! ```text
//! or      = and { "||" and }
//! and     = unary { "&&" unary }
//! unary   = "!" unary | "(" or ")" | function "(" argument ")" | pattern
//! pattern = //p  //p/...  //p:n  .  ...  ./s  ./s/...  ../s  ../s:n  :n
//! ```
//!
//! Functions are `label(x)`, `addr(a)`, `package(p)`, `package_prefix(p)`, `tree_output(path)`, `changed(ref)`, and
//! `deps(e)` and `rdeps(e)` of a query. A pattern or an argument that has white space, `(`, `)`, `&&` or `||` of its
//! own, or begins with `!`, stands in double quotes with `\"`, `\\`, `\n`, `\r`, `\t` and `\u{hex}` inside.
//!
//! What is relative is resolved when it is parsed, so that a parsed query means the same everywhere. It prints in a
//! form that parses to the same query.

mod function;
mod parse;
mod pattern;
mod print;
mod reach;

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Address;
use crate::address::ParseAddressError;
use crate::package::{Flaw, printable};

pub use function::Function;
pub use pattern::Pattern;
pub use reach::Reach;

/// A question whose answer is a set of targets. Serialized as its text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Query {
    /// The targets that a pattern names.
    Pattern(Pattern),
    /// The targets with this label.
    Label(String),
    /// The one target with this address.
    Addr(Address),
    /// The targets of this package.
    Package(String),
    /// The targets of this package and of all below it.
    PackagePrefix(String),
    /// The targets that write into the source tree at or below this path, relative to the workspace root.
    TreeOutput(String),
    /// What the targets of a query depend on, directly or not.
    Deps(Box<Self>),
    /// What depends on the targets of a query, directly or not.
    Rdeps(Box<Self>),
    /// The targets whose inputs differ from those of a git commit.
    Changed(String),
    /// All targets but those of a query.
    Not(Box<Self>),
    /// The targets that are in every one of at least two queries.
    And(Vec<Self>),
    /// The targets that are in any of at least two queries.
    Or(Vec<Self>),
}

impl Query {
    /// Parses an expression; what is relative in it refers to the package `current`.
    pub fn parse(text: &str, current: &str) -> Result<Self, ParseQueryError> {
        parse::parse(text, current)
    }

    /// The targets that are in any of these queries; `None` when there are none.
    pub fn any(mut queries: Vec<Self>) -> Option<Self> {
        match queries.len() {
            0 | 1 => queries.pop(),
            _ => Some(Self::Or(queries)),
        }
    }

    /// Every query within this one, itself included, outermost first.
    pub fn visit(&self, visitor: &mut impl FnMut(&Self)) {
        visitor(self);
        match self {
            Self::Deps(inner) | Self::Rdeps(inner) | Self::Not(inner) => inner.visit(visitor),
            Self::And(all) | Self::Or(all) => all.iter().for_each(|query| query.visit(visitor)),
            Self::Pattern(_)
            | Self::Label(_)
            | Self::Addr(_)
            | Self::Package(_)
            | Self::PackagePrefix(_)
            | Self::TreeOutput(_)
            | Self::Changed(_) => {}
        }
    }
}

impl Serialize for Query {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Query {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, "").map_err(serde::de::Error::custom)
    }
}

/// What a text was read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One pattern, as the words of a command line are.
    Pattern,
    /// A whole expression.
    Query,
}

impl Form {
    fn noun(self) -> &'static str {
        match self {
            Self::Pattern => "a pattern",
            Self::Query => "a query",
        }
    }
}

/// A text is not a query, or not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not {}, at column {}: {problem}", printable(text), form.noun(), self.column())]
pub struct ParseQueryError {
    /// The text that was given.
    pub text: String,
    /// What it was read as.
    pub form: Form,
    /// Offset in bytes of the first character that does not fit.
    pub offset: usize,
    /// What was expected there and what was found.
    pub problem: Cow<'static, str>,
    /// What would probably have been right.
    pub hint: Option<String>,
}

impl ParseQueryError {
    /// Column of the offset, counted in characters from 1.
    pub fn column(&self) -> usize {
        self.text
            .get(..self.offset)
            .map_or(0, |head| head.chars().count())
            + 1
    }

    fn new(form: Form, text: &str, flaw: Flaw) -> Self {
        Self {
            text: text.to_owned(),
            form,
            offset: flaw.offset.min(text.len()),
            problem: flaw.problem,
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error of an address that is the whole of a pattern.
    fn from_address(error: ParseAddressError) -> Self {
        Self {
            text: error.text,
            form: Form::Pattern,
            offset: error.offset,
            problem: error.problem,
            hint: error.hint,
        }
    }

    /// The error of a part as an error of the whole `text`, where the part begins at `start`.
    fn within(self, text: &str, start: usize) -> Self {
        Self {
            text: text.to_owned(),
            form: Form::Query,
            offset: (start + self.offset).min(text.len()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
