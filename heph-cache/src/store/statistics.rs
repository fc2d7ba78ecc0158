//! What the store holds, in numbers; and the upload queue as it stands.

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

/// An upload that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    /// Action key.
    pub key: Digest,
    /// Name of the cache.
    pub cache: String,
    /// Tries so far.
    pub tries: u64,
    /// Since when it waits, in seconds since 1970.
    pub queued_unix_s: u64,
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

    /// Uploads that wait, the oldest first. Each keeps its result and blobs from eviction.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn uploads(&self) -> Result<Vec<Upload>, StoreError> {
        let found = self.shared.read(|index| {
            index.read(|connection| {
                let mut statement =
                    connection.prepare_cached("SELECT key, cache, tries, queued FROM upload ORDER BY id")?;
                let mut rows = statement.query([])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    let key = row.get_ref(0)?.as_blob().ok().and_then(Digest::from_slice);
                    let cache = row.get_ref(1)?.as_str().ok();
                    found.extend(key.zip(cache).map(|(key, cache)| Upload {
                        key,
                        cache: cache.to_owned(),
                        tries: count(integer(row, 2)),
                        queued_unix_s: count(integer(row, 3)),
                    }));
                }
                Ok(found)
            })
        })?;
        Ok(found.unwrap_or_default())
    }

    /// Notes that an upload was tried in vain.
    ///
    /// # Errors
    /// As [`Store::remember_parts`].
    pub fn upload_failed(&self, key: &Digest, cache: &str) -> Result<(), StoreError> {
        self.push(Operation::UploadFailed {
            key: *key,
            cache: cache.to_owned(),
        })
        .map(drop)
    }

    /// Takes an upload off the queue: it is done, or given up.
    ///
    /// # Errors
    /// As [`Store::remember_parts`].
    pub fn uploaded(&self, key: &Digest, cache: &str) -> Result<(), StoreError> {
        self.push(Operation::Uploaded {
            key: *key,
            cache: cache.to_owned(),
        })
        .map(drop)
    }
}

fn count(number: Option<i64>) -> u64 {
    number.unwrap_or(0).max(0).cast_unsigned()
}
