//! What the writer does beside writing: evicting, sweeping, and shortening the log, in small steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use heph_common::Digest;
use rusqlite::{Connection, TransactionBehavior};

use super::{Lazy, Writer};
use crate::blob::Variant;
use crate::clock;
use crate::error::StoreError;
use crate::eviction::{self, GcReport, Rules};
use crate::index::{self, Meta};
use crate::queue::Command;
use crate::schema::{self, Purpose};
use crate::store::ORPHAN_AGE;

/// A log shorter than this, in bytes, is left to the next opener.
const SHORT_LOG: u64 = 1 << 20;
/// How often the size is compared with the limit.
const SIZE_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before another try when somebody else has the gate closed.
const GATE_PAUSE: Duration = Duration::from_millis(50);
/// Pause between two directories of blob files that are compared with the index.
const SWEEP_PAUSE: Duration = Duration::from_millis(10);

/// An index of another format that nobody has used for so long is not kept for its version of heph to come back.
const FOREIGN_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest time for which the end of a run waits for what it let go.
const TRIM_PATIENCE: Duration = Duration::from_millis(200);

/// What one step of eviction did.
struct Progress {
    report: GcReport,
    /// When the next mark is due, in milliseconds since 1970.
    due: Option<u64>,
    /// Whether another step may find more.
    more: bool,
}

impl Writer {
    /// Begins to collect when the store has grown above its limit, or when something waits from earlier.
    pub(super) fn check_size(&mut self) {
        let due = self.size_checked.is_none_or(|at| at.elapsed() >= SIZE_INTERVAL);
        if !due || self.collect_at.is_some() {
            return;
        }
        let first = self.size_checked.replace(Instant::now()).is_none();
        self.sweep_at.get_or_insert_with(Instant::now);
        let limit = self.shared.max_size;
        let Ok(open) = self.open() else { return };
        let size = eviction::size(&open.connection).unwrap_or(0);
        let trims = first && trims_wait(&open.connection).unwrap_or(false);
        if size > limit || (first && has_work(&open.connection).unwrap_or(false)) {
            self.collect_at = Some(Instant::now());
        }
        if trims {
            self.trim_soon();
        }
    }

    /// What a target's `history` has let go is to go, at once or when the runs of this store have ended.
    pub(super) fn trim_soon(&self) {
        let mut state = self.shared.queue.lock();
        state.trims_wait = true;
        // A run that ends from now on sees that something waits for it.
        state.trim |= !self.shared.has_runs();
    }

    /// The runs of this store have ended: what they protected from their targets' `history` goes.
    pub(super) fn trim(&mut self) {
        let began = Instant::now();
        let done = self.shared.has_runs()
            || loop {
                match self.step(u64::MAX) {
                    Ok(Some(progress)) if !progress.more => break true,
                    Ok(_) if began.elapsed() > TRIM_PATIENCE => break false,
                    Ok(Some(_)) => {}
                    Ok(None) => std::thread::sleep(GATE_PAUSE),
                    Err(error) => {
                        tracing::warn!(%error, "the store could not be trimmed");
                        break true;
                    }
                }
            };
        if !done {
            self.collect_at = Some(Instant::now() + GATE_PAUSE);
        }
        // Runs of other processes may protect it still.
        let waiting = self
            .open()
            .and_then(|open| trims_wait(&open.connection))
            .unwrap_or(false);
        let mut state = self.shared.queue.lock();
        (state.trims_wait, state.trimming) = (waiting, false);
        drop(state);
        self.shared.queue.progressed();
    }

    /// One step in the background.
    pub(super) fn collect_step(&mut self) {
        if self.over_limit() {
            self.collecting.get_or_insert(self.shared.max_size / 10 * 9);
        }
        // Below the limit nothing goes by age, only what is due, trimmed or unreferenced.
        let target = self.collecting.unwrap_or(u64::MAX);
        self.collect_at = None;
        match self.step(target) {
            Ok(Some(progress)) => {
                if progress.more {
                    self.collect_at = Some(Instant::now());
                } else {
                    self.collecting = None;
                    self.collect_at = progress.due.map(|due| {
                        let left = due.saturating_sub(clock::unix_ms());
                        Instant::now() + Duration::from_millis(left)
                    });
                }
            }
            Ok(None) => self.collect_at = Some(Instant::now() + GATE_PAUSE),
            Err(error) => {
                self.collecting = None;
                tracing::warn!(%error, "the store could not be trimmed");
            }
        }
    }

    fn over_limit(&mut self) -> bool {
        let limit = self.shared.max_size;
        self.open()
            .ok()
            .and_then(|open| eviction::size(&open.connection).ok())
            .is_some_and(|size| size > limit)
    }

    /// One step of eviction; `None` when somebody else deletes or publishes for too long.
    fn step(&mut self, target: u64) -> Result<Option<Progress>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let Some(closed) = shared.gate.close()? else {
            return Ok(None);
        };
        let Some(_room) = closed.alone(|| self.help_out())? else {
            return Ok(None);
        };
        let rules = Rules {
            target,
            now: clock::unix_ms(),
            living: shared.live.living()?,
            window: milliseconds(shared.options.live_window),
            grace: milliseconds(shared.options.grace),
        };
        let step = loop {
            match self.try_step(&rules) {
                Ok(step) => break step,
                Err(error) if schema::is_busy(&error) => return Ok(None),
                Err(error) => self.fail(error)?,
            }
        };
        let others = shared.generations.others(self.shared.index().generation.number)?;
        let others = connect_others(&others);
        for (digest, variant) in &step.files {
            let named = others.iter().any(|other| names(other.as_ref(), digest, *variant));
            if !named && let Err(error) = shared.files.remove(digest, *variant) {
                tracing::warn!(%digest, %error, "a blob could not be deleted");
            }
        }
        if step.report.actions + step.report.blobs > 0 {
            shared.refresh_memory();
        }
        Ok(Some(Progress {
            report: step.report,
            due: step.due,
            more: step.report.did_something() || step.trimmed + step.records > 0,
        }))
    }

    fn try_step(&mut self, rules: &Rules) -> rusqlite::Result<eviction::Step> {
        let open = self.open()?;
        let transaction = open
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let step = eviction::step(&transaction, rules)?;
        transaction.commit()?;
        // Gives pages back to the file system, a few at a time.
        let free: i64 = open
            .connection
            .query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
        if free > 1024 {
            open.connection.execute_batch("PRAGMA incremental_vacuum(512)")?;
        }
        Ok(step)
    }

    /// Publishers of this very process that are inside the room leave it when their results are written.
    fn help_out(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.queue.lock();
        let batch = state.take();
        drop(state);
        if !batch.is_empty() {
            self.write(batch, Lazy::default(), false);
        }
    }

    /// Does what a caller has asked for.
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Collect { target, reply } => {
                let target = target.unwrap_or(self.shared.max_size);
                let _ = reply.send(self.repeat(|writer| writer.step(target)));
            }
            Command::Relax { reply } => {
                if let Some(open) = &self.open
                    && let Err(error) = open.connection.execute_batch("PRAGMA shrink_memory")
                {
                    tracing::debug!(%error, "the index keeps its memory");
                }
                let _ = reply.send(Ok(GcReport::default()));
            }
            Command::Sweep { age, reply } => {
                // An old generation that only this writer still had open goes, and with it what it named.
                if let Err(error) = self.open().map(drop).or_else(|error| self.fail(error)) {
                    tracing::warn!(%error, "the index could not be opened");
                }
                self.remove_indexes();
                let mut directories = 0..=u8::MAX;
                let mut next = directories.next();
                let mut total = GcReport::default();
                let result = loop {
                    let Some(directory) = next else {
                        break Ok(total);
                    };
                    match self.sweep(directory, age) {
                        Ok(Some(report)) => {
                            total.add(&report);
                            next = directories.next();
                        }
                        Ok(None) => std::thread::sleep(GATE_PAUSE),
                        Err(error) => break Err(error),
                    }
                };
                let _ = reply.send(result);
            }
        }
    }

    /// Repeats a step until it does nothing more.
    fn repeat(
        &mut self,
        mut step: impl FnMut(&mut Self) -> Result<Option<Progress>, StoreError>,
    ) -> Result<GcReport, StoreError> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let began = Instant::now();
        let mut total = GcReport::default();
        loop {
            // What was touched or published before the collection was asked for counts.
            self.flush_lazy();
            match step(self)? {
                Some(progress) => {
                    total.add(&progress.report);
                    if !progress.more {
                        self.collect_at = Some(Instant::now());
                        return Ok(total);
                    }
                }
                None if began.elapsed() > PATIENCE => return Err(self.shared.busy()),
                None => std::thread::sleep(GATE_PAUSE),
            }
        }
    }

    fn flush_lazy(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.queue.lock();
        let batch = state.take();
        state.lazy_due = None;
        let lazy = (
            std::mem::take(&mut state.touches),
            std::mem::take(&mut state.holders),
        );
        drop(state);
        if !batch.is_empty() || !lazy.0.is_empty() || !lazy.1.is_empty() {
            self.write(batch, lazy, false);
        }
    }

    /// Deletes the files in one directory that no index names.
    fn sweep(&mut self, directory: u8, age: Duration) -> Result<Option<GcReport>, StoreError> {
        let shared = Arc::clone(&self.shared);
        if !shared.files.has_directory(directory) {
            return Ok(Some(GcReport::default()));
        }
        let Some(closed) = shared.gate.close()? else {
            return Ok(None);
        };
        let Some(_room) = closed.alone(|| self.help_out())? else {
            return Ok(None);
        };
        let index = shared.index();
        let mut indexes = connect_others(&shared.generations.others(index.generation.number)?);
        indexes.push(schema::connect(index.path(), Purpose::Read).ok());
        let named =
            |digest: &Digest, variant| indexes.iter().any(|index| names(index.as_ref(), digest, variant));
        let mut report = GcReport::default();
        for (path, size) in eviction::orphans(&shared.files, directory, age, named) {
            if std::fs::remove_file(&path).is_ok() {
                report.blobs += 1;
                report.bytes += size;
            }
        }
        Ok(Some(report))
    }

    /// Sweeps the next directory that was not swept today; the others follow one by one while nothing else is done.
    pub(super) fn sweep_in_turn(&mut self) {
        self.sweep_at = None;
        let swept = self.sweep_due().and_then(|due| match due {
            None => Ok(()),
            Some((number, directory)) => {
                if self.sweep(directory, ORPHAN_AGE)?.is_some() {
                    self.record_sweep(number + 1)?;
                }
                if self.idle_at.is_none() {
                    self.sweep_at = Some(Instant::now() + SWEEP_PAUSE);
                }
                Ok(())
            }
        });
        if let Err(error) = swept {
            tracing::warn!(%error, "blob files could not be compared with the index");
        }
    }

    /// The directory that is to be swept next, and its number in the count that `meta` keeps.
    fn sweep_due(&mut self) -> Result<Option<(i64, u8)>, StoreError> {
        let index = self.shared.index();
        let failed = |error| StoreError::index(index.path(), error);
        let open = self.open().map_err(failed)?;
        let today = (clock::unix_ms() / 86_400_000 * 256).cast_signed();
        let next = index::meta_of(&open.connection, Meta::Swept)
            .map_err(failed)?
            .max(today);
        Ok((next < today + 256).then_some((next, (next % 256).to_le_bytes()[0])))
    }

    fn record_sweep(&mut self, number: i64) -> Result<(), StoreError> {
        let index = self.shared.index();
        let failed = |error| StoreError::index(index.path(), error);
        let open = self.open().map_err(failed)?;
        open.connection
            .execute("UPDATE meta SET value=?1 WHERE name='swept'", [number])
            .map(drop)
            .map_err(failed)
    }

    /// Moves the write-ahead log into the index and shortens it.
    pub(super) fn shorten_log(&mut self, closing: bool) {
        let Some(open) = &self.open else { return };
        let mut log = open.index.path().as_os_str().to_owned();
        log.push("-wal");
        let length = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        if length == 0 || (closing && length < SHORT_LOG) {
            return;
        }
        let shortened = open
            .connection
            .busy_timeout(Duration::ZERO)
            .and_then(|()| {
                open.connection
                    .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            })
            .and_then(|()| open.connection.busy_timeout(Duration::from_millis(500)));
        if let Err(error) = shortened {
            tracing::debug!(%error, "the write-ahead log was not shortened");
        }
        self.remove_indexes();
    }

    /// Removes indexes that nobody uses any more.
    fn remove_indexes(&self) {
        let generations = &self.shared.generations;
        let removed = generations
            .remove_old()
            .and_then(|()| generations.remove_foreign(FOREIGN_AGE));
        if let Err(error) = removed {
            tracing::warn!(%error, "old indexes could not be removed");
        }
    }
}

/// Whether marks or unreferenced blobs wait from earlier.
fn has_work(connection: &Connection) -> rusqlite::Result<bool> {
    if index::meta_of(connection, Meta::Recount)? != 0 {
        return Ok(true);
    }
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM action WHERE doomed <> 0) OR EXISTS (SELECT 1 FROM blob WHERE refs <= 0)",
        [],
        |row| row.get(0),
    )
}

/// Whether results that their targets' `history` has let go are still there.
fn trims_wait(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM revision WHERE trim = 1)",
        [],
        |row| row.get(0),
    )
}

/// Connections to other indexes; `None` for one that cannot be opened and so may name anything.
fn connect_others(paths: &[std::path::PathBuf]) -> Vec<Option<Connection>> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let existing = paths.iter().filter(|path| path.exists());
    existing
        .map(|path| Connection::open_with_flags(path, flags).ok())
        .collect()
}

fn names(index: Option<&Connection>, digest: &Digest, variant: Variant) -> bool {
    index.is_none_or(|connection| eviction::names(connection, digest, variant))
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
