//! Purging: results of a key that were made until some moment go, and stay away.

use super::*;
use crate::manifest::Manifest;

/// Namespace of the records that say until when results of a key are purged: milliseconds since 1970, 8 bytes, little-endian.
const PURGED: &str = "purged";

/// Until when results of a key are purged, in milliseconds since 1970; `None` when they are not.
pub(crate) fn purged(connection: &Connection, key: &Digest) -> rusqlite::Result<Option<u64>> {
    Ok(match index::record_of(connection, PURGED, key.as_bytes())? {
        Some(Row::Good(value)) => value.try_into().ok().map(u64::from_le_bytes),
        Some(Row::Bad) | None => None,
    })
}

pub(super) fn purge(
    connection: &Connection,
    changes: &mut Changes,
    key: &Digest,
    until: u64,
) -> rusqlite::Result<()> {
    let until = purged(connection, key)?.map_or(until, |before| before.max(until));
    let mut doomed = Vec::new();
    let mut has_own = false;
    {
        let mut statement =
            connection.prepare_cached("SELECT id, origin, manifest, blobs, used FROM action WHERE key=?1")?;
        let mut rows = statement.query([key.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let field = |column| row.get_ref(column).ok()?.as_blob().ok();
            // One that cannot be read is not worth keeping.
            let made = field(2).and_then(|manifest| Manifest::decode(manifest).ok());
            if made.is_some_and(|manifest| manifest.created_unix_ms > until) {
                has_own |= field(1).is_some_and(<[u8]>::is_empty);
                continue;
            }
            let blobs = field(3).unwrap_or_default().to_vec();
            let used = index::integer(row, 4).unwrap_or(0).cast_unsigned();
            doomed.push((row.get::<_, i64>(0)?, blobs, used));
        }
    }
    for (id, blobs, used) in doomed {
        release(connection, changes, &blobs, used)?;
        delete_action(connection, changes, id)?;
    }
    if !has_own {
        connection
            .prepare_cached("DELETE FROM upload WHERE key=?1")?
            .execute([key.as_bytes()])?;
    }
    record(connection, PURGED, key.as_bytes(), &until.to_le_bytes())
}
