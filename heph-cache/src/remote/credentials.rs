//! Finding the credentials of clouds, as their own tools do, in an environment that is passed in.

pub(super) mod aws;
pub(super) mod azure;
pub(super) mod google;
mod profile;
#[cfg(test)]
pub(super) mod service;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::DateTime;
use tokio::sync::Mutex;

use super::backend::{RemoteError, RemoteErrorKind};
use super::backends::transport::{Transport, what};
use super::backends::upload::blocking;

/// Credentials are fetched anew when they end within this time.
const MARGIN: Duration = Duration::from_secs(5 * 60);
/// How long a failure to find some stands, so that many requests do not each wait for it.
const FAILURE: Duration = Duration::from_secs(10);
/// Services of this machine answer at once, or are not there.
const INSTANCE: Duration = Duration::from_secs(1);
/// Largest file or answer with credentials that is read.
const LARGEST: u64 = 1 << 20;

/// Credentials and when they end.
#[derive(Clone)]
pub(super) struct Temporary<T> {
    pub value: Arc<T>,
    pub expires: Option<SystemTime>,
}

/// Credentials that are fetched when they are needed and kept until shortly before they end.
pub(super) struct Kept<T>(Mutex<State<T>>);

struct State<T> {
    kept: Option<Temporary<T>>,
    failed: Option<(Instant, RemoteError)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(State {
            kept: None,
            failed: None,
        }))
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl<T> Kept<T> {
    /// What is kept, or else what `fetch` brings. One fetches, others wait for it.
    pub(super) async fn get(
        &self,
        fetch: impl Future<Output = Result<Temporary<T>, RemoteError>>,
    ) -> Result<Arc<T>, RemoteError> {
        let mut state = self.0.lock().await;
        let now = SystemTime::now();
        let lasts = |kept: &Temporary<T>, margin| kept.expires.is_none_or(|end| end > now + margin);
        if let Some(kept) = &state.kept
            && lasts(kept, MARGIN)
        {
            return Ok(Arc::clone(&kept.value));
        }
        if let Some((when, error)) = &state.failed
            && when.elapsed() < FAILURE
        {
            return Err(error.clone());
        }
        match fetch.await {
            Ok(fetched) => {
                let value = Arc::clone(&fetched.value);
                *state = State {
                    kept: Some(fetched),
                    failed: None,
                };
                Ok(value)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                // The last minutes of what is there are better than nothing.
                match &state.kept {
                    Some(kept) if lasts(kept, Duration::ZERO) => Ok(Arc::clone(&kept.value)),
                    _ => Err(error),
                }
            }
        }
    }
}

/// An error about credentials.
pub(super) fn problem(message: impl Into<String>) -> RemoteError {
    RemoteError::new(RemoteErrorKind::Credentials, message)
}

/// The text of a file that somebody named.
pub(super) fn read(what: &str, path: &Path) -> Result<String, RemoteError> {
    let cause = |error: &dyn fmt::Display| problem(format!("read {what} '{}': {error}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| cause(&error))?.len();
    if size > LARGEST {
        return Err(cause(&"it is too large"));
    }
    std::fs::read_to_string(path).map_err(|error| cause(&error))
}

/// [`read`], away from the async workers.
async fn read_later(what: &'static str, path: &Path) -> Result<String, RemoteError> {
    let path = path.to_owned();
    blocking(move || read(what, &path)).await
}

/// A moment as RFC 3339 has it.
pub(super) fn moment(text: &str) -> Option<SystemTime> {
    DateTime::parse_from_rfc3339(text.trim())
        .ok()
        .map(|moment| moment.to_utc().into())
}

/// The text of a good answer.
async fn text(transport: &Transport, request: reqwest::Request) -> Result<String, RemoteError> {
    let what = what(&request);
    let response = transport.send(request, 0).await?;
    if !response.status().is_success() {
        return Err(transport.refused(&what, response).await);
    }
    let bytes = transport.whole(&what, response, LARGEST).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// [`text`] of a request that is not built yet.
async fn ask(transport: &Transport, request: reqwest::RequestBuilder) -> Result<String, RemoteError> {
    let request = request
        .build()
        .map_err(|error| transport.failure("build a request", error))?;
    text(transport, request).await
}
