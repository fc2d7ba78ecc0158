//! What a coordinator says of itself.

use std::time::Duration;

use heph_cache::UploadSum;
use heph_cache::remote::RemoteError;
use heph_cache::remote::remotes::Condition;
use heph_engine::engine::Engine;
use heph_proto::{CacheRest, CacheStatus, StatusReply, UploadStatus};

use crate::activity::Activity;
use crate::memory::resident_bytes;
use crate::service::Identity;

/// The whole status. Reads `/proc`; not for an async worker.
pub(crate) fn reply(engine: &Engine, activity: &Activity, identity: &Identity) -> StatusReply {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let connections = activity.load().borrow().connections;
    StatusReply {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: identity.build.name.clone(),
        home: text(engine.home()),
        started_unix_ms: identity.started_unix_ms,
        memory_bytes: resident_bytes().unwrap_or(0),
        socket: identity.socket.clone(),
        log: identity.log.clone(),
        workspaces: activity.roots().iter().map(|root| text(root)).collect(),
        warm: engine.warm_roots().iter().map(|root| text(root)).collect(),
        runs: activity.runs(),
        clients: u32::try_from(connections.saturating_sub(1)).unwrap_or(u32::MAX),
        problems: activity.problems(),
        going: activity.is_going(),
        uploads: engine.upload_sums().into_iter().map(waiting).collect(),
        caches: engine.cache_conditions().into_iter().map(condition).collect(),
    }
}

fn waiting((sum, known): (UploadSum, bool)) -> UploadStatus {
    UploadStatus {
        cache: sum.name().to_owned(),
        results: sum.results,
        bytes: sum.bytes,
        known,
    }
}

fn condition(condition: Condition) -> CacheStatus {
    let rest = |(cause, left): (RemoteError, Duration)| CacheRest {
        cause: format!("it {}: {}", cause.kind.summary(), cause.message),
        left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    };
    CacheStatus {
        name: condition.name,
        uri: condition.uri,
        scope: condition.scope,
        latency_us: condition.latency.map_or(0, |latency| latency.as_micros() as u64),
        reading: condition.reading.map(rest),
        writing: condition.writing.map(rest),
    }
}
