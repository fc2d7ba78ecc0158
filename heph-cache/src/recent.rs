//! What this store has committed lately, kept so that it can be committed once more.
//!
//! An index may turn out to be damaged after something was committed to it, often by that very commit: it is the first
//! to meet a bad page that others never touched. What was published before must not go with the index while
//! the run that made it still counts on it, so it goes into the next generation, too.
//!
//! The room is bounded: of what is older the damage takes what it takes.

use std::collections::VecDeque;
use std::time::Duration;

use rusqlite::TransactionBehavior;

use crate::apply::{self, Changes, Places};
use crate::index::Index;
use crate::operation::Operation;
use crate::schema::{self, Purpose};

/// Bytes that are kept: a few thousand results.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Longest wait for others that write to the next generation.
const PATIENCE: Duration = Duration::from_secs(5);

/// Operations in the order of their commit, all in the generation in use.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    operations: VecDeque<(Operation, usize)>,
    bytes: usize,
}

impl Recent {
    /// Adds what was just committed; the oldest makes room.
    pub(crate) fn add<'a>(&mut self, committed: impl IntoIterator<Item = &'a Operation>) {
        for operation in committed {
            let weight = operation.weight();
            self.bytes += weight;
            self.operations.push_back((operation.without_claims(), weight));
        }
        while self.bytes > MAX_BYTES {
            let Some((_, weight)) = self.operations.pop_front() else {
                break;
            };
            self.bytes -= weight;
        }
    }

    /// Commits all of it to another index. Nothing is lost when that fails: it can be tried again.
    pub(crate) fn commit_to(&self, index: &Index) -> rusqlite::Result<()> {
        if self.operations.is_empty() {
            return Ok(());
        }
        let mut connection = schema::connect(index.path(), Purpose::Write)?;
        connection.busy_timeout(PATIENCE)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut places, mut changes) = (Places::default(), Changes::default());
        for (operation, _) in &self.operations {
            apply::apply(&transaction, &mut places, &mut changes, operation)?;
        }
        changes.write(&transaction)?;
        transaction.commit()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
