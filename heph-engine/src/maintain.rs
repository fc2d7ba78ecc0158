//! Work on the store of a home: answers to `heph cache …`, `heph tool clean` and `heph tool cache inspect`.
//!
//! Each answer is one JSON document; `docs/json.md` says what is in it.

mod clean;
mod remote;
mod result;

use std::time::{Duration, SystemTime};

use heph_cache::{Store, StoreError};
use heph_common::{Digest, Exit, Home};
use heph_proto::maintain_request::What;
use heph_proto::{MaintainRequest, RunError};
use serde::Serialize;

use crate::engine::{Engine, wire_error};
use crate::inspect::{VERSION, store_error};
use crate::problem::Problem;

/// Files on their way into the store that are older than this belong to nobody, though runs live.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Answers one request with a JSON document, UTF-8.
///
/// Fails when the store cannot be read or written (exit code 3), when it cannot be cleared because runs use it or a key has no
/// result (1), or when a key is none (2).
pub fn answer(engine: &Engine, request: &MaintainRequest) -> Result<Vec<u8>, RunError> {
    let what = request
        .what
        .as_ref()
        .ok_or_else(|| fail(Exit::Usage, Problem::new("the request asks for nothing")))?;
    let home = Home::at(engine.home());
    match what {
        What::Statistics(_) => statistics(engine.store(), &home),
        What::Collect(_) => collect(engine.store()),
        What::Clear(_) => clear(engine.store()),
        What::Clean(_) => clean(engine.store(), &home),
        What::Inspect(inspect) => result::result(engine, &request.config, inspect),
        What::Flush(wanted) => remote::flush(engine, &request.config, wanted),
        What::MeasureLatency(wanted) => remote::measure_latency(engine, &request.config, wanted),
        What::Purge(wanted) => remote::purge(engine, &request.config, wanted),
    }
}

fn fail(exit: Exit, problem: Problem) -> RunError {
    wire_error(exit, vec![problem])
}

fn stored<T>(result: Result<T, StoreError>) -> Result<T, RunError> {
    result.map_err(|error| match &error {
        StoreError::InUse { .. } => fail(
            Exit::Failure,
            Problem {
                hint: error.hint(),
                ..Problem::new(format!("failed to {error}"))
            },
        ),
        error => store_error(error),
    })
}

fn json<T: Serialize>(document: &T) -> Result<Vec<u8>, RunError> {
    let broken = |error| {
        fail(
            Exit::Fault,
            Problem::new(format!("the answer cannot be written as JSON: {error}")),
        )
    };
    serde_json::to_vec(document).map_err(broken)
}

fn statistics(store: &Store, home: &Home) -> Result<Vec<u8>, RunError> {
    #[derive(Serialize)]
    struct Statistics {
        version: u32,
        home: String,
        results: u64,
        blobs: u64,
        blob_bytes: u64,
        small_blobs: u64,
        index_bytes: u64,
        max_bytes: u64,
        live_runs: u64,
        generation: u64,
        uploads: u64,
        waiting: Vec<Waiting>,
        sandboxes: u64,
        sandbox_bytes: u64,
    }
    #[derive(Serialize)]
    struct Waiting {
        cache: String,
        results: u64,
        bytes: u64,
    }
    let stats = stored(store.stats())?;
    let waiting = stored(store.upload_sums())?.into_iter().map(|sum| Waiting {
        cache: sum.name().to_owned(),
        results: sum.results,
        bytes: sum.bytes,
    });
    let sandboxes = clean::measure(&home.sandbox_dir());
    json(&Statistics {
        version: VERSION,
        home: home.path().to_string_lossy().into_owned(),
        results: stats.actions,
        blobs: stats.file_blobs,
        blob_bytes: stats.file_bytes,
        small_blobs: stats.inline_blobs,
        index_bytes: stats.index_bytes,
        max_bytes: stats.max_size,
        live_runs: stats.live_runs,
        generation: stats.generation,
        uploads: stats.uploads,
        waiting: waiting.collect(),
        sandboxes: sandboxes.count,
        sandbox_bytes: sandboxes.bytes,
    })
}

#[derive(Serialize)]
struct Removed {
    version: u32,
    removed_results: u64,
    removed_blobs: u64,
    freed_bytes: u64,
    kept_bytes: u64,
    marked_results: u64,
}

fn collect(store: &Store) -> Result<Vec<u8>, RunError> {
    let collected = stored(store.collect_garbage(None))?;
    let swept = stored(store.sweep())?;
    json(&Removed {
        version: VERSION,
        removed_results: collected.actions + swept.actions,
        removed_blobs: collected.blobs + swept.blobs,
        freed_bytes: collected.bytes + swept.bytes,
        kept_bytes: kept(store)?,
        marked_results: collected.doomed + swept.doomed,
    })
}

fn clear(store: &Store) -> Result<Vec<u8>, RunError> {
    let results = stored(store.stats())?.actions;
    let cleared = stored(store.clear())?;
    json(&Removed {
        version: VERSION,
        removed_results: results,
        removed_blobs: cleared.blobs,
        freed_bytes: cleared.bytes,
        kept_bytes: kept(store)?,
        marked_results: 0,
    })
}

/// Bytes that the store takes now.
fn kept(store: &Store) -> Result<u64, RunError> {
    let stats = stored(store.stats())?;
    Ok(stats.file_bytes + stats.index_bytes)
}

fn clean(store: &Store, home: &Home) -> Result<Vec<u8>, RunError> {
    #[derive(Serialize)]
    struct Cleaned {
        version: u32,
        removed_sandboxes: u64,
        freed_bytes: u64,
    }
    let live = stored(store.stats())?.live_runs;
    let sandboxes = clean::sandboxes(&home.sandbox_dir());
    let staged = clean::older_than(
        &home.stage_dir(),
        match live {
            0 => SystemTime::now(),
            _ => SystemTime::now() - ABANDONED,
        },
    );
    json(&Cleaned {
        version: VERSION,
        removed_sandboxes: sandboxes.count,
        freed_bytes: sandboxes.bytes + staged.bytes,
    })
}

fn key_of(text: &str) -> Result<Digest, RunError> {
    text.trim().parse().map_err(|_| {
        let problem = Problem::new(format!("'{}' is not a key", text.escape_debug()));
        fail(
            Exit::Usage,
            problem.hint("a key is 64 hex digits, as heph inspect hashin prints it"),
        )
    })
}
