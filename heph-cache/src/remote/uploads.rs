//! Sending results to remote caches: the queue is a table of the index, and whoever coordinates goes on with it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join;
use futures_util::stream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use heph_common::Digest;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::backend::{Object, RemoteError, RemoteErrorKind};
use super::cache::{Cache, Lane, transfer_limit};
use super::envelope::{self, Place, Stored};
use super::lock;
use super::packing::{self, SMALL};
use crate::blob::Blob;
use crate::clock;
use crate::manifest::{Content, Manifest};
use crate::origin::OriginFilter;
use crate::store::{Store, Upload};

/// How long what was published may take until it is committed, and others with it.
const GATHER: Duration = Duration::from_millis(50);

/// Results of one cache that are sent at once.
const AT_ONCE: usize = 64;

/// Contents of one result that are sent at once.
const CONTENTS_AT_ONCE: usize = 8;

/// Where uploads of a cache go, and under which conditions.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The cache.
    pub cache: Arc<Cache>,
    /// `cacheEpoch`; empty when there is none.
    pub epoch: String,
    /// An upload is given up after so long.
    pub max_age: Duration,
}

/// The queue of one coordinator.
#[derive(Debug)]
pub struct Uploads {
    store: Arc<Store>,
    destinations: Mutex<HashMap<String, Destination>>,
    driver: Mutex<Driver>,
    /// There may be something to do.
    work: Notify,
    /// Something was done, or given up for now.
    progress: Notify,
}

#[derive(Debug, Default)]
struct Driver {
    is_running: bool,
    /// Something came while it was about to end.
    is_called: bool,
}

/// What waits in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Results that wait for a cache that is known.
    pub known: u64,
    /// Results that wait for somebody who brings the definition and the credentials of their cache.
    pub unknown: u64,
    /// Caches that do not take anything at the moment, with what they said.
    pub resting: Vec<(String, String)>,
}

impl Uploads {
    /// The queue of a store.
    pub fn new(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            destinations: Mutex::default(),
            driver: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
        })
    }

    /// Somebody brought a cache with its credentials: what waits for it can be sent.
    pub fn add(&self, destination: Destination) {
        lock(&self.destinations).insert(destination.cache.id.clone(), destination);
    }

    /// Something may have been queued.
    pub fn call(self: &Arc<Self>, runtime: &Handle) {
        if lock(&self.destinations).is_empty() {
            return;
        }
        let mut driver = lock(&self.driver);
        driver.is_called = true;
        if !driver.is_running {
            driver.is_running = true;
            runtime.spawn(Arc::clone(self).drive());
        }
        drop(driver);
        self.work.notify_one();
    }

    /// What waits now.
    pub fn waiting(&self) -> Waiting {
        self.survey().0
    }

    /// What waits now, and whether all of it is for caches that failed when they were tried last.
    fn survey(&self) -> (Waiting, bool) {
        let rows = self.store.uploads().unwrap_or_default();
        let destinations = lock(&self.destinations);
        let known = rows.iter().filter_map(|row| destinations.get(&row.cache));
        let known: Vec<&Destination> = known.collect();
        let is_stuck = known.iter().all(|known| known.cache.writing.is_suspect());
        let resting = destinations.values().filter_map(|destination| {
            let cause = destination.cache.writing.cause()?;
            Some((destination.cache.name.clone(), cause.to_string()))
        });
        let waiting = Waiting {
            known: known.len() as u64,
            unknown: (rows.len() - known.len()) as u64,
            resting: resting.collect(),
        };
        (waiting, is_stuck)
    }

    /// Sends what waits, until nothing is left that a working cache takes, or the time is over. Blocks.
    pub fn drain(
        self: &Arc<Self>,
        runtime: &Handle,
        patience: Duration,
        mut is_over: impl FnMut() -> bool,
    ) -> Waiting {
        let deadline = Instant::now() + patience;
        let _ = self.store.flush();
        self.call(runtime);
        loop {
            let (waiting, is_stuck) = self.survey();
            let left = deadline.saturating_duration_since(Instant::now());
            if waiting.known == 0 || left.is_zero() || is_stuck || is_over() {
                return waiting;
            }
            let step = left.min(Duration::from_millis(200));
            let _ = runtime.block_on(async { timeout(step, self.progress.notified()).await });
            let _ = self.store.flush();
        }
    }

    async fn drive(self: Arc<Self>) {
        loop {
            lock(&self.driver).is_called = false;
            sleep(GATHER).await;
            let store = Arc::clone(&self.store);
            let rows = spawn_blocking(move || store.uploads()).await;
            let rows = rows.ok().and_then(Result::ok).unwrap_or_default();
            let rest = self.send_all(rows).await;
            self.progress.notify_waiters();
            let rest = {
                let mut driver = lock(&self.driver);
                match rest {
                    None if !driver.is_called => {
                        driver.is_running = false;
                        return;
                    }
                    None => Duration::ZERO,
                    Some(rest) => rest,
                }
            };
            let _ = timeout(rest, self.work.notified()).await;
        }
    }

    /// Sends what can be sent; how long to wait until more of it may be, `None` when nothing is left.
    async fn send_all(&self, rows: Vec<Upload>) -> Option<Duration> {
        let destinations = lock(&self.destinations).clone();
        let mut by_cache: HashMap<String, Vec<Upload>> = HashMap::new();
        for row in rows {
            by_cache.entry(row.cache.clone()).or_default().push(row);
        }
        let caches = by_cache
            .into_iter()
            .filter_map(|(id, rows)| Some(self.send_to(destinations.get(&id)?.clone(), rows)));
        let rests = futures_util::future::join_all(caches).await;
        rests.into_iter().flatten().min()
    }

    async fn send_to(&self, destination: Destination, rows: Vec<Upload>) -> Option<Duration> {
        let destination = &destination;
        let cache = &destination.cache;
        let now = clock::unix_ms() / 1000;
        let sends = rows.into_iter().map(|row| async move {
            let row = &row;
            if now.saturating_sub(row.queued_unix_s) > destination.max_age.as_secs() {
                tracing::warn!(cache = cache.name, key = %row.key, "an upload is given up: it has waited for too long");
                return self.done(row);
            }
            if !cache.writing.is_closed() {
                return;
            }
            match self.send(destination, &row.key).await {
                Ok(()) => {
                    cache.writing.reset();
                    self.done(row);
                    self.progress.notify_waiters();
                }
                Err(Trouble::Gone) => self.done(row),
                Err(Trouble::Purged(until)) => {
                    tracing::info!(cache = cache.name, key = %row.key, "a result is not uploaded: it was purged there");
                    self.forget_purged(row.key, until).await;
                    self.done(row);
                }
                Err(Trouble::Refused(why)) => {
                    tracing::warn!(cache = cache.name, key = %row.key, "a result is not uploaded: {why}");
                    self.done(row);
                }
                Err(Trouble::Remote(error)) if error.kind == RemoteErrorKind::TooLarge => {
                    tracing::warn!(cache = cache.name, key = %row.key, "a result is not uploaded: {error}");
                    self.done(row);
                }
                Err(Trouble::Remote(error)) => {
                    tracing::info!(cache = cache.name, key = %row.key, %error, "an upload failed, and is tried again later");
                    cache.writing.trip(&error);
                    let _ = self.store.upload_failed(&row.key, &row.cache);
                }
                Err(Trouble::Local(error)) => {
                    tracing::warn!(cache = cache.name, key = %row.key, "an upload cannot be read: {error}");
                    cache.writing.trip(&RemoteError::connection("reading what is to be sent", &error));
                }
            }
        });
        stream::iter(sends)
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<()>>()
            .await;
        let is_left = !cache.writing.is_closed() || cache.writing.is_suspect();
        is_left.then(|| cache.writing.rest())
    }

    fn done(&self, row: &Upload) {
        if let Err(error) = self.store.uploaded(&row.key, &row.cache) {
            tracing::warn!(key = %row.key, "an upload that is done stays in the queue: {error}");
        }
    }

    /// What was purged on another machine goes here, too.
    async fn forget_purged(&self, key: Digest, until: u64) {
        let store = Arc::clone(&self.store);
        let purged = spawn_blocking(move || store.purge(&key, until)).await;
        if let Ok(Err(error)) = purged {
            tracing::warn!(%key, "a purged result stays in the store: {error}");
        }
    }

    /// Sends one result: contents first, the manifest last.
    async fn send(&self, destination: &Destination, key: &Digest) -> Result<(), Trouble> {
        let cache = &destination.cache;
        let store = Arc::clone(&self.store);
        let (key, id) = (*key, cache.id.clone());
        // Only what was made here is passed on.
        let read = spawn_blocking(move || {
            let found = store.lookup(&key, &OriginFilter::local()).ok().flatten();
            found.map(|manifest| (inline_contents(&store, &manifest), manifest))
        });
        let Some((inline, manifest)) = read.await.map_err(io::Error::other)? else {
            tracing::debug!(%key, id, "a queued result is not there any more");
            return Err(Trouble::Gone);
        };
        envelope::check_contents(&manifest, u64::MAX).map_err(Trouble::Refused)?;
        let mut seen = HashSet::new();
        let large = manifest
            .contents()
            .filter(|(content, _)| !inline.contains_key(&content.digest) && seen.insert(content.digest));
        let large: Vec<(Content, bool)> = large.collect();
        let sends = large.into_iter().map(|(content, executable)| async move {
            let compressed = self.send_content(cache, content, executable).await?;
            Ok::<_, Trouble>((
                content.digest,
                Stored {
                    inline: None,
                    compressed,
                },
            ))
        });
        let sent = stream::iter(sends)
            .buffer_unordered(CONTENTS_AT_ONCE)
            .try_collect::<Vec<_>>();
        let made = manifest.created_unix_ms;
        let (was_purged, sent) = try_join(check_purged(cache, &key, made), sent).await?;
        let inline = inline.into_iter().map(|(digest, bytes)| {
            let stored = Stored {
                inline: Some(bytes),
                compressed: false,
            };
            (digest, stored)
        });
        let place = Place {
            scope: &cache.scope,
            epoch: &destination.epoch,
            now_unix_ms: clock::unix_ms(),
        };
        let bytes = envelope::seal(
            &manifest,
            sent.into_iter().chain(inline),
            place,
            cache.signer.as_ref(),
        );
        let object = Object::Action {
            scope: cache.scope.clone(),
            kind: manifest.kind.clone(),
            key,
        };
        // An older mark has the manifest's place.
        cache.put(&object, bytes, was_purged).await?;
        // Not all servers know conditional writes: who purged it meanwhile has to win.
        match cache.tombstone(&key).await? {
            Some((until, mark)) if until >= made => {
                cache.put(&object, mark, true).await?;
                Err(Trouble::Purged(until))
            }
            _ => Ok(()),
        }
    }

    /// Sends a content unless the server has it; whether it is kept compressed.
    async fn send_content(&self, cache: &Cache, content: Content, executable: bool) -> Result<bool, Trouble> {
        let store = Arc::clone(&self.store);
        let found = spawn_blocking(move || {
            let blob = store.blob(&content.digest, executable).ok().flatten();
            Unpacked::of(blob.ok_or(Trouble::Gone)?, content)
        });
        let (unpacked, compressed) = found.await.map_err(io::Error::other)??;
        let object = Object::Blob {
            scope: cache.scope.clone(),
            digest: content.digest,
            compressed,
        };
        if !cache.is_bad(&object) && self.has(cache, &object, &content.digest).await? {
            return Ok(compressed);
        }
        let stage = self.store.home().join("stage");
        let packed = spawn_blocking(move || match compressed {
            true => unpacked.pack(&stage),
            false => Ok((unpacked, content.size)),
        });
        match packed.await.map_err(io::Error::other)?? {
            (Unpacked::Memory(bytes), _) => drop(cache.put(&object, bytes, true).await?),
            (Unpacked::File(file), size) => send_file(cache, &object, &file, size).await?,
        }
        cache.note_there(content.digest);
        Ok(compressed)
    }

    /// Whether a cache has a content already.
    async fn has(&self, cache: &Cache, object: &Object, digest: &Digest) -> Result<bool, Trouble> {
        if cache.is_there(digest) {
            return Ok(true);
        }
        let one = std::slice::from_ref(object);
        let there = cache
            .request(Lane::Check, cache.read_timeout(), |backend| backend.exist(one))
            .await?;
        let is_there = there.first() == Some(&true);
        if is_there {
            cache.note_there(*digest);
        }
        Ok(is_there)
    }
}

/// Whether an action was purged before its result was made. One that was made before is not sent.
async fn check_purged(cache: &Cache, key: &Digest, made_unix_ms: u64) -> Result<bool, Trouble> {
    match cache.tombstone(key).await? {
        Some((until, _)) if until >= made_unix_ms => Err(Trouble::Purged(until)),
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

async fn send_file(cache: &Cache, object: &Object, file: &File, size: u64) -> Result<(), Trouble> {
    // Each try has a descriptor of its own.
    let tries = (0..=cache.retries())
        .map(|_| file.try_clone())
        .collect::<io::Result<Vec<_>>>()?;
    let tries = Mutex::new(tries);
    let put = cache.request(Lane::Bulk, transfer_limit(size), |backend| {
        match lock(&tries).pop() {
            Some(file) => backend.put_file(object, file, size),
            None => Box::pin(std::future::ready(Err(RemoteError::new(
                RemoteErrorKind::Unavailable,
                "too many tries failed",
            )))),
        }
    });
    put.await?;
    Ok(())
}

/// A content as it is sent, but perhaps for compression.
enum Unpacked {
    Memory(Bytes),
    File(File),
}

impl Unpacked {
    /// The content of a blob, and whether it is sent compressed.
    fn of(blob: Blob, content: Content) -> Result<(Self, bool), Trouble> {
        let bytes = match blob {
            Blob::Inline(bytes) => bytes,
            Blob::File(path) if content.size <= SMALL => std::fs::read(path)?.into(),
            Blob::File(path) => {
                let mut file = File::open(path)?;
                let pays = packing::pays_for_file(&file)?;
                file.rewind()?;
                return Ok((Self::File(file), pays));
            }
        };
        let pays = packing::pays(&bytes);
        Ok((Self::Memory(bytes), pays))
    }

    /// The compressed form, files by way of one without a name, and its size in bytes.
    fn pack(self, stage: &Path) -> io::Result<(Self, u64)> {
        match self {
            Self::Memory(bytes) => {
                let packed = packing::compressed(&bytes)?;
                let size = packed.len() as u64;
                Ok((Self::Memory(packed.into()), size))
            }
            Self::File(mut file) => {
                std::fs::create_dir_all(stage)?;
                let path = stage.join(format!("pack-{}", crate::unique::name()));
                let mut options = File::options();
                let mut packed = options.read(true).write(true).create_new(true).open(&path)?;
                std::fs::remove_file(&path)?;
                let size = packing::compress_file(&mut file, &mut packed)?;
                Ok((Self::File(packed), size))
            }
        }
    }
}

/// The small contents of a manifest, up to what an envelope takes.
fn inline_contents(store: &Store, manifest: &Manifest) -> HashMap<Digest, Bytes> {
    let mut left = envelope::INLINE_TOTAL;
    let mut inline = HashMap::new();
    for (content, executable) in manifest.contents() {
        if content.size > envelope::INLINE_CONTENT.min(left) || inline.contains_key(&content.digest) {
            continue;
        }
        let bytes = match store.blob(&content.digest, executable) {
            Ok(Some(Blob::Inline(bytes))) => Some(bytes),
            Ok(Some(Blob::File(path))) => std::fs::read(path).ok().map(Bytes::from),
            Ok(None) | Err(_) => None,
        };
        if let Some(bytes) = bytes.filter(|bytes| Digest::of(bytes) == content.digest) {
            left -= content.size;
            inline.insert(content.digest, bytes);
        }
    }
    inline
}

/// Why a result was not sent.
#[derive(Debug)]
enum Trouble {
    /// It is not in the store any more.
    Gone,
    /// Results that were made until then, in milliseconds since 1970, were purged.
    Purged(u64),
    /// No remote cache takes such a thing.
    Refused(String),
    Remote(RemoteError),
    Local(io::Error),
}

impl From<RemoteError> for Trouble {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}
