//! The URI of a remote cache.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::layer::Show;
use super::{Decode, Problems, Value, decode};
use crate::nearest;

/// Where a remote cache is. Serialized as its text; [`fmt::Display`] leaves passwords out.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CacheUri {
    scheme: Scheme,
    text: String,
}

/// What a remote cache is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// Amazon S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// An object store over HTTPS.
    Https,
    /// An object store over HTTP.
    Http,
    /// A directory.
    File,
    /// Redis.
    Redis,
    /// Redis over TLS.
    Rediss,
    /// memcached.
    Memcached,
    /// A Remote Execution API cache.
    Grpc,
    /// A Remote Execution API cache over TLS.
    Grpcs,
}

impl Scheme {
    /// All schemes, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::S3,
        Self::Gs,
        Self::Az,
        Self::Https,
        Self::Http,
        Self::File,
        Self::Redis,
        Self::Rediss,
        Self::Memcached,
        Self::Grpc,
        Self::Grpcs,
    ];

    /// The scheme as it is written before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::Https => "https",
            Self::Http => "http",
            Self::File => "file",
            Self::Redis => "redis",
            Self::Rediss => "rediss",
            Self::Memcached => "memcached",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }
}

/// A text is not the URI of a cache.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{problem}")]
pub struct ParseUriError {
    /// What is wrong, as a fragment.
    pub problem: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl CacheUri {
    /// Reads a URI with one of the known schemes and something behind it.
    pub fn parse(text: &str) -> Result<Self, ParseUriError> {
        let error = |problem: String, hint: Option<String>| ParseUriError { problem, hint };
        let names = Scheme::ALL.map(Scheme::name);
        let Some((name, rest)) = text.split_once("://") else {
            let hint = match text.starts_with(['/', '.', '~']) {
                true => Some("a directory is written file:///path".to_owned()),
                false => None,
            };
            return Err(error(
                "expected a URI such as s3://bucket/prefix".to_owned(),
                hint,
            ));
        };
        let Some(scheme) = Scheme::named(name) else {
            let hint = match nearest(name, names) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("schemes are {}", names.join(", ")),
            };
            return Err(error(format!("unknown scheme '{name}'"), Some(hint)));
        };
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(error("a URI has no white space".to_owned(), None));
        }
        let host = rest.split('/').next().unwrap_or_default();
        match scheme {
            Scheme::File if !rest.starts_with('/') => {
                let hint = format!("write file:///{rest}");
                return Err(error(
                    "a file URI has three slashes and an absolute path".to_owned(),
                    Some(hint),
                ));
            }
            Scheme::File => {}
            Scheme::S3 | Scheme::Gs | Scheme::Az if host.is_empty() => {
                return Err(error(format!("the bucket behind {name}:// is missing"), None));
            }
            _ if host.rsplit('@').next().unwrap_or_default().is_empty() => {
                return Err(error(format!("the host behind {name}:// is missing"), None));
            }
            _ => {}
        }
        Ok(Self {
            scheme,
            text: text.to_owned(),
        })
    }

    /// What the cache is made of.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The whole URI, passwords included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands behind `://`.
    pub fn rest(&self) -> &str {
        self.text.split_once("://").map_or("", |(_, rest)| rest)
    }
}

impl fmt::Display for CacheUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.rest();
        let host = rest.split('/').next().unwrap_or_default();
        match host.rsplit_once('@').map(|(user, _)| user) {
            Some(user) => {
                // What stands alone may be a token.
                let (name, password) = match user.split_once(':') {
                    Some((name, _)) => (name, ":***"),
                    None => ("***", ""),
                };
                let tail = rest.get(user.len()..).unwrap_or_default();
                write!(f, "{}://{name}{password}{tail}", self.scheme.name())
            }
            None => f.write_str(&self.text),
        }
    }
}

impl fmt::Debug for CacheUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for CacheUri {
    type Error = ParseUriError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<CacheUri> for String {
    fn from(uri: CacheUri) -> Self {
        uri.text
    }
}

impl Decode for CacheUri {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = decode::text(value, "a URI such as s3://bucket/prefix", problems)?;
        match Self::parse(text) {
            Ok(uri) => Some(uri),
            Err(error) => {
                let problem = super::Problem::at(&value.place, error.problem);
                problems.add(match error.hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                });
                None
            }
        }
    }
}

impl Show for CacheUri {
    fn show(&self) -> String {
        self.to_string()
    }
}
