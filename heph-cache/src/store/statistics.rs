//! What the store holds, in numbers.

use super::*;
use crate::index::integer;

/// What the store holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreStats {
    /// Generation of the index.
    pub generation: u64,
    /// Results.
    pub actions: u64,
    /// Blobs in the index.
    pub inline_blobs: u64,
    /// Blobs as files.
    pub file_blobs: u64,
    /// Bytes of the blob files.
    pub file_bytes: u64,
    /// Bytes of the index that are in use.
    pub index_bytes: u64,
    /// Size limit in bytes.
    pub max_size: u64,
    /// Uploads that wait.
    pub uploads: u64,
    /// Runs that live.
    pub live_runs: u64,
    /// Generations that this process gave up because they were damaged.
    pub damaged_generations: u64,
}

impl Store {
    /// What is committed now.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn stats(&self) -> Result<StoreStats, StoreError> {
        let index = self.shared.index();
        let numbers = self.shared.read(|index| {
            index.read(|connection| {
                connection.query_row(
                    "SELECT (SELECT count(*) FROM action), (SELECT count(*) FROM blob WHERE data IS NOT NULL),
                     (SELECT count(*) FROM blob WHERE inode IS NOT NULL), (SELECT count(*) FROM upload)",
                    [],
                    |row| Ok([integer(row, 0), integer(row, 1), integer(row, 2), integer(row, 3)]),
                )
            })
        })?;
        let [actions, inline, files, uploads] = numbers.unwrap_or_default().map(count);
        let bytes = self.shared.read(|index| index.meta(Meta::FileBytes))?;
        let size = self.shared.read(|index| index.read(eviction::size))?;
        let file_bytes = count(bytes);
        Ok(StoreStats {
            generation: index.generation.number,
            actions,
            inline_blobs: inline,
            file_blobs: files,
            file_bytes,
            index_bytes: size.unwrap_or(0).saturating_sub(file_bytes),
            max_size: self.shared.max_size,
            uploads,
            live_runs: self.shared.live.living()?.count as u64,
            damaged_generations: self.shared.damaged.load(Ordering::Relaxed),
        })
    }
}

pub(super) fn count(number: Option<i64>) -> u64 {
    number.unwrap_or(0).max(0).cast_unsigned()
}
