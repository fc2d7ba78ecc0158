//! Parts that several documents share.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::definition::{OutputKind, PassEnv, Role};
use crate::problem::{Place, Problem};
use crate::product::{Entry, Kind, Product, SUPPORT_GROUP};
use crate::spec::Value;

/// A place as text.
pub(super) fn place(place: Option<&Place>) -> Option<String> {
    place.map(Place::to_string)
}

/// A role as documents name it.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Source => "source",
        Role::Hash => "hash",
        Role::Runtime => "runtime",
        Role::Tool => "tool",
    }
}

/// What is wrong or worth knowing.
#[derive(Serialize)]
pub(super) struct Remark {
    message: String,
    place: Option<String>,
    hint: Option<String>,
}

impl From<Problem> for Remark {
    fn from(problem: Problem) -> Self {
        Self {
            place: place(problem.place.as_ref()),
            message: problem.message,
            hint: problem.hint,
        }
    }
}

/// A value of a BUILD file; dictionaries keep their order.
pub(super) struct Written<'a>(pub &'a Value);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::None => serializer.serialize_none(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::List(values) => {
                let mut list = serializer.serialize_seq(Some(values.len()))?;
                for value in values {
                    list.serialize_element(&Written(value))?;
                }
                list.end()
            }
            Value::Dict(entries) => Entries(entries).serialize(serializer),
        }
    }
}

/// Keys and values of a BUILD file in their order.
pub(super) struct Entries<'a>(pub &'a [(String, Value)]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, &Written(value))?;
        }
        map.end()
    }
}

/// Variables that are taken from the caller: a list of names, or `"*"`.
pub(super) struct Passed<'a>(pub &'a PassEnv);

impl Serialize for Passed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            PassEnv::All => serializer.serialize_str("*"),
            PassEnv::Names(names) => names.serialize(serializer),
        }
    }
}

/// An output, declared or made.
#[derive(Serialize)]
pub(crate) struct Output<'a> {
    pub group: &'a str,
    pub path: &'a str,
    pub kind: &'static str,
    pub support: bool,
    pub size: Option<u64>,
    pub digest: Option<String>,
}

impl<'a> Output<'a> {
    /// The outputs of a product, in its order.
    pub fn made(product: &'a Product) -> Vec<Self> {
        product.entries.iter().map(Self::of).collect()
    }

    fn of(entry: &'a Entry) -> Self {
        let support = &*entry.group == SUPPORT_GROUP;
        let group = if support { "" } else { &*entry.group };
        let (kind, size, digest) = match &entry.kind {
            Kind::File {
                digest,
                size,
                executable,
            } => {
                let kind = if *executable { "executable" } else { "file" };
                (kind, Some(*size), Some(digest.to_hex()))
            }
            Kind::Symlink(_) => ("symlink", None, None),
            Kind::Directory => ("directory", None, None),
        };
        Self {
            group,
            path: &entry.path,
            kind,
            support,
            size,
            digest,
        }
    }
}

/// The kind of a declared output.
pub(super) fn declared_kind(kind: OutputKind) -> &'static str {
    match kind {
        OutputKind::File => "file",
        OutputKind::Directory => "directory",
        OutputKind::Glob => "glob",
    }
}
