//! Remote caches: what one machine built, the next one gets from them.
//!
//! A [`Backend`] keeps objects of a few kinds and knows nothing about their contents: what arrives is checked by who asks.
//! Requests are made once here; repeating them, skipping a broken cache and limiting what is in flight happen above.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod access;
pub mod backend;
pub mod backends;
mod backfill;
mod budget;
pub mod cache;
mod credentials;
pub mod envelope;
pub mod location;
pub mod packing;
pub mod provenance;
pub mod purge;
pub mod ranking;
pub mod remotes;
mod sending;
pub mod session;
pub mod signing;
pub mod tombstone;
mod transfer;
pub mod uploads;

pub use access::Access;
pub use backend::{
    Answer, Backend, Body, Chunks, Limits, Object, Put, PutMode, RemoteError, RemoteErrorKind,
};
pub use backends::connect;
pub use location::{Location, credential_variables};
pub use remotes::{Caller, Remotes};
pub use session::{Session, Wanted, Warning};

/// What a mutex holds, also after a fault of somebody who held it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
