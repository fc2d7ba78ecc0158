//! The sandbox directories of one process: those in use, and those that were swept for another use.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::{Errno, Result};

use super::place::{Place, Trash};
use super::relative;

/// Spare places that are kept.
const SPARES: usize = 64;

/// The pool of places below one directory.
#[derive(Debug)]
pub(super) struct Places {
    parent: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Swept, and ready for any name; each still has the last one.
    spare: Vec<Place>,
    /// Names of those that a worker sweeps after it gave its report.
    in_transit: Vec<String>,
    trash: Option<Arc<Trash>>,
    is_closed: bool,
}

impl Places {
    /// The places below `parent`, which is made when the first one is claimed.
    pub(super) fn new(parent: PathBuf) -> Self {
        Self {
            parent,
            state: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    pub(super) fn parent(&self) -> &Path {
        &self.parent
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a place for a sandbox; waits while this process sweeps the last one of that name, but not for other
    /// processes. What an earlier run left under that name is gone then.
    pub(super) fn claim(&self, name: &str) -> Result<Place> {
        if !relative::is_name(name) {
            return Err(Errno::INVAL);
        }
        let mut state = self.lock();
        while state.in_transit.iter().any(|other| other == name) {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let path = self.parent.join(name);
        if let Some(at) = state.spare.iter().position(|spare| spare.path() == path) {
            return Ok(state.spare.swap_remove(at).claimed_again());
        }
        let spare = state.spare.pop();
        drop(state);
        match spare.map(|spare| spare.rename(path)) {
            Some(Ok(place)) => Ok(place),
            Some(Err(spare)) => {
                self.lock().spare.push(spare);
                Place::claim(&self.parent, name)
            }
            None => Place::claim(&self.parent, name),
        }
    }

    /// Gets a place ready for another use, or removes it; `meanwhile` is called when its name is known to be in use.
    pub(super) fn give_back(&self, place: Place, name: &str, meanwhile: impl FnOnce()) {
        self.lock().in_transit.push(name.to_owned());
        meanwhile();
        let trash = self.trash();
        let spare = place.recycle(trash.as_deref());
        drop(trash);
        let mut state = self.lock();
        state.in_transit.retain(|other| other != name);
        let surplus = match spare {
            Some(spare) if !state.is_closed && state.spare.len() < SPARES => {
                state.spare.push(spare);
                None
            }
            surplus => surplus,
        };
        drop(state);
        self.returned.notify_all();
        if let Some(surplus) = surplus {
            surplus.remove();
        }
    }

    /// Files that can be used again, where that pays.
    pub(super) fn trash(&self) -> Option<Arc<Trash>> {
        let mut state = self.lock();
        if state.trash.is_none() && !state.is_closed {
            state.trash = Trash::open(&self.parent).map(Arc::new);
        }
        state.trash.clone()
    }

    /// Removes everything that is not in use; from now on nothing is kept.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        let (spare, trash) = (std::mem::take(&mut state.spare), state.trash.take());
        drop(state);
        for place in spare {
            place.remove();
        }
        if let Some(trash) = trash.and_then(Arc::into_inner) {
            trash.remove();
        }
    }
}
