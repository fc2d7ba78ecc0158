//! The door between those who add blob files and those who delete them.
//!
//! A publisher holds the room shared from before its first blob file gets its name until the manifest is committed;
//! whoever deletes blob files holds it alone. So a blob can never be deleted between the moment a publisher
//! found or wrote it and the moment the index names it, whatever generation or format of index each of them uses.
//! The room is entered through the gate, which a deleter closes first: a stream of publishers cannot starve it.
//!
//! Both are `flock`s, which the kernel releases when a process dies. A wait that takes too long is given up: then a
//! blob may at worst be missing later, which is a miss.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// Longest wait of a publisher, or of a beginning run, for a deleter to finish its step.
const ENTER_WAIT: Duration = Duration::from_secs(1);
/// Longest wait of a deleter for the publishers inside.
const CLEAR_WAIT: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_micros(200);

/// The two lock files of one cache directory.
#[derive(Debug)]
pub(crate) struct Gate {
    gate: PathBuf,
    room: PathBuf,
}

/// A publisher's place in the room; left when dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    _room: Option<File>,
}

/// The gate is closed to new publishers and new runs; opened when dropped.
#[derive(Debug)]
pub(crate) struct Closed {
    _gate: File,
    room: PathBuf,
}

impl Gate {
    pub(crate) fn new(cache: &Path) -> Self {
        Self {
            gate: cache.join("gate"),
            room: cache.join("room"),
        }
    }

    /// Enters the room, waiting for at most a second.
    pub(crate) fn enter(&self) -> Result<Hold, StoreError> {
        let gate = open(&self.gate)?;
        let deadline = Instant::now() + ENTER_WAIT;
        if !wait(&gate, &self.gate, deadline, File::try_lock_shared)? {
            tracing::warn!(gate = %self.gate.display(), "another process deletes blobs for too long; going on");
            return Ok(Hold { _room: None });
        }
        let room = open(&self.room)?;
        let entered = wait(&room, &self.room, deadline, File::try_lock_shared)?;
        Ok(Hold {
            _room: entered.then_some(room),
        })
    }

    /// Waits until no deleter is at work, for at most a second, and keeps new ones out until the result is dropped.
    pub(crate) fn pass(&self) -> Result<File, StoreError> {
        let gate = open(&self.gate)?;
        wait(
            &gate,
            &self.gate,
            Instant::now() + ENTER_WAIT,
            File::try_lock_shared,
        )?;
        Ok(gate)
    }

    /// Closes the gate; `None` when another deleter has it.
    pub(crate) fn close(&self) -> Result<Option<Closed>, StoreError> {
        let gate = open(&self.gate)?;
        let deadline = Instant::now() + CLEAR_WAIT;
        let closed = wait(&gate, &self.gate, deadline, File::try_lock)?;
        Ok(closed.then(|| Closed {
            _gate: gate,
            room: self.room.clone(),
        }))
    }
}

impl Closed {
    /// Has the room alone once the publishers inside have left; `inside` is called between tries, so that those of
    /// this process can be helped out. `None` when it takes too long.
    pub(crate) fn alone(&self, mut inside: impl FnMut()) -> Result<Option<File>, StoreError> {
        let room = open(&self.room)?;
        let deadline = Instant::now() + CLEAR_WAIT;
        loop {
            inside();
            if wait(&room, &self.room, Instant::now(), File::try_lock)? {
                return Ok(Some(room));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn open(path: &Path) -> Result<File, StoreError> {
    let try_open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
    };
    // Somebody may have deleted the whole cache.
    let opened = match (try_open(), path.parent()) {
        (Err(error), Some(directory)) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(directory).and_then(|()| try_open())
        }
        (opened, _) => opened,
    };
    opened.map_err(|error| StoreError::io("open", path, error))
}

fn wait(
    file: &File,
    path: &Path,
    deadline: Instant,
    lock: impl Fn(&File) -> Result<(), TryLockError>,
) -> Result<bool, StoreError> {
    loop {
        match lock(file) {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(false),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", path, error)),
        }
    }
}
