//! Where a result came from: which cache, which scope, whose signature, and what the caches have now.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use heph_common::Digest;

use super::backend::Object;
use super::cache::{Cache, Lane};
use super::purge::KINDS;
use super::{envelope, tombstone};
use crate::manifest::Manifest;

/// A place that results are read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// Name of the cache.
    pub cache: String,
    /// Its URI without a password.
    pub uri: String,
    /// The trust scope.
    pub scope: String,
    /// Id of the accepted key that signed; `None` when nobody did.
    pub signer: Option<String>,
}

/// What a cache has for a key.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where; the signer is that of the result.
    pub source: Source,
    /// What is there.
    pub state: State,
}

/// What is in the place of a result.
#[derive(Clone, Debug)]
pub enum State {
    /// A result, and when it was written there, in milliseconds since 1970.
    Result(Box<Manifest>, u64),
    /// The mark of a purge: what was made until then, in milliseconds since 1970, is not used.
    Purged(u64),
    /// Nothing.
    Absent,
    /// Something that is not used, and why.
    Refused(String),
    /// The cache did not answer, and why.
    Failed(String),
}

/// Every place that these caches stand for, by its origin.
pub(super) fn sources(caches: &[Arc<Cache>]) -> HashMap<Digest, Source> {
    let mut sources = HashMap::new();
    for cache in caches {
        for scope in cache.read_scopes.iter().chain([&cache.scope]) {
            let signers = cache.verifier.ids().map(Some).chain([None]);
            for signer in signers {
                sources.insert(cache.origin(scope, signer), source(cache, scope, signer));
            }
        }
    }
    sources
}

/// What these caches have for a key, in each scope that is read.
pub(super) async fn look(caches: &[Arc<Cache>], key: &Digest) -> Vec<Seen> {
    let places = caches
        .iter()
        .flat_map(|cache| cache.read_scopes.iter().map(move |scope| (cache, scope)));
    let places = places.flat_map(|(cache, scope)| KINDS.iter().map(move |kind| (cache, scope, *kind)));
    join_all(places.map(|(cache, scope, kind)| look_at(cache, scope, kind, key))).await
}

async fn look_at(cache: &Cache, scope: &str, kind: &str, key: &Digest) -> Seen {
    let object = Object::Action {
        scope: scope.to_owned(),
        kind: kind.to_owned(),
        key: *key,
    };
    let (state, signer) = match cache.get(Lane::Metadata, &object, envelope::LARGEST).await {
        Err(error) => (
            State::Failed(format!("it {}: {error}", error.kind.summary())),
            None,
        ),
        Ok(None) => (State::Absent, None),
        Ok(Some(bytes)) => match envelope::look(bytes.clone(), &cache.verifier) {
            Ok(found) if found.manifest.key == *key && found.scope == scope => (
                State::Result(Box::new(found.manifest), found.written_unix_ms),
                found.signer,
            ),
            Ok(_) => (State::Refused("it is about another action".to_owned()), None),
            Err(why) => match tombstone::open(bytes, key, scope, &cache.verifier) {
                Ok(Some(until)) => (State::Purged(until), None),
                Ok(None) | Err(_) => (State::Refused(why), None),
            },
        },
    };
    Seen {
        source: source(cache, scope, signer.as_deref()),
        state,
    }
}

fn source(cache: &Cache, scope: &str, signer: Option<&str>) -> Source {
    Source {
        cache: cache.name.clone(),
        uri: cache.uri().to_owned(),
        scope: scope.to_owned(),
        signer: signer.map(str::to_owned),
    }
}
