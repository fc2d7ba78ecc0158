//! Purging results: here, and in the caches that are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use futures_util::{TryStreamExt as _, stream};
use heph_common::Digest;

use super::backend::{Object, RemoteError, RemoteErrorKind};
use super::cache::{Cache, Lane};
use super::{envelope, tombstone};
use crate::clock;
use crate::error::StoreError;
use crate::store::Store;

/// Kinds of actions whose results are sent to caches.
pub const KINDS: &[&str] = &["target"];

/// Keys of one cache that are purged at once.
const AT_ONCE: usize = 8;

/// Of what was made by a clock that is ahead, at most so much is purged in advance, in milliseconds.
const AHEAD: u64 = 24 * 3600 * 1000;

/// What became of a purge.
#[derive(Clone, Debug, Default)]
pub struct Purged {
    /// Results that were removed from the store.
    pub removed: u64,
    /// Every cache that is read or written, by name.
    pub caches: Vec<PurgedIn>,
}

/// What became of a purge in one cache.
#[derive(Clone, Debug)]
pub struct PurgedIn {
    /// Its name.
    pub name: String,
    /// Its URI without a password.
    pub uri: String,
    /// The scope that is written to.
    pub scope: String,
    /// Whether it is written. One that is only read keeps what it has, which is not used here any more.
    pub write: bool,
    /// Keys that are marked as purged there.
    pub marked: u64,
    /// Keys of these that had a result there.
    pub found: u64,
    /// Why not all could be, and what to do.
    pub failure: Option<(String, String)>,
}

/// A cache that is to be purged.
pub(super) struct Target {
    pub cache: Arc<Cache>,
    pub uri: String,
    pub write: bool,
}

/// Removes all results of these keys that there are now. Blocks for the store, and not for caches.
///
/// # Errors
/// [`StoreError`] where the store cannot be written; nothing is purged then.
pub(super) async fn purge(
    store: &Arc<Store>,
    targets: Vec<Target>,
    keys: &[Digest],
) -> Result<Purged, StoreError> {
    let now = clock::unix_ms();
    let mut removed = 0;
    let mut jobs = Vec::with_capacity(keys.len());
    // What was just made may wait for its commit.
    store.flush()?;
    for key in keys {
        let results = store.results(key)?;
        removed += results.len() as u64;
        let made = results.iter().map(|(_, manifest)| manifest.created_unix_ms);
        let until = made.max().unwrap_or(0).clamp(now, now + AHEAD);
        store.purge(key, until)?;
        jobs.push(Job {
            key: *key,
            until,
            latest: AtomicU64::new(until),
        });
    }
    let caches = join_all(targets.iter().map(|target| purge_in(target, &jobs, now))).await;
    // What a cache had may have been made by a clock that is ahead.
    for job in jobs {
        let latest = job.latest.into_inner();
        if latest > job.until {
            store.purge(&job.key, latest)?;
        }
    }
    Ok(Purged { removed, caches })
}

/// A key on its way; times in milliseconds since 1970.
struct Job {
    key: Digest,
    /// Until when its results are purged here.
    until: u64,
    /// Until when any cache says so.
    latest: AtomicU64,
}

async fn purge_in(target: &Target, jobs: &[Job], now: u64) -> PurgedIn {
    let Target { cache, uri, write } = target;
    let (marked, found) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut outcome = Ok(());
    if *write && cache.verifier.is_required() && cache.signer.is_none() {
        let name = &cache.name;
        outcome = Err((
            format!("cache '{name}' requires signatures, and there is no key to sign with"),
            format!("set caches.{name}.signing.keyFile, or purge where results are signed"),
        ));
    } else if *write {
        let all = stream::iter(jobs.iter().map(Ok));
        let done = all.try_for_each_concurrent(AT_ONCE, async |job: &Job| {
            let (until, was_there) = mark(cache, &job.key, job.until, now).await?;
            job.latest.fetch_max(until, Ordering::AcqRel);
            marked.fetch_add(1, Ordering::AcqRel);
            found.fetch_add(u64::from(was_there), Ordering::AcqRel);
            Ok::<_, RemoteError>(())
        });
        outcome = done.await.map_err(|error| {
            let message = format!("cache '{}' {}: {error}", cache.name, error.kind.summary());
            (message, error.hint(&cache.name, &cache.location))
        });
    }
    PurgedIn {
        name: cache.name.clone(),
        uri: uri.clone(),
        scope: cache.scope.clone(),
        write: *write,
        marked: marked.into_inner(),
        found: found.into_inner(),
        failure: outcome.err(),
    }
}

/// Marks an action as purged; until when, and whether there was a result of it.
async fn mark(cache: &Cache, key: &Digest, until: u64, now: u64) -> Result<(u64, bool), RemoteError> {
    let mut until = match cache.tombstone(key).await? {
        Some((before, _)) => until.max(before),
        None => until,
    };
    let mut was_there = false;
    let actions = KINDS.iter().map(|kind| Object::Action {
        scope: cache.scope.clone(),
        kind: (*kind).to_owned(),
        key: *key,
    });
    let actions: Vec<Object> = actions.collect();
    for object in &actions {
        let there = match cache.get(Lane::Metadata, object, envelope::LARGEST).await {
            Err(error) if error.kind == RemoteErrorKind::TooLarge => None,
            other => other?,
        };
        if let Some(made) = there.and_then(tombstone::made_at) {
            was_there = true;
            until = until.max(made.min(now + AHEAD));
        }
    }
    let bytes = tombstone::seal(key, &cache.scope, until, cache.signer.as_ref());
    // Uploaders look there after they have sent something, so it has to be there first.
    let own = Object::Tombstone {
        scope: cache.scope.clone(),
        key: *key,
    };
    cache.put(&own, bytes.clone(), true).await?;
    for object in &actions {
        cache.put(object, bytes.clone(), true).await?;
    }
    Ok((until, was_there))
}
