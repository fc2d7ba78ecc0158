//! Being the daemon is holding a lock. The kernel ends it with its process, however that ends, so nothing goes stale.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A lock that is held until this is dropped, or the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes a lock if nobody has it; `None` when somebody does. Its file is made where it is missing.
    ///
    /// # Errors
    /// What the system says when there can be no such file, or no lock on it.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let lock = Self {
                file,
                path: path.to_owned(),
            };
            // Whoever removed the file in between has locked nothing that others see.
            if lock.is_current() {
                return Ok(Some(lock));
            }
        }
    }

    /// As [`Lock::try_take`], waiting for at most `patience` for somebody to let it go.
    ///
    /// # Errors
    /// As [`Lock::try_take`].
    pub fn take(path: &Path, patience: Duration) -> io::Result<Option<Self>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(Some(lock));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !wait_until_free(path, left)? {
                return Ok(None);
            }
        }
    }

    /// Whether the lock is still the one that others find: its file has not been removed or replaced.
    pub fn is_current(&self) -> bool {
        let same = |found: fs::Metadata| {
            self.file
                .metadata()
                .is_ok_and(|ours| (ours.dev(), ours.ino()) == (found.dev(), found.ino()))
        };
        fs::metadata(&self.path).is_ok_and(same)
    }

    /// Its open file: whoever has a copy of the descriptor holds the lock too.
    pub fn into_file(self) -> File {
        self.file
    }
}

/// Waits until nobody holds a lock alone; `false` when somebody still does after `patience`.
///
/// # Errors
/// What the system says when there is no such file.
pub fn wait_until_free(path: &Path, patience: Duration) -> io::Result<bool> {
    let file = open(path)?;
    let (sender, receiver) = mpsc::channel();
    // The system's wait has no limit. A thread that waits too long is left behind; it keeps nobody from ending.
    std::thread::Builder::new()
        .name("wait".to_owned())
        .spawn(move || {
            let locked = file.lock_shared();
            // Nobody listens when patience was at its end.
            let _ = sender.send(locked);
        })?;
    match receiver.recv_timeout(patience) {
        Ok(locked) => locked.map(|()| true),
        Err(_) => Ok(false),
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn one_at_a_time_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::try_take(&path).unwrap().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        assert!(!wait_until_free(&path, Duration::from_millis(1)).unwrap());
        drop(held);
        assert!(wait_until_free(&path, LONG).unwrap());
        // The waiter that lost its patience has its part of it for a moment.
        assert!(Lock::take(&path, LONG).unwrap().is_some());
    }

    #[test]
    fn a_lock_whose_file_is_gone_is_nobodys() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = Lock::try_take(&path).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!held.is_current());
        assert!(Lock::try_take(&path).unwrap().unwrap().is_current());
    }

    #[test]
    fn waiters_go_on_when_the_last_copy_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let ours = Lock::try_take(&path).unwrap().unwrap().into_file();
        let copy = ours.try_clone().unwrap();
        drop(ours);
        assert!(!wait_until_free(&path, Duration::from_millis(1)).unwrap());
        drop(copy);
        assert!(wait_until_free(&path, LONG).unwrap());
    }
}
