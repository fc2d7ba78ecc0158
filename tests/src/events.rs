//! The events of `heph run --json`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Run;

/// One event, as docs/json.md describes it.
pub type Event = Value;

/// A run whose events were read.
#[derive(Clone, Debug)]
pub struct Build {
    /// The run itself.
    pub run: Run,
    /// Its events in their order.
    pub events: Vec<Event>,
}

impl Build {
    pub(crate) fn new(run: Run) -> Self {
        let events = run
            .out()
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("not an event: {line}: {error}\n{run}"))
            })
            .collect();
        Self { run, events }
    }

    /// Events of one kind.
    pub fn of_kind(&self, kind: &str) -> Vec<&Event> {
        self.events
            .iter()
            .filter(|event| event["event"] == kind)
            .collect()
    }

    /// Outcome of every target, by its address.
    pub fn outcomes(&self) -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.of_kind("target")
            .iter()
            .map(|event| (text(&event["address"]), text(&event["outcome"])))
            .collect()
    }

    /// Addresses with one outcome, sorted.
    pub fn with_outcome(&self, outcome: &str) -> Vec<String> {
        self.outcomes()
            .into_iter()
            .filter(|(_, of)| of == outcome)
            .map(|(address, _)| address)
            .collect()
    }

    /// Addresses whose commands ran, sorted.
    pub fn executed(&self) -> Vec<String> {
        self.with_outcome("executed")
    }

    /// Addresses that failed, sorted.
    pub fn failed(&self) -> Vec<String> {
        self.with_outcome("failed")
    }

    /// The event of one target.
    #[track_caller]
    pub fn target(&self, address: &str) -> &Event {
        let found = self
            .events
            .iter()
            .find(|event| event["event"] == "target" && event["address"] == address);
        found.unwrap_or_else(|| panic!("no event of {address}\n{}", self.run))
    }

    /// Codes of all notices, in their order.
    pub fn notices(&self) -> Vec<String> {
        self.of_kind("notice")
            .iter()
            .map(|event| event["code"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Whether the target is known to have run or to have been found, so that its result is there.
    pub fn has_result(&self, address: &str) -> bool {
        self.outcomes()
            .get(address)
            .is_some_and(|outcome| !["failed", "skipped", "cancelled"].contains(&outcome.as_str()))
    }
}
