//! What a run did, as the history keeps it.

use std::collections::HashMap;
use std::time::Duration;

use heph_proto::{Execution, ExecutionReason, SandboxMode, TargetOutcome};

use super::{Keyed, Run};
use crate::graph::Id;

/// What a run did beside what its summary counts.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Deeds {
    /// Targets whose commands ran, in no order.
    pub executions: Vec<Execution>,
    /// Of these, those whose results are not kept.
    pub uncached: u64,
    /// What all commands took.
    pub commands: Duration,
    /// What the commands of the results took that came from the store.
    pub saved: Duration,
    /// The weakest isolation that a command had.
    pub sandbox: SandboxMode,
}

/// Sees what happens in a run.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Targets that have no result, and why.
    reasons: HashMap<Id, ExecutionReason>,
    saved: Duration,
    sandbox: SandboxMode,
}

impl Witness {
    /// A result came from the store, whose command had taken so long.
    pub(super) fn hit(&mut self, duration: Duration) {
        self.saved += duration;
    }

    /// A command ran in this isolation.
    pub(super) fn isolated(&mut self, sandbox: SandboxMode) {
        // The modes are numbered from the strictest on.
        self.sandbox = std::cmp::max_by_key(self.sandbox, sandbox, |mode| *mode as i32);
    }
}

impl Run<'_> {
    /// A target has no result that may be used: it has to be executed.
    pub(super) fn note_reason(&mut self, id: Id, keyed: &Keyed) {
        let last = self.last(id);
        let reason = match () {
            () if self.start.force => ExecutionReason::Forced,
            () if !self.prepared.graph.node(id).definition.cache.enabled => ExecutionReason::Uncached,
            () if self.tasks.get(id).forced => ExecutionReason::Gone,
            () => match last {
                // Another process may have built it.
                None => self.reason_of_store(id, keyed),
                Some(last) if last.key == keyed.key => ExecutionReason::Gone,
                Some(_) => ExecutionReason::Changed,
            },
        };
        self.witness.reasons.insert(id, reason);
    }

    fn reason_of_store(&self, id: Id, keyed: &Keyed) -> ExecutionReason {
        let address = self.prepared.graph.node(id).definition.address.to_string();
        let root = self.prepared.root.to_string_lossy();
        let revisions = self.services.store.revisions(&root, &address).unwrap_or_default();
        match revisions.as_slice() {
            [] => ExecutionReason::New,
            known if known.iter().any(|revision| revision.key == keyed.key) => ExecutionReason::Gone,
            _ => ExecutionReason::Changed,
        }
    }

    /// What it did; for its end.
    pub(super) fn deeds(&mut self) -> Deeds {
        let witness = std::mem::take(&mut self.witness);
        let mut deeds = Deeds {
            saved: witness.saved,
            sandbox: witness.sandbox,
            ..Deeds::default()
        };
        for (id, reason) in witness.reasons {
            let wall_us = self.wall.get(&id).copied().unwrap_or(0);
            let failed = match self.tasks.get(id).outcome {
                TargetOutcome::Executed => false,
                // Without a command that took time, its definition failed, or another run that it followed.
                TargetOutcome::Failed if wall_us > 0 => true,
                _ => continue,
            };
            let definition = &self.prepared.graph.node(id).definition;
            deeds.uncached += u64::from(!definition.cache.enabled);
            deeds.commands += Duration::from_micros(wall_us);
            deeds.executions.push(Execution {
                address: definition.address.to_string(),
                wall_us,
                reason: reason.into(),
                failed,
            });
        }
        deeds
    }
}
