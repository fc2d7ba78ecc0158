//! One remote cache in use: its requests with their limits, repetitions and pauses.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use heph_common::Digest;
use heph_common::config::RemoteCache as Settings;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::backend::{Answer, Backend, Object, Put, PutMode, RemoteError, RemoteErrorKind};
use super::signing::{Signer, Verifier};
use super::{Access, Location, connect, lock, tombstone};

/// Requests for manifests at once where `concurrency` is not set: they are small, and a level of the graph asks for all at once.
const METADATA: usize = 64;

/// Requests for contents at once where `concurrency` is not set.
const BULK: usize = 10;

/// Looks before something is sent at once where `concurrency` is not set: small ones, which runs never wait for.
const CHECKS: usize = 32;

/// Pause before the first repetition; doubled with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest wish of a server to be left alone that is waited for within a request.
const LONGEST_WISH: Duration = Duration::from_secs(2);

/// Shortest first pause, whatever is set: nobody means to ask without end.
const SHORTEST_REST: Duration = Duration::from_millis(10);

/// Longest pause after a cache has failed, unless the first one is set to be longer.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Contents of which it is remembered that the server has them.
const REMEMBERED: usize = 100_000;

/// A remote cache with somebody's credentials.
pub struct Cache {
    /// As it is called in the configuration.
    pub name: String,
    /// Names the cache, its scope and what else decides where an upload goes, in the queue.
    pub id: String,
    /// Where it is.
    pub location: Location,
    /// The trust scope that is written to.
    pub scope: String,
    /// Those that are read, in order.
    pub read_scopes: Vec<String>,
    /// Whose signatures count.
    pub verifier: Verifier,
    /// Signs what is written.
    pub signer: Option<Signer>,
    /// When reading may be tried again.
    pub reading: Breaker,
    /// When writing may be.
    pub writing: Breaker,
    access: Access,
    /// Made by the first request: certificates take milliseconds, and most runs ask for nothing.
    backend: OnceLock<Result<Arc<dyn Backend>, RemoteError>>,
    metadata: Semaphore,
    bulk: Semaphore,
    /// `None` where what uploads look up shares the place of metadata.
    checks: Option<Semaphore>,
    read_timeout: Duration,
    retries: u32,
    uri: String,
    /// Objects that were seen to be wrong: the next writer replaces them.
    bad: Mutex<HashSet<Object>>,
    /// What small reads take lately, in microseconds; 0 while that is not known.
    latency: AtomicU64,
    /// Contents that the server has in the scope that is written to.
    there: Mutex<HashSet<Digest>>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({}, {:?})", self.name, self.location)
    }
}

/// What kind of request it is: small ones never wait behind large ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Manifests.
    Metadata,
    /// Contents.
    Bulk,
    /// What has to be known of a cache before something is sent there.
    Check,
}

impl Cache {
    /// A cache as it is configured, with its scopes made out. Connects to nothing.
    ///
    /// # Errors
    /// What is wrong with its definition.
    pub fn open(
        name: &str,
        settings: &Settings,
        (scope, read_scopes): (String, Vec<String>),
        access: &Access,
    ) -> Result<Self, RemoteError> {
        let wrong = |message: String| RemoteError::new(RemoteErrorKind::Config, message);
        let uri = settings
            .uri
            .as_ref()
            .ok_or_else(|| wrong("it has no uri".to_owned()))?;
        let location = Location::parse(uri)?;
        let (metadata, bulk, checks) = match settings.concurrency.map(|most| most.get() as usize) {
            None => (METADATA, BULK, Some(CHECKS)),
            // Both together keep to it, and neither waits for the other for long.
            Some(most) => (most.div_ceil(2), (most / 2).max(1), None),
        };
        let signer = Signer::of(&settings.signing).map_err(|error| wrong(error.to_string()))?;
        let verifier = Verifier::of(&settings.signing).map_err(|error| wrong(error.to_string()))?;
        let uri = uri.to_string();
        let id = format!(
            "{:.16} {name}",
            Digest::of(format!("{uri}\n{scope}").as_bytes()).to_hex()
        );
        Ok(Self {
            name: name.to_owned(),
            id,
            location,
            scope,
            read_scopes,
            verifier,
            signer,
            reading: Breaker::new(settings.pause),
            writing: Breaker::new(settings.pause),
            access: access.clone(),
            backend: OnceLock::new(),
            metadata: Semaphore::new(metadata),
            bulk: Semaphore::new(bulk),
            checks: checks.map(Semaphore::new),
            read_timeout: settings.read_timeout,
            retries: settings.retries,
            uri,
            bad: Mutex::default(),
            latency: AtomicU64::new(0),
            there: Mutex::default(),
        })
    }

    /// The origin of what is read from it.
    pub fn origin(&self, scope: &str, signer: Option<&str>) -> Digest {
        Digest::of_parts(["heph-origin-v1", &self.uri, scope, signer.unwrap_or("")])
    }

    /// Every origin that may be read from it, the best first.
    pub fn origins(&self) -> Vec<Digest> {
        let mut origins = Vec::new();
        for scope in &self.read_scopes {
            let signers = self.verifier.ids().map(Some);
            let unsigned = (!self.verifier.is_required()).then_some(None);
            origins.extend(signers.chain(unsigned).map(|signer| self.origin(scope, signer)));
        }
        origins
    }

    /// One request, repeated where that may help. `make` is called once for each try.
    ///
    /// # Errors
    /// That of the last try.
    pub async fn request<'a, T>(
        &'a self,
        lane: Lane,
        limit: Duration,
        make: impl Fn(&'a dyn Backend) -> Answer<'a, T>,
    ) -> Result<T, RemoteError> {
        let _place = self.place(lane).await;
        self.repeated(limit, make).await
    }

    /// Waits until one more request of a kind may be made, and all that belongs to it: until what this gives is dropped.
    pub async fn place(&self, lane: Lane) -> impl Sized + '_ {
        let lane = match lane {
            Lane::Metadata => &self.metadata,
            Lane::Bulk => &self.bulk,
            Lane::Check => self.checks.as_ref().unwrap_or(&self.metadata),
        };
        // A semaphore that is never closed always gives its permit.
        lane.acquire().await
    }

    /// As [`Cache::request`], for who has a place.
    ///
    /// # Errors
    /// That of the last try.
    pub async fn repeated<'a, T>(
        &'a self,
        limit: Duration,
        make: impl Fn(&'a dyn Backend) -> Answer<'a, T>,
    ) -> Result<T, RemoteError> {
        let backend = self
            .backend
            .get_or_init(|| connect(&self.location, &self.access))
            .as_ref()
            .map_err(Clone::clone)?;
        let mut pause = FIRST_PAUSE;
        let mut left = self.retries;
        loop {
            let answer = timeout(limit, make(&**backend)).await;
            let error = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => {
                    let limit = heph_common::duration::Shown(limit);
                    RemoteError::new(RemoteErrorKind::TimedOut, format!("no answer within {limit}"))
                }
            };
            let wish = error.retry_after.unwrap_or(Duration::ZERO);
            if left == 0 || !error.is_retryable() || wish > LONGEST_WISH {
                return Err(error);
            }
            left -= 1;
            sleep(wish.max(jittered(pause))).await;
            pause *= 2;
        }
    }

    /// Its URI without a password.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// How long a small read may take.
    pub fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// How often a failed request is repeated.
    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// A whole object of at most `limit` bytes.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn get(&self, lane: Lane, object: &Object, limit: u64) -> Result<Option<Bytes>, RemoteError> {
        self.request(lane, self.read_timeout, |backend| backend.get(object, limit))
            .await
    }

    /// Writes a small object; what is there stays, unless it was seen to be wrong or `replace` says so.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn put(&self, object: &Object, bytes: Bytes, replace: bool) -> Result<Put, RemoteError> {
        let mode = match replace || self.is_bad(object) {
            true => PutMode::Replace,
            false => PutMode::IfAbsent,
        };
        let limit = transfer_limit(bytes.len() as u64);
        let put = self
            .request(Lane::Bulk, limit, |backend| {
                backend.put(object, bytes.clone(), mode)
            })
            .await?;
        lock(&self.bad).remove(object);
        Ok(put)
    }

    /// The mark of a purged action in the scope that is written to, and until when results of it are purged (milliseconds since 1970).
    /// One that does not count, by its signature or else, is none.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn tombstone(&self, key: &Digest) -> Result<Option<(u64, Bytes)>, RemoteError> {
        let object = Object::Tombstone {
            scope: self.scope.clone(),
            key: *key,
        };
        let bytes = match self.get(Lane::Check, &object, tombstone::LARGEST).await {
            Err(error) if error.kind == RemoteErrorKind::TooLarge => None,
            other => other?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let until = tombstone::open(bytes.clone(), key, &self.scope, &self.verifier);
        Ok(match until {
            Ok(until) => until.map(|until| (until, bytes)),
            Err(why) => {
                tracing::warn!(cache = self.name, %object, "not regarded: {why}");
                None
            }
        })
    }

    /// A manifest was read in this time.
    pub fn note_latency(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let before = self.latency.load(Ordering::Relaxed);
        // One in eight: a single slow answer changes no order.
        let after = if before == 0 {
            micros
        } else {
            before - before / 8 + micros / 8
        };
        self.latency.store(after.max(1), Ordering::Relaxed);
    }

    /// What small reads take lately, in microseconds.
    pub fn observed(&self) -> Option<u64> {
        Some(self.latency.load(Ordering::Relaxed)).filter(|micros| *micros > 0)
    }

    /// An object was seen to be wrong.
    pub fn note_bad(&self, object: &Object) {
        lock(&self.bad).insert(object.clone());
    }

    /// Whether it was.
    pub fn is_bad(&self, object: &Object) -> bool {
        lock(&self.bad).contains(object)
    }

    /// The server has a content, in the scope that is written to.
    pub fn note_there(&self, digest: Digest) {
        let mut there = lock(&self.there);
        if there.len() >= REMEMBERED {
            there.clear();
        }
        there.insert(digest);
    }

    /// Whether it is known to have it.
    pub fn is_there(&self, digest: &Digest) -> bool {
        lock(&self.there).contains(digest)
    }
}

/// How long a transfer of so many bytes may take: a minute, and a second for each 256 KiB.
pub fn transfer_limit(bytes: u64) -> Duration {
    Duration::from_secs(60 + bytes / (256 * 1024))
}

/// Keeps a cache that fails from being asked all the time.
#[derive(Debug)]
pub struct Breaker {
    /// The first pause.
    first: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Not before.
    until: Option<Instant>,
    /// The pause before this one.
    last: Duration,
    /// What it failed with.
    cause: Option<RemoteError>,
}

impl Breaker {
    /// One whose first pause is so long; doubled each time the cache fails again.
    pub fn new(first: Duration) -> Self {
        Self {
            first: first.max(SHORTEST_REST),
            state: Mutex::default(),
        }
    }

    /// How long the cache is left alone when it fails for the first time.
    pub fn first_pause(&self) -> Duration {
        self.first
    }

    /// Whether requests may be made. After a pause one failure is enough for the next.
    pub fn is_closed(&self) -> bool {
        lock(&self.state)
            .until
            .is_none_or(|until| until <= Instant::now())
    }

    /// Whether it failed when it was tried last.
    pub fn is_suspect(&self) -> bool {
        lock(&self.state).until.is_some()
    }

    /// How long nothing is to be tried.
    pub fn rest(&self) -> Duration {
        let state = lock(&self.state);
        state.until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    /// What it failed with, if it did when it was tried last.
    pub fn cause(&self) -> Option<RemoteError> {
        lock(&self.state).cause.clone()
    }

    /// It failed for good, for now.
    pub fn trip(&self, cause: &RemoteError) {
        let mut state = lock(&self.state);
        if state.until.is_some_and(|until| until > Instant::now()) {
            return;
        }
        state.last = (state.last * 2).min(LONGEST_REST).max(self.first);
        let rest = jittered(state.last).max(cause.retry_after.unwrap_or(Duration::ZERO));
        state.until = Some(Instant::now() + rest);
        state.cause = Some(cause.clone());
    }

    /// It works.
    pub fn reset(&self) {
        let mut state = lock(&self.state);
        if state.until.is_some() {
            *state = State::default();
        }
    }
}

/// Between a half of a pause and all of it: those who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&now.as_nanos().to_le_bytes())
        .update(&std::process::id().to_le_bytes());
    let [random, ..] = *hasher.finalize().as_bytes();
    pause.mul_f64(0.5 + f64::from(random) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> RemoteError {
        RemoteError::new(RemoteErrorKind::Unavailable, "gone")
    }

    /// Waits for the end of a pause and gives how long it was.
    fn pause(breaker: &Breaker) -> Duration {
        breaker.trip(&failure());
        let began = Instant::now();
        let rest = breaker.rest();
        assert!(!breaker.is_closed() || rest.is_zero());
        while !breaker.is_closed() {
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
        rest
    }

    #[test]
    fn pauses_double_until_it_works_again() {
        let first = Duration::from_millis(200);
        let breaker = Breaker::new(first);
        assert!(breaker.is_closed() && !breaker.is_suspect());
        for longest in [first, first * 2, first * 4] {
            let rest = pause(&breaker);
            assert!(rest <= longest, "{rest:?}");
            // Its half, but for what has passed until it was looked at.
            assert!(rest > longest / 4, "{rest:?}");
            assert!(breaker.is_suspect() && breaker.cause() == Some(failure()));
        }
        breaker.reset();
        assert!(!breaker.is_suspect() && breaker.cause().is_none());
        assert!(pause(&breaker) <= first);
    }

    #[test]
    fn several_failures_at_once_are_one_and_a_wish_of_the_server_is_heeded() {
        let breaker = Breaker::new(Duration::from_secs(8));
        for _ in 0..5 {
            breaker.trip(&failure());
        }
        assert!(breaker.rest() <= Duration::from_secs(8));
        let breaker = Breaker::new(Duration::ZERO);
        let wish = RemoteError {
            retry_after: Some(Duration::from_secs(100)),
            ..failure()
        };
        breaker.trip(&wish);
        assert!(breaker.rest() > Duration::from_secs(90));
        let breaker = Breaker::new(Duration::ZERO);
        breaker.trip(&failure());
        assert!(breaker.is_suspect(), "no pause is no pause at all");
        let breaker = Breaker::new(Duration::from_secs(1000));
        breaker.trip(&failure());
        assert!(breaker.rest() > LONGEST_REST, "what is set is not shortened");
    }
}
