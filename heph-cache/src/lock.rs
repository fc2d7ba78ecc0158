//! Locks that keep equal work from being done twice.
//!
//! A lock is an economy, never needed for correctness: two writers of one key both succeed. Within a process it is an
//! entry in a map; across processes (`lock.backend: fs`) it is also one byte of the file `run/locks`, at the first
//! 62 bits of the key, locked for an open file description. The kernel releases it when its holder dies.
//! Who holds a lock is listed in the index once it has been held for a while, so that a waiter can name it.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heph_common::Digest;

use crate::clock;
use crate::error::StoreError;
use crate::options::LockBackend;
use crate::queue::Holder as Listed;
use crate::shared::Shared;

#[cfg(target_os = "linux")]
#[path = "lock/ofd.rs"]
#[expect(
    unsafe_code,
    reason = "neither std nor rustix lock ranges for an open file description"
)]
mod file;
#[cfg(not(target_os = "linux"))]
#[path = "lock/shards.rs"]
mod file;

/// First pause between two looks at a lock that another process holds; doubled up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_micros(500);
/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// The locks of one home.
#[derive(Debug)]
pub struct Locks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    held: Mutex<HashMap<u64, Option<file::Taken>>>,
    released: Condvar,
    file: Mutex<Option<Arc<file::LockFile>>>,
}

/// A lock that is held; released when dropped.
#[derive(Debug)]
pub struct Guard {
    inner: Arc<Inner>,
    lock: u64,
}

impl Locks {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                held: Mutex::new(HashMap::new()),
                released: Condvar::new(),
                file: Mutex::new(None),
            }),
        }
    }

    /// Takes the lock of a key if it is free; `None` when somebody has it.
    ///
    /// # Errors
    /// [`StoreError`] where the lock file cannot be opened or the kernel refuses locks.
    pub fn try_acquire(&self, key: &Digest) -> Result<Option<Guard>, StoreError> {
        let lock = number(key);
        self.inner.shared.start_writer()?;
        let mut held = self.inner.held();
        if held.contains_key(&lock) {
            return Ok(None);
        }
        let taken = match self.inner.shared.options.lock {
            LockBackend::Mem => None,
            LockBackend::Fs => match self.inner.file()?.take(lock)? {
                Some(taken) => Some(taken),
                None => return Ok(None),
            },
        };
        held.insert(lock, taken);
        drop(held);
        if self.inner.shared.options.lock == LockBackend::Fs {
            let holder = Listed {
                pid: std::process::id(),
                namespace: pid_namespace(),
                since: clock::unix_ms(),
            };
            self.inner.shared.queue.hold_lock(lock.cast_signed(), holder);
        }
        Ok(Some(Guard {
            inner: Arc::clone(&self.inner),
            lock,
        }))
    }

    /// Takes the lock of a key, waiting for at most `patience`; `None` when somebody has it for longer.
    ///
    /// # Errors
    /// As [`Locks::try_acquire`].
    pub fn acquire(&self, key: &Digest, patience: Duration) -> Result<Option<Guard>, StoreError> {
        let deadline = Instant::now() + patience;
        let mut pause = SHORTEST_PAUSE;
        loop {
            if let Some(guard) = self.try_acquire(key)? {
                return Ok(Some(guard));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let held = self.inner.held();
            if held.contains_key(&number(key)) {
                // A thread of this process has it and wakes us; it may also be gone already.
                let waited = self
                    .inner
                    .released
                    .wait_timeout(held, left.min(LONGEST_PAUSE * 50));
                drop(waited);
            } else {
                drop(held);
                std::thread::sleep(pause.min(left));
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Who holds the lock of a key, if anybody does.
    pub fn holder(&self, key: &Digest) -> Holder {
        let lock = number(key);
        if self.inner.held().contains_key(&lock) {
            return Holder::Process(std::process::id());
        }
        let found = self.inner.shared.read(|index| index.holder(lock.cast_signed()));
        let Some((pid, namespace)) = found.ok().flatten().flatten() else {
            return Holder::Unknown;
        };
        if namespace != pid_namespace() {
            return Holder::Elsewhere;
        }
        let alive = i32::try_from(pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH));
        if alive {
            Holder::Process(pid)
        } else {
            Holder::Unknown
        }
    }
}

/// Who holds a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder {
    /// This process, as numbered here.
    Process(u32),
    /// A process of another pid namespace, where its number would mean another one here.
    Elsewhere,
    /// Not known: whoever holds a lock says so half a second later. One that does not is stopped, or cannot write.
    Unknown,
}

impl Holder {
    /// The process, where it is known and has a number here.
    pub fn pid(self) -> Option<u32> {
        match self {
            Self::Process(pid) => Some(pid),
            Self::Elsewhere | Self::Unknown => None,
        }
    }
}

impl Inner {
    fn held(&self) -> MutexGuard<'_, HashMap<u64, Option<file::Taken>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> Result<Arc<file::LockFile>, StoreError> {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some(file) => Ok(Arc::clone(file)),
            None => {
                let file = Arc::new(file::LockFile::open(&self.shared.home.join("run"))?);
                Ok(Arc::clone(slot.insert(file)))
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.inner.shared.queue.release_lock(self.lock.cast_signed());
        let mut held = self.inner.held();
        // The file's lock goes before others of this process may ask for it.
        drop(held.remove(&self.lock));
        drop(held);
        self.inner.released.notify_all();
    }
}

/// The byte of a key: its first 62 bits. The upper ones would make a negative offset.
fn number(key: &Digest) -> u64 {
    key.prefix() >> 2
}

/// Names the pid namespace of this process; 0 where there is none.
fn pid_namespace() -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.ino())
}
