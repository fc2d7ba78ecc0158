//! How targets and runs end, and what is said of it.

use std::collections::HashSet;
use std::sync::Arc;

use heph_cache::StoreError;
use heph_common::Exit;
use heph_proto::{
    Failed, FailureKind, Finished, Notice, NoticeLevel, Outputs, Planned, Summary, TargetDone, TargetOutcome,
    UpToDate, run_event,
};

use super::action::StoredBlobs;
use super::{Outcome, Run, fetch};
use crate::graph::Id;
use crate::plan::{Gone, wire_input};
use crate::problem::Problem;
use crate::product::{Entry, Product, SUPPORT_GROUP};
use crate::workspace::Settled;

impl Run<'_> {
    pub(super) fn events_planned(&self) {
        let graph = &self.prepared.graph;
        let total = self
            .prepared
            .order
            .iter()
            .filter(|id| graph.node(**id).is_action())
            .count();
        let selected = self.prepared.selected.len() as u64;
        self.send(run_event::Event::Planned(Planned {
            selected,
            total: total as u64,
        }));
    }

    /// A target has its product and, where it belongs there, so does the tree.
    pub(super) fn done(&mut self, id: Id, product: Arc<Product>, outcome: TargetOutcome) {
        if self.start.want_outputs && self.selected.contains(&id) && !self.start.dry_run {
            match self.outputs(id, &product) {
                Ok(outputs) => self.send(run_event::Event::Outputs(outputs)),
                Err(gone) => {
                    let wanted = self.missing_outputs(id, &product, |entry| self.is_wanted(entry));
                    let awaiting = fetch::Awaiting::Delivery(Arc::clone(&product), outcome);
                    if self.fetch(id, gone, wanted, awaiting) {
                        return;
                    }
                    self.tasks.done(id, product, outcome);
                    return self.renew_producers(id, gone);
                }
            }
        }
        self.say_done(id, outcome, None);
        self.tasks.done(id, product, outcome);
    }

    /// Whether an output of a selected target is asked for.
    fn is_wanted(&self, entry: &Entry) -> bool {
        match self.start.output.as_str() {
            "" => &*entry.group != SUPPORT_GROUP,
            group => &*entry.group == group,
        }
    }

    fn outputs(&self, id: Id, product: &Product) -> Result<Outputs, Gone> {
        let store = StoredBlobs(&self.services.store);
        let mut outputs = Outputs {
            address: self.prepared.graph.node(id).definition.address.to_string(),
            ..Outputs::default()
        };
        for entry in product.entries.iter().filter(|entry| self.is_wanted(entry)) {
            let input =
                wire_input(&self.prepared.root, entry, &store).map_err(|digest| Gone { from: id, digest })?;
            outputs.files.push(input);
            outputs.groups.push(entry.group.to_string());
        }
        Ok(outputs)
    }

    /// A target's command failed, or could not be run.
    pub(super) fn fail(&mut self, id: Id, failed: Failed, wall_us: u64) {
        self.keys.remove(&id);
        self.failed = true;
        self.wall.insert(id, wall_us);
        self.say_done(id, TargetOutcome::Failed, Some(failed));
        let skipped = self.tasks.failed(id, TargetOutcome::Failed);
        self.say_skipped(skipped);
        if self.start.fail_fast {
            self.stop();
        }
    }

    /// Targets were not made because something they need has failed.
    pub(super) fn say_skipped(&mut self, skipped: Vec<Id>) {
        for id in skipped {
            self.keys.remove(&id);
            self.say_done(id, TargetOutcome::Skipped, None);
        }
    }

    /// A target cannot be made because of what it or its inputs say.
    pub(super) fn fail_definition(&mut self, id: Id, problem: Problem) {
        let place = problem
            .place
            .map(|place| format!("{place}: "))
            .unwrap_or_default();
        let failed = Failed {
            kind: FailureKind::Definition.into(),
            message: format!("{place}{}", problem.message),
            hint: problem.hint.unwrap_or_default(),
            ..Failed::default()
        };
        self.fail(id, failed, 0);
    }

    /// A source file, a glob or a program cannot be had: that is the failure of every target that names it, directly or
    /// through groups.
    pub(super) fn fail_input(&mut self, id: Id, problem: Problem) {
        let graph = &self.prepared.graph;
        let mut names: HashSet<Id> = HashSet::from([id]);
        let mut at_fault = Vec::new();
        let mut skipped = Vec::new();
        for dependant in self.tasks.failed(id, TargetOutcome::Failed) {
            let node = graph.node(dependant);
            match node.links.iter().any(|link| names.contains(&link.target)) {
                true if node.is_action() => at_fault.push(dependant),
                true => {
                    names.insert(dependant);
                    skipped.push(dependant);
                }
                false => skipped.push(dependant),
            }
        }
        if at_fault.is_empty() {
            at_fault.push(id);
        }
        for dependant in at_fault {
            let definition = &graph.node(dependant).definition;
            let place = definition.place.as_ref().map(|place| format!("{place}: "));
            let failed = Failed {
                kind: FailureKind::Definition.into(),
                message: format!("{}{}", place.unwrap_or_default(), problem.message),
                hint: problem.hint.clone().unwrap_or_default(),
                ..Failed::default()
            };
            self.tasks.get_mut(dependant).outcome = TargetOutcome::Failed;
            self.fail(dependant, failed, 0);
        }
        self.say_skipped(skipped);
    }

    /// A target's command was started under a coordinator that is gone, and how it ended was not stored.
    pub(super) fn fail_interrupted(&mut self, id: Id) {
        let failed = Failed {
            kind: FailureKind::Interrupted.into(),
            message: "it had been started when the daemon went away, and is not run a second time".to_owned(),
            hint: "look at what it has done, then run it again".to_owned(),
            ..Failed::default()
        };
        self.fail(id, failed, 0);
    }

    pub(super) fn fail_internal(&mut self, id: Id, message: String) {
        self.fail(
            id,
            Failed {
                kind: FailureKind::Internal.into(),
                message,
                ..Failed::default()
            },
            0,
        );
    }

    pub(super) fn fail_storing(&mut self, id: Id, error: &StoreError) {
        let hint =
            "free some space, or set HEPH_HOME to a directory with room that can be written".to_owned();
        let message = format!("the result could not be stored: {error}");
        self.fail(
            id,
            Failed {
                kind: FailureKind::Internal.into(),
                message,
                hint,
                ..Failed::default()
            },
            0,
        );
    }

    /// A target was not made because the run was stopped.
    pub(super) fn ended_cancelled(&mut self, id: Id) {
        self.keys.remove(&id);
        if !self.stopping {
            // A command that ends cancelled without a reason known here was cancelled by its user.
            self.cancelled = true;
            self.stop();
        }
        if self.tasks.get(id).state.is_final() {
            return;
        }
        self.say_done(id, TargetOutcome::Cancelled, None);
        for skipped in self.tasks.failed(id, TargetOutcome::Cancelled) {
            self.tasks.get_mut(skipped).outcome = TargetOutcome::Cancelled;
            self.say_done(skipped, TargetOutcome::Cancelled, None);
        }
    }

    /// The user has left the shell of a target: whatever was done in it is no result, and nothing went wrong.
    pub(super) fn left_shell(&mut self, id: Id) {
        self.keys.remove(&id);
        self.say_done(id, TargetOutcome::Cancelled, None);
        for skipped in self.tasks.failed(id, TargetOutcome::Cancelled) {
            self.tasks.get_mut(skipped).outcome = TargetOutcome::Cancelled;
            self.say_done(skipped, TargetOutcome::Cancelled, None);
        }
    }

    fn say_done(&mut self, id: Id, outcome: TargetOutcome, failed: Option<Failed>) {
        let graph = &self.prepared.graph;
        let node = graph.node(id);
        if !node.is_action() && outcome != TargetOutcome::Failed {
            return;
        }
        // A target that was made anew is told of again only when its command ran or failed.
        let again = !self.told.insert(id);
        if again
            && matches!(
                outcome,
                TargetOutcome::UpToDate | TargetOutcome::Local | TargetOutcome::Remote
            )
        {
            return;
        }
        if outcome == TargetOutcome::UpToDate && !self.start.verbose {
            self.up_to_date += 1;
            return;
        }
        let last = self.lasts.get(&id);
        tracing::debug!(address = %node.definition.address, ?outcome, key = ?last.map(|last| last.key), "done");
        let dependencies = node
            .links
            .iter()
            .map(|link| graph.node(link.target))
            .filter(|node| !node.is_leaf());
        let event = TargetDone {
            address: node.definition.address.to_string(),
            outcome: outcome.into(),
            wall_us: self.wall.get(&id).copied().unwrap_or(0),
            failed,
            key: last.map(|last| last.key.to_hex()).unwrap_or_default(),
            sandbox: last.map(|last| last.sandbox).unwrap_or_default(),
            labels: node.definition.labels.clone(),
            dependencies: match self.start.verbose {
                true => dependencies
                    .map(|node| node.definition.address.to_string())
                    .collect(),
                false => Vec::new(),
            },
            retries: self.tasks.get(id).retries,
            selected: self.selected.contains(&id),
        };
        self.send(run_event::Event::Target(event));
    }

    /// Targets that were up to date are counted, not named, unless somebody wants every name.
    pub(super) fn flush_up_to_date(&mut self) {
        let count = std::mem::take(&mut self.up_to_date);
        if count > 0 {
            self.send(run_event::Event::UpToDate(UpToDate { count }));
        }
    }

    pub(super) fn say_not_isolated(&mut self) {
        if std::mem::replace(&mut self.told_not_isolated, true) {
            return;
        }
        self.send(run_event::Event::Notice(Notice {
            level: NoticeLevel::Info.into(),
            code: "not-isolated".to_owned(),
            message: "commands were not isolated: they can read undeclared files and reach the network"
                .to_owned(),
            hint: "set sandbox.mode to strict to make that an error, or to off to silence this".to_owned(),
        }));
    }

    /// What the next equal run can rest on: nothing, unless every target of this one got its result.
    fn settled(&mut self, summary: &Summary) -> Option<Settled> {
        let got = summary.up_to_date + summary.local + summary.remote + summary.executed;
        let token = self.token?;
        if self.failed || self.cancelled || self.stopping || self.start.dry_run || got != summary.total {
            return None;
        }
        let (products, dependants) = self.tasks.take_products();
        Some(Settled {
            products,
            dependants,
            surroundings: self.surroundings_digest,
            token,
            actions: summary.total,
        })
    }

    pub(super) fn end(mut self) -> Outcome {
        self.flush_up_to_date();
        let mut summary = Summary::default();
        let graph = &self.prepared.graph;
        for &id in self
            .prepared
            .order
            .iter()
            .filter(|id| graph.node(**id).is_action())
        {
            summary.total += 1;
            let count = match self.tasks.get(id).outcome {
                TargetOutcome::UpToDate => &mut summary.up_to_date,
                TargetOutcome::Local => &mut summary.local,
                TargetOutcome::Remote => &mut summary.remote,
                TargetOutcome::Executed => &mut summary.executed,
                TargetOutcome::Failed => &mut summary.failed,
                TargetOutcome::Skipped => &mut summary.skipped,
                TargetOutcome::Cancelled => &mut summary.cancelled,
                TargetOutcome::Unspecified => continue,
            };
            *count += 1;
        }
        let exit_code = match () {
            () if self.cancelled => Exit::Cancelled,
            () if self.failed => Exit::Failure,
            () => Exit::Success,
        };
        let finished = Finished {
            exit_code: exit_code.code().into(),
            summary: Some(summary),
            error: None,
        };
        let deeds = self.deeds();
        let settled = self.settled(&summary);
        Outcome {
            deeds,
            settled,
            lasts: self.lasts.into_iter().collect(),
            finished,
        }
    }
}
