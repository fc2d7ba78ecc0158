//! Work on the remote caches of a caller: `heph cache flush` and `purge`, `heph tool cache measure-latency`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use heph_common::config::Config;
use heph_common::{Digest, Exit};
use heph_proto::{MeasureLatency, RunError, StoreFlush, StorePurge};
use serde::Serialize;

use super::{fail, json, key_of, stored};
use crate::engine::Engine;
use crate::inspect::VERSION;
use crate::problem::Problem;

pub(super) fn read(config: &[u8]) -> Result<Config, RunError> {
    serde_json::from_slice(config).map_err(|error| {
        let message = format!("the request's configuration cannot be read: {error}");
        fail(Exit::Usage, Problem::new(message))
    })
}

pub(super) fn flush(engine: &Engine, config: &[u8], wanted: &StoreFlush) -> Result<Vec<u8>, RunError> {
    #[derive(Serialize)]
    struct Flushed {
        version: u32,
        left: u64,
        unknown: u64,
        resting: Vec<Resting>,
    }
    #[derive(Serialize)]
    struct Resting {
        cache: String,
        cause: String,
        hint: String,
    }
    let config = read(config)?;
    let patience = match wanted.timeout_ms {
        0 => config.uploads.drain_timeout,
        given => Duration::from_millis(given),
    };
    let environment: BTreeMap<String, String> = wanted.environment.clone().into_iter().collect();
    let waiting = engine.flush_uploads(&config, &environment, Path::new(&wanted.root), patience);
    let resting = waiting.resting.into_iter().map(|resting| Resting {
        cache: resting.cache,
        cause: resting.cause,
        hint: resting.hint,
    });
    json(&Flushed {
        version: VERSION,
        left: waiting.known,
        unknown: waiting.unknown,
        resting: resting.collect(),
    })
}

/// What each cache takes for a small read.
pub(super) fn measure_latency(
    engine: &Engine,
    config: &[u8],
    wanted: &MeasureLatency,
) -> Result<Vec<u8>, RunError> {
    #[derive(Serialize)]
    struct Document {
        version: u32,
        caches: Vec<Latency>,
        unusable: Vec<String>,
    }
    #[derive(Serialize)]
    struct Latency {
        name: String,
        uri: String,
        read: bool,
        write: bool,
        latency_us: Option<u64>,
        error: Option<String>,
    }
    let config = read(config)?;
    let environment: BTreeMap<String, String> = wanted.environment.clone().into_iter().collect();
    let measured = engine.measure_latency(&config, &environment, Path::new(&wanted.root));
    let (measured, warnings) = measured.map_err(|error| {
        fail(
            Exit::Fault,
            Problem::new(format!("failed to start threads for requests: {error}")),
        )
    })?;
    let caches = measured.into_iter().map(|measured| Latency {
        latency_us: measured.took.as_ref().ok().map(|took| took.as_micros() as u64),
        error: measured.took.as_ref().err().map(ToString::to_string),
        name: measured.name,
        uri: measured.uri,
        read: measured.read,
        write: measured.write,
    });
    json(&Document {
        version: VERSION,
        caches: caches.collect(),
        unusable: warnings.into_iter().map(|warning| warning.message).collect(),
    })
}

/// Removes results here and from the caches that are written.
pub(super) fn purge(engine: &Engine, config: &[u8], wanted: &StorePurge) -> Result<Vec<u8>, RunError> {
    #[derive(Serialize)]
    struct Document {
        version: u32,
        keys: Vec<String>,
        removed_results: u64,
        caches: Vec<InCache>,
        unusable: Vec<Problem>,
    }
    #[derive(Serialize)]
    struct InCache {
        name: String,
        uri: String,
        scope: String,
        write: bool,
        marked: u64,
        found: u64,
        error: Option<String>,
        hint: Option<String>,
    }
    #[derive(Serialize)]
    struct Problem {
        error: String,
        hint: String,
    }
    let config = read(config)?;
    let environment: BTreeMap<String, String> = wanted.environment.clone().into_iter().collect();
    let mut keys = BTreeSet::new();
    for key in &wanted.keys {
        keys.insert(key_of(key)?);
    }
    for address in &wanted.addresses {
        let revisions = stored(engine.store().revisions(&wanted.root, address))?;
        keys.extend(revisions.into_iter().map(|revision| revision.key));
    }
    let keys: Vec<Digest> = keys.into_iter().collect();
    let purged = engine.purge(&config, &environment, Path::new(&wanted.root), &keys);
    let (purged, warnings) = stored(purged)?;
    let caches = purged.caches.into_iter().map(|cache| {
        let (error, hint) = cache.failure.unzip();
        InCache {
            name: cache.name,
            uri: cache.uri,
            scope: cache.scope,
            write: cache.write,
            marked: cache.marked,
            found: cache.found,
            error,
            hint,
        }
    });
    let unusable = warnings.into_iter().map(|warning| Problem {
        error: warning.message,
        hint: warning.hint,
    });
    json(&Document {
        version: VERSION,
        keys: keys.iter().map(|key| key.to_hex()).collect(),
        removed_results: purged.removed,
        caches: caches.collect(),
        unusable: unusable.collect(),
    })
}
