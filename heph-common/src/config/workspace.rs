//! The small settings of a workspace: `version`, `fs`, `telemetry`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::layer::{Show, section};
use super::{Decode, Problems, Value, decode};
use crate::ignore::Skip;

section! {
    /// `fs`: the workspace as tree walks see it.
    Fs from FsLayer {
        /// `skip`: what every walk leaves out, as [`crate::ignore`] describes it.
        skip: Vec<String> = "skip", Vec::new(), check skip_patterns;
    }
}

fn skip_patterns(value: &Value, problems: &mut Problems) {
    decode::check_each(value, problems, |pattern| {
        Skip::check(pattern).map_err(|e| e.to_string())
    });
}

section! {
    /// `telemetry`: anonymous usage figures.
    Telemetry from TelemetryLayer {
        /// `enabled`; false in the user's layer cannot be undone.
        enabled: bool = "enabled", true;
    }
}

/// A release of heph: `1.2.3`, without the `v` that a configuration may write before it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(String);

impl Version {
    /// Reads `1.2.3` or `v1.2.3`, with a pre-release or build part behind it.
    pub fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (numbers, rest) = bare.split_at(bare.find(['-', '+']).unwrap_or(bare.len()));
        let parts: Vec<&str> = numbers.split('.').collect();
        let number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let valid = parts.len() == 3
            && parts.iter().all(number)
            && rest.len() != 1
            && rest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-+.".contains(&b));
        valid.then(|| Self(bare.to_owned()))
    }

    /// The version without a `v`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the release's tag: the version behind a `v`.
    pub fn tag(&self) -> String {
        format!("v{}", self.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Show for Version {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Decode for Version {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let version = value.text().and_then(Self::parse);
        if version.is_none() {
            problems.add(value.unexpected("a version such as 1.2.3 or v1.2.3"));
        }
        version
    }
}
