//! Sums over records.

use std::collections::HashMap;

use heph_proto::{
    Execution, HistoryReply, HistoryRequest, HistoryTotals, LastExecution, RunRecord, Summary, TargetTotals,
};

/// Gathers an answer from records that come latest first.
#[derive(Debug)]
pub(super) struct Statistics<'a> {
    request: &'a HistoryRequest,
    totals: HistoryTotals,
    targets: Summary,
    runs: Vec<RunRecord>,
    executed: HashMap<(String, String), TargetTotals>,
    last_execution: Option<LastExecution>,
}

impl<'a> Statistics<'a> {
    pub(super) fn new(request: &'a HistoryRequest) -> Self {
        Self {
            request,
            totals: HistoryTotals::default(),
            targets: Summary::default(),
            runs: Vec::new(),
            executed: HashMap::new(),
            last_execution: None,
        }
    }

    /// Takes the next older record. `false` when no other one can matter.
    pub(super) fn add(&mut self, mut record: RunRecord) -> bool {
        if record.started_unix_ms < self.request.since_unix_ms {
            return false;
        }
        if !self.request.root.is_empty() && self.request.root != record.root {
            return true;
        }
        let executions = std::mem::take(&mut record.executions);
        if !self.request.address.is_empty() {
            return self.look_for(record, executions);
        }
        self.sum(&record);
        for execution in executions {
            self.count(&record.root, execution);
        }
        if self.runs.len() < self.request.listed as usize {
            self.runs.push(record);
        }
        true
    }

    /// Whether the target's last execution may be in an older record.
    fn look_for(&mut self, run: RunRecord, executions: Vec<Execution>) -> bool {
        let address = &self.request.address;
        let found = executions.into_iter().find(|one| one.address == *address);
        // Where not all were written down, it may have been among the others: better no answer than a wrong one.
        let goes_on = found.is_none() && run.more_executions == 0;
        if let Some(execution) = found {
            self.last_execution = Some(LastExecution {
                run: Some(run),
                execution: Some(execution),
            });
        }
        goes_on
    }

    fn sum(&mut self, record: &RunRecord) {
        let totals = &mut self.totals;
        totals.runs += 1;
        totals.failed_runs += u64::from(record.exit_code != 0);
        totals.daemon_runs += u64::from(record.daemon);
        totals.first_unix_ms = record.started_unix_ms;
        totals.duration_us += record.duration_us;
        totals.command_us += record.command_us;
        totals.saved_us += record.saved_us;
        totals.uncached += record.uncached;
        let of = record.summary.unwrap_or_default();
        let sum = &mut self.targets;
        sum.total += of.total;
        sum.up_to_date += of.up_to_date;
        sum.local += of.local;
        sum.remote += of.remote;
        sum.executed += of.executed;
        sum.failed += of.failed;
        sum.skipped += of.skipped;
        sum.cancelled += of.cancelled;
    }

    fn count(&mut self, root: &str, execution: Execution) {
        let name = (root.to_owned(), execution.address);
        let target = self.executed.entry(name).or_default();
        target.executions += 1;
        target.failures += u64::from(execution.failed);
        target.wall_us += execution.wall_us;
        target.slowest_us = target.slowest_us.max(execution.wall_us);
    }

    /// The answer.
    pub(super) fn finish(self) -> HistoryReply {
        let named = |((root, address), totals)| TargetTotals {
            root,
            address,
            ..totals
        };
        let mut targets: Vec<TargetTotals> = self.executed.into_iter().map(named).collect();
        targets.sort_by(|a, b| (&a.root, &a.address).cmp(&(&b.root, &b.address)));
        let listed = self.request.listed as usize;
        let mut first = |measure: fn(&TargetTotals) -> u64| {
            targets.sort_by_key(|target| std::cmp::Reverse(measure(target)));
            targets.iter().take(listed).cloned().collect()
        };
        HistoryReply {
            most_often: first(|target| target.executions),
            slowest: first(|target| target.wall_us / target.executions.max(1)),
            totals: Some(HistoryTotals {
                targets: Some(self.targets),
                ..self.totals
            }),
            runs: self.runs,
            last_execution: self.last_execution,
            ..HistoryReply::default()
        }
    }
}
