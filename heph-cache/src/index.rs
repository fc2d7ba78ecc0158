//! Reading the index: a small pool of connections, and the statements that lookups make.
//!
//! Each statement is its own read transaction. Every row is compared with its checksum; one that fails is handed back
//! as [`Row::Bad`], so that the caller can have it removed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use heph_common::{Digest, KeyPart};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::blob::{FileRecord, Variant};
use crate::clock::Boot;
use crate::generation::Generation;
use crate::origin::Origin;
use crate::row::{self, Table};
use crate::schema::{self, Purpose};

/// Connections kept for later. More are opened when more threads read at once.
const IDLE: usize = 4;
/// Keys asked for in one statement.
const BATCH: usize = 256;

/// One open generation of the index.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) generation: Generation,
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

/// A row, or the news that there is one that must not be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Row<T> {
    Good(T),
    Bad,
}

/// A stored action, its manifest still as bytes.
#[derive(Clone, Debug)]
pub(crate) struct ActionRow {
    pub origin: Origin,
    pub manifest: Vec<u8>,
    /// Seconds since 1970.
    pub used: u64,
    /// When it may be deleted, in milliseconds since 1970; 0 when it is not to be.
    pub doomed: u64,
}

/// What a batched look says about one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presence {
    pub key: Digest,
    pub origin: Origin,
    pub used: u64,
    pub doomed: u64,
}

/// Where a blob is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BlobRow {
    Inline(Bytes),
    File(FileRecord),
    /// In a remote cache: to be fetched when it is needed. Never read from the index.
    Absent,
}

/// One earlier key of a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordedRevision {
    /// The action key.
    pub key: Digest,
    /// When it was last the target's key, in milliseconds since 1970.
    pub time_unix_ms: u64,
    /// What the key was made of.
    pub parts: Vec<KeyPart>,
}

/// Numbers that `meta` keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meta {
    /// Counts every step that took, or may soon take, something away.
    Deletions,
    /// Bytes of all blob files that the index names.
    FileBytes,
    /// Not 0 when reference counts have to be made anew.
    Recount,
    /// How far the daily search for blob files without a row has come: 256 times the days since 1970, plus the
    /// directories done that day.
    Swept,
}

impl Meta {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deletions => "deletions",
            Self::FileBytes => "file_bytes",
            Self::Recount => "recount",
            Self::Swept => "swept",
        }
    }
}

impl Index {
    pub(crate) fn new(generation: Generation) -> Self {
        Self {
            path: generation.index(),
            generation,
            idle: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Closes connections of the pool that nobody uses.
    pub(crate) fn close_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs statements on a connection of the pool.
    pub(crate) fn read<T>(
        &self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::connect(&self.path, Purpose::Read)?,
        };
        let result = run(&connection);
        // One that met an error is not used again: it may hold pages of what was damaged.
        if result.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE {
                idle.push(connection);
            }
        }
        result
    }

    /// Every stored result of a key, whatever its origin.
    pub(crate) fn actions(&self, key: &Digest) -> rusqlite::Result<Vec<Row<ActionRow>>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT origin, manifest, blobs, used, doomed, checksum FROM action WHERE key=?1",
            )?;
            let mut rows = statement.query([key.as_bytes()])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(read_action(key, row).map_or(Row::Bad, Row::Good));
            }
            Ok(found)
        })
    }

    /// What is known of each of these keys, in no particular order; nothing of those that are not there.
    pub(crate) fn presence(&self, keys: &[Digest]) -> rusqlite::Result<Vec<Presence>> {
        let mut found = Vec::with_capacity(keys.len());
        self.read(|connection| {
            for chunk in keys.chunks(BATCH) {
                // Statements are kept by their text, so there are only two texts: whole chunks and single keys.
                if chunk.len() == BATCH {
                    presence_of(connection, chunk, &mut found)?;
                } else {
                    for key in chunk {
                        presence_of(connection, std::slice::from_ref(key), &mut found)?;
                    }
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// A blob in one variant; `None` also where only the memory of it is left.
    pub(crate) fn blob(&self, digest: &Digest, variant: Variant) -> rusqlite::Result<Option<Row<BlobRow>>> {
        self.read(|connection| blob_of(connection, digest, variant))
    }

    /// Earlier keys of a target, the newest first.
    pub(crate) fn revisions(&self, root: &str, address: &str) -> rusqlite::Result<Vec<RecordedRevision>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key, time, parts, checksum, place FROM revision
                 WHERE place=(SELECT id FROM place WHERE root=?1 AND address=?2) ORDER BY time DESC, id DESC",
            )?;
            let mut rows = statement.query([root, address])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.extend(read_revision(row));
            }
            Ok(found)
        })
    }

    /// What a key was made of, as the target that had it last said.
    pub(crate) fn revision_of(&self, key: &Digest) -> rusqlite::Result<Option<RecordedRevision>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT key, time, parts, checksum, place FROM revision WHERE key=?1 ORDER BY time DESC, id DESC",
            )?;
            let mut rows = statement.query([key.as_bytes()])?;
            while let Some(row) = rows.next()? {
                if let Some(revision) = read_revision(row) {
                    return Ok(Some(revision));
                }
            }
            Ok(None)
        })
    }

    /// A caller's own value.
    pub(crate) fn record(&self, namespace: &str, key: &[u8]) -> rusqlite::Result<Option<Row<Vec<u8>>>> {
        self.read(|connection| record_of(connection, namespace, key))
    }

    /// One of the numbers of `meta`.
    pub(crate) fn meta(&self, meta: Meta) -> rusqlite::Result<i64> {
        self.read(|connection| meta_of(connection, meta))
    }

    /// Who said last that it holds a lock: process and pid namespace.
    pub(crate) fn holder(&self, lock: i64) -> rusqlite::Result<Option<(u32, u64)>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT pid, namespace FROM holder WHERE id=?1")?;
            let mut rows = statement.query([lock])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let pid = u32::try_from(integer(row, 0).unwrap_or(0)).unwrap_or(0);
            Ok(Some((pid, integer(row, 1).unwrap_or(0).cast_unsigned())))
        })
    }
}

/// A caller's own value, by a connection of any purpose.
pub(crate) fn record_of(
    connection: &Connection,
    namespace: &str,
    key: &[u8],
) -> rusqlite::Result<Option<Row<Vec<u8>>>> {
    let mut statement =
        connection.prepare_cached("SELECT value, checksum FROM record WHERE namespace=?1 AND key=?2")?;
    let mut rows = statement.query((namespace, key))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let value = (|| {
        let value = row.get_ref(0).ok()?.as_blob().ok()?;
        let sum = row.get_ref(1).ok()?.as_blob().ok()?;
        let expected = row::checksum(Table::Record, &[namespace.as_bytes(), key, value]);
        (sum == expected).then(|| value.to_vec())
    })();
    Ok(Some(value.map_or(Row::Bad, Row::Good)))
}

/// One of the numbers of `meta`.
pub(crate) fn meta_of(connection: &Connection, meta: Meta) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name=?1")?;
    let mut rows = statement.query([meta.name()])?;
    Ok(rows.next()?.and_then(|row| integer(row, 0)).unwrap_or(0))
}

/// A blob's row, by a connection of any purpose.
pub(crate) fn blob_of(
    connection: &Connection,
    digest: &Digest,
    variant: Variant,
) -> rusqlite::Result<Option<Row<BlobRow>>> {
    let mut statement = connection.prepare_cached(
        "SELECT size, data, inode, mtime, boot, checksum FROM blob WHERE digest=?1 AND variant=?2",
    )?;
    let mut rows = statement.query((digest.as_bytes(), variant as i64))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(match variant {
        Variant::Inline => match row.get_ref(1) {
            Ok(ValueRef::Null) => None,
            Ok(ValueRef::Blob(data)) if Digest::of(data) == *digest => {
                Some(Row::Good(BlobRow::Inline(Bytes::copy_from_slice(data))))
            }
            _ => Some(Row::Bad),
        },
        Variant::File | Variant::Executable => match row.get_ref(2) {
            Ok(ValueRef::Null) => None,
            _ => Some(
                read_file(digest, variant, row).map_or(Row::Bad, |record| Row::Good(BlobRow::File(record))),
            ),
        },
    })
}

fn presence_of(connection: &Connection, keys: &[Digest], found: &mut Vec<Presence>) -> rusqlite::Result<()> {
    const ONE: &str = "SELECT key, origin, used, doomed FROM action WHERE key=?";
    static MANY: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let text = match keys.len() {
        1 => ONE,
        _ => MANY.get_or_init(|| {
            let marks = ["?"; BATCH].join(",");
            format!("SELECT key, origin, used, doomed FROM action WHERE key IN ({marks})")
        }),
    };
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = statement.query(rusqlite::params_from_iter(keys.iter().map(Digest::as_bytes)))?;
    while let Some(row) = rows.next()? {
        let presence = (|| {
            Some(Presence {
                key: Digest::from_slice(row.get_ref(0).ok()?.as_blob().ok()?)?,
                origin: Origin::from_bytes(row.get_ref(1).ok()?.as_blob().ok()?)?,
                used: integer(row, 2)?.cast_unsigned(),
                doomed: integer(row, 3)?.cast_unsigned(),
            })
        })();
        found.extend(presence);
    }
    Ok(())
}

fn read_action(key: &Digest, row: &rusqlite::Row<'_>) -> Option<ActionRow> {
    let origin = row.get_ref(0).ok()?.as_blob().ok()?;
    let manifest = row.get_ref(1).ok()?.as_blob().ok()?;
    let blobs = row.get_ref(2).ok()?.as_blob().ok()?;
    let expected = row::checksum(Table::Action, &[key.as_bytes(), origin, manifest, blobs]);
    if row.get_ref(5).ok()?.as_blob().ok()? != expected {
        return None;
    }
    Some(ActionRow {
        origin: Origin::from_bytes(origin)?,
        manifest: manifest.to_vec(),
        used: integer(row, 3)?.cast_unsigned(),
        doomed: integer(row, 4)?.cast_unsigned(),
    })
}

fn read_file(digest: &Digest, variant: Variant, row: &rusqlite::Row<'_>) -> Option<FileRecord> {
    let boot = match row.get_ref(4).ok()? {
        ValueRef::Null => None,
        value => Some(Boot::from_slice(value.as_blob().ok()?)?),
    };
    let record = FileRecord {
        size: integer(row, 0)?.cast_unsigned(),
        inode: integer(row, 2)?.cast_unsigned(),
        mtime: integer(row, 3)?,
        boot,
    };
    (row.get_ref(5).ok()?.as_blob().ok()? == record.checksum(digest, variant)).then_some(record)
}

fn read_revision(row: &rusqlite::Row<'_>) -> Option<RecordedRevision> {
    let key = Digest::from_slice(row.get_ref(0).ok()?.as_blob().ok()?)?;
    let parts = row.get_ref(2).ok()?.as_blob().ok()?;
    let place = integer(row, 4)?;
    let expected = row::checksum(Table::Revision, &[&place.to_le_bytes(), key.as_bytes(), parts]);
    if row.get_ref(3).ok()?.as_blob().ok()? != expected {
        return None;
    }
    Some(RecordedRevision {
        key,
        time_unix_ms: integer(row, 1)?.cast_unsigned(),
        parts: row::decode_parts(parts)?,
    })
}

/// An integer column; `None` where a damaged row holds something else.
pub(crate) fn integer(row: &rusqlite::Row<'_>, column: usize) -> Option<i64> {
    row.get_ref(column).ok()?.as_i64().ok()
}
