//! The state in a sled database.
//!
//! sled keeps seven threads for as long as its process lives, each of which wakes every second, and damage may make it panic. So it is
//! only opened in processes that end soon: see [`crate::history`].

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{State, StateError};

/// Memory for pages.
const CACHE_BYTES: u64 = 8 << 20;

/// The file of the database that holds the log.
const LOG: &str = "db";

/// An open database.
#[derive(Debug)]
pub struct SledState {
    path: PathBuf,
    database: sled::Db,
    runs: sled::Tree,
}

impl SledState {
    /// Opens the database in `path`, or begins one. May panic where it is damaged.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |error| wrong(path, error);
        let database = sled::Config::new()
            .path(path)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            runs: database.open_tree("runs").map_err(failed)?,
            database,
        })
    }
}

impl State for SledState {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let put = self.runs.insert(key, value);
        put.map(drop).map_err(|error| wrong(&self.path, error))
    }

    fn remove(&self, key: &[u8]) -> Result<(), StateError> {
        let removed = self.runs.remove(key);
        removed.map(drop).map_err(|error| wrong(&self.path, error))
    }

    fn descend(&self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StateError> {
        for entry in self.runs.iter().rev() {
            let (key, value) = entry.map_err(|error| wrong(&self.path, error))?;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StateError> {
        self.database.flush().map_err(|error| wrong(&self.path, error))?;
        // A flush of sled is no fsync.
        let log = self.path.join(LOG);
        File::open(log)
            .and_then(|log| log.sync_data())
            .map_err(|source| StateError::Io {
                path: self.path.clone(),
                source,
            })
    }
}

/// Whether the system refuses, or what is there is of no use.
fn wrong(path: &Path, error: sled::Error) -> StateError {
    use io::ErrorKind::{
        Interrupted, OutOfMemory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, TimedOut,
        WouldBlock,
    };
    let path = path.to_owned();
    match error {
        sled::Error::Io(source)
            if matches!(
                source.kind(),
                Interrupted
                    | OutOfMemory
                    | PermissionDenied
                    | QuotaExceeded
                    | ReadOnlyFilesystem
                    | StorageFull
                    | TimedOut
                    | WouldBlock
            ) || matches!(
                source.raw_os_error(),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EIO)
            ) =>
        {
            StateError::Io { path, source }
        }
        other => StateError::Damaged {
            path,
            message: other.to_string(),
        },
    }
}
