//! How a caller stops what runs, and hears that it has begun.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A request to stop, which may come at any time; clones are one. A run has one for all its plans, or one for each.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    /// Those who wait and have to be woken.
    waiting: Mutex<Vec<Arc<Bell>>>,
    /// The same for those who wait in async code.
    notify: tokio::sync::Notify,
}

impl Cancel {
    /// A request that was not made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the request: commands get SIGTERM, and SIGKILL when they take longer than [`GRACE`](super::GRACE).
    pub fn cancel(&self) {
        self.0.requested.store(true, Ordering::SeqCst);
        let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in waiting.iter() {
            bell.ring();
        }
        self.0.notify.notify_waiters();
    }

    /// Completes when the request is made.
    pub async fn cancelled(&self) {
        loop {
            let notified = self.0.notify.notified();
            if self.is_cancelled() {
                return;
            }
            notified.await;
        }
    }

    /// Whether it was made.
    pub fn is_cancelled(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Rings `bell` when the request is made, until the guard is dropped.
    pub(super) fn ring(&self, bell: &Arc<Bell>) -> Ringing<'_> {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(Arc::clone(bell));
        drop(waiting);
        if self.is_cancelled() {
            bell.ring();
        }
        Ringing {
            cancel: self,
            bell: Arc::clone(bell),
        }
    }
}

/// Ends the connection between a request and a bell.
pub(super) struct Ringing<'a> {
    cancel: &'a Cancel,
    bell: Arc<Bell>,
}

impl Drop for Ringing<'_> {
    fn drop(&mut self) {
        let mut waiting = self
            .cancel
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
        drop(waiting);
        self.bell.silence();
    }
}

/// A descriptor that becomes readable when it is rung.
#[derive(Debug)]
pub(super) struct Bell {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Bell {
    pub(super) fn new() -> std::io::Result<Self> {
        let (reader, writer) = pipe()?;
        for end in [&reader, &writer] {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        Ok(Self { reader, writer })
    }

    fn ring(&self) {
        // A full pipe rings already.
        let _ = rustix::io::write(&self.writer, b"!");
    }

    pub(super) fn silence(&self) {
        let mut buffer = [0; 64];
        while rustix::io::read(&self.reader, &mut buffer).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// A pipe that no other program inherits.
pub(super) fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    // Not every system has `pipe2`; the standard library uses it where it is.
    let (reader, writer) = std::io::pipe()?;
    Ok((reader.into(), writer.into()))
}

/// What a caller passes along with a plan.
#[derive(Default)]
pub struct Control {
    /// Stops it.
    pub cancel: Cancel,
    /// Called once, on a worker's thread, when the command has been started.
    pub spawned: Option<Box<dyn FnOnce() + Send>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}
