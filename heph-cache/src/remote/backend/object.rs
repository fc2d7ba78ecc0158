//! What the objects of a remote cache are called.

use std::fmt;

use heph_common::Digest;

/// The name of an object.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Object {
    /// What is known of one action.
    Action {
        /// Trust scope.
        scope: String,
        /// Kind of action.
        kind: String,
        /// The action's key.
        key: Digest,
    },
    /// Content.
    Blob {
        /// Trust scope.
        scope: String,
        /// Digest of the content as it is used.
        digest: Digest,
        /// Whether it is stored compressed.
        compressed: bool,
    },
    /// What an earlier build used.
    Trace {
        /// Trust scope.
        scope: String,
        /// Kind of build.
        kind: String,
        /// Which build.
        name: String,
    },
    /// The mark of a purged action.
    Tombstone {
        /// Trust scope.
        scope: String,
        /// The action's key.
        key: Digest,
    },
    /// What [`super::Backend::probe`] asks for; nobody writes it.
    Probe,
}

impl Object {
    /// The name below a cache's prefix: segments of letters, digits, `-`, `_`, `.` and `~`, separated by `/`, which are the same in
    /// a URL, a file name and a key of memcached.
    pub fn path(&self) -> String {
        match self {
            Self::Action { scope, kind, key } => {
                let (scope, kind, key) = (segment(scope), segment(kind), key.to_hex());
                format!("v1/{scope}/actions/{kind}/{}/{key}", shard(&key))
            }
            Self::Blob {
                scope,
                digest,
                compressed,
            } => {
                let (scope, digest) = (segment(scope), digest.to_hex());
                let ending = if *compressed { ".zst" } else { "" };
                format!("v1/{scope}/blobs/{}/{digest}{ending}", shard(&digest))
            }
            Self::Trace { scope, kind, name } => {
                let (scope, kind, name) = (segment(scope), segment(kind), segment(name));
                format!("v1/{scope}/traces/{kind}/{name}")
            }
            Self::Tombstone { scope, key } => {
                let (scope, key) = (segment(scope), key.to_hex());
                format!("v1/{scope}/tombstones/{}/{key}", shard(&key))
            }
            Self::Probe => "v1/probe".to_owned(),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

fn shard(hex: &str) -> &str {
    hex.get(..2).unwrap_or(hex)
}

/// `text` as one segment of a path, different for different texts. A byte that is not a letter, a digit, `-`, `_` or an inner `.`
/// becomes `~` and two hex digits; `%` instead would be decoded or encoded once more on the way by some servers and proxies.
/// What is longer than a file name may be ends in its digest.
fn segment(text: &str) -> String {
    /// Shorter than the 255 bytes of most file systems, so that endings and temporary names fit.
    const LONGEST: usize = 160;
    let last = text.len().saturating_sub(1);
    let mut safe = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let inner = at > 0 && at < last;
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => safe.push(char::from(byte)),
            b'.' if inner => safe.push('.'),
            _ => safe.push_str(&format!("~{byte:02X}")),
        }
    }
    if safe.is_empty() {
        return "~".to_owned();
    }
    if safe.len() > LONGEST {
        safe.truncate(LONGEST - 66);
        safe.push_str("~~");
        safe.push_str(&Digest::of(text.as_bytes()).to_hex());
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn paths_are_those_of_the_layout() {
        let key = Digest::of(b"key");
        let hex = key.to_hex();
        let ab = &hex[..2];
        let scope = || "main".to_owned();
        let path = |object: Object| object.path();
        let action = Object::Action {
            scope: scope(),
            kind: "target".to_owned(),
            key,
        };
        assert_eq!(path(action), format!("v1/main/actions/target/{ab}/{hex}"));
        let blob = |compressed| Object::Blob {
            scope: scope(),
            digest: key,
            compressed,
        };
        assert_eq!(path(blob(false)), format!("v1/main/blobs/{ab}/{hex}"));
        assert_eq!(path(blob(true)), format!("v1/main/blobs/{ab}/{hex}.zst"));
        let trace = Object::Trace {
            scope: "pr/7".to_owned(),
            kind: "run".to_owned(),
            name: "//a:b c".to_owned(),
        };
        assert_eq!(path(trace), "v1/pr~2F7/traces/run/~2F~2Fa~3Ab~20c");
        assert_eq!(
            path(Object::Tombstone { scope: scope(), key }),
            format!("v1/main/tombstones/{ab}/{hex}")
        );
        assert_eq!(path(Object::Probe), "v1/probe");
    }

    #[test]
    fn segments_are_safe_and_different() {
        let long = ["x".repeat(300), "x".repeat(301), "/".repeat(100), "/".repeat(101)];
        let texts = [
            "", ".", "..", "...", "a.b", ".a", "a.", "a/b", "a~2Fb", "~", "~~", "a%2Fb", "ä", "\0", "a\nb",
            "*", "A", "a",
        ];
        let all: Vec<&str> = texts.into_iter().chain(long.iter().map(String::as_str)).collect();
        let segments: BTreeSet<String> = all.iter().map(|text| segment(text)).collect();
        assert_eq!(segments.len(), all.len(), "{segments:?}");
        for safe in segments {
            assert!(safe.len() <= 162, "{safe}");
            assert!(!safe.starts_with('.') && !safe.ends_with('.'), "{safe}");
            assert!(
                safe.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b)),
                "{safe}"
            );
        }
    }
}
