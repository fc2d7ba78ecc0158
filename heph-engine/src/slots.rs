//! Job slots of one coordinator, shared by all its runs.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::stalled::{is_stopped, look_while};

/// A number of slots, and who wants to hear when one is free.
pub struct Slots {
    inner: Mutex<Inner>,
}

struct Inner {
    total: u32,
    /// By the process of the client; 0 for one that is not known.
    used: HashMap<u32, u32>,
    /// Whether a thread looks after clients that are stopped.
    is_watched: bool,
    waiting: Vec<Box<dyn FnOnce() + Send>>,
    /// More that runs have asked for.
    wanted: Vec<u32>,
}

impl Inner {
    fn most(&self) -> u32 {
        self.wanted.iter().copied().fold(self.total, u32::max)
    }

    /// A client that is stopped (Ctrl-Z, a debugger) does not keep others from working.
    fn used(&self) -> u32 {
        let used: u32 = self.used.values().sum();
        if used < self.most() {
            return used;
        }
        let stopped = self.used.iter().filter(|(client, _)| is_stopped(**client));
        used - stopped.map(|(_, count)| count).sum::<u32>()
    }
}

/// While this lives there are as many slots as its run has asked for.
pub struct Wanted {
    slots: Arc<Slots>,
    count: u32,
}

/// Slots that were taken; given back when this is dropped.
pub struct Held {
    slots: Arc<Slots>,
    client: u32,
    count: u32,
}

impl Slots {
    /// This many slots; at least one.
    pub fn new(total: u32) -> Self {
        Self {
            inner: Mutex::new(Inner {
                total: total.max(1),
                used: HashMap::new(),
                is_watched: false,
                waiting: Vec::new(),
                wanted: Vec::new(),
            }),
        }
    }

    /// Takes `count` slots, or all there are when fewer exist, for a run of the process `client`. Where that fails, `wake` is called
    /// once, when some may be free.
    pub fn take(
        self: &Arc<Self>,
        count: u32,
        client: u32,
        wake: impl FnOnce() + Send + 'static,
    ) -> Option<Held> {
        let mut inner = self.lock();
        let count = count.clamp(1, inner.most());
        if inner.used() + count > inner.most() {
            // Registered under the same lock, so that no slot is given back in between unheard.
            inner.waiting.push(Box::new(wake));
            let others = inner.used.keys().any(|holder| *holder != 0 && *holder != client);
            if others && !std::mem::replace(&mut inner.is_watched, true) {
                drop(inner);
                self.look_after();
            }
            return None;
        }
        *inner.used.entry(client).or_default() += count;
        Some(Held {
            slots: Arc::clone(self),
            client,
            count,
        })
    }

    /// Wakes those who wait when a client that holds slots is stopped.
    fn look_after(self: &Arc<Self>) {
        let slots = Arc::clone(self);
        if !look_while("slots", move || slots.look()) {
            self.lock().is_watched = false;
        }
    }

    /// `false`: nobody waits.
    fn look(&self) -> bool {
        let mut inner = self.lock();
        inner.is_watched = !inner.waiting.is_empty();
        if inner.is_watched && inner.used.keys().any(|client| is_stopped(*client)) {
            let waiting = std::mem::take(&mut inner.waiting);
            drop(inner);
            waiting.into_iter().for_each(|wake| wake());
            return true;
        }
        inner.is_watched
    }

    /// Has at least `count` slots for as long as the answer lives: one run that asks for more raises the budget of all.
    pub fn want(self: &Arc<Self>, count: u32) -> Wanted {
        self.lock().wanted.push(count);
        Wanted {
            slots: Arc::clone(self),
            count,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut inner = self.slots.lock();
        if let Some(at) = inner.wanted.iter().position(|count| *count == self.count) {
            inner.wanted.swap_remove(at);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.slots.lock();
        if let Some(used) = inner.used.get_mut(&self.client) {
            *used = used.saturating_sub(self.count);
            if *used == 0 {
                inner.used.remove(&self.client);
            }
        }
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(|wake| wake());
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        write!(
            f,
            "Slots({} of {})",
            inner.used.values().sum::<u32>(),
            inner.most()
        )
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Slots;

    #[test]
    fn slots_are_taken_given_and_announced() {
        let slots = Arc::new(Slots::new(3));
        let woken = Arc::new(AtomicU32::new(0));
        let wake = || {
            let woken = Arc::clone(&woken);
            move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        };
        let two = slots.take(2, 0, wake()).unwrap();
        assert!(slots.take(2, 0, wake()).is_none());
        let one = slots.take(1, 0, wake()).unwrap();
        drop(two);
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        drop(one);
        assert_eq!(woken.load(Ordering::Relaxed), 1, "who was woken asks again");
        assert!(
            slots.take(9, 0, wake()).is_some(),
            "a target that wants more than there is gets all"
        );
        let more = slots.want(5);
        let five = slots.take(5, 0, wake()).unwrap();
        drop(more);
        assert!(slots.take(1, 0, wake()).is_none());
        drop(five);
        assert!(slots.take(3, 0, wake()).is_some());
    }
}
