//! Sending results to remote caches: the queue is a table of the index, and whoever coordinates goes on with it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use heph_common::Digest;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::backend::{RemoteError, RemoteErrorKind};
use super::cache::Cache;
use super::lock;
use super::sending::{Sender, Sending, Trouble};
use crate::clock;
use crate::store::{Leased, Lessee, Store, Upload};

/// How long what was published may take until it is committed, and others with it.
const GATHER: Duration = Duration::from_millis(50);

/// How long what is taken from the queue stays with who took it; renewed while it is being sent.
const LEASE: Duration = Duration::from_secs(600);

/// How often it is looked whether what another coordinator took is anybody's again.
const OTHERS: Duration = Duration::from_secs(1);

/// Results of one cache that are sent at once.
const AT_ONCE: usize = 64;

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
    sender: Sender,
    destinations: Mutex<HashMap<String, Destination>>,
    driver: Mutex<Driver>,
    /// There may be something to do.
    work: Notify,
    /// Something was done, or given up for now.
    progress: Notify,
    /// Made when something is sent for the first time.
    lessee: OnceLock<Lessee>,
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
    /// Caches that do not take anything at the moment.
    pub resting: Vec<Resting>,
}

/// A cache that does not take anything at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resting {
    /// Its name.
    pub cache: String,
    /// What it failed with.
    pub cause: String,
    /// What to do about it.
    pub hint: String,
}

impl Uploads {
    /// The queue of a store.
    pub(super) fn new(sender: Sender) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(&sender.store),
            sender,
            destinations: Mutex::default(),
            driver: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
            lessee: OnceLock::new(),
        })
    }

    /// Somebody brought a cache with its credentials: what waits for it can be sent.
    pub fn add(&self, destination: Destination) {
        lock(&self.destinations).insert(destination.cache.id.clone(), destination);
    }

    /// Whether somebody brought a cache, by its name in the queue.
    pub fn knows(&self, id: &str) -> bool {
        lock(&self.destinations).contains_key(id)
    }

    /// Forgets caches for which nothing waits, when there are more than so many.
    pub fn prune(&self, most: usize) {
        if lock(&self.destinations).len() <= most {
            return;
        }
        // Where the queue cannot be read, nothing is known to be forgotten.
        if let Ok(waiting) = self.store.upload_sums() {
            lock(&self.destinations).retain(|id, _| waiting.iter().any(|sum| sum.cache == *id));
        }
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
            let cache = &destination.cache;
            let cause = cache.writing.cause()?;
            Some(Resting {
                cache: cache.name.clone(),
                cause: cause.to_string(),
                hint: cause.hint(&cache.name, &cache.location),
            })
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
            let rest = self.round().await;
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

    /// Takes what waits and sends it; how long to wait until more may be sent, `None` when nothing is left.
    async fn round(self: &Arc<Self>) -> Option<Duration> {
        let leased = self.lease().await;
        let is_empty = leased.own.is_empty();
        let elsewhere = (leased.others > 0).then_some(OTHERS);
        let rest = {
            let mut sending = pin!(self.send_all(leased.own));
            loop {
                match timeout(LEASE / 3, &mut sending).await {
                    Ok(rest) => break rest,
                    // What is under way stays this coordinator's.
                    Err(_) => drop(self.lease().await),
                }
            }
        };
        if !is_empty {
            self.release();
        }
        [rest, elsewhere].into_iter().flatten().min()
    }

    /// Takes what waits for caches that are known here, unless another coordinator sends it.
    async fn lease(self: &Arc<Self>) -> Leased {
        let own = Arc::clone(self);
        let leased = spawn_blocking(move || {
            let caches: Vec<String> = lock(&own.destinations).keys().cloned().collect();
            if own.store.uploads()?.is_empty() {
                return Ok(Leased::default());
            }
            let lessee = match own.lessee.get() {
                Some(lessee) => lessee,
                None => {
                    let made = own.store.lessee()?;
                    own.lessee.get_or_init(|| made)
                }
            };
            own.store.lease_uploads(lessee, &caches, LEASE)
        });
        match leased.await {
            Ok(Ok(leased)) => leased,
            Ok(Err(error)) => {
                tracing::warn!("uploads cannot be taken from the queue: {error}");
                Leased::default()
            }
            Err(_) => Leased::default(),
        }
    }

    fn release(&self) {
        if let Some(lessee) = self.lessee.get()
            && let Err(error) = self.store.release_uploads(lessee)
        {
            tracing::warn!("what was not uploaded stays taken for a while: {error}");
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
                self.done(row);
                return false;
            }
            if !cache.writing.is_closed() {
                return true;
            }
            let sending = Sending {
                cache,
                key: row.key,
                epoch: &destination.epoch,
                replace: row.replace,
            };
            match self.sender.send(sending).await {
                Ok(()) => {
                    cache.writing.reset();
                    if let Err(error) = self.store.sent(row) {
                        tracing::warn!(key = %row.key, "an upload that is done stays in the queue: {error}");
                    }
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
                    return true;
                }
                Err(Trouble::Local(error)) => {
                    tracing::warn!(cache = cache.name, key = %row.key, "an upload cannot be read: {error}");
                    cache.writing.trip(&RemoteError::connection("reading what is to be sent", &error));
                    return true;
                }
            }
            false
        });
        let left = stream::iter(sends).buffer_unordered(AT_ONCE);
        let is_left = left.fold(false, |any, one| async move { any || one }).await;
        // What succeeded after something else failed has ended the pause.
        let rest = match cache.writing.is_suspect() {
            true => cache.writing.rest(),
            false => cache.writing.first_pause(),
        };
        is_left.then_some(rest)
    }

    fn done(&self, row: &Upload) {
        if let Err(error) = self.store.uploaded(&row.key, &row.cache) {
            tracing::warn!(key = %row.key, "an upload that is given up stays in the queue: {error}");
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
}
