//! Patterns: one target, the targets of a package, or those below it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Form, ParseQueryError};
use crate::Address;
use crate::package::{self, Flaw, found, is_below};

/// Names targets by where they are. Serialized as its text.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Pattern {
    /// `//p`: the targets of one package.
    Package(String),
    /// `//p/...`: the targets of a package and of all below it. `//...` leaves out the providers' packages.
    Below(String),
    /// `//p:n`: one target.
    Target(Address),
}

impl Pattern {
    /// Parses one pattern; a relative one refers to the package `current` and never leaves the workspace.
    pub fn parse(text: &str, current: &str) -> Result<Self, ParseQueryError> {
        if text.contains(':') {
            return Address::parse_relative(text, current)
                .map(Self::Target)
                .map_err(ParseQueryError::from_address);
        }
        let (path, below) = match text.strip_suffix("...") {
            Some("") => (".", true),
            Some("//") => ("//", true),
            Some(path) if path.ends_with('/') => (path.strip_suffix('/').unwrap_or(path), true),
            _ => (text, false),
        };
        let package = Self::package(path, current).map_err(|flaw| {
            let error = ParseQueryError::new(Form::Pattern, text, flaw);
            match Self::parse_bare(text) {
                Some(absolute) => error.hint(format!("write './{text}' or '{absolute}'")),
                None => error,
            }
        })?;
        Ok(if below {
            Self::Below(package)
        } else {
            Self::Package(package)
        })
    }

    /// The package of `//p`, `.`, `./s` or `../s`.
    pub(super) fn package(path: &str, current: &str) -> Result<String, Flaw> {
        if let Some(absolute) = path.strip_prefix("//") {
            return match package::check(absolute) {
                Ok(()) => Ok(absolute.to_owned()),
                Err(flaw) => Err(Flaw {
                    offset: flaw.offset + 2,
                    ..flaw
                }),
            };
        }
        match path.split('/').next() {
            Some("." | "..") => package::resolve(path, current),
            _ => Err(Flaw::new(
                0,
                format!(
                    "expected '//', ':', './', '../', '.' or '...', found {}",
                    found(path, 0)
                ),
            )),
        }
    }

    /// `cmd/server` as the absolute pattern that it nearly is.
    fn parse_bare(text: &str) -> Option<Self> {
        if text.is_empty() || text.starts_with('/') {
            return None;
        }
        Self::parse(&format!("//{text}"), "").ok()
    }

    /// Whether the target is one of those named. A chosen output makes no difference.
    pub fn matches(&self, address: &Address) -> bool {
        match self {
            Self::Package(package) => address.package == *package,
            Self::Below(package) => is_below(&address.package, package),
            Self::Target(target) => {
                address.name == target.name
                    && address.package == target.package
                    && address.args == target.args
            }
        }
    }

    /// Whether a target of the package `package` may be one of those named.
    pub fn matches_package(&self, package: &str) -> bool {
        match self {
            Self::Package(own) => package == own,
            Self::Below(own) => is_below(package, own),
            Self::Target(target) => package == target.package,
        }
    }

    /// Whether a target of the package `package`, or of one below it, may be one of those named: whether that
    /// directory is worth a look.
    pub fn matches_below(&self, package: &str) -> bool {
        match self {
            Self::Package(own) => is_below(own, package),
            Self::Below(own) => is_below(own, package) || is_below(package, own),
            Self::Target(target) => is_below(&target.package, package),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package(package) => write!(f, "//{package}"),
            Self::Below(package) if package.is_empty() => f.write_str("//..."),
            Self::Below(package) => write!(f, "//{package}/..."),
            Self::Target(address) => address.fmt(f),
        }
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, "").map_err(serde::de::Error::custom)
    }
}
