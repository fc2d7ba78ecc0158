//! What became of a purge.

use serde_json::Value;

use super::{columns, list_of, number_of, text_of};
use crate::words;

/// A line for the store, and one for each cache.
pub fn purged(document: &Value) -> String {
    let removed = words::counted(number_of(&document["removed_results"]), "result");
    let mut rows = vec![("this store", format!("{removed} removed"))];
    let asked = list_of(&document["keys"]).len() as u64;
    for cache in list_of(&document["caches"]) {
        let marked = number_of(&cache["marked"]);
        let found = words::counted(number_of(&cache["found"]), "result");
        let text = match (cache["write"] == true, cache["error"].is_null()) {
            (false, _) => "not written: what it has is not used here any more".to_owned(),
            (true, false) => format!("{marked} of {} purged", words::counted(asked, "key")),
            (true, true) => format!(
                "{found} replaced by marks, in the scope {}",
                text_of(&cache["scope"])
            ),
        };
        rows.push((text_of(&cache["name"]), text));
    }
    format!("purged {}\n", words::counted(asked, "key")) + &columns(rows.into_iter())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_cache_has_a_line() {
        let document = json!({
            "keys": ["4f0c", "91ab"], "removed_results": 2,
            "caches": [
                {"name": "shared", "scope": "main", "write": true, "marked": 2, "found": 1, "error": null},
                {"name": "central", "scope": "main", "write": false, "marked": 0, "found": 0, "error": null},
                {"name": "gone", "scope": "main", "write": true, "marked": 0, "found": 0, "error": "connection refused"},
            ],
        });
        insta::assert_snapshot!(purged(&document), @r"
        purged 2 keys
        this store  2 results removed
        shared      1 result replaced by marks, in the scope main
        central     not written: what it has is not used here any more
        gone        0 of 2 keys purged
        ");
    }
}
