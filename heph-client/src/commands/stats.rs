//! `heph stats`

use std::time::Duration;

use heph_common::{Exit, clock};
use heph_proto::{HistoryReply, HistoryRequest, RunRecord, SandboxMode, Summary, TargetTotals};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::Result;
use crate::render::json::VERSION;
use crate::service;
use crate::views;
use crate::workspace::Workspace;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Shows what the last runs did: how much came from the store, what took longest, what ran most often.
#[derive(clap::Args, Debug)]
#[command(after_help = "The last 1000 runs of 30 days are kept, of this build of heph.")]
pub struct StatsArgs {
    /// Only runs of the last N days.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// Runs of all workspaces that share the home.
    #[arg(long)]
    all: bool,
    /// Runs and targets that are listed.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    lines: u32,
}

pub(super) fn run(context: &Context, args: &StatsArgs) -> Result<Exit> {
    let workspace = Workspace::open_or_home(context)?;
    let root = workspace.message.root.as_str();
    let root = if args.all { "" } else { root };
    let now = Duration::from_millis(clock::unix_ms());
    let since = now.saturating_sub(DAY * args.days);
    let request = HistoryRequest {
        root: root.to_owned(),
        since_unix_ms: u64::try_from(since.as_millis()).unwrap_or(0),
        listed: args.lines,
        address: String::new(),
    };
    let reply = service::history(context, &workspace, &request)?;
    let document = document(&workspace, &request, &reply);
    context.show(&document, |document| {
        views::history(document, context.terminal.out)
    })?;
    Ok(Exit::Success)
}

/// The answer as docs/json.md describes it.
fn document(workspace: &Workspace, request: &HistoryRequest, reply: &HistoryReply) -> Value {
    let totals = reply.totals.unwrap_or_default();
    let targets = totals.targets.unwrap_or_default();
    let runs: Vec<Value> = reply.runs.iter().map(run_document).collect();
    let each = |targets: &[TargetTotals]| targets.iter().map(target_document).collect::<Vec<_>>();
    json!({
        "version": VERSION, "home": workspace.home, "root": Some(&request.root).filter(|root| !root.is_empty()),
        "since_unix_ms": request.since_unix_ms,
        "runs": {
            "count": totals.runs, "failed": totals.failed_runs, "daemon": totals.daemon_runs,
            "first_unix_ms": Some(totals.first_unix_ms).filter(|first| *first != 0), "wall_us": totals.duration_us,
        },
        "targets": targets_document(&targets, totals.uncached), "hit_rate": hit_rate(&targets),
        "command_us": totals.command_us, "saved_us": totals.saved_us,
        "slowest": each(&reply.slowest), "most_often": each(&reply.most_often), "last_runs": runs,
    })
}

fn run_document(run: &RunRecord) -> Value {
    let sandbox = match run.sandbox() {
        SandboxMode::Unspecified => None,
        SandboxMode::Strict => Some("strict"),
        SandboxMode::Standard => Some("standard"),
        SandboxMode::Off => Some("off"),
    };
    json!({
        "id": run.id, "started_unix_ms": run.started_unix_ms, "wall_us": run.duration_us, "root": run.root,
        "selector": run.selector, "mode": if run.daemon { "daemon" } else { "in-process" }, "sandbox": sandbox,
        "exit_code": run.exit_code, "targets": targets_document(&run.summary.unwrap_or_default(), run.uncached),
        "command_us": run.command_us, "saved_us": run.saved_us,
    })
}

fn targets_document(of: &Summary, uncached: u64) -> Value {
    json!({
        "total": of.total, "up_to_date": of.up_to_date, "local": of.local, "remote": of.remote,
        "executed": of.executed, "uncached": uncached, "failed": of.failed, "skipped": of.skipped,
        "cancelled": of.cancelled,
    })
}

fn target_document(of: &TargetTotals) -> Value {
    json!({
        "root": of.root, "address": of.address, "executions": of.executions, "failures": of.failures,
        "wall_us": of.wall_us, "slowest_us": of.slowest_us,
    })
}

/// Results that came from a cache, of all that were wanted and not up to date; in ten-thousandths, so that it reads well.
fn hit_rate(of: &Summary) -> Option<f64> {
    let hits = of.local + of.remote;
    let all = hits + of.executed;
    (all > 0).then(|| ((hits as f64 / all as f64) * 1e4).round() / 1e4)
}
