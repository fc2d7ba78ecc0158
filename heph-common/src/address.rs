//! The names of targets: `//pkg:name[@key=value,key2="quoted value"][|output]`.
//!
//! - The package is a path as [`crate::package`] describes it; the empty one is the root: `//:name`.
//! - Name, argument names and output are made of the same characters as segments of a package, the name without
//!   `@`; the name and the output may hold `/` between segments.
//! - A value stands as it is while it has no whitespace, control character or any of `, | " \ ( ) ! &`, and is
//!   not empty. Others stand in double quotes, with `\"`, `\\`, `\n`, `\r`, `\t` and `\u{hex}` inside.
//!
//! An address prints in one canonical form: arguments sorted by name, values quoted only where they must be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::package::{self, Flaw, found, is_segment_char, printable, quoted};
use crate::quote;

/// The name of a target. Arguments are part of the identity and kept in sorted order.
///
/// Serialized as its canonical text in formats for people, and as its four parts, unchecked, in binary ones, whose
/// writers vouch for what they wrote.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Address {
    /// Package path relative to the workspace root, without slashes at its ends; empty for the root package.
    /// Packages that begin with `@` belong to providers, as `@heph/fs` does.
    pub package: String,
    /// Name of the target within its package.
    pub name: String,
    /// Arguments by name.
    pub args: BTreeMap<String, String>,
    /// Output group that is meant, where one is.
    pub output: Option<String>,
}

/// A text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not an address, at column {}: {problem}", printable(text), self.column())]
pub struct ParseAddressError {
    /// The text that was given.
    pub text: String,
    /// Offset in bytes of the first character that does not fit.
    pub offset: usize,
    /// What was expected there and what was found.
    pub problem: Cow<'static, str>,
    /// What would probably have been right.
    pub hint: Option<String>,
}

impl ParseAddressError {
    /// Column of the offset, counted in characters from 1.
    pub fn column(&self) -> usize {
        self.text
            .get(..self.offset)
            .map_or(0, |head| head.chars().count())
            + 1
    }

    fn new(text: &str, flaw: Flaw) -> Self {
        Self {
            text: text.to_owned(),
            offset: flaw.offset.min(text.len()),
            problem: flaw.problem,
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Address {
    /// The address of `name` in `package`, without arguments and output.
    ///
    /// Fails when one of them has a character that an address cannot hold.
    pub fn new(package: &str, name: &str) -> Result<Self, ParseAddressError> {
        let address = Self {
            package: package.to_owned(),
            name: name.to_owned(),
            args: BTreeMap::new(),
            output: None,
        };
        package::check(package)
            .map_err(|flaw| shifted(flaw, 2))
            .and_then(|()| check_name(name).map_err(|flaw| shifted(flaw, package.len() + 3)))
            .map_err(|flaw| ParseAddressError::new(&address.to_string(), flaw))?;
        Ok(address)
    }

    /// Parses an absolute address.
    pub fn parse(text: &str) -> Result<Self, ParseAddressError> {
        if !text.starts_with("//") {
            let problem = format!("expected '//', found {}", found(text, 0));
            let error = ParseAddressError::new(text, Flaw::new(0, problem));
            return Err(match absolute_form(text) {
                Some(form) => error.hint(format!("write '{form}'")),
                None => error,
            });
        }
        Self::split(text, 2, |path| package::check(path).map(|()| path.to_owned()))
    }

    /// Parses an absolute address, or `:name`, `./sub:name` and `../other:name` relative to the package `current`.
    ///
    /// A relative address never leaves the workspace.
    pub fn parse_relative(text: &str, current: &str) -> Result<Self, ParseAddressError> {
        if text.starts_with("//") {
            return Self::parse(text);
        }
        if text.starts_with(':') {
            return Self::split(text, 0, |_| Ok(current.to_owned()));
        }
        let head = text.split([':', '/']).next().unwrap_or_default();
        if head == "." || head == ".." {
            return Self::split(text, 0, |path| package::resolve(path, current));
        }
        let problem = format!("expected '//', ':', './' or '../', found {}", found(text, 0));
        let error = ParseAddressError::new(text, Flaw::new(0, problem));
        Err(if Self::parse(&format!("//{text}")).is_ok() {
            error.hint(format!("write './{text}' or '//{text}'"))
        } else if Self::parse(&format!("//:{text}")).is_ok() {
            error.hint(format!("write ':{text}' for a target of this package"))
        } else {
            error
        })
    }

    /// The same target without a chosen output.
    pub fn without_output(&self) -> Self {
        Self {
            output: None,
            ..self.clone()
        }
    }

    /// Whether a provider generates this target: its package begins with `@`.
    pub fn is_provided(&self) -> bool {
        package::is_provider(&self.package)
    }

    /// Parses what follows `start`; `resolve` turns the text before the colon into a package.
    fn split(
        text: &str,
        start: usize,
        resolve: impl FnOnce(&str) -> Result<String, Flaw>,
    ) -> Result<Self, ParseAddressError> {
        Self::split_flawed(text, start, resolve).map_err(|flaw| {
            let colon_missing = flaw.problem.starts_with("expected ':'");
            let error = ParseAddressError::new(text, flaw);
            let last = text.rsplit('/').next().unwrap_or_default();
            match colon_missing && !last.is_empty() && last.chars().all(is_segment_char) {
                true if last != "..." && last != ".." && last != "." => {
                    error.hint(format!("an address names a target: '{text}:{last}'"))
                }
                _ => error,
            }
        })
    }

    fn split_flawed(
        text: &str,
        start: usize,
        resolve: impl FnOnce(&str) -> Result<String, Flaw>,
    ) -> Result<Self, Flaw> {
        let rest = text.get(start..).unwrap_or_default();
        let colon = rest.find([':', '|', '"', ',', '=', '\\']).unwrap_or(rest.len());
        let package = resolve(rest.get(..colon).unwrap_or_default()).map_err(|flaw| shifted(flaw, start))?;
        let mut cursor = Cursor {
            text,
            offset: start + colon,
        };
        if !cursor.eat(':') {
            return Err(cursor.expected("':' and a target name"));
        }
        let name = cursor.path("a target name", ['@', '|'])?.to_owned();
        let args = if cursor.eat('@') {
            cursor.arguments()?
        } else {
            BTreeMap::new()
        };
        let output = if cursor.eat('|') {
            Some(cursor.path("an output name", ['|', '|'])?.to_owned())
        } else {
            None
        };
        if cursor.peek().is_some() {
            return Err(cursor.expected(match (&output, args.is_empty()) {
                (Some(_), _) => "the end",
                (None, true) => "'@', '|' or the end",
                (None, false) => "',', '|' or the end",
            }));
        }
        Ok(Self {
            package,
            name,
            args,
            output,
        })
    }
}

/// A name ends where the arguments begin, so it has no `@`.
fn check_name(name: &str) -> Result<(), Flaw> {
    const WHAT: &str = "a target name";
    package::check_segments(name, WHAT)?;
    match name.find('@') {
        Some(at) => Err(Flaw::new(at, format!("'@' cannot be part of {WHAT}"))),
        None => Ok(()),
    }
}

/// The absolute address that a text without `//` was probably meant to be.
fn absolute_form(text: &str) -> Option<String> {
    let candidate = format!("//{}", text.trim_start_matches('/'));
    Address::parse(&candidate).is_ok().then_some(candidate)
}

fn shifted(flaw: Flaw, by: usize) -> Flaw {
    Flaw {
        offset: flaw.offset + by,
        ..flaw
    }
}

struct Cursor<'a> {
    text: &'a str,
    /// In bytes, always at the beginning of a character.
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.offset += wanted.len_utf8();
        }
        there
    }

    fn expected(&self, what: &str) -> Flaw {
        let problem = format!("expected {what}, found {}", found(self.text, self.offset));
        Flaw::new(self.offset, problem)
    }

    /// The text up to one of `ends`.
    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(ends).unwrap_or(rest.len());
        self.offset += length;
        rest.get(..length).unwrap_or_default()
    }

    /// One or more segments up to one of `ends`.
    fn path(&mut self, what: &str, ends: [char; 2]) -> Result<&'a str, Flaw> {
        let start = self.offset;
        let path = self.until(|c| ends.contains(&c));
        if path.is_empty() {
            return Err(self.expected(what));
        }
        package::check_segments(path, what).map_err(|flaw| shifted(flaw, start))?;
        Ok(path)
    }

    fn arguments(&mut self) -> Result<BTreeMap<String, String>, Flaw> {
        let mut args = BTreeMap::new();
        loop {
            let start = self.offset;
            let key = self.until(|c| !is_segment_char(c));
            if key.is_empty() {
                return Err(self.expected("an argument name"));
            }
            if !self.eat('=') {
                return Err(self.expected("'=' and a value"));
            }
            let value = if self.eat('"') {
                self.quoted_value()?
            } else {
                self.plain_value()?
            };
            if args.insert(key.to_owned(), value).is_some() {
                return Err(Flaw::new(start, format!("argument '{key}' is given twice")));
            }
            if !self.eat(',') {
                return Ok(args);
            }
        }
    }

    fn plain_value(&mut self) -> Result<String, Flaw> {
        let value = self.until(|c| !is_plain_value_char(c));
        match self.peek() {
            None | Some(',' | '|') if value.is_empty() => {
                Err(self.expected("a value (an empty one is written \"\")"))
            }
            None | Some(',' | '|') => Ok(value.to_owned()),
            Some(c) => Err(Flaw::new(
                self.offset,
                format!("a value that contains {} must be quoted", quoted(c)),
            )),
        }
    }

    /// What follows an opening quote; the cursor goes behind the closing one.
    fn quoted_value(&mut self) -> Result<String, Flaw> {
        let (value, end) = quote::read(self.text, self.offset)?;
        self.offset = end;
        Ok(value)
    }
}

fn is_plain_value_char(c: char) -> bool {
    !matches!(c, ',' | '|' | '"' | '\\' | '(' | ')' | '!' | '&') && !c.is_whitespace() && !c.is_control()
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "//{}:{}", self.package, self.name)?;
        let mut separator = '@';
        for (key, value) in &self.args {
            write!(f, "{separator}{key}=")?;
            write_value(f, value)?;
            separator = ',';
        }
        match &self.output {
            Some(output) => write!(f, "|{output}"),
            None => Ok(()),
        }
    }
}

fn write_value(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    if !value.is_empty() && value.chars().all(is_plain_value_char) {
        f.write_str(value)
    } else {
        quote::write(f, value)
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        (&self.package, &self.name, &self.args, &self.output).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as //pkg:name")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Address, E> {
                Address::parse(text).map_err(E::custom)
            }
        }
        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(Visitor);
        }
        let (package, name, args, output) = Deserialize::deserialize(deserializer)?;
        Ok(Self {
            package,
            name,
            args,
            output,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
