//! Keys, digests, and why they differ.

use serde_json::Value;

use super::history::ago;
use super::{each_target, list_of, short, text_of};
use crate::terminal::Style;

/// The parts of keys.
pub fn hashin(document: &Value, style: Style) -> String {
    each_target(document, |target| {
        let key = target["key"].as_str().unwrap_or("not known yet");
        let mut text = format!("{} {key}\n", style.bold(text_of(&target["address"])));
        for part in list_of(&target["parts"]) {
            text.push_str(&format!(
                "  {} {}\n",
                style.dim(short(&part["digest"])),
                text_of(&part["label"])
            ));
        }
        text + &missing(target)
    })
}

/// The digests of what targets produced.
pub fn hashout(document: &Value, style: Style) -> String {
    each_target(document, |target| {
        let digest = target["digest"].as_str().unwrap_or("not built");
        let mut text = format!("{} {digest}\n", style.bold(text_of(&target["address"])));
        for output in list_of(&target["outputs"]) {
            let digest = match short(&output["digest"]) {
                "" => "-",
                digest => digest,
            };
            text.push_str(&format!(
                "  {} {}\n",
                style.dim(&format!("{digest:<12}")),
                text_of(&output["path"])
            ));
        }
        text
    })
}

/// Why a target would run.
pub fn why_miss(document: &Value, style: Style) -> String {
    let address = style.bold(text_of(&document["address"]));
    let mut text = match text_of(&document["status"]) {
        "hit" if document["key"].is_null() => {
            format!("{address} never runs: it only passes on what others made\n")
        }
        "hit" => format!(
            "{address} would not run: there is a result for its key {}\n",
            short(&document["key"])
        ),
        "new" => format!("{address} would run: it has no earlier result here\n"),
        "uncached" => format!("{address} would run: its results are not kept (cache = False)\n"),
        "differs" => format!(
            "{address} would run: its key differs from the one made {}\n",
            made(document)
        ),
        _ => format!("{address} may run: its key is not known yet\n"),
    };
    for difference in list_of(&document["differences"]) {
        let label = text_of(&difference["label"]);
        let line = match text_of(&difference["change"]) {
            "added" => format!("  added    {label}"),
            "removed" => format!("  removed  {label}"),
            _ => format!(
                "  changed  {label} {}",
                style.dim(&format!(
                    "({} -> {})",
                    short(&difference["before"]),
                    short(&difference["now"])
                ))
            ),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text + &missing(document) + &last_execution(&document["last_execution"])
}

fn made(document: &Value) -> String {
    ago(&document["nearest"]["created_unix_ms"])
}

/// When it was executed last, and why, as far as the run knew.
fn last_execution(last: &Value) -> String {
    if last.is_null() {
        return String::new();
    }
    let why = match text_of(&last["reason"]) {
        "new" => ", since there was no earlier result",
        "changed" => ", since its key differed",
        "forced" => ", since it was forced",
        "uncached" => ", since its results are not kept",
        "gone" => ", since its result was gone",
        _ => "",
    };
    format!(
        "  last executed {} in run {} of {}{why}{}\n",
        ago(&last["started_unix_ms"]),
        text_of(&last["run"]),
        text_of(&last["selector"]),
        if last["failed"] == true { "; it failed" } else { "" },
    )
}

fn missing(target: &Value) -> String {
    let missing = list_of(&target["missing"]);
    if missing.is_empty() {
        return String::new();
    }
    let mut text = String::from("  to be built first:\n");
    for address in missing {
        text.push_str(&format!("    {}\n", text_of(address)));
    }
    text
}
