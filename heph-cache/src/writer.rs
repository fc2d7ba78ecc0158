//! The one thread of a store that writes the index.
//!
//! It applies everything that waits in one transaction, so the cost of a commit is shared; evicts in small steps in
//! between; and shortens the write-ahead log when nothing happens. With nothing to do it sleeps without a timer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heph_common::Digest;
use rusqlite::{Connection, TransactionBehavior};

use crate::apply::{self, Changes, Places};
use crate::error::StoreError;
use crate::index::Index;
use crate::operation::Operation;
use crate::origin::Origin;
use crate::queue::Holder;
use crate::schema::{self, Purpose};
use crate::shared::Shared;

mod upkeep;

/// Operations that are written without waiting for more.
const BATCH: usize = 512;
/// Pause after an attempt that failed because others were writing.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Pause after an attempt that failed for another reason.
const FAULT_PAUSE: Duration = Duration::from_secs(5);
/// How long a closing store tries to write what waits while others keep the index busy.
const CLOSE_PATIENCE: Duration = Duration::from_secs(20);
/// Quiet time after which the write-ahead log is shortened.
const IDLE: Duration = Duration::from_secs(5);

/// The writer's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    open: Option<Open>,
    /// Bytes to get down to, while a collection is under way.
    collecting: Option<u64>,
    collect_at: Option<Instant>,
    size_checked: Option<Instant>,
    /// When the next directory of blob files is to be compared with the index.
    sweep_at: Option<Instant>,
    /// When the log is to be shortened.
    idle_at: Option<Instant>,
    retry_at: Option<Instant>,
    first_busy: Option<Instant>,
}

/// The writer's connection to one generation.
struct Open {
    index: Arc<Index>,
    connection: Connection,
    places: Places,
}

type Batch = Vec<(u64, Operation)>;
type Lazy = (HashMap<Digest, u64>, HashMap<i64, Holder>);

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            open: None,
            collecting: None,
            collect_at: None,
            sweep_at: None,
            size_checked: None,
            idle_at: None,
            retry_at: None,
            first_busy: None,
        }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        while self.turn() {}
        // What could not be written gives up its locks; they are dropped without the queue's own lock held.
        let given_up = self.shared.queue.lock().take();
        drop(given_up);
        self.shorten_log(true);
    }

    /// One turn: waits for something to do and does it. False when all is done.
    fn turn(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.queue.lock();
        loop {
            let now = Instant::now();
            let closing = state.closed;
            let waiting = !state.operations.is_empty();
            let lazy = state.lazy_due;
            let lazy_ready =
                lazy.is_some_and(|due| due <= now) || (lazy.is_some() && (closing || state.urgent));
            if closing && !waiting && lazy.is_none() && state.commands.is_empty() && !state.trim {
                return false;
            }
            if let Some(command) = state.commands.pop_front() {
                drop(state);
                self.obey(command);
                return true;
            }
            if state.trim {
                (state.trim, state.trimming) = (false, true);
                drop(state);
                self.trim();
                return true;
            }
            let paused = self.retry_at.filter(|at| *at > now && !state.urgent && !closing);
            if (waiting || lazy_ready) && paused.is_none() {
                let hurry = closing || state.urgent || state.operations.len() >= BATCH || !waiting;
                if !hurry {
                    state = shared
                        .queue
                        .wait_for_work(state, Some(now + shared.options.linger));
                }
                state.urgent = false;
                let batch = state.take();
                let lazy: Lazy = match lazy_ready || state.lazy_due.is_some_and(|due| due <= Instant::now()) {
                    true => {
                        state.lazy_due = None;
                        state.lazy_writing = true;
                        (
                            std::mem::take(&mut state.touches),
                            std::mem::take(&mut state.holders),
                        )
                    }
                    false => Lazy::default(),
                };
                drop(state);
                return self.write(batch, lazy, closing);
            }
            if self.collect_at.is_some_and(|at| at <= now) && !closing {
                drop(state);
                self.collect_step();
                return true;
            }
            if self.idle_at.is_some_and(|at| at <= now) {
                drop(state);
                self.idle_at = None;
                self.shorten_log(false);
                self.sweep_at = Some(Instant::now());
                return true;
            }
            if self.sweep_at.is_some_and(|at| at <= now) && !closing {
                drop(state);
                self.sweep_in_turn();
                return true;
            }
            let until = [paused, lazy, self.collect_at, self.idle_at, self.sweep_at]
                .into_iter()
                .flatten()
                .min();
            state = shared.queue.wait_for_work(state, until);
        }
    }

    /// Applies a batch; puts it back where that failed. False when a closing store has to give up.
    fn write(&mut self, batch: Batch, lazy: Lazy, closing: bool) -> bool {
        let last = batch.last().map(|(number, _)| *number);
        let outcome = self.transact(&batch, &lazy);
        let shared = Arc::clone(&self.shared);
        let Err(error) = outcome else {
            self.retry_at = None;
            self.first_busy = None;
            self.idle_at = Some(Instant::now() + IDLE);
            self.keep_in_memory(&batch);
            let mut state = shared.queue.lock();
            state.fault = None;
            state.lazy_writing = false;
            if let Some(last) = last {
                state.done = state.done.max(last);
            }
            drop(state);
            shared.queue.progressed();
            self.check_size();
            return true;
        };
        let busy = matches!(error, StoreError::Busy { .. });
        let since = *self.first_busy.get_or_insert_with(Instant::now);
        let give_up = closing && (!busy || since.elapsed() > CLOSE_PATIENCE);
        self.retry_at = Some(Instant::now() + if busy { BUSY_PAUSE } else { FAULT_PAUSE });
        if busy && !give_up {
            std::thread::sleep(BUSY_PAUSE);
        } else {
            tracing::warn!(%error, results = batch.len(), "results could not be written to the index");
        }
        let mut state = shared.queue.lock();
        state.put_back(batch);
        state.lazy_writing = false;
        if !lazy.0.is_empty() || !lazy.1.is_empty() {
            for (key, used) in lazy.0 {
                state.touches.entry(key).or_insert(used);
            }
            for (lock, holder) in lazy.1 {
                state.holders.entry(lock).or_insert(holder);
            }
            state.lazy_due.get_or_insert_with(Instant::now);
        }
        if busy {
            // Whoever waits for a commit goes on waiting.
            state.urgent = true;
        } else {
            state.failed = state.failed.max(last.unwrap_or(0));
            state.failures += 1;
            state.fault = Some(error);
        }
        drop(state);
        shared.queue.progressed();
        !give_up
    }

    /// One transaction over everything. The same is applied to the next generation where this one is damaged, and where
    /// another process has replaced it: nobody else would ever see what was committed to the old one.
    fn transact(&mut self, batch: &Batch, lazy: &Lazy) -> Result<(), StoreError> {
        if batch.is_empty() && lazy.0.is_empty() && lazy.1.is_empty() {
            return Ok(());
        }
        for _ in 0..3 {
            let error = match self.try_transact(batch, lazy) {
                Ok(Some(changes)) => {
                    if changes.trim {
                        self.trim_soon();
                    }
                    return Ok(());
                }
                Ok(None) => {
                    self.shared.catch_up()?;
                    continue;
                }
                Err(error) => error,
            };
            self.fail(error)?;
        }
        Err(self.shared.busy())
    }

    /// What to do about an error of the index: `Ok` to try again with another generation.
    fn fail(&mut self, error: rusqlite::Error) -> Result<(), StoreError> {
        let index = match self.open.take() {
            Some(open) => Arc::clone(&open.index),
            None => self.shared.index(),
        };
        if schema::is_damage(index.path(), &error) {
            return self.shared.give_up(index.generation.number, &error);
        }
        if self.shared.catch_up()? {
            return Ok(());
        }
        Err(StoreError::index(index.path(), error))
    }

    /// What was changed, `None` where that was for nothing: the generation is not in use any more.
    fn try_transact(&mut self, batch: &Batch, lazy: &Lazy) -> rusqlite::Result<Option<Changes>> {
        let shared = Arc::clone(&self.shared);
        let mut recent = shared.recent();
        let open = self.open()?;
        let transaction = open
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut changes = Changes::default();
        for (_, operation) in batch {
            apply::apply(&transaction, &mut open.places, &mut changes, operation)?;
        }
        for (key, used) in &lazy.0 {
            apply::touch(&transaction, key, *used)?;
        }
        for (lock, holder) in &lazy.1 {
            apply::hold(&transaction, *lock, holder)?;
        }
        changes.write(&transaction)?;
        let committed = transaction.commit();
        if committed.is_err() {
            open.places = Places::default();
        }
        committed?;
        if !shared.generations.is_current(&open.index.generation) {
            return Ok(None);
        }
        recent.add(batch.iter().map(|(_, operation)| operation));
        Ok(Some(changes))
    }

    /// The connection to the generation that the store uses now.
    fn open(&mut self) -> rusqlite::Result<&mut Open> {
        let index = self.shared.index();
        let same = self
            .open
            .as_ref()
            .is_some_and(|open| open.index.generation.same(&index.generation));
        if !same {
            self.open = None;
        }
        match &mut self.open {
            Some(open) => Ok(open),
            none => {
                let connection = schema::connect(index.path(), Purpose::Write)?;
                Ok(none.insert(Open {
                    index,
                    connection,
                    places: Places::default(),
                }))
            }
        }
    }

    /// What was committed moves from the pending results to the memory tier.
    fn keep_in_memory(&self, batch: &Batch) {
        for (number, operation) in batch {
            if let Operation::Publish { result: publish, .. } = operation {
                let (manifest, size) = (&publish.manifest, publish.encoded.len());
                let memory = &self.shared.memory;
                match publish.origin {
                    Origin::Local => memory.keep_action(manifest, publish.origin, publish.used, size),
                    // A local result of the key, if there is one, is preferred: the next lookup sees which.
                    Origin::Remote(_) => memory.forget_action(&manifest.key),
                }
                self.shared.pending.remove(publish, *number);
            }
        }
    }
}
