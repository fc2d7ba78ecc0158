//! The remote caches of one coordinator: connections that outlive runs, and the queue of uploads.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use heph_common::Digest;
use heph_common::config::{Config, RemoteCache as Settings};
use tokio::runtime::{Builder, Runtime};

use super::backend::RemoteError;
use super::cache::Cache;
use super::session::{Question, Session, Warning};
use super::uploads::{Destination, Uploads, Waiting};
use super::{Access, Location, credential_variables};
use crate::store::Store;

/// Threads that requests share; what blocks has others.
const THREADS: usize = 2;

/// What a scope says in place of the branch.
const BRANCH: &str = "${branch}";

/// The remote caches of one coordinator.
#[derive(Debug)]
pub struct Remotes {
    store: Arc<Store>,
    uploads: Arc<Uploads>,
    /// Made when the first cache is used.
    runtime: OnceLock<Runtime>,
    /// By definition and credentials.
    caches: Mutex<HashMap<Digest, Arc<Cache>>>,
}

/// Whose caches they are.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// Merged configuration.
    pub config: &'a Config,
    /// Variables of the client.
    pub environment: &'a BTreeMap<String, String>,
    /// The branch that is checked out, where one is.
    pub branch: Option<String>,
    /// The platform that results are made on and for.
    pub platform: &'a str,
}

impl Remotes {
    /// Those of a store.
    pub fn new(store: Arc<Store>) -> Self {
        Self {
            uploads: Uploads::new(Arc::clone(&store)),
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
            largest: config.cache.max_size.map_or(u64::MAX / 2, |size| size.bytes()),
        };
        let session = Session::new(
            Arc::clone(&self.store),
            runtime.handle().clone(),
            caches,
            question,
            warnings,
        );
        // Something may have been left by an earlier coordinator.
        self.uploads.call(runtime.handle());
        Some(Arc::new(session))
    }

    /// Results were queued: they are sent in the background.
    pub fn send(&self) {
        if let Some(runtime) = self.runtime.get() {
            self.uploads.call(runtime.handle());
        }
    }

    /// Waits for what is queued, at most so long or until `is_over`, and tells what is left. Blocks.
    pub fn drain(&self, patience: Duration, is_over: impl FnMut() -> bool) -> Waiting {
        match self.runtime.get() {
            Some(runtime) => self.uploads.drain(runtime.handle(), patience, is_over),
            None => Waiting::default(),
        }
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
        let scopes = scopes(name, settings, caller.branch.as_deref())?;
        let access = Access::new(settings, caller.environment.clone());
        let id = identity(name, settings, &scopes, &access);
        if let Some(known) = lock(&self.caches).get(&id) {
            return Ok(Arc::clone(known));
        }
        let unusable = |error: RemoteError| Warning {
            message: format!("cache '{name}' is not used: {error}"),
            hint: format!(
                "correct caches.{name}, or set caches.{name}.read and caches.{name}.write to false"
            ),
        };
        let cache = Arc::new(Cache::open(name, settings, scopes, &access).map_err(unusable)?);
        lock(&self.caches).insert(id, Arc::clone(&cache));
        Ok(cache)
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
fn scopes(name: &str, settings: &Settings, branch: Option<&str>) -> Result<(String, Vec<String>), Warning> {
    let resolve = |scope: &String| match (scope.contains(BRANCH), branch) {
        (false, _) => Ok(scope.clone()),
        (true, Some(branch)) => Ok(scope.replace(BRANCH, branch)),
        (true, None) => Err(Warning {
            message: format!(
                "cache '{name}' is not used: its scope is '{scope}', and no branch is checked out"
            ),
            hint: format!("check out a branch, or set caches.{name}.scope to a name"),
        }),
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
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    part(name.as_bytes());
    // The text of a URI hides its password when it is shown, but not here.
    part(&serde_json::to_vec(settings).unwrap_or_default());
    part(scopes.0.as_bytes());
    scopes.1.iter().for_each(|scope| part(scope.as_bytes()));
    let location = settings.uri.as_ref().and_then(|uri| Location::parse(uri).ok());
    let variables = location.map(|location| credential_variables(&location, &settings.credentials));
    for variable in variables.unwrap_or_default() {
        part(variable.as_bytes());
        part(access.variable(&variable).unwrap_or_default().as_bytes());
    }
    hasher.finalize().into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
