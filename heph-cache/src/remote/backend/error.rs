//! What can go wrong at a remote cache.

use std::io;
use std::time::Duration;

use super::super::location::Location;

/// Why a remote cache did not answer as it should.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// What it means.
    pub kind: RemoteErrorKind,
    /// What was tried and what the server said to it, without credentials, as a fragment.
    pub message: String,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// What the failure of a request means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RemoteErrorKind {
    /// The server does not accept the credentials, or does not allow the request.
    Denied,
    /// The bucket, container, database or directory does not exist.
    Missing,
    /// There were too many requests.
    Throttled,
    /// The server cannot be reached, or broke off, or has a fault of its own.
    Unavailable,
    /// It took too long.
    TimedOut,
    /// The object is larger than what was asked for or what the server takes.
    TooLarge,
    /// The server has no space left.
    Full,
    /// The answer makes no sense.
    Invalid,
    /// The server's certificate is not accepted.
    Certificate,
    /// This machine's clock and the server's differ too much.
    ClockSkew,
    /// There are no credentials, or they cannot be loaded, or have expired.
    Credentials,
    /// The cache's definition is wrong.
    Config,
    /// This backend does not do that.
    Unsupported,
}

impl RemoteErrorKind {
    /// The kind in words that follow `cache 'NAME' `.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Denied => "does not allow the request",
            Self::Missing => "does not exist",
            Self::Throttled => "asks for fewer requests",
            Self::Unavailable => "cannot be reached",
            Self::TimedOut => "took too long to answer",
            Self::TooLarge => "refuses or holds an object that is too large",
            Self::Full => "is full",
            Self::Invalid => "gave an answer that makes no sense",
            Self::Certificate => "has a certificate that is not accepted",
            Self::ClockSkew => "disagrees about the time",
            Self::Credentials => "has no usable credentials",
            Self::Config => "is defined wrongly",
            Self::Unsupported => "is of a kind that this release cannot use",
        }
    }
}

impl RemoteError {
    /// An error without a wish of the server.
    pub fn new(kind: RemoteErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// Whether the same request may succeed soon.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            RemoteErrorKind::Throttled | RemoteErrorKind::Unavailable | RemoteErrorKind::TimedOut
        )
    }

    /// What is wrong with the cache called `cache`, and which setting or variable to change, as one sentence for after `hint: `.
    pub fn hint(&self, cache: &str, location: &Location) -> String {
        super::super::location::hint(self.kind, cache, location)
    }

    /// An input/output error of a connection.
    pub fn connection(what: &str, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => RemoteErrorKind::TimedOut,
            io::ErrorKind::InvalidData => RemoteErrorKind::Invalid,
            _ => RemoteErrorKind::Unavailable,
        };
        Self::new(kind, format!("{what}: {error}"))
    }

    pub(crate) fn too_large(object: &str, size: u64, limit: u64) -> Self {
        Self::new(
            RemoteErrorKind::TooLarge,
            format!("{object} has {size} bytes, at most {limit} are allowed"),
        )
    }
}
