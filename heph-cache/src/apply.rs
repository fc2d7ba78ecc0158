//! Applying operations to the index, within a transaction of the writer.

use std::collections::HashMap;

use heph_common::Digest;
use rusqlite::{Connection, OptionalExtension};

use crate::blob::{FileRecord, Variant};
use crate::index::{self, BlobRow, Meta, Row};
use crate::operation::{Operation, Publish, PublishBlob, RevisionRow};
use crate::origin::Origin;
use crate::queue::Holder;
use crate::row::{self, Table};

mod purge;
mod uploads;

pub(crate) use purge::purged;
pub(crate) use uploads::REPLACE;

/// Revisions of a target whose key parts are kept.
pub(crate) const KEPT_REVISIONS: u32 = 20;
/// Places whose row ids are remembered.
const PLACES: usize = 50_000;

/// What changed in a transaction; written at its end, and only then true.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Bytes of blob files more, or less.
    pub file_bytes: i64,
    /// Whether something that a lookup may have seen is gone.
    pub deleted: bool,
    /// Whether a reference count may be wrong.
    pub recount: bool,
    /// Whether revisions wait to be trimmed.
    pub trim: bool,
}

/// Row ids that need not be asked for again. Valid for one generation.
#[derive(Debug, Default)]
pub(crate) struct Places {
    ids: HashMap<(String, String), i64>,
}

/// Applies one operation.
pub(crate) fn apply(
    connection: &Connection,
    places: &mut Places,
    changes: &mut Changes,
    operation: &Operation,
) -> rusqlite::Result<()> {
    match operation {
        Operation::Publish { result, .. } => store(connection, places, changes, result),
        Operation::Lost {
            digest,
            variant,
            seen,
        } => lose(connection, changes, digest, *variant, seen.as_ref()),
        Operation::Verified {
            digest,
            variant,
            record,
        } => verified(connection, digest, *variant, record),
        Operation::Forget { key } => forget(connection, changes, key),
        Operation::Purge { key, until } => purge::purge(connection, changes, key, *until),
        Operation::RemoveBad { key } => remove_bad(connection, changes, key),
        Operation::Revision(revision) => remember(connection, places, changes, revision),
        Operation::Record {
            namespace,
            key,
            value,
        } => record(connection, namespace, key, value),
        Operation::UploadFailed { key, cache } => uploads::failed(connection, key, cache),
        Operation::Uploaded { key, cache, replace } => uploads::done(connection, key, cache, *replace),
        Operation::LeaseUploads {
            caches,
            owner,
            until,
            dead,
        } => uploads::lease(connection, caches, (owner, *until), dead),
        Operation::ReleaseUploads { owner } => uploads::release(connection, owner),
    }
}

fn record(connection: &Connection, namespace: &str, key: &[u8], value: &[u8]) -> rusqlite::Result<()> {
    let sum = row::checksum(Table::Record, &[namespace.as_bytes(), key, value]);
    let mut statement = connection.prepare_cached(
        "INSERT INTO record(namespace, key, time, value, checksum) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT(namespace, key) DO UPDATE SET time=?3, value=?4, checksum=?5",
    )?;
    let now = crate::clock::unix_ms().cast_signed();
    statement.execute((namespace, key, now, value, sum)).map(drop)
}

/// Writes last-used times; what was to be deleted is so no longer.
pub(crate) fn touch(connection: &Connection, key: &Digest, used: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "UPDATE action SET used=max(used, ?2), doomed=0 WHERE key=?1 AND (used < ?2 OR doomed <> 0)",
        )?
        .execute((key.as_bytes(), used.cast_signed()))
        .map(drop)
}

/// Writes who holds a lock.
pub(crate) fn hold(connection: &Connection, lock: i64, holder: &Holder) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO holder(id, pid, namespace, since) VALUES (?1, ?2, ?3, ?4)")?
        .execute((
            lock,
            holder.pid,
            holder.namespace.cast_signed(),
            holder.since.cast_signed(),
        ))
        .map(drop)
}

impl Changes {
    /// Writes the sums into `meta`.
    pub(crate) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let add = |meta: Meta, value: i64| -> rusqlite::Result<()> {
            if value == 0 {
                return Ok(());
            }
            connection
                .prepare_cached("UPDATE meta SET value=value+?2 WHERE name=?1")?
                .execute((meta.name(), value))
                .map(drop)
        };
        add(Meta::FileBytes, self.file_bytes)?;
        add(Meta::Deletions, i64::from(self.deleted))?;
        add(Meta::Recount, i64::from(self.recount))
    }
}

fn store(
    connection: &Connection,
    places: &mut Places,
    changes: &mut Changes,
    publish: &Publish,
) -> rusqlite::Result<()> {
    // One that was on its way from a remote cache when it was purged.
    if publish.origin != Origin::Local
        && purged(connection, &publish.manifest.key)? >= Some(publish.manifest.created_unix_ms)
    {
        return Ok(());
    }
    let mut ids = Vec::with_capacity(publish.blobs.len());
    let mut size = 0;
    for blob in &publish.blobs {
        ids.push(store_blob(connection, changes, blob)?);
        size += blob.size;
    }
    let key = publish.manifest.key;
    let origin = publish.origin.as_bytes();
    let ids = row::encode_ids(&ids);
    let sum = row::checksum(Table::Action, &[key.as_bytes(), origin, &publish.encoded, &ids]);
    let (used, size) = (publish.used.cast_signed(), size.cast_signed());
    let inserted = connection
        .prepare_cached(
            "INSERT INTO action(key, origin, used, doomed, size, blobs, manifest, checksum)
             VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, ?7) ON CONFLICT(key, origin) DO NOTHING",
        )?
        .execute((key.as_bytes(), origin, used, size, &ids, &publish.encoded, sum))?;
    if inserted == 0 {
        let mut statement =
            connection.prepare_cached("SELECT id, blobs FROM action WHERE key=?1 AND origin=?2")?;
        let before: Option<(i64, Vec<u8>)> = statement
            .query_row((key.as_bytes(), origin), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((id, blobs)) = before {
            release(connection, changes, &blobs, publish.used)?;
            connection
                .prepare_cached(
                    "UPDATE action SET used=?2, doomed=0, size=?3, blobs=?4, manifest=?5, checksum=?6 WHERE id=?1",
                )?
                .execute((id, used, size, &ids, &publish.encoded, sum))?;
        }
    }
    for cache in &publish.uploads {
        uploads::add(connection, &key, cache, (used, publish.replace))?;
    }
    match &publish.revision {
        Some(revision) => remember(connection, places, changes, revision),
        None => Ok(()),
    }
}

/// Counts one more reference to a blob and makes its row say where it is; returns the row's id.
fn store_blob(connection: &Connection, changes: &mut Changes, blob: &PublishBlob) -> rusqlite::Result<i64> {
    let name = (blob.digest.as_bytes(), blob.variant as i64);
    let size = blob.size.cast_signed();
    match &blob.content {
        BlobRow::Inline(bytes) => {
            let inserted = connection
                .prepare_cached(
                    "INSERT INTO blob(digest, variant, refs, freed, size, data) VALUES (?1, ?2, 1, 0, ?3, ?4)
                     ON CONFLICT(digest, variant) DO NOTHING",
                )?
                .execute((name.0, name.1, size, bytes.as_ref()))?;
            if inserted == 1 {
                return Ok(connection.last_insert_rowid());
            }
            connection
                .prepare_cached(
                    "UPDATE blob SET refs=max(refs, 0)+1, size=?3, data=coalesce(data, ?4)
                     WHERE digest=?1 AND variant=?2 RETURNING id",
                )?
                .query_row((name.0, name.1, size, bytes.as_ref()), |row| row.get(0))
        }
        BlobRow::Absent => {
            // What is there already stays.
            connection
                .prepare_cached(
                    "INSERT INTO blob(digest, variant, refs, freed, size) VALUES (?1, ?2, 1, 0, ?3)
                     ON CONFLICT(digest, variant) DO UPDATE SET refs=max(refs, 0)+1 RETURNING id",
                )?
                .query_row((name.0, name.1, size), |row| row.get(0))
        }
        BlobRow::File(record) => {
            let known: Option<(i64, bool)> = connection
                .prepare_cached("SELECT id, inode IS NOT NULL FROM blob WHERE digest=?1 AND variant=?2")?
                .query_row(name, |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            if !matches!(known, Some((_, true))) {
                changes.file_bytes += size;
            }
            let id = match known {
                Some((id, _)) => {
                    connection
                        .prepare_cached("UPDATE blob SET refs=max(refs, 0)+1 WHERE id=?1")?
                        .execute([id])?;
                    id
                }
                None => {
                    connection
                        .prepare_cached(
                            "INSERT INTO blob(digest, variant, refs, freed, size) VALUES (?1, ?2, 1, 0, ?3)",
                        )?
                        .execute((name.0, name.1, size))?;
                    connection.last_insert_rowid()
                }
            };
            write_record(connection, id, &blob.digest, blob.variant, record)?;
            Ok(id)
        }
    }
}

fn write_record(
    connection: &Connection,
    id: i64,
    digest: &Digest,
    variant: Variant,
    record: &FileRecord,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE blob SET size=?2, inode=?3, mtime=?4, boot=?5, checksum=?6 WHERE id=?1")?
        .execute((
            id,
            record.size.cast_signed(),
            record.inode.cast_signed(),
            record.mtime,
            record.boot.map(|boot| *boot.as_bytes()),
            record.checksum(digest, variant),
        ))
        .map(drop)
}

/// Counts one reference less to each of these blobs, last used at `used`.
pub(crate) fn release(
    connection: &Connection,
    changes: &mut Changes,
    blobs: &[u8],
    used: u64,
) -> rusqlite::Result<()> {
    let Some(ids) = row::decode_ids(blobs) else {
        changes.recount = true;
        return Ok(());
    };
    let mut statement =
        connection.prepare_cached("UPDATE blob SET refs=refs-1, freed=max(freed, ?2) WHERE id=?1")?;
    for id in ids {
        statement.execute((id, used.cast_signed()))?;
    }
    Ok(())
}

/// A blob is gone; its row stays while results refer to it, so that their references stay right.
fn lose(
    connection: &Connection,
    changes: &mut Changes,
    digest: &Digest,
    variant: Variant,
    seen: Option<&FileRecord>,
) -> rusqlite::Result<()> {
    let still = match index::blob_of(connection, digest, variant)? {
        None => return Ok(()),
        Some(Row::Bad) => true,
        Some(Row::Good(BlobRow::File(record))) => seen == Some(&record),
        Some(Row::Good(BlobRow::Inline(_) | BlobRow::Absent)) => false,
    };
    if !still {
        return Ok(());
    }
    let size: i64 = connection
        .prepare_cached(
            "UPDATE blob SET data=NULL, inode=NULL, mtime=NULL, boot=NULL, checksum=NULL
             WHERE digest=?1 AND variant=?2 RETURNING size",
        )?
        .query_row((digest.as_bytes(), variant as i64), |row| {
            Ok(index::integer(row, 0).unwrap_or(0))
        })?;
    if variant != Variant::Inline {
        changes.file_bytes -= size;
    }
    changes.deleted = true;
    Ok(())
}

fn verified(
    connection: &Connection,
    digest: &Digest,
    variant: Variant,
    record: &FileRecord,
) -> rusqlite::Result<()> {
    let id: Option<i64> = connection
        .prepare_cached("SELECT id FROM blob WHERE digest=?1 AND variant=?2 AND inode IS NOT NULL")?
        .query_row((digest.as_bytes(), variant as i64), |row| row.get(0))
        .optional()?;
    match id {
        Some(id) => write_record(connection, id, digest, variant, record),
        None => Ok(()),
    }
}

fn forget(connection: &Connection, changes: &mut Changes, key: &Digest) -> rusqlite::Result<()> {
    let rows: Vec<(i64, Vec<u8>, i64)> = connection
        .prepare_cached("SELECT id, blobs, used FROM action WHERE key=?1")?
        .query_map([key.as_bytes()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<_, _>>()?;
    for (id, blobs, used) in rows {
        release(connection, changes, &blobs, used.cast_unsigned())?;
        delete_action(connection, changes, id)?;
    }
    connection
        .prepare_cached("DELETE FROM upload WHERE key=?1")?
        .execute([key.as_bytes()])
        .map(drop)
}

pub(crate) fn delete_action(connection: &Connection, changes: &mut Changes, id: i64) -> rusqlite::Result<()> {
    changes.deleted = true;
    connection
        .prepare_cached("DELETE FROM action WHERE id=?1")?
        .execute([id])
        .map(drop)
}

fn remove_bad(connection: &Connection, changes: &mut Changes, key: &Digest) -> rusqlite::Result<()> {
    let mut bad = Vec::new();
    {
        let mut statement = connection
            .prepare_cached("SELECT id, origin, manifest, blobs, checksum FROM action WHERE key=?1")?;
        let mut rows = statement.query([key.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let good = (|| {
                let field = |column| row.get_ref(column).ok()?.as_blob().ok();
                let (origin, manifest, blobs) = (field(1)?, field(2)?, field(3)?);
                let sum = row::checksum(Table::Action, &[key.as_bytes(), origin, manifest, blobs]);
                let decodes =
                    crate::manifest::Manifest::decode(manifest).is_ok_and(|found| found.key == *key);
                Some(field(4)? == sum && decodes)
            })();
            if good != Some(true) {
                bad.push(row.get(0)?);
            }
        }
    }
    for id in bad {
        delete_action(connection, changes, id)?;
        changes.recount = true;
    }
    Ok(())
}

fn remember(
    connection: &Connection,
    places: &mut Places,
    changes: &mut Changes,
    revision: &RevisionRow,
) -> rusqlite::Result<()> {
    let (place, new) = place_id(connection, places, revision)?;
    let key = revision.key.as_bytes();
    let sum = row::checksum(Table::Revision, &[&place.to_le_bytes(), key, &revision.parts]);
    connection
        .prepare_cached(
            "INSERT INTO revision(place, key, time, trim, parts, checksum) VALUES (?1, ?2, ?3, 0, ?4, ?5)
             ON CONFLICT(key, place) DO UPDATE SET time=?3, trim=0, parts=?4, checksum=?5",
        )?
        .execute((place, key, revision.time.cast_signed(), &revision.parts, sum))?;
    if new {
        return Ok(());
    }
    if let Some(history) = revision.history {
        let trimmed = connection
            .prepare_cached(
                "UPDATE revision SET trim=1 WHERE trim=0 AND id IN
                 (SELECT id FROM revision WHERE place=?1 ORDER BY time DESC, id DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute((place, history.max(1)))?;
        changes.trim |= trimmed > 0;
    }
    let kept = revision.history.unwrap_or(0).max(KEPT_REVISIONS);
    connection
        .prepare_cached(
            "DELETE FROM revision WHERE trim<>1 AND id IN
             (SELECT id FROM revision WHERE place=?1 ORDER BY time DESC, id DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute((place, kept))
        .map(drop)
}

/// Row id of a target in a workspace, and whether it is new.
fn place_id(
    connection: &Connection,
    places: &mut Places,
    revision: &RevisionRow,
) -> rusqlite::Result<(i64, bool)> {
    let name = (revision.root.clone(), revision.address.clone());
    if let Some(id) = places.ids.get(&name) {
        return Ok((*id, false));
    }
    let inserted = connection
        .prepare_cached(
            "INSERT INTO place(root, address) VALUES (?1, ?2) ON CONFLICT(root, address) DO NOTHING",
        )?
        .execute((&name.0, &name.1))?;
    let id = match inserted {
        1 => connection.last_insert_rowid(),
        _ => connection
            .prepare_cached("SELECT id FROM place WHERE root=?1 AND address=?2")?
            .query_row((&name.0, &name.1), |row| row.get(0))?,
    };
    if places.ids.len() >= PLACES {
        places.ids.clear();
    }
    places.ids.insert(name, id);
    Ok((id, inserted == 1))
}
