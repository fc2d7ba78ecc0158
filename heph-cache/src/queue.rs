//! The queue between callers and the one thread that writes the index.
//!
//! Operations have ascending numbers and are applied in that order, all that wait in one transaction. The queue is
//! bounded: when it is full, callers wait, and get an error only when it stays full.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heph_common::Digest;

use crate::error::StoreError;
use crate::eviction::GcReport;
use crate::gate::{Gate, Hold};
use crate::operation::Operation;

/// Operations that may wait.
const MAX_OPERATIONS: usize = 16_384;
/// Bytes that may wait.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Longest wait of a caller for a full queue.
const FULL_WAIT: Duration = Duration::from_secs(30);
/// Longest wait of last-used times and the like for something else to be written.
const LAZY_WAIT: Duration = Duration::from_millis(500);

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes callers: something was committed, or could not be.
    progress: Condvar,
    /// How long last-used times and the like may wait for something else to be written.
    lazy_wait: Duration,
}

/// A lock's holder as the index lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Holder {
    pub pid: u32,
    pub namespace: u64,
    /// Milliseconds since 1970.
    pub since: u64,
}

/// What the writer is asked for beside operations.
#[derive(Debug)]
pub(crate) enum Command {
    /// Delete down to so many bytes, all that may go now.
    Collect {
        target: Option<u64>,
        reply: Sender<Result<GcReport, StoreError>>,
    },
    /// Delete blob files that no index names.
    Sweep {
        age: Duration,
        reply: Sender<Result<GcReport, StoreError>>,
    },
    /// Let go of memory that only makes the next work quicker.
    Relax {
        reply: Sender<Result<GcReport, StoreError>>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub operations: VecDeque<(u64, Operation)>,
    pub bytes: usize,
    next: u64,
    /// Everything up to this number is committed or given up.
    pub done: u64,
    /// Highest number of the last attempt that failed.
    pub failed: u64,
    /// How many attempts failed.
    pub failures: u64,
    /// Why the last attempt failed; cleared by one that does not.
    pub fault: Option<StoreError>,
    /// Somebody waits: write without gathering more.
    pub urgent: bool,
    pub closed: bool,
    /// New last-used times in seconds since 1970.
    pub touches: HashMap<Digest, u64>,
    /// Locks taken (`Some`) since the holders were last written.
    pub holders: HashMap<i64, Holder>,
    /// When last-used times and holders are to be written at the latest.
    pub lazy_due: Option<Instant>,
    pub commands: VecDeque<Command>,
    /// The place in the room that publications share until the next transaction; each keeps it until its commit.
    hold: Option<Arc<Hold>>,
    /// Last-used times and holders are being written.
    pub lazy_writing: bool,
    /// What targets' `history` let go waits for the end of the runs that protect it.
    pub trims_wait: bool,
    /// The last run of this store has ended, so what waits for that may go.
    pub trim: bool,
    /// It is going.
    pub trimming: bool,
}

impl Queue {
    /// A queue for a store that gives what it evicts this much grace: uses have to be written in a fraction of it.
    pub(crate) fn new(grace: Duration) -> Self {
        let state = State {
            next: 1,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            lazy_wait: LAZY_WAIT.min(grace / 8),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in the room, shared by everything that is published until the next commit begins.
    pub(crate) fn hold(&self, gate: &Gate) -> Result<Arc<Hold>, StoreError> {
        if let Some(hold) = &self.lock().hold {
            return Ok(Arc::clone(hold));
        }
        // The wait for the gate happens without the lock on the queue.
        let entered = Arc::new(gate.enter()?);
        let mut state = self.lock();
        Ok(Arc::clone(state.hold.get_or_insert(entered)))
    }

    /// Adds an operation; `prepare` is told its number before the writer can see it.
    pub(crate) fn push(
        &self,
        operation: Operation,
        full: impl FnOnce() -> StoreError,
        prepare: impl FnOnce(u64),
    ) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let deadline = Instant::now() + FULL_WAIT;
        while state.operations.len() >= MAX_OPERATIONS || state.bytes >= MAX_BYTES {
            state.urgent = true;
            self.work.notify_one();
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(fault) = state.fault.clone().filter(|_| state.failures > 0) {
                return Err(fault);
            }
            if left.is_zero() || state.closed {
                return Err(full());
            }
            state = self.wait_for_progress(state, left);
        }
        let number = state.next;
        state.next += 1;
        prepare(number);
        state.bytes += operation.weight();
        let first = state.operations.is_empty();
        state.operations.push_back((number, operation));
        drop(state);
        if first {
            self.work.notify_one();
        }
        Ok(number)
    }

    /// Notes last-used times, to be written later.
    pub(crate) fn touch(&self, keys: impl IntoIterator<Item = Digest>, now: u64) {
        let mut keys = keys.into_iter().peekable();
        if keys.peek().is_none() {
            return;
        }
        let mut state = self.lock();
        state.touches.extend(keys.map(|key| (key, now)));
        self.lazily(state);
    }

    /// Notes that a lock was taken, to be written when it is held for a while.
    pub(crate) fn hold_lock(&self, lock: i64, holder: Holder) {
        let mut state = self.lock();
        state.holders.insert(lock, holder);
        self.lazily(state);
    }

    /// A lock was released: if it was not written down yet, it need not be.
    pub(crate) fn release_lock(&self, lock: i64) {
        self.lock().holders.remove(&lock);
    }

    /// The last run of this store has ended.
    pub(crate) fn run_ended(&self) {
        let mut state = self.lock();
        if state.trims_wait {
            state.trim = true;
            drop(state);
            self.work.notify_one();
        }
    }

    fn lazily(&self, mut state: MutexGuard<'_, State>) {
        if state.lazy_due.is_none() {
            state.lazy_due = Some(Instant::now() + self.lazy_wait);
            drop(state);
            self.work.notify_one();
        }
    }

    /// Asks for something that is not an operation.
    pub(crate) fn command(&self, command: Command) {
        self.lock().commands.push_back(command);
        self.work.notify_one();
    }

    /// Waits until everything that was pushed, noted and asked so far is committed.
    pub(crate) fn flush(&self, busy: impl Fn() -> StoreError, patience: Duration) -> Result<(), StoreError> {
        let mut state = self.lock();
        let target = state.next - 1;
        let failures = state.failures;
        let deadline = Instant::now() + patience;
        loop {
            let lazy = state.lazy_writing || !state.touches.is_empty() || !state.holders.is_empty();
            if state.done >= target && !lazy && !state.trim && !state.trimming {
                return Ok(());
            }
            if state.failures > failures
                && let Some(fault) = state.fault.clone()
            {
                return Err(fault);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(busy());
            }
            state.urgent = true;
            self.work.notify_one();
            state = self.wait_for_progress(state, left);
        }
    }

    /// Waits until an operation is committed. After a failure it is taken out of the queue again and the cause
    /// returned.
    pub(crate) fn settle(&self, number: u64, patience: Duration) -> Result<(), StoreError> {
        let mut state = self.lock();
        let deadline = Instant::now() + patience;
        loop {
            if state.done >= number {
                return Ok(());
            }
            if state.failed >= number
                && let Some(fault) = state.fault.clone()
            {
                if let Some(position) = state.operations.iter().position(|(at, _)| *at == number) {
                    state.operations.remove(position);
                }
                return Err(fault);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Busy is no failure: it stays in the queue.
                return Ok(());
            }
            state.urgent = true;
            self.work.notify_one();
            state = self.wait_for_progress(state, left);
        }
    }

    /// Ends the writer once it has written what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
        self.progress.notify_all();
    }

    /// For the writer: waits for work, at most until `until`.
    pub(crate) fn wait_for_work<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        match until {
            None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                let waited = self.work.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// For the writer: tells callers that something has changed.
    pub(crate) fn progressed(&self) {
        self.progress.notify_all();
    }

    fn wait_for_progress<'a>(&self, state: MutexGuard<'a, State>, left: Duration) -> MutexGuard<'a, State> {
        let waited = self.progress.wait_timeout(state, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl State {
    /// For the writer: takes everything that waits. Later publications share a new place in the room.
    pub(crate) fn take(&mut self) -> Vec<(u64, Operation)> {
        self.bytes = 0;
        self.hold = None;
        self.operations.drain(..).collect()
    }

    /// For the writer: puts back what could not be applied, before what has come since.
    pub(crate) fn put_back(&mut self, batch: Vec<(u64, Operation)>) {
        self.bytes += batch
            .iter()
            .map(|(_, operation)| operation.weight())
            .sum::<usize>();
        for entry in batch.into_iter().rev() {
            self.operations.push_front(entry);
        }
    }
}
