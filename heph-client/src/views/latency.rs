//! How fast remote caches answer.

use serde_json::Value;

/// A line for each cache, the fastest first.
pub fn latency(document: &Value) -> String {
    let list = |key: &str| document[key].as_array().cloned().unwrap_or_default();
    let caches = list("caches");
    let mut text = match caches.is_empty() {
        true => "no remote caches are configured\n".to_owned(),
        false => "Remote cache latency (fastest first):\n".to_owned(),
    };
    let mut causes = String::new();
    for cache in caches {
        let field = |key: &str| cache[key].as_str().unwrap_or_default().to_owned();
        let took = match cache["latency_us"].as_f64() {
            Some(micros) => format!("{:.2}ms", micros / 1000.0),
            None => "unreachable".to_owned(),
        };
        let flag = |key: &str, letter: char| if cache[key] == true { letter } else { '-' };
        let flags: String = [flag("read", 'r'), flag("write", 'w')].into_iter().collect();
        text.push_str(&format!(
            "{took}  [{flags}]  {}  ({})\n",
            field("name"),
            field("uri")
        ));
        if let Some(error) = cache["error"].as_str() {
            causes.push_str(&format!("cache '{}': {error}\n", field("name")));
        }
    }
    text.push_str(&causes);
    for message in list("unusable") {
        text.push_str(&format!("{}\n", message.as_str().unwrap_or_default()));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn caches_are_listed_as_the_guide_shows() {
        let cache = |name: &str, micros: Option<u64>, write: bool| {
            let error = micros.is_none().then_some("connection refused");
            json!({"name": name, "uri": format!("s3://{name}/heph-cache"), "read": true, "write": write, "latency_us": micros, "error": error})
        };
        let document = json!({"caches": [cache("regional", Some(1230), true), cache("central", Some(18450), false), cache("gone", None, true)]});
        insta::assert_snapshot!(latency(&document), @r"
        Remote cache latency (fastest first):
        1.23ms  [rw]  regional  (s3://regional/heph-cache)
        18.45ms  [r-]  central  (s3://central/heph-cache)
        unreachable  [rw]  gone  (s3://gone/heph-cache)
        cache 'gone': connection refused
        ");
        assert_eq!(latency(&json!({})), "no remote caches are configured\n");
    }
}
