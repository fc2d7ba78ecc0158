//! The one line that ends a run, and the counting behind it.

use std::time::Duration;

use heph_proto::{Summary, TargetDone, TargetOutcome};

use crate::terminal::Style;
use crate::words;

/// Counts while a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Targets of the run; 0 while unknown.
    pub total: u64,
    /// Targets that have ended.
    pub done: u64,
    /// Found in the local store, or unchanged.
    pub local: u64,
    /// Found in a remote cache.
    pub remote: u64,
    /// Ran.
    pub executed: u64,
    /// Failed.
    pub failed: u64,
    /// Would run (dry run).
    pub would_run: u64,
}

impl Counts {
    /// Counts the end of a target.
    pub fn add(&mut self, target: &TargetDone) {
        self.done += 1;
        match target.outcome() {
            TargetOutcome::UpToDate | TargetOutcome::Local => self.local += 1,
            TargetOutcome::Remote => self.remote += 1,
            TargetOutcome::Executed => self.executed += 1,
            TargetOutcome::Failed => self.failed += 1,
            TargetOutcome::Skipped | TargetOutcome::Cancelled | TargetOutcome::Unspecified => {}
        }
    }

    /// Counts targets that were up to date.
    pub fn up_to_date(&mut self, count: u64) {
        self.done += count;
        self.local += count;
    }
}

/// The name of an outcome, as JSON and lines have it.
pub fn outcome_name(outcome: TargetOutcome) -> &'static str {
    match outcome {
        TargetOutcome::Unspecified => "unknown",
        TargetOutcome::UpToDate => "up-to-date",
        TargetOutcome::Local => "local",
        TargetOutcome::Remote => "remote",
        TargetOutcome::Executed => "executed",
        TargetOutcome::Failed => "failed",
        TargetOutcome::Skipped => "skipped",
        TargetOutcome::Cancelled => "cancelled",
    }
}

/// The last line of a run that only said what would run, without its end.
pub fn dry_line(would_run: u64, total: u64) -> String {
    format!("{would_run} of {} would run", words::counted(total, "target"))
}

/// The last line of a run, without its end.
pub fn line(summary: &Summary, exit_code: i32, took: Duration, style: Style) -> String {
    let took = words::duration(took);
    let all = words::counted(summary.total, "target");
    let mut parts = Vec::new();
    for (count, name) in [
        (summary.executed, "executed"),
        (summary.remote, "from a remote cache"),
        (summary.local, "from the local cache"),
        (summary.up_to_date, "up to date"),
        (summary.skipped, "skipped"),
        (summary.cancelled, "cancelled"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {name}"));
        }
    }
    let mark = |good: bool| match (style.unicode(), good) {
        (true, true) => style.good("✓ "),
        (true, false) => style.error("✗ "),
        (false, _) => String::new(),
    };
    let parts = parts.join(", ");
    let colon = |head: String| match parts.is_empty() {
        true => head,
        false => format!("{head}: {parts}"),
    };
    match exit_code {
        130 => colon(format!("{}{} after {took}", mark(false), style.bold("cancelled"))),
        _ if summary.failed > 0 => {
            let failed = format!("{} of {all} failed", summary.failed);
            colon(format!("{}{} in {took}", mark(false), style.error(&failed)))
        }
        0 if summary.total > 0 && summary.up_to_date == summary.total => {
            format!("{}{} up to date in {took}", mark(true), style.bold(&all))
        }
        0 => colon(format!("{}{} in {took}", mark(true), style.bold(&all))),
        _ => colon(format!("{}{all} in {took}", mark(false))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_what_came_of_it() {
        let line = |summary, code| line(&summary, code, Duration::from_millis(1234), Style::plain());
        let shown = [
            line(
                Summary {
                    total: 7,
                    up_to_date: 4,
                    local: 1,
                    executed: 2,
                    ..Default::default()
                },
                0,
            ),
            line(
                Summary {
                    total: 1000,
                    up_to_date: 1000,
                    ..Default::default()
                },
                0,
            ),
            line(
                Summary {
                    total: 7,
                    up_to_date: 3,
                    executed: 2,
                    failed: 1,
                    skipped: 1,
                    ..Default::default()
                },
                1,
            ),
            line(
                Summary {
                    total: 7,
                    executed: 1,
                    cancelled: 6,
                    ..Default::default()
                },
                130,
            ),
            line(
                Summary {
                    total: 1,
                    executed: 1,
                    ..Default::default()
                },
                0,
            ),
        ];
        insta::assert_snapshot!(shown.join("\n"), @"
        7 targets in 1.2s: 2 executed, 1 from the local cache, 4 up to date
        1000 targets up to date in 1.2s
        1 of 7 targets failed in 1.2s: 2 executed, 3 up to date, 1 skipped
        cancelled after 1.2s: 1 executed, 6 cancelled
        1 target in 1.2s: 1 executed
        ");
    }
}
