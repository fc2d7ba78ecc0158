//! The service's JSON documents (docs/json.md) as text for people.

use serde_json::Value;

mod graph;
mod history;
mod key;
mod latency;
mod purge;
mod store;
mod target;

pub use graph::{dot, edges, path};
pub use history::history;
pub use key::{hashin, hashout, why_miss};
pub use latency::latency;
pub use purge::purged;
pub use store::{result, statistics};
pub use target::{config, definition, functions, labels, outputs, packages, spec, states};

/// The items of a list; none when it is no list.
pub fn list_of(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The text of a value; empty when it is none.
pub fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The number of a value; 0 when it is none.
pub fn number_of(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// The beginning of a digest, enough to tell two of them apart by eye.
fn short(digest: &Value) -> &str {
    let digest = text_of(digest);
    digest.get(..12).unwrap_or(digest)
}

/// Pairs as lines with their second halves in one column.
fn columns<'a>(rows: impl Iterator<Item = (&'a str, String)> + Clone) -> String {
    let width = rows
        .clone()
        .map(|(left, _)| left.chars().count())
        .max()
        .unwrap_or(0);
    rows.map(|(left, right)| format!("{left:<width$}  {right}").trim_end().to_owned() + "\n")
        .collect()
}

/// What one target has, for all targets, with an empty line between them.
fn each_target(document: &Value, shown: impl FnMut(&Value) -> String) -> String {
    let targets: Vec<String> = list_of(&document["targets"]).iter().map(shown).collect();
    targets.join("\n")
}

#[cfg(test)]
mod tests;
