//! Keeps what a run did, for its report and its profile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use heph_proto::{Finished, TargetDone};

use crate::render::{Event, Observer};

/// What a run did.
#[derive(Debug, Clone)]
pub struct Record {
    /// What was selected, as the user wrote it.
    pub selector: String,
    /// When the run began.
    pub started: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// Ends of targets, in the order in which they came.
    pub targets: Vec<Ran>,
    /// The last event.
    pub finished: Finished,
}

/// The end of one target.
#[derive(Debug, Clone)]
pub struct Ran {
    /// When its command was started, from the start of the run; `None` when none ran.
    pub began: Option<Duration>,
    /// When it ended.
    pub ended: Duration,
    /// All the rest.
    pub target: TargetDone,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            selector: String::new(),
            started: SystemTime::UNIX_EPOCH,
            took: Duration::ZERO,
            targets: Vec::new(),
            finished: Finished::default(),
        }
    }
}

/// Writes the record; its clones read it.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    record: Record,
    began: HashMap<String, Duration>,
}

impl Recorder {
    /// The record of the last run.
    pub fn take(&self) -> Record {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.record)
    }
}

impl Observer for Recorder {
    fn see(&mut self, at: Duration, event: &Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begin(selector) => {
                state.began.clear();
                state.record = Record {
                    selector: (*selector).to_owned(),
                    started: SystemTime::now(),
                    ..Record::default()
                };
            }
            Event::Started(address) => {
                state.began.insert((*address).to_owned(), at);
            }
            Event::Target(target) => {
                let began = state.began.remove(&target.address);
                state.record.targets.push(Ran {
                    began,
                    ended: at,
                    target: (*target).clone(),
                });
            }
            Event::Finished(finished) => {
                state.record.took = at;
                state.record.finished = (*finished).clone();
            }
            _ => {}
        }
    }
}
