//! Targets and what lies between them.

use serde_json::Value;

use super::{each_target, list_of, text_of};
use crate::terminal::Style;

/// Dependencies or dependants, target by target.
pub fn edges(document: &Value, key: &str, style: Style) -> String {
    each_target(document, |target| {
        let mut text = format!("{}\n", style.bold(text_of(&target["address"])));
        for edge in list_of(&target[key]) {
            let mut notes = Vec::new();
            match text_of(&edge["role"]) {
                "source" => {}
                role => notes.push(role),
            }
            match text_of(&edge["group"]) {
                "" => {}
                group => notes.push(group),
            }
            let notes = match notes.is_empty() {
                true => String::new(),
                false => style.dim(&format!("  ({})", notes.join(", "))),
            };
            text.push_str(&format!("  {}{notes}\n", text_of(&edge["address"])));
        }
        text
    })
}

/// A way from one target to another, one a line.
pub fn path(document: &Value) -> String {
    let path = list_of(&document["path"]);
    if path.is_empty() {
        return format!(
            "{} does not depend on {}\n",
            text_of(&document["from"]),
            text_of(&document["to"])
        );
    }
    path.iter()
        .map(|address| format!("{}\n", text_of(address)))
        .collect()
}

/// The graph as DOT: <https://graphviz.org/doc/info/lang.html>.
pub fn dot(document: &Value) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text =
        String::from("digraph heph {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n");
    for node in list_of(&document["nodes"]) {
        let address = quoted(text_of(&node["address"]));
        let style = if node["selected"] == true {
            " [style=bold]"
        } else {
            ""
        };
        text.push_str(&format!("  {address}{style};\n"));
    }
    for edge in list_of(&document["edges"]) {
        let style = match text_of(&edge["role"]) {
            "tool" => " [style=dashed]",
            "hash" | "runtime" => " [style=dotted]",
            _ => "",
        };
        let (from, to) = (quoted(text_of(&edge["from"])), quoted(text_of(&edge["to"])));
        text.push_str(&format!("  {from} -> {to}{style};\n"));
    }
    text.push_str("}\n");
    text
}
