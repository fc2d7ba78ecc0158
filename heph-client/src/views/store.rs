//! What the store holds.

use serde_json::Value;

use super::{columns, list_of, number_of, text_of};
use crate::terminal::Style;
use crate::words;

/// What the store holds and how much room it takes.
pub fn statistics(document: &Value, style: Style) -> String {
    let count = |key: &str, noun: &str| words::counted(number_of(&document[key]), noun);
    let bytes = |key: &str| words::size(number_of(&document[key]));
    let all = number_of(&document["blob_bytes"]) + number_of(&document["index_bytes"]);
    let kinds: Vec<String> = list_of(&document["kinds"])
        .iter()
        .map(|kind| format!("{} {}", number_of(&kind["results"]), text_of(&kind["kind"])))
        .collect();
    let results = match kinds.len() {
        0 | 1 => number_of(&document["results"]).to_string(),
        _ => format!("{} ({})", number_of(&document["results"]), kinds.join(", ")),
    };
    let rows = [
        ("home", text_of(&document["home"]).to_owned()),
        ("results", results),
        (
            "blobs",
            format!("{}, {}", number_of(&document["blobs"]), bytes("blob_bytes")),
        ),
        ("index", bytes("index_bytes")),
        (
            "in all",
            format!(
                "{} of at most {}",
                style.bold(&words::size(all)),
                bytes("max_bytes")
            ),
        ),
        (
            "sandboxes",
            format!(
                "{}, {}",
                number_of(&document["sandboxes"]),
                bytes("sandbox_bytes")
            ),
        ),
        ("running", count("live_runs", "run")),
        ("uploads", uploads(document)),
    ];
    columns(rows.iter().map(|(name, value)| (*name, value.clone())))
}

/// What waits to be uploaded.
fn uploads(document: &Value) -> String {
    let waiting: Vec<String> = list_of(&document["waiting"])
        .iter()
        .map(|waiting| {
            let results = words::counted(number_of(&waiting["results"]), "result");
            let bytes = words::size(number_of(&waiting["bytes"]));
            format!("{results}, {bytes}, for cache '{}'", text_of(&waiting["cache"]))
        })
        .collect();
    match waiting.is_empty() {
        true => "none wait".to_owned(),
        false => waiting.join("; "),
    }
}

/// One result and where it came from.
pub fn result(document: &Value, style: Style) -> String {
    let text = |key: &str| text_of(&document[key]).to_owned();
    let number = |key: &str| number_of(&document[key]);
    let duration = std::time::Duration::from_millis(number("duration_ms"));
    let rows = [
        ("key", text("key")),
        ("kind", text("kind")),
        ("address", style.bold(&text("address"))),
        ("platform", text("platform")),
        ("sandbox", text("sandbox")),
        ("made by", format!("heph {}", text("producer"))),
        ("took", words::duration(duration)),
        ("exit code", number("exit_code").to_string()),
    ];
    let mut text = columns(rows.iter().map(|(name, value)| (*name, value.clone())));
    text.push_str(&provenance(document));
    for (key, title) in [("outputs", "outputs"), ("parts", "key parts")] {
        let items = list_of(&document[key]);
        if items.is_empty() {
            continue;
        }
        text.push_str(&format!("{title}\n"));
        for item in items {
            let name = item["path"]
                .as_str()
                .or(item["label"].as_str())
                .unwrap_or_default();
            text.push_str(&format!("  {:<12} {name}\n", super::short(&item["digest"])));
        }
    }
    text
}

/// Where the store has it from, and what the remote caches have.
fn provenance(document: &Value) -> String {
    let field = |value: &Value, key: &str| text_of(&value[key]).to_owned();
    let signed = |value: &Value| match value["signer"].as_str() {
        Some(signer) => format!("signed with {signer}"),
        None => "not signed".to_owned(),
    };
    let mut lines: Vec<(String, String)> = Vec::new();
    for stored in list_of(&document["stored"]) {
        let from = match text_of(&stored["origin"]) {
            "local" => "made here".to_owned(),
            "remote" => format!(
                "from cache '{}', scope {}, {}",
                field(stored, "cache"),
                field(stored, "scope"),
                signed(stored)
            ),
            _ => "from a cache that is not configured".to_owned(),
        };
        let made = words::time(number_of(&stored["created_unix_ms"]));
        lines.push(("stored".to_owned(), format!("{from}; made {made}")));
    }
    for cache in list_of(&document["caches"]) {
        let time = |key: &str| words::time(number_of(&cache[key]));
        let state = match text_of(&cache["state"]) {
            "result" => {
                let (made, written) = (time("created_unix_ms"), time("written_unix_ms"));
                format!("{}; made {made}, written {written}", signed(cache))
            }
            "purged" => format!(
                "purged: nothing is used that was made until {}",
                time("purged_until_unix_ms")
            ),
            "absent" => "has none".to_owned(),
            "refused" => format!("not used: {}", field(cache, "error")),
            _ => field(cache, "error"),
        };
        let place = format!(
            "cache '{}', scope {}",
            field(cache, "cache"),
            field(cache, "scope")
        );
        lines.push(("remote".to_owned(), format!("{place}: {state}")));
    }
    if let Some(until) = document["purged_until_unix_ms"].as_u64() {
        let until = words::time(until);
        lines.push((
            "purged".to_owned(),
            format!("here, for what was made until {until}"),
        ));
    }
    columns(lines.iter().map(|(name, value)| (name.as_str(), value.clone())))
}
