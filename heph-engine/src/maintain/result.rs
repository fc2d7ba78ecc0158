//! `heph tool cache inspect`: one result, and where it came from.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use heph_cache::remote::provenance::{Seen, Source, State};
use heph_cache::{Manifest, Origin, SandboxMode};
use heph_common::{Digest, Exit};
use heph_proto::{RunError, StoreInspect};
use serde::Serialize;

use super::remote::read;
use super::{fail, json, key_of, stored};
use crate::engine::Engine;
use crate::inspect::{Output, Part, VERSION};
use crate::problem::Problem;
use crate::product::Product;

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    key: String,
    kind: &'a str,
    address: &'a str,
    platform: &'a str,
    sandbox: Option<&'static str>,
    producer: &'a str,
    created_unix_ms: u64,
    duration_ms: u64,
    exit_code: i32,
    log: Option<Log>,
    outputs: Vec<Output<'a>>,
    parts: Option<Vec<Part>>,
    stored: Vec<Stored>,
    caches: Vec<InCache>,
    purged_until_unix_ms: Option<u64>,
}

#[derive(Serialize)]
struct Log {
    digest: String,
    size: u64,
}

/// A result in the store.
#[derive(Serialize)]
struct Stored {
    /// `local`, `remote`, or `unknown`: of a cache that is not configured (any more).
    origin: &'static str,
    cache: Option<String>,
    uri: Option<String>,
    scope: Option<String>,
    signer: Option<String>,
    created_unix_ms: u64,
    producer: String,
    outputs_digest: String,
}

/// What a cache has.
#[derive(Serialize)]
struct InCache {
    cache: String,
    uri: String,
    scope: String,
    state: &'static str,
    signer: Option<String>,
    created_unix_ms: Option<u64>,
    written_unix_ms: Option<u64>,
    producer: Option<String>,
    outputs_digest: Option<String>,
    purged_until_unix_ms: Option<u64>,
    error: Option<String>,
}

pub(super) fn result(engine: &Engine, config: &[u8], wanted: &StoreInspect) -> Result<Vec<u8>, RunError> {
    let key = key_of(&wanted.key)?;
    let config = read(config)?;
    let environment: BTreeMap<String, String> = wanted.environment.clone().into_iter().collect();
    let store = engine.store();
    // What was just made may wait for its commit.
    stored(store.flush())?;
    let mut results = stored(store.results(&key))?;
    results.sort_by_key(|(origin, _)| *origin != Origin::Local);
    let looked = engine.provenance(&config, &environment, Path::new(&wanted.root), &key);
    let (sources, seen) = looked.unwrap_or_else(|error| {
        tracing::warn!("remote caches are not asked: {error}");
        (HashMap::new(), Vec::new())
    });
    let there = seen.iter().find_map(|seen| match &seen.state {
        State::Result(manifest, _) => Some(&**manifest),
        _ => None,
    });
    let manifest = results.first().map(|(_, manifest)| manifest).or(there);
    let manifest: &Manifest = manifest.ok_or_else(|| {
        let problem = Problem::new(format!(
            "neither the store nor a remote cache has a result with the key {key}"
        ));
        fail(Exit::Failure, problem)
    })?;
    let parts = stored(store.parts(&key))?;
    let product = Product::of(manifest);
    json(&Document {
        version: VERSION,
        key: key.to_hex(),
        kind: &manifest.kind,
        address: &manifest.address,
        platform: &manifest.platform,
        sandbox: match manifest.sandbox {
            SandboxMode::Unspecified => None,
            SandboxMode::Strict => Some("strict"),
            SandboxMode::Standard => Some("standard"),
            SandboxMode::Off => Some("off"),
        },
        producer: &manifest.producer,
        created_unix_ms: manifest.created_unix_ms,
        duration_ms: u64::try_from(manifest.duration.as_millis()).unwrap_or(u64::MAX),
        exit_code: manifest.exit_code,
        log: manifest.log.map(|log| Log {
            digest: log.digest.to_hex(),
            size: log.size,
        }),
        outputs: Output::made(&product),
        parts: parts.map(|parts| parts.into_iter().map(Part::from).collect()),
        stored: results
            .iter()
            .map(|(origin, manifest)| in_store(*origin, manifest, &sources))
            .collect(),
        caches: seen.iter().map(in_cache).collect(),
        purged_until_unix_ms: stored(store.purged_until(&key))?,
    })
}

fn in_store(origin: Origin, manifest: &Manifest, sources: &HashMap<Digest, Source>) -> Stored {
    let (origin, source) = match origin {
        Origin::Local => ("local", None),
        Origin::Remote(digest) => match sources.get(&digest) {
            Some(source) => ("remote", Some(source.clone())),
            None => ("unknown", None),
        },
    };
    Stored {
        origin,
        cache: source.as_ref().map(|source| source.cache.clone()),
        uri: source.as_ref().map(|source| source.uri.clone()),
        scope: source.as_ref().map(|source| source.scope.clone()),
        signer: source.and_then(|source| source.signer),
        created_unix_ms: manifest.created_unix_ms,
        producer: manifest.producer.clone(),
        outputs_digest: manifest.outputs_digest().to_hex(),
    }
}

fn in_cache(seen: &Seen) -> InCache {
    let source = seen.source.clone();
    let mut shown = InCache {
        cache: source.cache,
        uri: source.uri,
        scope: source.scope,
        state: "absent",
        signer: source.signer,
        created_unix_ms: None,
        written_unix_ms: None,
        producer: None,
        outputs_digest: None,
        purged_until_unix_ms: None,
        error: None,
    };
    match &seen.state {
        State::Absent => {}
        State::Result(manifest, written) => {
            shown.state = "result";
            shown.created_unix_ms = Some(manifest.created_unix_ms);
            shown.written_unix_ms = Some(*written);
            shown.producer = Some(manifest.producer.clone());
            shown.outputs_digest = Some(manifest.outputs_digest().to_hex());
        }
        State::Purged(until) => {
            shown.state = "purged";
            shown.purged_until_unix_ms = Some(*until);
        }
        State::Refused(why) => (shown.state, shown.error) = ("refused", Some(why.clone())),
        State::Failed(why) => (shown.state, shown.error) = ("failed", Some(why.clone())),
    }
    shown
}
