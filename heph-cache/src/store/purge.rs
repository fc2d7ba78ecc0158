//! Purging results, and what there is of one key.

use super::*;
use crate::apply;

impl Store {
    /// Removes the results of a key that were made until then, in milliseconds since 1970, with their uploads. Older ones do not come in
    /// from remote caches any more.
    ///
    /// # Errors
    /// As [`Store::remember_parts`].
    pub fn purge(&self, key: &Digest, until_unix_ms: u64) -> Result<(), StoreError> {
        self.shared.pending.forget(key);
        let pushed = self.push(Operation::Purge {
            key: *key,
            until: until_unix_ms,
        });
        self.settle()?;
        self.shared.memory.forget_action(key);
        pushed.map(drop)
    }

    /// Until when results of a key are purged, in milliseconds since 1970; `None` when they are not.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn purged_until(&self, key: &Digest) -> Result<Option<u64>, StoreError> {
        let found = self
            .shared
            .read(|index| index.read(|connection| apply::purged(connection, key)))?;
        Ok(found.flatten())
    }

    /// Every result of a key that is committed, whatever its origin.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn results(&self, key: &Digest) -> Result<Vec<(Origin, Manifest)>, StoreError> {
        let rows = self.shared.read(|index| index.actions(key))?.unwrap_or_default();
        let good = rows.into_iter().filter_map(|row| match row {
            Row::Good(row) => Some((row.origin, Manifest::decode(&row.manifest).ok()?)),
            Row::Bad => None,
        });
        Ok(good.filter(|(_, manifest)| manifest.key == *key).collect())
    }
}
