//! Shards of `flock`ed files, for systems without locks of an open file description.
//!
//! Two keys of one shard exclude each other. That costs time, and is never wrong.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// How many files there are.
const SHARDS: u64 = 4096;

/// The directory of lock files.
#[derive(Debug)]
pub(crate) struct LockFile {
    directory: PathBuf,
}

/// A file that is locked; unlocked when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    _file: File,
}

impl LockFile {
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let directory = directory.join("lock-shards");
        std::fs::create_dir_all(&directory).map_err(|error| StoreError::io("create", &directory, error))?;
        Ok(Self { directory })
    }

    /// Locks the shard if it is free.
    pub(crate) fn take(&self, lock: u64) -> Result<Option<Taken>, StoreError> {
        let path = self.directory.join(format!("{:03x}", lock % SHARDS));
        let file = File::create(&path).map_err(|error| StoreError::io("open", &path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Taken { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path, error)),
        }
    }
}
