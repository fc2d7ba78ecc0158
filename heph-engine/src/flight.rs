//! Equal work of several runs of one coordinator is done once.
//!
//! The first run that has to execute an action leads; others that need the same follow, hold no slot, and hear how it ended. What
//! fails is told to them; what is cancelled is theirs to do.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use heph_common::Digest;
use heph_proto::Failed;

use crate::stalled::{STALL_LIMIT, is_stopped, look_while};

/// How the leader's work ended.
#[derive(Clone, Debug)]
pub enum Landing {
    /// It has a result, or somebody else has to try.
    Over,
    /// Its command failed, and would again.
    Failed(Arc<Failed>),
    /// Its client is stopped: whoever needs the result makes it.
    Stalled,
}

/// Called once, when the leader's work has ended.
type Waiter = Box<dyn FnOnce(Landing) + Send>;

/// What is under way in one coordinator.
#[derive(Default)]
pub struct Flights {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    flights: HashMap<Digest, Flight>,
    next: u64,
    /// Whether a thread looks after stalled leaders.
    is_watched: bool,
}

struct Flight {
    number: u64,
    /// Process of the leader's client; 0 where it is not known.
    client: u32,
    waiters: Vec<Waiter>,
    stopped_since: Option<Instant>,
}

/// The lead of one action. Whoever follows is told when it is dropped.
pub struct Lead {
    flights: Arc<Flights>,
    key: Digest,
    number: u64,
    landing: Landing,
}

impl Flights {
    /// Takes the lead of a key for a run of the process `client`; `None`: somebody else has it, and `waiter` is called when that
    /// ends.
    pub fn enter(
        self: &Arc<Self>,
        key: Digest,
        client: u32,
        waiter: impl FnOnce(Landing) + Send + 'static,
    ) -> Option<Lead> {
        let mut inner = self.lock();
        if let Some(flight) = inner.flights.get_mut(&key) {
            flight.waiters.push(Box::new(waiter));
            if !std::mem::replace(&mut inner.is_watched, true) {
                drop(inner);
                self.look_after();
            }
            return None;
        }
        inner.next += 1;
        let number = inner.next;
        let flight = Flight {
            number,
            client,
            waiters: Vec::new(),
            stopped_since: None,
        };
        inner.flights.insert(key, flight);
        Some(Lead {
            flights: Arc::clone(self),
            key,
            number,
            landing: Landing::Over,
        })
    }

    /// Process of the client that leads a key; `None` when nobody does or it is not known.
    pub fn leader(&self, key: &Digest) -> Option<u32> {
        let client = self.lock().flights.get(key)?.client;
        (client != 0).then_some(client)
    }

    fn land(&self, key: &Digest, number: u64, landing: &Landing) {
        let mut inner = self.lock();
        // One that stalled may have been followed by another.
        if inner
            .flights
            .get(key)
            .is_none_or(|flight| flight.number != number)
        {
            return;
        }
        let waiters = inner.flights.remove(key).map(|flight| flight.waiters);
        drop(inner);
        for waiter in waiters.into_iter().flatten() {
            waiter(landing.clone());
        }
    }

    /// Looks at the leaders that are waited for, while there are any.
    fn look_after(self: &Arc<Self>) {
        let flights = Arc::clone(self);
        if !look_while("flights", move || flights.look()) {
            self.lock().is_watched = false;
        }
    }

    /// Takes the lead from clients that are stopped. `false`: nobody follows anybody.
    fn look(&self) -> bool {
        let mut stalled = Vec::new();
        let mut inner = self.lock();
        let mut any = false;
        inner.flights.retain(|_, flight| {
            any |= !flight.waiters.is_empty();
            if flight.waiters.is_empty() || !is_stopped(flight.client) {
                flight.stopped_since = None;
                return true;
            }
            let since = *flight.stopped_since.get_or_insert_with(Instant::now);
            if since.elapsed() < STALL_LIMIT {
                return true;
            }
            stalled.append(&mut flight.waiters);
            false
        });
        inner.is_watched = any;
        drop(inner);
        for waiter in stalled {
            waiter(Landing::Stalled);
        }
        any
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead {
    /// The command failed, and would fail for everybody.
    pub fn fail(mut self, failed: &Failed) {
        self.landing = Landing::Failed(Arc::new(failed.clone()));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.flights.land(&self.key, self.number, &self.landing);
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flights({})", self.lock().flights.len())
    }
}

impl fmt::Debug for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lead({})", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn followers_hear_how_it_ended_and_the_next_leads() {
        let flights = Arc::new(Flights::default());
        let key = Digest::of(b"key");
        let (told, heard) = mpsc::channel();
        let follow = || {
            let told = told.clone();
            move |landing| told.send(landing).unwrap()
        };
        let lead = flights.enter(key, 7, follow()).unwrap();
        assert_eq!(flights.leader(&key), Some(7));
        assert!(flights.enter(key, 8, follow()).is_none());
        assert!(flights.enter(key, 9, follow()).is_none());
        assert!(flights.enter(Digest::of(b"other"), 8, follow()).is_some());
        let failed = Failed {
            message: "it failed".to_owned(),
            ..Failed::default()
        };
        lead.fail(&failed);
        for _ in 0..2 {
            assert!(matches!(heard.recv().unwrap(), Landing::Failed(told) if *told == failed));
        }
        let lead = flights.enter(key, 8, follow()).unwrap();
        assert!(flights.enter(key, 9, follow()).is_none());
        drop(lead);
        assert!(matches!(heard.recv().unwrap(), Landing::Over));
        assert_eq!(flights.leader(&key), None);
    }
}
