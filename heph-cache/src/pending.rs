//! Results that are not committed yet. This process looks them up here, so a publish need not wait for the disk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use heph_common::Digest;

use crate::blob::Variant;
use crate::index::BlobRow;
use crate::manifest::Manifest;
use crate::operation::Publish;
use crate::origin::{Origin, OriginFilter};

/// What waits for its commit.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiting: AtomicUsize,
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    actions: HashMap<Digest, Vec<Waiting>>,
    blobs: HashMap<(Digest, Variant), (BlobRow, u64)>,
}

#[derive(Debug)]
struct Waiting {
    origin: Origin,
    manifest: Arc<Manifest>,
    number: u64,
}

impl Pending {
    /// Makes a result visible. `number` is that of its operation.
    pub(crate) fn add(&self, publish: &Publish, number: u64) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        for blob in &publish.blobs {
            let name = (blob.digest, blob.variant);
            if blob.content != BlobRow::Absent {
                maps.blobs.insert(name, (blob.content.clone(), number));
            }
        }
        let waiting = maps.actions.entry(publish.manifest.key).or_default();
        waiting.retain(|old| old.origin != publish.origin);
        waiting.push(Waiting {
            origin: publish.origin,
            manifest: Arc::clone(&publish.manifest),
            number,
        });
        self.waiting.store(maps.actions.len(), Ordering::Release);
    }

    /// Takes a result out, unless a newer one has taken its place.
    pub(crate) fn remove(&self, publish: &Publish, number: u64) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        for blob in &publish.blobs {
            let name = (blob.digest, blob.variant);
            if maps.blobs.get(&name).is_some_and(|(_, added)| *added == number) {
                maps.blobs.remove(&name);
            }
        }
        if let Some(waiting) = maps.actions.get_mut(&publish.manifest.key) {
            waiting.retain(|old| old.number != number);
            if waiting.is_empty() {
                maps.actions.remove(&publish.manifest.key);
            }
        }
        self.waiting.store(maps.actions.len(), Ordering::Release);
    }

    /// The result of a key that this filter prefers, with how much: 0 the most.
    pub(crate) fn action(&self, key: &Digest, origins: &OriginFilter) -> Option<(usize, Arc<Manifest>)> {
        if self.is_empty() {
            return None;
        }
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        let acceptable = maps.actions.get(key)?.iter().filter_map(|waiting| {
            let rank = origins.rank(waiting.origin)?;
            Some((rank, &waiting.manifest))
        });
        let (rank, manifest) = acceptable.min_by_key(|(rank, _)| *rank)?;
        Some((rank, Arc::clone(manifest)))
    }

    /// A blob that waits.
    pub(crate) fn blob(&self, digest: &Digest, variant: Variant) -> Option<BlobRow> {
        if self.is_empty() {
            return None;
        }
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        maps.blobs.get(&(*digest, variant)).map(|(row, _)| row.clone())
    }

    /// Forgets a blob that was found to be bad.
    pub(crate) fn lose_blob(&self, digest: &Digest, variant: Variant) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        maps.blobs.remove(&(*digest, variant));
    }

    /// Forgets the results of a key; their operations still come.
    pub(crate) fn forget(&self, key: &Digest) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        maps.actions.remove(key);
        self.waiting.store(maps.actions.len(), Ordering::Release);
    }

    fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }
}
