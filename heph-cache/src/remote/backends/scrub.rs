//! Keeping secrets out of messages.

use std::fmt;
use std::sync::Arc;

use crate::remote::access::Access;
use crate::remote::backend::RemoteError;

/// Values that no message may contain.
#[derive(Clone)]
pub(in crate::remote) struct Scrubber(Arc<[String]>);

/// Parts of the names of variables that hold secrets.
const SECRET: &[&str] = &[
    "KEY",
    "TOKEN",
    "PASSWORD",
    "SECRET",
    "AUTH",
    "CONNECTION_STRING",
    "SAS",
    "HEADER",
];

/// What is shorter would make messages unreadable.
const SHORTEST: usize = 4;

/// Longest message that is passed on, in characters.
const LONGEST: usize = 400;

impl Scrubber {
    /// The secrets of an environment, and `others`.
    pub(in crate::remote) fn new(access: &Access, others: impl IntoIterator<Item = String>) -> Self {
        let named = access.environment.iter().filter(|(name, _)| {
            let name = name.to_ascii_uppercase();
            SECRET.iter().any(|part| name.contains(part)) && !name.ends_with("_FILE")
        });
        let proxies = access
            .environment
            .iter()
            .filter(|(name, _)| name.to_ascii_uppercase().ends_with("_PROXY"))
            .filter_map(|(_, url)| {
                let (user, _) = url.rsplit_once('@')?;
                Some(user.rsplit_once(':')?.1.to_owned())
            });
        let mut secrets: Vec<String> = named
            .map(|(_, value)| value.clone())
            .chain(proxies)
            .chain(others)
            .filter(|secret| secret.len() >= SHORTEST)
            .collect();
        // What contains another one goes first.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets.into())
    }

    /// The text without secrets, on one line and not too long.
    pub(in crate::remote) fn clean(&self, text: &str) -> String {
        let mut text: String = text
            .split_whitespace()
            .flat_map(|word| [" ", word])
            .skip(1)
            .collect::<String>()
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        for secret in self.0.iter() {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "***");
            }
        }
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        }
    }

    /// The error with a message that is safe to show.
    pub(in crate::remote) fn error(&self, mut error: RemoteError) -> RemoteError {
        error.message = self.clean(&error.message);
        error
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scrubber({})", self.0.len())
    }
}
