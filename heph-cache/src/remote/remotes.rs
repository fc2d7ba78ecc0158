//! The remote caches of one coordinator: connections that outlive runs, and the queue of uploads.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use heph_common::Digest;
use heph_common::config::{Config, RemoteCache as Settings, Uploads as UploadSettings};
use tokio::runtime::{Builder, Runtime};

use super::backend::RemoteError;
use super::backfill::Backfill;
use super::budget::Budget;
use super::cache::Cache;
use super::provenance::{self, Seen, Source};
use super::ranking::{Ranking, probe_all};
use super::sending::Sender;
use super::session::{Question, Session, Warning};
use super::uploads::{Destination, Uploads, Waiting};
use super::{Access, Location, credential_variables, lock, purge};
use crate::error::StoreError;
use crate::origin::OriginFilter;
use crate::store::Store;

/// Threads that requests share; what blocks has others.
const THREADS: usize = 2;

/// Caches that are kept for later callers, with their connections.
const MOST_KEPT: usize = 32;

/// How often it is looked whether somebody still wants to wait.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a scope says in place of the branch.
const BRANCH: &str = "${branch}";

/// The remote caches of one coordinator.
#[derive(Debug)]
pub struct Remotes {
    store: Arc<Store>,
    uploads: Arc<Uploads>,
    backfill: Arc<Backfill>,
    ranking: Arc<Ranking>,
    /// Made when the first cache is used.
    runtime: OnceLock<Runtime>,
    /// By definition and credentials.
    caches: Mutex<HashMap<Digest, Kept>>,
}

/// A cache, and when it was last asked for.
#[derive(Debug)]
struct Kept {
    cache: Arc<Cache>,
    used: Instant,
}

/// How a cache is.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// Its URI without a password.
    pub uri: String,
    /// The scope that is written to.
    pub scope: String,
    /// What small reads take lately.
    pub latency: Option<Duration>,
    /// Why it was not read when it was tried last, and for how long it is left alone.
    pub reading: Option<(RemoteError, Duration)>,
    /// The same for writing.
    pub writing: Option<(RemoteError, Duration)>,
}

/// Whose caches they are.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Merged configuration.
    pub config: &'a Config,
    /// Variables of the client.
    pub environment: &'a BTreeMap<String, String>,
    /// Finds the branch that is checked out, where one is; called when a scope names it.
    pub branch: &'a dyn Fn() -> Option<String>,
    /// The platform that results are made on and for.
    pub platform: &'a str,
}

/// What a cache takes for a small read.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// Its URI without a password.
    pub uri: String,
    /// Whether it is read.
    pub read: bool,
    /// Whether it is written.
    pub write: bool,
    /// How long a read takes, or why there is no answer.
    pub took: Result<Duration, RemoteError>,
}

impl Remotes {
    /// Those of a store, with the settings of its home; what is learnt about them is kept in the directory `state`.
    pub fn new(store: Arc<Store>, state: &Path, settings: &UploadSettings) -> Self {
        let sender = Sender {
            store: Arc::clone(&store),
            budget: Arc::new(Budget::new(settings.max_in_flight.bytes())),
        };
        Self {
            ranking: Arc::new(Ranking::new(state.join("latency.json"))),
            backfill: Backfill::new(sender.clone()),
            uploads: Uploads::new(sender),
            store,
            runtime: OnceLock::new(),
            caches: Mutex::default(),
        }
    }

    /// The caches of a run; `None` when it has none.
    pub fn session(&self, caller: &Caller<'_>) -> Option<Arc<Session>> {
        let config = caller.config;
        let wanted = config
            .caches
            .iter()
            .filter(|(_, settings)| settings.read || settings.write);
        let wanted: Vec<_> = wanted.collect();
        if wanted.is_empty() {
            return None;
        }
        let runtime = match self.runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::warn!("remote caches cannot be used: {error}");
                return None;
            }
        };
        let mut warnings = Vec::new();
        let mut caches = Vec::new();
        for (name, settings) in wanted {
            match self.cache(name, settings, caller) {
                Ok(cache) => caches.push((cache, settings.read, settings.write)),
                Err(warning) => warnings.push(warning),
            }
        }
        let epoch = config.cache_epoch.clone().unwrap_or_default();
        for (cache, _, _) in caches.iter().filter(|(_, _, write)| *write) {
            self.uploads.add(Destination {
                cache: Arc::clone(cache),
                epoch: epoch.clone(),
                max_age: config.uploads.max_age,
            });
        }
        let question = Question {
            platform: caller.platform.to_owned(),
            epoch,
            largest: self.store.max_size(),
        };
        let session = Session::new(
            (Arc::clone(&self.store), runtime.handle().clone()),
            caches,
            question,
            (Arc::clone(&self.ranking), Arc::clone(&self.backfill)),
            warnings,
        );
        // Something may have been left by an earlier coordinator.
        self.uploads.call(runtime.handle());
        Some(Arc::new(session))
    }

    /// The origins whose stored results a caller may use.
    pub fn origins(&self, caller: &Caller<'_>) -> OriginFilter {
        let readable = caller.config.caches.iter().filter(|(_, settings)| settings.read);
        // What is wrong with a definition is told by a run.
        let caches = readable.filter_map(|(name, settings)| self.cache(name, settings, caller).ok());
        OriginFilter::with_remote(caches.flat_map(|cache| cache.origins()).collect::<Vec<_>>())
    }

    /// Measures what every cache of a caller takes for a small read, the fastest first; with whether each is read and written. Blocks for
    /// seconds at most.
    ///
    /// # Errors
    /// When the system has no threads.
    pub fn measure(&self, caller: &Caller<'_>) -> io::Result<(Vec<Measured>, Vec<Warning>)> {
        let runtime = self.runtime()?;
        let mut warnings = Vec::new();
        let mut caches = Vec::new();
        let mut readable = Vec::new();
        for (name, settings) in &caller.config.caches {
            match self.cache(name, settings, caller) {
                Ok(cache) => {
                    if settings.read {
                        readable.push(Arc::clone(&cache));
                    }
                    caches.push((cache, settings));
                }
                Err(warning) => warnings.push(warning),
            }
        }
        let others: Vec<Arc<Cache>> = caches
            .iter()
            .map(|(cache, _)| Arc::clone(cache))
            .filter(|cache| !readable.iter().any(|other| other.id == cache.id))
            .collect();
        let took = runtime.block_on(async {
            let (first, second) = tokio::join!(self.ranking.measure(&readable), probe_all(&others));
            [first, second].concat()
        });
        let mut measured: Vec<Measured> = caches
            .into_iter()
            .filter_map(|(cache, settings)| {
                let latency = took.iter().find(|latency| latency.cache.id == cache.id)?;
                Some(Measured {
                    name: cache.name.clone(),
                    uri: settings.uri.as_ref().map(ToString::to_string).unwrap_or_default(),
                    read: settings.read,
                    write: settings.write,
                    took: latency.took.clone(),
                })
            })
            .collect();
        measured.sort_by_key(|measured| measured.took.as_ref().ok().copied().unwrap_or(Duration::MAX));
        Ok((measured, warnings))
    }

    /// Removes all results of these keys that there are now, here and in the caches of a caller that are written; with caches that cannot be
    /// used. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written, or when the system has no threads.
    pub fn purge(
        &self,
        caller: &Caller<'_>,
        keys: &[Digest],
    ) -> Result<(purge::Purged, Vec<Warning>), StoreError> {
        let runtime = self
            .runtime()
            .map_err(|error| StoreError::io("use remote caches of", self.store.home(), error))?;
        let mut warnings = Vec::new();
        let mut targets = Vec::new();
        for (name, settings) in &caller.config.caches {
            if !settings.read && !settings.write {
                continue;
            }
            match self.cache(name, settings, caller) {
                Ok(cache) => targets.push(purge::Target {
                    cache,
                    uri: settings.uri.as_ref().map(ToString::to_string).unwrap_or_default(),
                    write: settings.write,
                }),
                Err(warning) => warnings.push(warning),
            }
        }
        let purged = runtime.block_on(purge::purge(&self.store, targets, keys))?;
        Ok((purged, warnings))
    }

    /// Where results of a caller's caches come from, by origin, and what those caches that are read have for a key. Blocks.
    ///
    /// # Errors
    /// When the system has no threads.
    pub fn provenance(
        &self,
        caller: &Caller<'_>,
        key: &Digest,
    ) -> io::Result<(HashMap<Digest, Source>, Vec<Seen>)> {
        let used = |caches: &mut dyn Iterator<Item = (&String, &Settings)>| -> Vec<Arc<Cache>> {
            // What is wrong with a definition is told by a run.
            caches
                .filter_map(|(name, settings)| self.cache(name, settings, caller).ok())
                .collect()
        };
        let all = used(&mut caller.config.caches.iter());
        let mut readable = caller.config.caches.iter().filter(|(_, settings)| settings.read);
        let readable = used(&mut readable);
        if readable.is_empty() {
            return Ok((provenance::sources(&all), Vec::new()));
        }
        let seen = self.runtime()?.block_on(provenance::look(&readable, key));
        Ok((provenance::sources(&all), seen))
    }

    /// Results were queued: they are sent in the background.
    pub fn send(&self) {
        if let Some(runtime) = self.runtime.get() {
            self.uploads.call(runtime.handle());
        }
    }

    /// Waits for what is queued, then for what faster caches are given, at most so long or until `is_over`, and tells what of the queue is
    /// left. Blocks.
    pub fn drain(&self, patience: Duration, mut is_over: impl FnMut() -> bool) -> Waiting {
        let Some(runtime) = self.runtime.get() else {
            return Waiting::default();
        };
        let deadline = Instant::now() + patience;
        let waiting = self.uploads.drain(runtime.handle(), patience, &mut is_over);
        while self.backfill.left() > 0 && Instant::now() < deadline && !is_over() {
            self.backfill.settle(runtime.handle(), LOOK_AGAIN);
        }
        waiting
    }

    /// The caches that were used and are still known, by name.
    pub fn conditions(&self) -> Vec<Condition> {
        let mut kept: Vec<(Arc<Cache>, Instant)> = lock(&self.caches)
            .values()
            .map(|kept| (Arc::clone(&kept.cache), kept.used))
            .collect();
        // Of one with several credentials, that of the last caller.
        kept.sort_by(|(one, first), (other, second)| {
            (&one.name, &one.id, second).cmp(&(&other.name, &other.id, first))
        });
        kept.dedup_by(|(one, _), (other, _)| one.id == other.id);
        let condition = |cache: &Cache| Condition {
            name: cache.name.clone(),
            uri: cache.uri().to_owned(),
            scope: cache.scope.clone(),
            latency: cache.observed().map(Duration::from_micros),
            reading: cache.reading.cause().map(|cause| (cause, cache.reading.rest())),
            writing: cache.writing.cause().map(|cause| (cause, cache.writing.rest())),
        };
        kept.iter().map(|(cache, _)| condition(cache)).collect()
    }

    /// Whether uploads to a cache can be sent, by its name in the queue.
    pub fn knows(&self, id: &str) -> bool {
        self.uploads.knows(id)
    }

    /// What is queued.
    pub fn waiting(&self) -> Waiting {
        self.uploads.waiting()
    }

    fn runtime(&self) -> io::Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let made = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("heph-remote")
            .enable_all()
            .build()?;
        Ok(self.runtime.get_or_init(|| made))
    }

    fn cache(&self, name: &str, settings: &Settings, caller: &Caller<'_>) -> Result<Arc<Cache>, Warning> {
        let scopes = scopes(name, settings, caller.branch)?;
        let access = Access::new(settings, caller.environment.clone());
        let id = identity(name, settings, &scopes, &access);
        let now = Instant::now();
        if let Some(known) = lock(&self.caches).get_mut(&id) {
            known.used = now;
            return Ok(Arc::clone(&known.cache));
        }
        let unusable = |error: RemoteError| Warning {
            message: format!("cache '{name}' is not used: {error}"),
            hint: format!(
                "correct caches.{name}, or set caches.{name}.read and caches.{name}.write to false"
            ),
        };
        let cache = Arc::new(Cache::open(name, settings, scopes, &access).map_err(unusable)?);
        let mut caches = lock(&self.caches);
        caches.insert(
            id,
            Kept {
                cache: Arc::clone(&cache),
                used: now,
            },
        );
        self.uploads.prune(MOST_KEPT);
        prune(&mut caches, &cache.id);
        Ok(cache)
    }
}

/// Lets go of what nobody uses: the same cache with credentials that have been replaced, and what was not asked for for longest.
fn prune(caches: &mut HashMap<Digest, Kept>, id: &str) {
    let newest = caches
        .values()
        .filter(|kept| kept.cache.id == id)
        .map(|kept| kept.used);
    let newest = newest.max();
    let is_used = |kept: &Kept| Arc::strong_count(&kept.cache) > 1;
    caches.retain(|_, kept| kept.cache.id != id || Some(kept.used) == newest || is_used(kept));
    while caches.len() > MOST_KEPT {
        let unused = caches.iter().filter(|(_, kept)| !is_used(kept));
        let oldest = unused.min_by_key(|(_, kept)| kept.used).map(|(id, _)| *id);
        match oldest {
            Some(oldest) => drop(caches.remove(&oldest)),
            None => return,
        }
    }
}

impl Drop for Remotes {
    /// A process that ends does not wait for servers.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The scope that is written, and those that are read.
fn scopes(
    name: &str,
    settings: &Settings,
    branch: &dyn Fn() -> Option<String>,
) -> Result<(String, Vec<String>), Warning> {
    let resolve = |scope: &String| {
        if !scope.contains(BRANCH) {
            return Ok(scope.clone());
        }
        let branch = branch().ok_or_else(|| Warning {
            message: format!(
                "cache '{name}' is not used: its scope is '{scope}', and no branch is checked out"
            ),
            hint: format!("check out a branch, or set caches.{name}.scope to a name"),
        })?;
        Ok(scope.replace(BRANCH, &branch))
    };
    let own = resolve(&settings.scope)?;
    let read = settings
        .read_scopes
        .iter()
        .map(resolve)
        .collect::<Result<_, _>>()?;
    Ok((own, read))
}

/// Names a connection: two that differ in nothing here are one.
fn identity(name: &str, settings: &Settings, scopes: &(String, Vec<String>), access: &Access) -> Digest {
    let location = settings.uri.as_ref().and_then(|uri| Location::parse(uri).ok());
    let variables = location.map(|location| credential_variables(&location, &settings.credentials));
    let variables = variables.unwrap_or_default();
    let mut parts = vec![
        name.as_bytes().to_vec(),
        // The text of a URI hides its password when it is shown, but not here.
        serde_json::to_vec(settings).unwrap_or_default(),
        scopes.0.as_bytes().to_vec(),
    ];
    parts.extend(scopes.1.iter().map(|scope| scope.as_bytes().to_vec()));
    for variable in variables {
        let value = access.variable(&variable).unwrap_or_default().as_bytes().to_vec();
        parts.extend([variable.into_bytes(), value]);
    }
    Digest::of_parts(parts)
}

#[cfg(test)]
mod tests {
    use heph_common::config::{Base, parse};

    use super::*;
    use crate::options::StoreOptions;

    #[test]
    fn caches_of_credentials_that_were_replaced_are_let_go() {
        let home = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(home.path(), StoreOptions::default()).unwrap());
        let config = |scope: &str| {
            let text = format!("caches:\n  shared:\n    uri: s3://bucket/x\n    scope: {scope}\n");
            parse(".hephconfig", &text, Base::default()).unwrap().config
        };
        let remotes = Remotes::new(store, &home.path().join("state"), &config("main").uploads);
        let session = |config: &Config, token: usize| {
            let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
            let environment = names.map(|name| (name.to_owned(), format!("{name}{token}")));
            remotes.session(&Caller {
                config,
                environment: &environment.into(),
                branch: &|| None,
                platform: "p",
            })
        };
        let kept = || lock(&remotes.caches).len();
        let main = config("main");
        let held = session(&main, 0);
        for token in 1..50 {
            assert!(session(&main, token).is_some());
        }
        // That of the last caller, the one before, whose place in the queue it has taken, and the one that is in use.
        assert!((2..=3).contains(&kept()), "{}", kept());
        assert_eq!(remotes.conditions().len(), 1);
        assert!(
            remotes
                .session(&Caller {
                    config: &main,
                    environment: &BTreeMap::new(),
                    branch: &|| None,
                    platform: "p"
                })
                .is_some()
        );
        drop(held);

        for branch in 0..3 * MOST_KEPT {
            session(&config(&format!("branch-{branch}")), 0);
        }
        assert!(kept() <= MOST_KEPT + 1, "{}", kept());
    }
}
