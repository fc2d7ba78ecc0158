//! The local store: results under their keys, blobs under their digests.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use heph_common::{Digest, KeyPart};

use crate::blob::{Blob, Trust, Variant};
use crate::clock;
use crate::error::StoreError;
use crate::eviction::{self, Doom, GcReport};
use crate::index::{ActionRow, BlobRow, Index, Meta, RecordedRevision, Row};
use crate::live::LiveRun;
use crate::lock::Locks;
use crate::manifest::Manifest;
use crate::operation::{Operation, RevisionRow};
use crate::options::StoreOptions;
use crate::origin::{Origin, OriginFilter};
use crate::queue::Command;
use crate::row;
use crate::shared::Shared;

mod publish;
mod purge;
mod statistics;
mod uploads;

pub use publish::{BlobSource, NewBlob, Publication, Revision};
pub use statistics::StoreStats;
pub use uploads::{Leased, Lessee, Upload, UploadSum};

/// Last-used times are refreshed when they are older than this many seconds.
const TOUCH_INTERVAL: u64 = 30 * 60;
/// Longest wait for the index in [`Store::flush`].
const FLUSH_PATIENCE: Duration = Duration::from_secs(120);
/// Age of a blob file without a row before it is taken for what a killed writer left.
pub(crate) const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// The local store of one home. Any number of threads and processes may have it open.
///
/// All calls block, most of them for microseconds. What is published is seen by every lookup of this process at once,
/// by other processes after the next commit, a few milliseconds later; [`Store::flush`] waits for that.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    locks: Locks,
}

/// Says whether anything may have gone since some results were seen to be there. See [`Store::unchanged_since`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PresenceToken {
    /// Which index it was.
    pub index: u64,
    /// Count of deletions in it.
    pub deletions: u64,
    /// When the results were seen, in seconds since 1970.
    pub seen_unix_s: u64,
}

impl Store {
    /// Opens the store of a home; creates what is missing.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`], [`StoreError::ForeignHome`], [`StoreError::NetworkFilesystem`],
    /// [`StoreError::Full`], or another one where not even an empty index can be made. Damage is no error.
    pub fn open(home: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::open(home, options)?);
        let locks = Locks::new(Arc::clone(&shared));
        Ok(Self { shared, locks })
    }

    /// The home it was opened for.
    pub fn home(&self) -> &Path {
        &self.shared.home
    }

    /// Its size limit in bytes.
    pub fn max_size(&self) -> u64 {
        self.shared.max_size
    }

    /// The locks that keep equal work from being done twice.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Begins a run: until the result is dropped, nothing is evicted that the run may use.
    ///
    /// # Errors
    /// [`StoreError`] where the claim cannot be written; the run may go on without it, at the risk of doing work again.
    pub fn begin_run(&self) -> Result<LiveRun, StoreError> {
        let _closed = self.shared.gate.pass()?;
        let run = self.shared.live.begin()?;
        self.shared.follow()?;
        Ok(run.counted_by(&self.shared))
    }

    /// The result of an action, of the best origin that `origins` accepts.
    ///
    /// # Errors
    /// [`StoreError`] where the index cannot be read at all; a damaged or busy one is `None`.
    pub fn lookup(&self, key: &Digest, origins: &OriginFilter) -> Result<Option<Arc<Manifest>>, StoreError> {
        let pending = self.shared.pending.action(key, origins);
        if let Some((0, manifest)) = pending {
            return Ok(Some(manifest));
        }
        let now = clock::unix_ms();
        if pending.is_none()
            && let Some(remembered) = self.shared.memory.action(key)
            && origins.rank(remembered.origin).is_some()
        {
            if remembered.refresh(now / 1000, TOUCH_INTERVAL) {
                self.note_use([*key], now);
            }
            return Ok(Some(Arc::clone(&remembered.manifest)));
        }
        let rows = self.shared.read(|index| index.actions(key))?.unwrap_or_default();
        let mut best: Option<(usize, ActionRow)> = None;
        for row in rows {
            let Row::Good(row) = row else {
                self.remove_bad(key);
                continue;
            };
            if let Some(rank) = origins.rank(row.origin)
                && best.as_ref().is_none_or(|(other, _)| rank < *other)
            {
                best = Some((rank, row));
            }
        }
        // What is stored already may be preferred to what waits.
        Ok(match (best, pending) {
            (Some((stored, _)), Some((waiting, manifest))) if waiting <= stored => Some(manifest),
            (Some((_, row)), _) => self.accept(key, &row, now),
            (None, pending) => pending.map(|(_, manifest)| manifest),
        })
    }

    /// For each key, in order, whether there is a result of it. Reads no manifests: 1 to 2 us for each key.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn contains_all(&self, keys: &[Digest], origins: &OriginFilter) -> Result<Vec<bool>, StoreError> {
        let now = clock::unix_ms();
        let grace = self.grace();
        // Before the index is asked: what is committed meanwhile is found there.
        let pending: Vec<bool> = keys
            .iter()
            .map(|key| self.shared.pending.action(key, origins).is_some())
            .collect();
        let found = self
            .shared
            .read(|index| index.presence(keys))?
            .unwrap_or_default();
        let mut present = HashSet::with_capacity(found.len());
        let mut stale = Vec::new();
        for row in found.iter().filter(|row| origins.rank(row.origin).is_some()) {
            let doom = eviction::doom(row.doomed, now, grace);
            if doom == Doom::Gone {
                continue;
            }
            if doom == Doom::Soon || row.used.saturating_add(TOUCH_INTERVAL) < now / 1000 {
                stale.push(row.key);
            }
            present.insert(row.key);
        }
        self.note_use(stale, now);
        Ok(keys
            .iter()
            .zip(pending)
            .map(|(key, pending)| pending || present.contains(key))
            .collect())
    }

    /// A token to be taken *before* [`Store::contains_all`], so that a later run can spare itself that.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn presence_token(&self) -> Result<PresenceToken, StoreError> {
        let index = self.shared.index();
        let deletions = self.shared.read(|index| index.meta(Meta::Deletions))?;
        Ok(PresenceToken {
            index: index.generation.identity(),
            deletions: deletions.unwrap_or(-1).cast_unsigned(),
            seen_unix_s: clock::unix_ms() / 1000,
        })
    }

    /// Whether everything that was there when the token was taken is still there and protected by the caller's live
    /// run, so that it need not be looked up again. Costs one small read. True for at most half an hour: then
    /// last-used times have to be refreshed, which [`Store::contains_all`] does. To be asked within a live run.
    pub fn unchanged_since(&self, token: &PresenceToken) -> bool {
        let now = clock::unix_ms() / 1000;
        let fresh = token.seen_unix_s <= now && now < token.seen_unix_s + TOUCH_INTERVAL / 2;
        fresh
            && self
                .presence_token()
                .is_ok_and(|current| current.index == token.index && current.deletions == token.deletions)
    }

    /// A blob; its file is what was published, by the rule of trust (inode, size, modification time as recorded, else
    /// its bytes are hashed). One that is missing or bad is dropped and `None`: its producer has to run again.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn blob(&self, digest: &Digest, executable: bool) -> Result<Option<Blob>, StoreError> {
        if let Some(bytes) = self.shared.memory.blob(digest) {
            return Ok(Some(Blob::Inline(bytes)));
        }
        for variant in [Variant::Inline, Variant::file(executable)] {
            let row = match self.shared.pending.blob(digest, variant) {
                Some(row) => Some(Row::Good(row)),
                None => self.shared.read(|index| index.blob(digest, variant))?.flatten(),
            };
            if let Some(row) = row
                && let Some(blob) = self.trusted(digest, variant, row)
            {
                return Ok(Some(blob));
            }
        }
        Ok(None)
    }

    /// Notes that results were used, where the caller has not looked them up. Written after a while, in the background.
    pub fn touch(&self, keys: &[Digest]) {
        self.note_use(keys.iter().copied(), clock::unix_ms());
    }

    /// Earlier keys of a target in a workspace and what they were made of, the newest first; the last 20 at least,
    /// whether their results are still there or not.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn revisions(&self, root: &str, address: &str) -> Result<Vec<RecordedRevision>, StoreError> {
        Ok(self
            .shared
            .read(|index| index.revisions(root, address))?
            .unwrap_or_default())
    }

    /// What a key was made of, in whatever workspace; `None` when that is no longer known.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn parts(&self, key: &Digest) -> Result<Option<Vec<KeyPart>>, StoreError> {
        let found = self.shared.read(|index| index.revision_of(key))?;
        Ok(found.flatten().map(|revision| revision.parts))
    }

    /// Remembers what a target's key was made of, apart from publishing a result (it was there already, or failed).
    ///
    /// # Errors
    /// [`StoreError::Busy`] where the queue stays full.
    pub fn remember_parts(&self, key: &Digest, revision: &Revision) -> Result<(), StoreError> {
        self.push(Operation::Revision(revision_row(key, revision)))
            .map(drop)
    }

    /// Removes the result of a key; its blobs go when nothing else refers to them.
    ///
    /// # Errors
    /// As [`Store::remember_parts`].
    pub fn forget(&self, key: &Digest) -> Result<(), StoreError> {
        self.shared.pending.forget(key);
        let pushed = self.push(Operation::Forget { key: *key });
        self.settle()?;
        self.shared.memory.forget_action(key);
        pushed.map(drop)
    }

    /// Stores a caller's own fact under a namespace of its own, beside the results.
    ///
    /// # Errors
    /// As [`Store::remember_parts`].
    pub fn put_record(&self, namespace: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.push(Operation::Record {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        })
        .map(drop)
    }

    /// A caller's own fact, once committed; `None` where it was never stored or its bytes are damaged.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn get_record(&self, namespace: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.shared.read(|index| index.record(namespace, key))?;
        Ok(match row.flatten() {
            Some(Row::Good(value)) => Some(value),
            Some(Row::Bad) | None => None,
        })
    }

    /// Waits until everything that was published, touched or noted so far is committed, and, where no run is left alive,
    /// what targets' `history` let go is gone.
    ///
    /// # Errors
    /// Why it cannot be: [`StoreError::Full`], [`StoreError::ReadOnly`], [`StoreError::Busy`], …
    pub fn flush(&self) -> Result<(), StoreError> {
        self.shared.start_writer()?;
        self.shared.queue.flush(|| self.shared.busy(), FLUSH_PATIENCE)
    }

    /// Deletes least recently used results until the store takes at most `target` bytes (`None`: its size limit), then
    /// what nothing refers to. What live runs protect stays, or goes some time later in the background.
    ///
    /// # Errors
    /// [`StoreError`] where the index cannot be written.
    pub fn collect_garbage(&self, target: Option<u64>) -> Result<GcReport, StoreError> {
        self.ask(|reply| Command::Collect { target, reply })
    }

    /// Lets go of memory that only makes lookups quicker: for a process that nobody uses at the moment. What is not written yet is kept.
    pub fn relax(&self) {
        self.shared.memory.clear();
        self.shared.index().close_idle();
        self.shared.forget_recent();
        if let Err(error) = self.ask(|reply| Command::Relax { reply }) {
            tracing::debug!("the store keeps its memory: {error}");
        }
    }

    /// Deletes blob files that no index names: what killed writers and given-up generations left behind.
    ///
    /// # Errors
    /// As [`Store::collect_garbage`].
    pub fn sweep(&self) -> Result<GcReport, StoreError> {
        self.ask(|reply| Command::Sweep {
            age: ORPHAN_AGE,
            reply,
        })
    }

    /// Removes everything. Other processes that have the store open keep what they see until their next run.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while runs live.
    pub fn clear(&self) -> Result<GcReport, StoreError> {
        let living = self.shared.live.living()?;
        if living.count > 0 {
            return Err(StoreError::InUse {
                path: self.shared.cache.clone(),
                runs: living.count,
            });
        }
        self.settle()?;
        let present = self.shared.index().generation.number;
        let generation = self.shared.generations.renew(present)?;
        self.shared.start_afresh(Index::new(generation));
        self.settle()?;
        self.shared.memory.clear();
        let report = self.ask(|reply| Command::Sweep {
            age: Duration::ZERO,
            reply,
        })?;
        self.shared.generations.remove_old()?;
        Ok(report)
    }

    /// Checks a row that was found and makes it an answer.
    fn accept(&self, key: &Digest, row: &ActionRow, now: u64) -> Option<Arc<Manifest>> {
        let doom = eviction::doom(row.doomed, now, self.grace());
        if doom == Doom::Gone {
            return None;
        }
        let manifest = match Manifest::decode(&row.manifest) {
            Ok(manifest) if manifest.key == *key => Arc::new(manifest),
            _ => {
                self.remove_bad(key);
                return None;
            }
        };
        let stale = row.used.saturating_add(TOUCH_INTERVAL) < now / 1000;
        if stale || doom == Doom::Soon {
            self.note_use([*key], now);
        }
        let used = if stale { now / 1000 } else { row.used };
        let size = row.manifest.len();
        self.shared.memory.keep_action(&manifest, row.origin, used, size);
        Some(manifest)
    }

    fn trusted(&self, digest: &Digest, variant: Variant, row: Row<BlobRow>) -> Option<Blob> {
        let record = match row {
            Row::Good(BlobRow::Inline(bytes)) => {
                self.shared.memory.keep_blob(digest, &bytes);
                return Some(Blob::Inline(bytes));
            }
            Row::Good(BlobRow::File(record)) => record,
            Row::Good(BlobRow::Absent) => return None,
            Row::Bad => {
                self.lost(digest, variant, None);
                return None;
            }
        };
        match self.shared.files.check(digest, variant, &record) {
            Trust::Trusted => {}
            Trust::Verified(record) => {
                let digest = *digest;
                let noted = self.push(Operation::Verified {
                    digest,
                    variant,
                    record,
                });
                if let Err(error) = noted {
                    tracing::warn!(%digest, %error, "a verified blob could not be recorded");
                }
            }
            Trust::Bad => {
                self.lost(digest, variant, Some(record));
                return None;
            }
        }
        Some(Blob::File(self.shared.files.path(digest, variant)))
    }

    fn lost(&self, digest: &Digest, variant: Variant, seen: Option<crate::blob::FileRecord>) {
        tracing::warn!(%digest, "a stored blob is missing or damaged; it will be made again");
        self.shared.pending.lose_blob(digest, variant);
        let digest = *digest;
        let noted = self.push(Operation::Lost {
            digest,
            variant,
            seen,
        });
        if let Err(error) = noted {
            tracing::warn!(%digest, %error, "a lost blob could not be recorded");
        }
    }

    fn remove_bad(&self, key: &Digest) {
        tracing::warn!(%key, "a stored result is damaged; it will be made again");
        if let Err(error) = self.push(Operation::RemoveBad { key: *key }) {
            tracing::warn!(%key, %error, "a damaged result could not be removed");
        }
    }

    fn note_use(&self, keys: impl IntoIterator<Item = Digest>, now_ms: u64) {
        let mut keys = keys.into_iter().peekable();
        if keys.peek().is_none() {
            return;
        }
        if let Err(error) = self.shared.start_writer() {
            tracing::warn!(%error, "last-used times cannot be written");
            return;
        }
        self.shared.queue.touch(keys, now_ms / 1000);
    }

    fn grace(&self) -> u64 {
        u64::try_from(self.shared.options.grace.as_millis()).unwrap_or(u64::MAX)
    }

    fn push(&self, operation: Operation) -> Result<u64, StoreError> {
        self.shared.start_writer()?;
        self.shared.queue.push(operation, || self.shared.busy(), |_| {})
    }

    /// Waits for what was pushed, where it matters that nothing older follows.
    fn settle(&self) -> Result<(), StoreError> {
        self.flush()
    }

    fn ask(
        &self,
        command: impl FnOnce(mpsc::Sender<Result<GcReport, StoreError>>) -> Command,
    ) -> Result<GcReport, StoreError> {
        self.shared.start_writer()?;
        let (sender, receiver) = mpsc::channel();
        self.shared.queue.command(command(sender));
        receiver.recv().unwrap_or_else(|_| {
            Err(StoreError::Closed {
                path: self.shared.cache.clone(),
            })
        })
    }
}

impl Drop for Store {
    /// Writes what waits.
    fn drop(&mut self) {
        self.shared.stop_writer();
    }
}

fn revision_row(key: &Digest, revision: &Revision) -> RevisionRow {
    RevisionRow {
        root: revision.root.clone(),
        address: revision.address.clone(),
        key: *key,
        time: clock::unix_ms(),
        parts: row::encode_parts(&revision.parts),
        history: revision.history_limit,
    }
}
