//! The queue of uploads, a table of the index.

use super::*;

/// Added to the tries of an upload that replaces what the cache has.
pub(crate) const REPLACE: i64 = 1 << 32;

/// Queues an upload at a time in seconds since 1970; one that waits already stays, and replaces from now on if this one does.
pub(super) fn add(
    connection: &Connection,
    key: &Digest,
    cache: &str,
    (now, replace): (i64, bool),
) -> rusqlite::Result<()> {
    let mark = if replace { REPLACE } else { 0 };
    connection
        .prepare_cached(
            "INSERT INTO upload(key, cache, queued, tries, owner, lease_end) VALUES (?1, ?2, ?3, ?4, NULL, 0)
             ON CONFLICT(key, cache) DO UPDATE SET tries=tries|?4",
        )?
        .execute((key.as_bytes(), cache, now, mark))
        .map(drop)
}

pub(super) fn failed(connection: &Connection, key: &Digest, cache: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE upload SET tries=tries+1 WHERE key=?1 AND cache=?2")?
        .execute((key.as_bytes(), cache))
        .map(drop)
}

pub(super) fn done(
    connection: &Connection,
    key: &Digest,
    cache: &str,
    replaced: bool,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM upload WHERE key=?1 AND cache=?2 AND (?3 OR tries < ?4)")?
        .execute((key.as_bytes(), cache, replaced, REPLACE))
        .map(drop)
}

pub(super) fn lease(
    connection: &Connection,
    caches: &[String],
    (owner, until): (&str, u64),
    dead: &[String],
) -> rusqlite::Result<()> {
    for name in dead {
        release(connection, name)?;
    }
    let now = crate::clock::unix_ms().cast_signed();
    let mut statement = connection.prepare_cached(
        "UPDATE upload SET owner=?1, lease_end=?2 WHERE cache=?3 AND (owner IS NULL OR owner=?1 OR lease_end<?4)",
    )?;
    for cache in caches {
        statement.execute((owner, until.cast_signed(), cache, now))?;
    }
    Ok(())
}

pub(super) fn release(connection: &Connection, owner: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE upload SET owner=NULL, lease_end=0 WHERE owner=?1")?
        .execute([owner])
        .map(drop)
}
