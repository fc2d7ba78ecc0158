//! The tables of the index (format 1) and how a connection to it is set up. `docs/formats.md` describes them.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::StoreError;

/// Version of the index. Another one lives in a directory of its own.
pub(crate) const FORMAT: u32 = 1;

/// Marks the file as heph's index: "heph".
const APPLICATION: u32 = 0x6865_7068;

const TABLES: &str = "
CREATE TABLE meta(id INTEGER PRIMARY KEY, name TEXT NOT NULL, value INTEGER NOT NULL);
CREATE UNIQUE INDEX meta_name ON meta(name);
INSERT INTO meta(name, value) VALUES ('deletions', 0), ('file_bytes', 0), ('recount', 0), ('swept', 0);

CREATE TABLE action(id INTEGER PRIMARY KEY, key BLOB NOT NULL, origin BLOB NOT NULL, used INTEGER NOT NULL,
  doomed INTEGER NOT NULL, size INTEGER NOT NULL, blobs BLOB NOT NULL, manifest BLOB NOT NULL, checksum BLOB NOT NULL);
CREATE UNIQUE INDEX action_key ON action(key, origin);
CREATE INDEX action_used ON action(used);
CREATE INDEX action_doomed ON action(doomed) WHERE doomed <> 0;

CREATE TABLE blob(id INTEGER PRIMARY KEY, digest BLOB NOT NULL, variant INTEGER NOT NULL, refs INTEGER NOT NULL,
  freed INTEGER NOT NULL, size INTEGER NOT NULL, inode INTEGER, mtime INTEGER, boot BLOB, data BLOB, checksum BLOB);
CREATE UNIQUE INDEX blob_digest ON blob(digest, variant);
CREATE INDEX blob_free ON blob(freed) WHERE refs <= 0;

CREATE TABLE place(id INTEGER PRIMARY KEY, root TEXT NOT NULL, address TEXT NOT NULL);
CREATE UNIQUE INDEX place_name ON place(root, address);
CREATE TABLE revision(id INTEGER PRIMARY KEY, place INTEGER NOT NULL, key BLOB NOT NULL, time INTEGER NOT NULL,
  trim INTEGER NOT NULL, parts BLOB NOT NULL, checksum BLOB NOT NULL);
CREATE UNIQUE INDEX revision_key ON revision(key, place);
CREATE INDEX revision_place ON revision(place, time);
CREATE INDEX revision_trim ON revision(trim) WHERE trim = 1;

CREATE TABLE upload(id INTEGER PRIMARY KEY, key BLOB NOT NULL, cache TEXT NOT NULL, queued INTEGER NOT NULL,
  tries INTEGER NOT NULL, owner TEXT, lease_end INTEGER NOT NULL);
CREATE UNIQUE INDEX upload_key ON upload(key, cache);

CREATE TABLE record(id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, key BLOB NOT NULL, time INTEGER NOT NULL,
  value BLOB NOT NULL, checksum BLOB NOT NULL);
CREATE UNIQUE INDEX record_key ON record(namespace, key);

CREATE TABLE holder(id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, namespace INTEGER NOT NULL, since INTEGER NOT NULL);
";

/// Writes a new, empty index. Nothing is worth waiting for the disk: what a power cut leaves of it is damage, for which
/// there is another generation, until the first checkpoint brings it to the disk.
pub(crate) fn create(path: &Path) -> Result<(), StoreError> {
    let make = || -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.execute_batch(&format!(
            "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA application_id={APPLICATION};
             PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL; PRAGMA user_version={FORMAT};
             BEGIN IMMEDIATE; {TABLES} COMMIT;"
        ))
    };
    make().map_err(|error| StoreError::index(path, error))
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Statements that never write.
    Read,
    /// The one connection of a store that writes.
    Write,
}

/// Opens an index that exists. Its content is not questioned here but for its version.
pub(crate) fn connect(path: &Path, purpose: Purpose) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A checkpoint when the last connection closes would make the end of a run wait for the disk.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    match purpose {
        Purpose::Read => {
            connection.busy_timeout(Duration::from_secs(2))?;
            connection
                .execute_batch("PRAGMA cell_size_check=1; PRAGMA cache_size=-16000; PRAGMA query_only=1;")?;
        }
        Purpose::Write => {
            connection.busy_timeout(Duration::from_millis(500))?;
            connection.execute_batch(
                "PRAGMA cell_size_check=1; PRAGMA cache_size=-16000; PRAGMA synchronous=NORMAL; PRAGMA temp_store=2;
                 PRAGMA wal_autocheckpoint=2000; PRAGMA journal_size_limit=16777216;",
            )?;
        }
    }
    let format: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if format == FORMAT {
        return Ok(connection);
    }
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
        Some(format!("its version is {format}")),
    ))
}

/// Whether an error says that the index at `path` is damaged or gone, rather than busy, full or unreachable.
pub(crate) fn is_damage(path: &Path, error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    /// `SQLITE_IOERR_SHORT_READ` and `SQLITE_IOERR_CORRUPTFS`.
    const TORN: [i32; 2] = [522, 8458];
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
            // Also what comes of too many open files, which is no reason to give an index up.
            ErrorCode::CannotOpen | ErrorCode::ReadOnly => !path.exists(),
            // A lost page of the schema: "no such table".
            ErrorCode::Unknown => message.as_ref().is_some_and(|text| text.starts_with("no such")),
            _ => TORN.contains(&failure.extended_code),
        },
        rusqlite::Error::SqlInputError { msg, .. } => msg.starts_with("no such"),
        _ => false,
    }
}

/// Whether an error only says that others are writing.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed)
    )
}
