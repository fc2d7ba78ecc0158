//! What a store's callers and its writer share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use crate::blob::BlobFiles;
use crate::error::StoreError;
use crate::gate::Gate;
use crate::generation::Generations;
use crate::index::{Index, Meta};
use crate::live::LiveRuns;
use crate::memory::Memory;
use crate::options::StoreOptions;
use crate::pending::Pending;
use crate::queue::Queue;
use crate::recent::Recent;
use crate::schema;
use crate::writer::Writer;

/// Generations that are asked one after the other for one answer.
const READ_TRIES: usize = 3;

/// No count of deletions.
const NOT_KNOWN: u64 = u64::MAX;

/// The parts of a store.
#[derive(Debug)]
pub(crate) struct Shared {
    pub home: PathBuf,
    pub cache: PathBuf,
    pub options: StoreOptions,
    /// Size limit in bytes.
    pub max_size: u64,
    pub generations: Generations,
    index: RwLock<Arc<Index>>,
    pub files: BlobFiles,
    pub gate: Gate,
    pub live: LiveRuns,
    pub memory: Memory,
    pub pending: Pending,
    pub queue: Queue,
    /// Held while something is committed and while another generation is taken into use, so that nothing is committed
    /// to a generation that is given up at that moment.
    recent: Mutex<Recent>,
    /// Runs of this store that live, and have looked which generation is in use.
    runs: AtomicUsize,
    /// Generations that were given up because they were damaged.
    pub damaged: AtomicU64,
    /// Count of deletions when the memory tier was last known to be right, or [`NOT_KNOWN`].
    pub deletions: AtomicU64,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Shared {
    pub(crate) fn open(home: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        crate::home::prepare(home)?;
        let unwritable = |error: StoreError| match error {
            StoreError::Io { path, source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                StoreError::Unwritable { path, source }
            }
            StoreError::ReadOnly { path } => StoreError::Unwritable {
                path,
                source: Arc::new(std::io::ErrorKind::ReadOnlyFilesystem.into()),
            },
            other => other,
        };
        Self::build(home, options).map_err(unwritable)
    }

    fn build(home: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let cache = home.join("cache");
        let files = BlobFiles::new(&cache, options.boot())?;
        let generations = Generations::new(&cache)?;
        let live = LiveRuns::new(home)?;
        let index = open_sound(&generations, None)?;
        let shared = Self {
            home: home.to_owned(),
            max_size: options.max_size.unwrap_or_else(|| default_size(home)),
            memory: Memory::new(options.memory),
            gate: Gate::new(&cache),
            cache,
            queue: Queue::new(options.grace),
            options,
            generations,
            index: RwLock::new(Arc::new(index)),
            files,
            live,
            pending: Pending::default(),
            recent: Mutex::default(),
            runs: AtomicUsize::new(0),
            damaged: AtomicU64::new(0),
            deletions: AtomicU64::new(0),
            writer: Mutex::new(None),
        };
        shared.refresh_memory();
        Ok(shared)
    }

    /// The generation in use by this store.
    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was committed lately, to the generation in use. Nobody commits meanwhile.
    /// Lets go of what was committed lately, when there is no run that may still count on it.
    pub(crate) fn forget_recent(&self) {
        let mut recent = self.recent();
        if self.runs.load(Ordering::Acquire) == 0 {
            recent.clear();
        }
    }

    pub(crate) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run of this store begins, once it has followed; ends with [`Shared::run_ended`].
    pub(crate) fn run_began(&self) {
        self.runs.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn run_ended(&self) {
        // The last moment at which what the run has committed is known to be wanted.
        if let Err(error) = self.catch_up() {
            tracing::warn!(cache = %self.cache.display(), %error, "the generation in use cannot be found");
        }
        if self.runs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.queue.run_ended();
        }
    }

    /// Whether runs of this store live.
    pub(crate) fn has_runs(&self) -> bool {
        self.runs.load(Ordering::Acquire) > 0
    }

    /// Looks whether another process has moved on to another generation, and follows.
    pub(crate) fn follow(&self) -> Result<(), StoreError> {
        self.catch_up()?;
        self.refresh_memory();
        Ok(())
    }

    /// As [`Shared::follow`]; whether there was something to follow.
    pub(crate) fn catch_up(&self) -> Result<bool, StoreError> {
        if self.generations.is_current(&self.index().generation) {
            return Ok(false);
        }
        let mut recent = self.recent();
        if self.generations.is_current(&self.index().generation) {
            return Ok(true);
        }
        self.take_up(open_sound(&self.generations, None)?, &mut recent);
        Ok(true)
    }

    /// Gives a generation up. Another one is in use when this returns without an error.
    pub(crate) fn give_up(&self, number: u64, cause: &rusqlite::Error) -> Result<(), StoreError> {
        if self.catch_up()? || self.index().generation.number != number {
            return Ok(());
        }
        let mut recent = self.recent();
        if self.index().generation.number != number {
            return Ok(());
        }
        tracing::warn!(index = %self.index().path().display(), %cause, "the index is damaged; a new one is made");
        if self.take_up(open_sound(&self.generations, Some(number))?, &mut recent) {
            self.damaged.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Uses an empty generation from now on, and nothing of what was.
    pub(crate) fn start_afresh(&self, index: Index) {
        let mut recent = self.recent();
        recent.clear();
        self.switch(index);
    }

    /// Uses another generation from now on; false when it is in use already. What was committed lately is committed to
    /// it before anybody reads it.
    ///
    /// Unless somebody has emptied the store meanwhile: then nothing may come back. That is impossible while a
    /// run lives, and where the present generation is there and was the one in use until this store replaced it.
    fn take_up(&self, index: Index, recent: &mut Recent) -> bool {
        let before = self.index();
        if before.generation.same(&index.generation) {
            return false;
        }
        let replaced = index.generation.made && before.generation.exists();
        if replaced || self.has_runs() {
            if let Err(error) = recent.commit_to(&index) {
                tracing::warn!(index = %index.path().display(), %error, "earlier results could not be stored again");
            }
        } else {
            recent.clear();
        }
        self.switch(index)
    }

    fn switch(&self, index: Index) -> bool {
        let mut current = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if current.generation.same(&index.generation) {
            return false;
        }
        *current = Arc::new(index);
        drop(current);
        // Each generation counts its own deletions.
        self.deletions.store(NOT_KNOWN, Ordering::Release);
        self.memory.clear();
        true
    }

    /// Empties the memory tier when something was deleted since it was last known to be right.
    pub(crate) fn refresh_memory(&self) {
        let deletions = self.read(|index| index.meta(Meta::Deletions)).ok().flatten();
        let deletions = deletions.unwrap_or(0).cast_unsigned();
        if self.deletions.swap(deletions, Ordering::AcqRel) != deletions {
            self.memory.clear();
        }
    }

    /// Asks the index, and the next one where it is found to be damaged. Damage without end and an index that is busy
    /// for too long are `None`: to a caller both mean that nothing is known.
    pub(crate) fn read<T>(
        &self,
        ask: impl Fn(&Index) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        for _ in 0..READ_TRIES {
            let index = self.index();
            let error = match ask(&index) {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => error,
            };
            if schema::is_damage(index.path(), &error) {
                self.give_up(index.generation.number, &error)?;
            } else if schema::is_busy(&error) {
                tracing::warn!(index = %index.path().display(), %error, "the index is busy");
                return Ok(None);
            } else if !self.catch_up()? {
                return Err(StoreError::index(index.path(), error));
            }
        }
        Ok(None)
    }

    /// The writer begins with the first thing to write: a run that writes nothing has no thread for it.
    pub(crate) fn start_writer(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_some() {
            return Ok(());
        }
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("heph-store".to_owned())
            .spawn(move || Writer::new(shared).run())
            .map_err(|error| StoreError::io("start a thread for", &self.cache, error))?;
        *writer = Some(thread);
        Ok(())
    }

    /// Writes what waits and ends the writer.
    pub(crate) fn stop_writer(&self) {
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            tracing::error!(cache = %self.cache.display(), "the writer of the store has panicked");
        }
    }

    pub(crate) fn busy(&self) -> StoreError {
        StoreError::Busy {
            path: self.index().path().to_owned(),
        }
    }
}

/// Opens the current generation, or a new one where it is damaged so much that it cannot be opened.
pub(crate) fn open_sound(generations: &Generations, damaged: Option<u64>) -> Result<Index, StoreError> {
    let mut damaged = damaged;
    loop {
        let index = Index::new(generations.open(damaged)?);
        match index.read(|connection| crate::index::meta_of(connection, Meta::Deletions)) {
            Ok(_) => return Ok(index),
            Err(error)
                if schema::is_damage(index.path(), &error) && damaged != Some(index.generation.number) =>
            {
                tracing::warn!(index = %index.path().display(), %error, "the index is damaged; a new one is made");
                damaged = Some(index.generation.number);
            }
            Err(error) => return Err(StoreError::index(index.path(), error)),
        }
    }
}

/// 10 GiB, or 10 % of the disk where that is less.
fn default_size(home: &Path) -> u64 {
    const MOST: u64 = 10 << 30;
    let disk = rustix::fs::statvfs(home).map(|stat| stat.f_blocks.saturating_mul(stat.f_frsize));
    disk.map_or(MOST, |bytes| (bytes / 10).min(MOST))
}
