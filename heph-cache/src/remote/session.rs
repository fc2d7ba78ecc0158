//! The remote caches of one run: looking results up, and fetching what is needed of them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::join_all;
use heph_common::Digest;
use heph_common::package::printable;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use super::backend::{Object, RemoteError, RemoteErrorKind};
use super::backfill::{Backfill, Copy};
use super::cache::{Cache, Lane};
use super::envelope::{self, Expected, Received};
use super::lock;
use super::ranking::Ranking;
use super::tombstone;
use super::transfer::{self, Trouble, Unfinished};
use crate::manifest::Manifest;
use crate::origin::{Origin, OriginFilter};
use crate::store::{BlobSource, NewBlob, Publication, Store};

/// Failures one after the other after which a cache is not asked again in this run.
const MOST_FAILURES: u32 = 3;

/// Of each cache's bad objects, so many are named in the log.
const NAMED_BAD: u64 = 20;

/// Characters of what a cache says that are shown.
const LONGEST_TEXT: usize = 500;

/// What a run asks of its caches.
#[derive(Clone, Debug)]
pub struct Question {
    /// The platform that it runs on.
    pub platform: String,
    /// `cacheEpoch`; empty when there is none.
    pub epoch: String,
    /// The largest content in bytes that is taken.
    pub largest: u64,
}

/// The caches of one run.
#[derive(Debug)]
pub struct Session {
    store: Arc<Store>,
    runtime: Handle,
    /// By name.
    caches: Vec<InUse>,
    ranking: Arc<Ranking>,
    /// Places of those that are read, the fastest first; found out by the first that asks.
    order: OnceCell<Vec<usize>>,
    question: Question,
    /// What arrived, by action key.
    hits: Mutex<HashMap<Digest, Arc<Hit>>>,
    /// Contents that are being fetched.
    fetching: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    warnings: Mutex<Vec<Warning>>,
    backfill: Arc<Backfill>,
    /// What faster caches lack, until the run is over.
    copies: Mutex<Vec<Copy>>,
}

/// Something about a cache that a user should know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
}

#[derive(Debug)]
struct InUse {
    cache: Arc<Cache>,
    read: bool,
    write: bool,
    failures: AtomicU32,
    /// Not asked again in this run.
    is_out: AtomicBool,
    /// The user has been told.
    is_told: AtomicBool,
    bad: AtomicU64,
}

/// A manifest that came from a cache.
#[derive(Debug)]
struct Hit {
    received: Received,
    /// As it arrived.
    envelope: Bytes,
    /// Places of faster caches that have not got it.
    faster: Vec<usize>,
    /// Place of its cache in the session.
    cache: usize,
    scope: String,
    origin: Origin,
}

/// Says what is wrong with a manifest, as a fragment.
type Check<'a> = dyn Fn(&Manifest) -> Result<(), String> + Send + Sync + 'a;

/// A content that is needed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Wanted {
    /// Key of the action whose manifest names it.
    pub key: Digest,
    /// Of the content.
    pub digest: Digest,
    /// Whether its file has to be executable.
    pub executable: bool,
}

impl Session {
    /// A session over caches, each with whether it is read and written.
    pub(super) fn new(
        (store, runtime): (Arc<Store>, Handle),
        caches: Vec<(Arc<Cache>, bool, bool)>,
        question: Question,
        (ranking, backfill): (Arc<Ranking>, Arc<Backfill>),
        warnings: Vec<Warning>,
    ) -> Self {
        let caches = caches.into_iter().map(|(cache, read, write)| InUse {
            // One that failed lately has one try.
            failures: AtomicU32::new(if cache.reading.is_suspect() {
                MOST_FAILURES - 1
            } else {
                0
            }),
            is_out: AtomicBool::new(!cache.reading.is_closed()),
            is_told: AtomicBool::new(false),
            bad: AtomicU64::new(0),
            cache,
            read,
            write,
        });
        let session = Self {
            store,
            runtime,
            caches: caches.collect(),
            ranking,
            order: OnceCell::new(),
            question,
            hits: Mutex::default(),
            fetching: Mutex::default(),
            warnings: Mutex::new(warnings),
            backfill,
            copies: Mutex::default(),
        };
        for used in session.caches.iter().filter(|used| used.read) {
            if used.is_out.load(Ordering::Acquire)
                && let Some(error) = used.cache.reading.cause()
            {
                session.tell(used, &error);
            }
        }
        for used in session.caches.iter().filter(|used| used.write) {
            if let Some(error) = used.cache.writing.cause() {
                session.tell_of_uploads(used, &error);
            }
        }
        session
    }

    /// What failed in the background reaches the user with the next run.
    fn tell_of_uploads(&self, used: &InUse, error: &RemoteError) {
        let name = &used.cache.name;
        self.tell_once(used, || Warning {
            message: format!(
                "uploads to cache '{name}' wait: it {}: {}",
                error.kind.summary(),
                error.message
            ),
            hint: error.hint(name, &used.cache.location),
        });
    }

    /// Whether any cache is read.
    pub fn reads(&self) -> bool {
        self.caches.iter().any(|used| used.read)
    }

    /// The origins whose stored results a run with these caches may use.
    pub fn origins(&self) -> OriginFilter {
        let readable = self.caches.iter().filter(|used| used.read);
        OriginFilter::with_remote(readable.flat_map(|used| used.cache.origins()))
    }

    /// The ids of the caches that results are sent to, as [`Publication::uploads`] has them.
    pub fn uploads(&self) -> Vec<String> {
        let writable = self.caches.iter().filter(|used| used.write);
        writable.map(|used| used.cache.id.clone()).collect()
    }

    /// What a user should be told since the last call.
    pub fn take_warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut *lock(&self.warnings))
    }

    /// Asks the caches, the best first, for the result of an action, and stores what they have. Contents stay away until they are
    /// fetched. What `check` finds wrong is refused. `check` and `then` are called on another thread.
    pub fn look_up(
        self: &Arc<Self>,
        kind: &'static str,
        key: Digest,
        check: impl Fn(&Manifest) -> Result<(), String> + Send + Sync + 'static,
        then: impl FnOnce(Option<Arc<Manifest>>) + Send + 'static,
    ) {
        let session = Arc::clone(self);
        self.runtime.spawn(async move {
            let found = session.find(kind, key, &[], &check).await;
            let Some(hit) = found else { return then(None) };
            session.note_copies(kind, &hit);
            let stored = tokio::task::spawn_blocking(move || {
                let inline = hit.received.contents.iter();
                let inline = inline
                    .filter_map(|(digest, stored)| Some((*digest, stored.inline.clone()?)))
                    .collect();
                session.publish(&hit, inline)
            });
            then(stored.await.ok().flatten());
        });
    }

    /// Remembers where a hit is to be copied to: to faster caches that this run writes, in the scope that it came from, and where it would
    /// be accepted. Where results are signed, what nobody signed stays out.
    fn note_copies(&self, kind: &str, hit: &Arc<Hit>) {
        let Some(from) = self.caches.get(hit.cache) else {
            return;
        };
        let manifest = &hit.received.manifest;
        let targets = hit.faster.iter().filter_map(|place| self.caches.get(*place));
        for to in targets.filter(|to| to.write && to.cache.scope == hit.scope) {
            let expected = self.expected(kind, manifest.key, &hit.scope);
            let accepted = envelope::open(hit.envelope.clone(), &expected, &to.cache.verifier);
            let is_accepted = accepted.is_ok_and(|there| to.cache.signer.is_none() || there.signer.is_some());
            if !is_accepted {
                continue;
            }
            let mut seen = HashSet::new();
            let contents = manifest.contents().filter_map(|(content, executable)| {
                let stored = hit.received.contents.get(&content.digest)?;
                let is_apart = stored.inline.is_none() && seen.insert(content.digest);
                is_apart.then_some((content, executable, stored.compressed))
            });
            lock(&self.copies).push(Copy {
                envelope: hit.envelope.clone(),
                object: Object::Action {
                    scope: hit.scope.clone(),
                    kind: kind.to_owned(),
                    key: manifest.key,
                },
                key: manifest.key,
                made_unix_ms: manifest.created_unix_ms,
                contents: contents.collect(),
                scope: hit.scope.clone(),
                from: Arc::clone(&from.cache),
                to: Arc::clone(&to.cache),
            });
        }
    }

    /// The run is over: what was left for later begins.
    pub fn end(&self) {
        let copies = std::mem::take(&mut *lock(&self.copies));
        if !copies.is_empty() {
            self.backfill.add(&self.runtime, copies);
        }
    }

    fn expected<'a>(&'a self, kind: &'a str, key: Digest, scope: &'a str) -> Expected<'a> {
        Expected {
            kind,
            key,
            platform: &self.question.platform,
            scope,
            epoch: &self.question.epoch,
            largest: self.question.largest,
        }
    }

    /// Fetches contents. `then` is called on another thread, with those that could not be had.
    pub fn fetch(
        self: &Arc<Self>,
        kind: &'static str,
        wanted: Vec<Wanted>,
        then: impl FnOnce(Vec<Digest>) + Send + 'static,
    ) {
        let session = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut by_key: HashMap<Digest, Vec<Wanted>> = HashMap::new();
            for one in wanted {
                by_key.entry(one.key).or_default().push(one);
            }
            let fetched = by_key
                .into_iter()
                .map(|(key, wanted)| session.fetch_of(kind, key, wanted));
            then(join_all(fetched).await.concat());
        });
    }

    /// Contents of one action, from whichever cache has them; gives those that could not be had.
    async fn fetch_of(self: &Arc<Self>, kind: &str, key: Digest, wanted: Vec<Wanted>) -> Vec<Digest> {
        let mut next = lock(&self.hits).get(&key).cloned();
        let mut wanted = wanted;
        let mut tried = Vec::new();
        // What is there now need not be what was accepted when it was looked up.
        let stored = self.store.lookup(&key, &self.origins()).ok().flatten();
        let outputs = stored.map(|stored| stored.outputs_digest());
        while !wanted.is_empty() {
            let hit = match next.take() {
                Some(hit) => hit,
                None => match self.find(kind, key, &tried, &|_| Ok(())).await {
                    Some(hit) => hit,
                    None => break,
                },
            };
            tried.push((hit.cache, hit.scope.clone()));
            if outputs == Some(hit.received.manifest.outputs_digest()) {
                wanted = self.fetch_from(hit, wanted).await;
            }
        }
        wanted.iter().map(|one| one.digest).collect()
    }

    /// Contents from one cache; gives back those that it does not have.
    async fn fetch_from(self: &Arc<Self>, hit: Arc<Hit>, wanted: Vec<Wanted>) -> Vec<Wanted> {
        let fetches = wanted.iter().map(|one| self.fetch_one(&hit, *one));
        let mut missing = Vec::new();
        let mut files = HashMap::new();
        for (one, fetched) in wanted.iter().zip(join_all(fetches).await) {
            match fetched {
                Some(Fetched::New(source)) => drop(files.insert(one.digest, source)),
                Some(Fetched::There) => {}
                None => missing.push(*one),
            }
        }
        if !files.is_empty() {
            let session = Arc::clone(self);
            let stored = tokio::task::spawn_blocking(move || session.publish_sources(&hit, files));
            if !matches!(stored.await, Ok(Some(_))) {
                return wanted;
            }
        }
        missing
    }

    /// Places of the caches that are read, the fastest first.
    async fn rank(&self) -> Vec<usize> {
        let readable: Vec<usize> = (0..self.caches.len())
            .filter(|place| self.caches.get(*place).is_some_and(|used| used.read))
            .collect();
        let caches = readable.iter().filter_map(|place| self.caches.get(*place));
        // One that rests is last whatever it once took, and is not asked again now.
        let caches: Vec<Arc<Cache>> = caches.map(|used| Arc::clone(&used.cache)).collect();
        let order = self.ranking.order(&caches).await;
        order
            .into_iter()
            .filter_map(|place| readable.get(place).copied())
            .collect()
    }

    /// The first good manifest of an action, but for those in some scopes of some caches.
    async fn find(
        &self,
        kind: &str,
        key: Digest,
        tried: &[(usize, String)],
        check: &Check<'_>,
    ) -> Option<Arc<Hit>> {
        let order = self.order.get_or_init(|| self.rank()).await;
        // Who purged it here does not want it from elsewhere, either.
        let mut purged = self.store.purged_until(&key).ok().flatten();
        let mut faster = Vec::new();
        for (place, used) in order
            .iter()
            .filter_map(|place| Some((*place, self.caches.get(*place)?)))
        {
            let mut has_failed = false;
            for scope in &used.cache.read_scopes {
                if used.is_out.load(Ordering::Acquire) {
                    has_failed = true;
                    break;
                }
                if tried.iter().any(|(cache, of)| *cache == place && of == scope) {
                    has_failed = true;
                    continue;
                }
                let object = Object::Action {
                    scope: scope.clone(),
                    kind: kind.to_owned(),
                    key,
                };
                let began = Instant::now();
                let bytes = match used.cache.get(Lane::Metadata, &object, envelope::LARGEST).await {
                    Ok(bytes) => {
                        used.cache.note_latency(began.elapsed());
                        self.worked(used);
                        bytes
                    }
                    Err(error) if error.kind == RemoteErrorKind::TooLarge => {
                        self.refuse(used, &object, &error.message);
                        None
                    }
                    Err(error) => {
                        self.failed(used, &error);
                        has_failed = true;
                        None
                    }
                };
                let Some(bytes) = bytes else { continue };
                let expected = self.expected(kind, key, scope);
                let opened = envelope::open(bytes.clone(), &expected, &used.cache.verifier);
                match opened.and_then(|received| check(&received.manifest).map(|()| received)) {
                    Ok(received) if purged >= Some(received.manifest.created_unix_ms) => {
                        tracing::debug!(cache = used.cache.name, %object, "it was purged");
                    }
                    Ok(received) => {
                        let origin = used.cache.origin(scope, received.signer.as_deref());
                        let hit = Arc::new(Hit {
                            received,
                            envelope: bytes,
                            faster,
                            cache: place,
                            scope: scope.clone(),
                            origin: Origin::Remote(origin),
                        });
                        lock(&self.hits).insert(key, Arc::clone(&hit));
                        return Some(hit);
                    }
                    Err(why) => match tombstone::open(bytes, &key, scope, &used.cache.verifier) {
                        Ok(Some(until)) => purged = purged.max(Some(until)),
                        Ok(None) => self.refuse(used, &object, &why),
                        Err(why) => self.refuse(used, &object, &why),
                    },
                }
            }
            if !has_failed {
                faster.push(place);
            }
        }
        None
    }

    async fn fetch_one(&self, hit: &Hit, wanted: Wanted) -> Option<Fetched> {
        let gate = Arc::clone(lock(&self.fetching).entry(wanted.digest).or_default());
        let _alone = gate.lock().await;
        let content = {
            let mut contents = hit.received.manifest.contents();
            contents.find(|(content, _)| content.digest == wanted.digest)?.0
        };
        if self
            .store
            .blob(&wanted.digest, wanted.executable)
            .ok()
            .flatten()
            .is_some()
        {
            return Some(Fetched::There);
        }
        let stored = hit.received.contents.get(&wanted.digest)?;
        if let Some(bytes) = &stored.inline {
            return Some(Fetched::New(BlobSource::Bytes(bytes.clone())));
        }
        let used = self.caches.get(hit.cache)?;
        if used.is_out.load(Ordering::Acquire) {
            return None;
        }
        let object = Object::Blob {
            scope: hit.scope.clone(),
            digest: wanted.digest,
            compressed: stored.compressed,
        };
        let stage = self.store.home().join("stage");
        match transfer::take(&used.cache, &stage, &object, content, stored.compressed).await {
            Ok(Some(source)) => {
                self.worked(used);
                Some(Fetched::New(source))
            }
            Ok(None) => {
                // An expired bucket, perhaps: whoever writes it next must not think that it is there.
                used.cache.note_bad(&object);
                tracing::info!(cache = used.cache.name, %object, "a content is not there any more");
                None
            }
            Err(Trouble::Remote(error)) => {
                self.failed(used, &error);
                None
            }
            Err(Trouble::Bad(why)) => {
                self.refuse(used, &object, &why);
                None
            }
            Err(Trouble::Local(error)) => {
                let name = &used.cache.name;
                let is_told = self.tell_once(used, || Warning {
                    message: format!("what cache '{name}' has cannot be written down: {error}"),
                    hint: format!("free some space below {}", self.store.home().display()),
                });
                if !is_told {
                    tracing::warn!(cache = name, "what it has cannot be written down: {error}");
                }
                None
            }
        }
    }

    fn publish(&self, hit: &Hit, inline: HashMap<Digest, Bytes>) -> Option<Arc<Manifest>> {
        let sources = inline
            .into_iter()
            .map(|(digest, bytes)| (digest, BlobSource::Bytes(bytes)));
        self.publish_sources(hit, sources.collect())
    }

    fn publish_sources(&self, hit: &Hit, sources: HashMap<Digest, BlobSource>) -> Option<Arc<Manifest>> {
        let manifest = &hit.received.manifest;
        let is_needed_twice = |digest: &Digest| {
            let mut found = manifest
                .contents()
                .filter(|(content, _)| content.digest == *digest);
            let first = found.next().map(|(_, executable)| executable);
            found.any(|(_, executable)| Some(executable) != first)
        };
        let mut left_over = Vec::new();
        let mut blobs: Vec<NewBlob> = Vec::with_capacity(sources.len());
        for (content, executable) in manifest.contents() {
            let Some(source) = sources.get(&content.digest) else {
                continue;
            };
            // One file cannot become two.
            let source = match source {
                BlobSource::File(path) if is_needed_twice(&content.digest) => {
                    left_over.push(Unfinished(path.clone()));
                    BlobSource::CopyOf(path.clone())
                }
                source => source.clone(),
            };
            blobs.push(NewBlob {
                digest: content.digest,
                executable,
                source,
            });
        }
        let published = self.store.publish(Publication {
            manifest: manifest.clone(),
            blobs,
            origin: hit.origin,
            record: None,
            uploads: Vec::new(),
            replace: false,
            partial: true,
            always_files: false,
            lock: None,
        });
        match published {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                tracing::warn!(key = %manifest.key, "a result of a remote cache could not be stored: {error}");
                None
            }
        }
    }

    fn worked(&self, used: &InUse) {
        used.failures.store(0, Ordering::Release);
        used.cache.reading.reset();
    }

    fn failed(&self, used: &InUse, error: &RemoteError) {
        tracing::debug!(cache = used.cache.name, %error, "a request failed");
        // What is wrong with one object is no fault of the cache.
        if error.kind == RemoteErrorKind::TooLarge {
            return;
        }
        let failures = used.failures.fetch_add(1, Ordering::AcqRel) + 1;
        // What does not get better by itself is not tried three times.
        if failures >= MOST_FAILURES || !error.is_retryable() {
            used.is_out.store(true, Ordering::Release);
            used.cache.reading.trip(error);
        }
        self.tell(used, error);
    }

    fn tell(&self, used: &InUse, error: &RemoteError) {
        let name = &used.cache.name;
        self.tell_once(used, || Warning {
            message: format!("cache '{name}' {}: {}", error.kind.summary(), error.message),
            hint: error.hint(name, &used.cache.location),
        });
    }

    fn refuse(&self, used: &InUse, object: &Object, why: &str) {
        used.cache.note_bad(object);
        let why = shown(why);
        if used.bad.fetch_add(1, Ordering::AcqRel) < NAMED_BAD {
            tracing::warn!(cache = used.cache.name, %object, "refused: {why}");
        }
        self.tell_once(used, || Warning {
            message: format!(
                "cache '{}' has something that is not used: {object}: {why}",
                used.cache.name
            ),
            hint: "nothing has to be done: it counts as a miss, and the next upload replaces it".to_owned(),
        });
    }

    /// Tells a user, once for each cache and run; whether this was that once.
    fn tell_once(&self, used: &InUse, warning: impl FnOnce() -> Warning) -> bool {
        let is_first = !used.is_told.swap(true, Ordering::AcqRel);
        if is_first {
            self.warn(warning());
        }
        is_first
    }

    fn warn(&self, warning: Warning) {
        let message = shown(&warning.message);
        lock(&self.warnings).push(Warning { message, ..warning });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end();
        if self.order.get().is_some_and(|order| order.len() > 1) {
            let readable = self.caches.iter().filter(|used| used.read);
            let caches: Vec<Arc<Cache>> = readable.map(|used| Arc::clone(&used.cache)).collect();
            self.ranking.refresh(&caches);
        }
    }
}

/// A text that others may have written, as it can be shown: control characters could do anything to a terminal.
fn shown(text: &str) -> String {
    let text = printable(text);
    let length = text.chars().count();
    if length <= LONGEST_TEXT {
        return text.into_owned();
    }
    // What it is about stands at the beginning, what is wrong with it at the end.
    let begin = text.chars().take(LONGEST_TEXT / 2);
    let end = text.chars().skip(length - LONGEST_TEXT / 2);
    begin.chain(['…']).chain(end).collect()
}

enum Fetched {
    There,
    New(BlobSource),
}
