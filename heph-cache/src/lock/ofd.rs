//! One byte a key of one file, locked for the open file description (`F_OFD_SETLK`, fcntl(2)).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::StoreError;

/// The lock file. It stays empty: only its byte offsets are used.
#[derive(Debug)]
pub(crate) struct LockFile {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    file: File,
    path: PathBuf,
}

/// A byte that is locked; unlocked when dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    handle: Arc<Handle>,
    offset: libc::off_t,
}

impl LockFile {
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("locks");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| StoreError::io("open", &path, error))?;
        Ok(Self {
            handle: Arc::new(Handle { file, path }),
        })
    }

    /// Locks a byte if it is free.
    pub(crate) fn take(&self, lock: u64) -> Result<Option<Taken>, StoreError> {
        let failed = |error| StoreError::io("lock", &self.handle.path, error);
        let offset = libc::off_t::try_from(lock).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        match set(&self.handle.file, offset, libc::F_WRLCK) {
            Ok(()) => Ok(Some(Taken {
                handle: Arc::clone(&self.handle),
                offset,
            })),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Err(error) = set(&self.handle.file, self.offset, libc::F_UNLCK) {
            tracing::error!(%error, path = %self.handle.path.display(), "a lock could not be released");
        }
    }
}

fn set(file: &File, offset: libc::off_t, kind: i32) -> io::Result<()> {
    let kind = libc::c_short::try_from(kind).map_err(|_| io::ErrorKind::InvalidInput)?;
    let whence = libc::c_short::try_from(libc::SEEK_SET).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: `flock` is a plain C structure for which all zeros is a valid value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind;
    range.l_whence = whence;
    range.l_start = offset;
    range.l_len = 1;
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and `range` is a valid `flock` that the
    // kernel only reads for this command.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const range) };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}
