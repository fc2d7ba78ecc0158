//! Why a target would run: what its key has that no earlier one had.

use heph_cache::History;
use heph_common::Digest;
use heph_proto::{ExecutionReason, HistoryRequest, LastExecution};
use serde::Serialize;

use super::walk::{Knowledge, Known, Walk};
use super::{Answer, VERSION, json};
use crate::keying::is_input;
use crate::miss::{Change, nearest};
use crate::problem::Problem;
use crate::run::Prepared;

#[derive(Serialize)]
struct Miss {
    version: u32,
    address: String,
    status: &'static str,
    key: Option<String>,
    nearest: Option<Nearest>,
    differences: Vec<Difference>,
    missing: Vec<String>,
    last_execution: Option<Executed>,
}

#[derive(Serialize)]
struct Executed {
    run: String,
    selector: String,
    started_unix_ms: u64,
    wall_us: u64,
    reason: Option<&'static str>,
    failed: bool,
}

#[derive(Serialize)]
struct Nearest {
    key: String,
    created_unix_ms: u64,
}

#[derive(Serialize)]
struct Difference {
    label: String,
    change: &'static str,
    before: Option<String>,
    now: Option<String>,
}

impl From<Change> for Difference {
    fn from(change: Change) -> Self {
        let kind = match (&change.before, &change.now) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        let hex = |digest: Option<Digest>| digest.map(|digest| digest.to_hex());
        Self {
            label: change.label,
            change: kind,
            before: hex(change.before),
            now: hex(change.now),
        }
    }
}

/// Why the selected target would run.
pub(super) fn miss(prepared: &Prepared, known: &Known<'_>, history: &History) -> Answer {
    let walk = Walk::new(prepared, known)?;
    let store = known.store;
    let id = *prepared
        .selected
        .first()
        .ok_or_else(|| Problem::new("no target is selected"))?;
    let definition = &prepared.graph.node(id).definition;
    if let Some((_, problem)) = walk.wrong_needs(id).next() {
        return Err(problem.clone().at(definition.place.clone()).into());
    }
    if let Knowledge::Wrong(problem) = walk.knowledge(id) {
        return Err(problem.clone().into());
    }
    let (key, parts) = walk.key(id)?;
    let missing = walk.missing(id);
    let address = definition.address.to_string();
    let may_run = prepared.graph.node(id).is_action();
    let mut document = Miss {
        version: VERSION,
        status: "hit",
        key: key.map(|key| key.to_hex()),
        nearest: None,
        differences: Vec::new(),
        missing: missing.iter().map(ToString::to_string).collect(),
        last_execution: may_run
            .then(|| last_execution(history, prepared, &address))
            .flatten(),
        address,
    };
    if !definition.cache.enabled {
        document.status = "uncached";
    } else if !matches!(walk.knowledge(id), Knowledge::Known) {
        let revisions = store.revisions(&prepared.root.to_string_lossy(), &document.address)?;
        document.status = match (missing.is_empty(), revisions.is_empty()) {
            (false, _) => "unknown",
            (true, true) => "new",
            (true, false) => "differs",
        };
        // What a target without result would give is not gone, it is only not there yet.
        let is_told =
            |change: &Change| missing.is_empty() || change.now.is_some() || !is_input(&change.label);
        let same = revisions
            .iter()
            .find(|revision| Some(revision.key) == key)
            .map(|revision| (revision, Vec::new()));
        if same.is_some() {
            document.status = "gone";
        }
        if let Some((revision, changes)) = same.or_else(|| nearest(&revisions, &parts, is_told)) {
            document.nearest = Some(Nearest {
                key: revision.key.to_hex(),
                created_unix_ms: revision.time_unix_ms,
            });
            document.differences = changes.into_iter().map(Difference::from).collect();
        }
    }
    json(&document)
}

/// When the target was executed last. The history may be lost: then that is not known.
fn last_execution(history: &History, prepared: &Prepared, address: &str) -> Option<Executed> {
    let request = HistoryRequest {
        root: prepared.root.to_string_lossy().into_owned(),
        address: address.to_owned(),
        ..HistoryRequest::default()
    };
    let reply = history.ask(&request);
    let LastExecution { run, execution } = reply
        .inspect_err(|error| tracing::warn!("failed to {error}"))
        .ok()?
        .last_execution?;
    let (run, execution) = (run?, execution?);
    Some(Executed {
        run: run.id,
        selector: run.selector,
        started_unix_ms: run.started_unix_ms,
        wall_us: execution.wall_us,
        reason: reason(execution.reason()),
        failed: execution.failed,
    })
}

/// Why a target was executed, as documents say it.
fn reason(reason: ExecutionReason) -> Option<&'static str> {
    match reason {
        ExecutionReason::Unspecified => None,
        ExecutionReason::New => Some("new"),
        ExecutionReason::Changed => Some("changed"),
        ExecutionReason::Forced => Some("forced"),
        ExecutionReason::Uncached => Some("uncached"),
        ExecutionReason::Gone => Some("gone"),
    }
}
