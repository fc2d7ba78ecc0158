//! The upload queue: what waits, and whose it is to send.
//!
//! Several coordinators may have one home. Each takes what it is about to send: a row with a lease is sent by its owner alone. The owner holds
//! a lock on a file in `run/uploads`, so that nobody waits for one that is dead, and a lease ends by itself, so that nobody
//! waits for ever for one that is stopped.

use std::collections::BTreeMap;

use super::statistics::count;
use super::*;
use crate::apply::REPLACE;
use crate::index::integer;
use crate::live::LiveRuns;

/// An upload that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    /// Action key.
    pub key: Digest,
    /// Name of the cache.
    pub cache: String,
    /// Tries so far.
    pub tries: u64,
    /// Whether it takes the place of what the cache has.
    pub replace: bool,
    /// Since when it waits, in seconds since 1970.
    pub queued_unix_s: u64,
    /// Who is about to send it.
    pub owner: Option<String>,
    /// When it is anybody's again, in milliseconds since 1970.
    pub lease_end_unix_ms: u64,
}

/// What waits for one cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadSum {
    /// Name of the cache in the queue.
    pub cache: String,
    /// How many results.
    pub results: u64,
    /// Their contents in bytes.
    pub bytes: u64,
}

impl UploadSum {
    /// Name of the cache in the configuration.
    pub fn name(&self) -> &str {
        self.cache.split_once(' ').map_or(&self.cache, |(_, name)| name)
    }
}

/// Who sends uploads; what it has taken is anybody's when this is dropped, or when its process ends.
#[derive(Debug)]
pub struct Lessee {
    live: LiveRun,
}

/// What came of a wish to send.
#[derive(Clone, Debug, Default)]
pub struct Leased {
    /// What is to be sent now, the oldest first.
    pub own: Vec<Upload>,
    /// How many more somebody else sends.
    pub others: usize,
}

impl Store {
    /// Somebody who sends uploads.
    ///
    /// # Errors
    /// [`StoreError`] where the claim cannot be written.
    pub fn lessee(&self) -> Result<Lessee, StoreError> {
        let lessees = self.lessees();
        // Files of those that were killed.
        lessees.living()?;
        Ok(Lessee {
            live: lessees.begin()?,
        })
    }

    /// Takes what waits for these caches, for so long, unless somebody else has it.
    ///
    /// # Errors
    /// As [`Store::lookup`] and [`Store::remember_parts`].
    pub fn lease_uploads(
        &self,
        lessee: &Lessee,
        caches: &[String],
        length: Duration,
    ) -> Result<Leased, StoreError> {
        let owner = lessee.live.name();
        let waiting = || -> Result<Vec<Upload>, StoreError> {
            let mut rows = self.uploads()?;
            rows.retain(|row| caches.contains(&row.cache));
            Ok(rows)
        };
        let rows = waiting()?;
        let now = clock::unix_ms();
        let lessees = self.lessees();
        let mut lives: BTreeMap<String, bool> = BTreeMap::new();
        let mut is_free = |row: &Upload| match &row.owner {
            None => true,
            Some(other) if *other == owner || row.lease_end_unix_ms < now => true,
            Some(other) => !*lives.entry(other.clone()).or_insert_with(|| lessees.lives(other)),
        };
        // Nothing is written for nothing.
        if rows.iter().filter(|row| is_free(row)).count() == 0 {
            return Ok(Leased {
                own: Vec::new(),
                others: rows.len(),
            });
        }
        let dead = lives.into_iter().filter(|(_, lives)| !lives);
        self.push(Operation::LeaseUploads {
            caches: caches.to_vec(),
            owner: owner.clone(),
            until: now + u64::try_from(length.as_millis()).unwrap_or(u64::MAX / 4),
            dead: dead.map(|(name, _)| name).collect(),
        })?;
        self.flush()?;
        let (own, others): (Vec<_>, Vec<_>) = waiting()?
            .into_iter()
            .partition(|row| row.owner.as_ref() == Some(&owner));
        Ok(Leased {
            own,
            others: others.len(),
        })
    }

    /// What somebody has taken and not sent is anybody's again.
    ///
    /// # Errors
    /// As [`Store::remember_parts`].
    pub fn release_uploads(&self, lessee: &Lessee) -> Result<(), StoreError> {
        let owner = lessee.live.name();
        self.push(Operation::ReleaseUploads { owner }).map(drop)
    }

    /// Uploads that wait, the oldest first. Each keeps its result and blobs from eviction.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn uploads(&self) -> Result<Vec<Upload>, StoreError> {
        let found = self.shared.read(|index| {
            index.read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT key, cache, tries, queued, owner, lease_end FROM upload ORDER BY id",
                )?;
                let mut rows = statement.query([])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    let key = row.get_ref(0)?.as_blob().ok().and_then(Digest::from_slice);
                    let cache = row.get_ref(1)?.as_str().ok();
                    let tries = integer(row, 2).unwrap_or(0);
                    found.extend(key.zip(cache).map(|(key, cache)| Upload {
                        key,
                        cache: cache.to_owned(),
                        tries: count(Some(tries & (REPLACE - 1))),
                        replace: tries & REPLACE != 0,
                        queued_unix_s: count(integer(row, 3)),
                        owner: row.get(4).unwrap_or_default(),
                        lease_end_unix_ms: count(integer(row, 5)),
                    }));
                }
                Ok(found)
            })
        })?;
        Ok(found.unwrap_or_default())
    }

    /// What waits for each cache, in the order of their names in the queue.
    ///
    /// # Errors
    /// As [`Store::lookup`].
    pub fn upload_sums(&self) -> Result<Vec<UploadSum>, StoreError> {
        let found = self.shared.read(|index| {
            index.read(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT upload.cache, count(*), sum(action.size) FROM upload
                     LEFT JOIN action ON action.key=upload.key AND action.origin=x'' GROUP BY upload.cache ORDER BY upload.cache",
                )?;
                let mut rows = statement.query([])?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    found.extend(row.get_ref(0)?.as_str().ok().map(|cache| UploadSum {
                        cache: cache.to_owned(),
                        results: count(integer(row, 1)),
                        bytes: count(integer(row, 2)),
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

    /// Takes an upload off the queue: it is given up.
    ///
    /// # Errors
    /// As [`Store::remember_parts`].
    pub fn uploaded(&self, key: &Digest, cache: &str) -> Result<(), StoreError> {
        self.take_off(key, cache, true)
    }

    /// Takes an upload off the queue that was sent as it says; one that has become a replacement meanwhile stays.
    ///
    /// # Errors
    /// As [`Store::remember_parts`].
    pub fn sent(&self, upload: &Upload) -> Result<(), StoreError> {
        self.take_off(&upload.key, &upload.cache, upload.replace)
    }

    fn take_off(&self, key: &Digest, cache: &str, replace: bool) -> Result<(), StoreError> {
        self.push(Operation::Uploaded {
            key: *key,
            cache: cache.to_owned(),
            replace,
        })
        .map(drop)
    }

    fn lessees(&self) -> LiveRuns {
        LiveRuns::at(self.home().join("run/uploads"))
    }
}
