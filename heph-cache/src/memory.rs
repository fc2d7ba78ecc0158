//! The memory tier: manifests and small blobs that were used lately.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use heph_common::Digest;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::manifest::Manifest;
use crate::origin::Origin;

/// Sizes of the memory tier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryOptions {
    /// Largest entry that is kept, in bytes.
    pub per_entry: usize,
    /// Bytes kept in all; 0 keeps nothing.
    pub capacity: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            per_entry: 16 * 1024,
            capacity: 64 * 1024 * 1024,
        }
    }
}

/// A manifest in memory, with what its row says.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub manifest: Arc<Manifest>,
    pub origin: Origin,
    /// Seconds since 1970.
    pub used: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name {
    Action(Digest),
    Blob(Digest),
}

#[derive(Clone)]
enum Value {
    Action(Arc<Remembered>, usize),
    Blob(Bytes),
}

#[derive(Clone)]
struct Weight;

impl Weighter<Name, Value> for Weight {
    fn weight(&self, _name: &Name, value: &Value) -> u64 {
        let size = match value {
            Value::Action(_, size) => *size,
            Value::Blob(bytes) => bytes.len(),
        };
        // Roughly what an entry costs beside its bytes.
        size as u64 + 128
    }
}

/// The memory tier of one store.
pub(crate) struct Memory {
    cache: Option<Cache<Name, Value, Weight>>,
    per_entry: usize,
}

impl Memory {
    pub(crate) fn new(options: MemoryOptions) -> Self {
        let cache = (options.capacity > 0).then(|| {
            let items = (options.capacity / 1024).clamp(64, 100_000);
            Cache::with_weighter(items, options.capacity as u64, Weight)
        });
        Self {
            cache,
            per_entry: options.per_entry,
        }
    }

    pub(crate) fn action(&self, key: &Digest) -> Option<Arc<Remembered>> {
        match self.cache.as_ref()?.get(&Name::Action(*key))? {
            Value::Action(remembered, _) => Some(remembered),
            Value::Blob(_) => None,
        }
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Option<Bytes> {
        match self.cache.as_ref()?.get(&Name::Blob(*digest))? {
            Value::Blob(bytes) => Some(bytes),
            Value::Action(..) => None,
        }
    }

    /// Keeps a manifest whose encoded form has `size` bytes.
    pub(crate) fn keep_action(&self, manifest: &Arc<Manifest>, origin: Origin, used: u64, size: usize) {
        if let Some(cache) = self.cache.as_ref().filter(|_| size <= self.per_entry) {
            let remembered = Remembered {
                manifest: Arc::clone(manifest),
                origin,
                used: AtomicU64::new(used),
            };
            // A decoded manifest takes about twice its encoded form.
            cache.insert(
                Name::Action(manifest.key),
                Value::Action(Arc::new(remembered), size * 2),
            );
        }
    }

    pub(crate) fn keep_blob(&self, digest: &Digest, bytes: &Bytes) {
        if let Some(cache) = self.cache.as_ref().filter(|_| bytes.len() <= self.per_entry) {
            cache.insert(Name::Blob(*digest), Value::Blob(bytes.clone()));
        }
    }

    pub(crate) fn forget_action(&self, key: &Digest) {
        if let Some(cache) = &self.cache {
            cache.remove(&Name::Action(*key));
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        if let Some(cache) = &self.cache {
            cache.clear();
        }
    }
}

impl Remembered {
    /// The last use that the row is known to have, in seconds since 1970; moved on to `now` when it is older than
    /// `interval` seconds. Returns whether it was moved, so that one caller alone writes it down.
    pub(crate) fn refresh(&self, now: u64, interval: u64) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        used.saturating_add(interval) < now
            && self
                .used
                .compare_exchange(used, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("enabled", &self.cache.is_some())
            .finish_non_exhaustive()
    }
}
