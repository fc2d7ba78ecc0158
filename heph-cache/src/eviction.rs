//! Eviction: keeping the store below its size, and letting go of what nobody refers to.
//!
//! Least recently used results go first, then blobs that no result refers to, and facts that are older than all results. While runs live, nothing goes that was
//! used later than an hour before the oldest of them began. Since last-used times are written after the fact, a result
//! is first *doomed*: marked with the time when it may go. A lookup that meets the mark refreshes it away while
//! there is time enough, and takes it for a miss near the end; so what a run has found stays.
//! With no run alive, and none able to begin (the gate is closed), results go at once.

use rusqlite::{Connection, Transaction};

use crate::apply::{self, Changes};
use crate::blob::{BlobFiles, Variant};
use crate::index::{self, Meta};
use crate::live::Living;
use heph_common::Digest;

/// Rows that one step looks at.
const STEP: i64 = 64;
/// A mark that was not acted on for so many graces is void.
const VOID: u64 = 10;

/// What a collection did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GcReport {
    /// Results that are gone.
    pub actions: u64,
    /// Blobs that are gone.
    pub blobs: u64,
    /// Bytes of blobs that are gone.
    pub bytes: u64,
    /// Results marked to go soon, unless they are used before.
    pub doomed: u64,
    /// Bytes that the store takes now.
    pub remaining_bytes: u64,
}

impl GcReport {
    pub(crate) fn add(&mut self, other: &Self) {
        self.actions += other.actions;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
        self.doomed += other.doomed;
        self.remaining_bytes = other.remaining_bytes;
    }

    pub(crate) fn did_something(&self) -> bool {
        self.actions + self.blobs + self.doomed > 0
    }
}

/// The rules of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Bytes to get down to; nothing goes by age when the store is smaller.
    pub target: u64,
    /// Milliseconds since 1970.
    pub now: u64,
    pub living: Living,
    /// Milliseconds before the start of the oldest run that are protected, too.
    pub window: u64,
    /// Milliseconds between mark and end.
    pub grace: u64,
}

/// What one step did.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub report: GcReport,
    /// Files to be deleted now that the step is committed.
    pub files: Vec<(Digest, Variant)>,
    /// Revisions that their target's `history` let go, and that were looked at.
    pub trimmed: usize,
    /// Callers' own facts that are gone.
    pub records: usize,
    /// When the next mark is due, in milliseconds since 1970.
    pub due: Option<u64>,
}

/// How a mark is to be read at a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Doom {
    /// There is none, or it is void.
    No,
    /// It goes unless this use is written down, for which there is time.
    Soon,
    /// It is as good as gone.
    Gone,
}

/// Reads a mark: `doomed` and `now` in milliseconds since 1970.
pub(crate) fn doom(doomed: u64, now: u64, grace: u64) -> Doom {
    if doomed == 0 || doomed.saturating_add(VOID.saturating_mul(grace)) < now {
        Doom::No
    } else if now.saturating_add(grace / 2) < doomed {
        Doom::Soon
    } else {
        Doom::Gone
    }
}

/// Bytes that the store takes: pages of the index in use, and blob files.
pub(crate) fn size(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma =
        |text| -> rusqlite::Result<i64> { connection.prepare_cached(text)?.query_row([], |row| row.get(0)) };
    let pages = pragma("PRAGMA page_count")? - pragma("PRAGMA freelist_count")?;
    let files = index::meta_of(connection, Meta::FileBytes)?;
    Ok((pages * 4096 + files.max(0)).max(0).cast_unsigned())
}

/// One step within a transaction. The caller has the gate closed and the room alone.
pub(crate) fn step(transaction: &Transaction<'_>, rules: &Rules) -> rusqlite::Result<Step> {
    let mut step = Step::default();
    let mut changes = Changes::default();
    if index::meta_of(transaction, Meta::Recount)? != 0 {
        recount(transaction)?;
    }
    delete_due(transaction, rules, &mut step, &mut changes)?;
    let doomed: i64 = transaction
        .prepare_cached("SELECT coalesce(sum(size), 0) FROM action WHERE doomed > ?1")?
        .query_row([rules.void().cast_signed()], |row| row.get(0))?;
    let excess = size(transaction)?
        .saturating_sub(rules.target)
        .saturating_sub(doomed.max(0).cast_unsigned());
    choose_oldest(transaction, rules, excess, &mut step, &mut changes)?;
    if excess > 0 {
        step.records = delete_records(transaction, rules)?;
    }
    choose_trimmed(transaction, rules, &mut step, &mut changes)?;
    delete_blobs(transaction, rules, &mut step, &mut changes)?;
    changes.deleted |= step.report.doomed > 0;
    changes.write(transaction)?;
    let due: i64 = transaction
        .prepare_cached("SELECT coalesce(min(doomed), 0) FROM action WHERE doomed > ?1")?
        .query_row([rules.void().cast_signed()], |row| row.get(0))?;
    step.due = (due > 0).then_some(due.cast_unsigned());
    step.report.remaining_bytes = size(transaction)?;
    Ok(step)
}

impl Rules {
    /// Uses before this time, in seconds since 1970, protect nothing.
    fn cutoff(&self) -> i64 {
        match self.living.oldest_unix_ms {
            Some(start) => (start.saturating_sub(self.window) / 1000).cast_signed(),
            None => i64::MAX,
        }
    }

    fn immediate(&self) -> bool {
        self.living.count == 0
    }

    fn void(&self) -> u64 {
        self.now.saturating_sub(VOID.saturating_mul(self.grace))
    }
}

struct Candidate {
    id: i64,
    size: u64,
    used: u64,
    blobs: Vec<u8>,
}

fn candidate(row: &rusqlite::Row<'_>) -> rusqlite::Result<Candidate> {
    Ok(Candidate {
        id: row.get(0)?,
        size: index::integer(row, 1).unwrap_or(0).cast_unsigned(),
        used: index::integer(row, 2).unwrap_or(0).cast_unsigned(),
        blobs: row.get(3).unwrap_or_else(|_| vec![0]),
    })
}

fn delete_due(
    transaction: &Transaction<'_>,
    rules: &Rules,
    step: &mut Step,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    let due: Vec<Candidate> = transaction
        .prepare_cached(
            "SELECT id, size, used, blobs FROM action
             WHERE doomed <> 0 AND doomed <= ?1 AND doomed > ?2 AND used < ?3
             AND NOT EXISTS (SELECT 1 FROM upload WHERE upload.key=action.key) ORDER BY doomed LIMIT ?4",
        )?
        .query_map(
            (
                rules.now.cast_signed(),
                rules.void().cast_signed(),
                rules.cutoff(),
                STEP,
            ),
            candidate,
        )?
        .collect::<Result<_, _>>()?;
    for candidate in due {
        delete(transaction, &candidate, step, changes)?;
    }
    Ok(())
}

/// Chooses the least recently used results until `excess` bytes are accounted for.
fn choose_oldest(
    transaction: &Transaction<'_>,
    rules: &Rules,
    mut excess: u64,
    step: &mut Step,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    if excess == 0 {
        return Ok(());
    }
    let oldest: Vec<Candidate> = transaction
        .prepare_cached(
            "SELECT id, size, used, blobs FROM action WHERE used < ?1 AND doomed <= ?2
             AND NOT EXISTS (SELECT 1 FROM upload WHERE upload.key=action.key) ORDER BY used LIMIT ?3",
        )?
        .query_map((rules.cutoff(), rules.void().cast_signed(), STEP), candidate)?
        .collect::<Result<_, _>>()?;
    for candidate in oldest {
        if excess == 0 {
            break;
        }
        // The row itself counts, too; most manifests are below this size.
        excess = excess.saturating_sub(candidate.size + 1024);
        let_go(transaction, rules, &candidate, step, changes)?;
    }
    Ok(())
}

/// Deletes the facts that are older than every result that is left: they are facts about what was used then.
fn delete_records(transaction: &Transaction<'_>, rules: &Rules) -> rusqlite::Result<usize> {
    let oldest: Option<i64> = transaction
        .prepare_cached("SELECT min(used) FROM action")?
        .query_row([], |row| row.get(0))?;
    let before = oldest.unwrap_or(i64::MAX).min(rules.cutoff());
    transaction
        .prepare_cached(
            "DELETE FROM record WHERE id IN (SELECT id FROM record WHERE time / 1000 < ?1 ORDER BY id LIMIT ?2)",
        )?
        .execute((before, STEP * 4))
}

/// Chooses results that only revisions beyond the limit of their target's `history` name.
fn choose_trimmed(
    transaction: &Transaction<'_>,
    rules: &Rules,
    step: &mut Step,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    let trimmed: Vec<(i64, bool, Option<Candidate>)> = transaction
        .prepare_cached(
            "SELECT action.id, size, used, blobs, revision.id,
               EXISTS (SELECT 1 FROM revision AS other WHERE other.key=revision.key AND other.trim=0)
             FROM revision LEFT JOIN action ON action.key=revision.key AND action.origin=x''
             WHERE trim=1 AND (action.id IS NULL OR (used < ?1
               AND NOT EXISTS (SELECT 1 FROM upload WHERE upload.key=revision.key))) LIMIT ?2",
        )?
        .query_map((rules.cutoff(), STEP), |row| {
            Ok((row.get(4)?, row.get(5)?, candidate(row).ok()))
        })?
        .collect::<Result<_, _>>()?;
    step.trimmed = trimmed.len();
    for (revision, needed, result) in trimmed {
        if let Some(candidate) = result.filter(|_| !needed) {
            let_go(transaction, rules, &candidate, step, changes)?;
        }
        transaction
            .prepare_cached("UPDATE revision SET trim=2 WHERE id=?1")?
            .execute([revision])?;
    }
    Ok(())
}

fn let_go(
    transaction: &Transaction<'_>,
    rules: &Rules,
    candidate: &Candidate,
    step: &mut Step,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    if rules.immediate() {
        return delete(transaction, candidate, step, changes);
    }
    step.report.doomed += 1;
    transaction
        .prepare_cached("UPDATE action SET doomed=?2 WHERE id=?1")?
        .execute((candidate.id, (rules.now + rules.grace).cast_signed()))
        .map(drop)
}

fn delete(
    transaction: &Transaction<'_>,
    candidate: &Candidate,
    step: &mut Step,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    apply::release(transaction, changes, &candidate.blobs, candidate.used)?;
    step.report.actions += 1;
    apply::delete_action(transaction, changes, candidate.id)
}

fn delete_blobs(
    transaction: &Transaction<'_>,
    rules: &Rules,
    step: &mut Step,
    changes: &mut Changes,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "SELECT id, digest, variant, size, inode IS NOT NULL FROM blob WHERE refs <= 0 AND freed < ?1 LIMIT ?2",
    )?;
    let mut rows = statement.query((rules.cutoff(), STEP * 4))?;
    let mut gone = Vec::new();
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let digest = row.get_ref(1)?.as_blob().ok().and_then(Digest::from_slice);
        let variant = index::integer(row, 2).and_then(Variant::from_number);
        let size = index::integer(row, 3).unwrap_or(0);
        let present: bool = row.get(4)?;
        gone.push((id, digest.zip(variant), size, present));
    }
    drop(rows);
    for (id, name, size, present) in gone {
        transaction
            .prepare_cached("DELETE FROM blob WHERE id=?1")?
            .execute([id])?;
        step.report.blobs += 1;
        step.report.bytes += size.max(0).cast_unsigned();
        if present {
            changes.file_bytes -= size;
            step.files.extend(name);
        }
        changes.deleted = true;
    }
    Ok(())
}

/// Counts all references anew, after a row was lost that held some.
fn recount(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("UPDATE blob SET refs=0", [])?;
    {
        let mut statement = transaction.prepare("SELECT blobs FROM action")?;
        let mut add = transaction.prepare("UPDATE blob SET refs=refs+1 WHERE id=?1")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let blobs = row.get_ref(0)?.as_blob().unwrap_or(&[]);
            for id in crate::row::decode_ids(blobs).unwrap_or_default() {
                add.execute([id])?;
            }
        }
    }
    transaction.execute("UPDATE meta SET value=0 WHERE name='recount'", [])?;
    transaction.execute(
        "UPDATE meta SET value=(SELECT coalesce(sum(size), 0) FROM blob WHERE inode IS NOT NULL)
         WHERE name='file_bytes'",
        [],
    )?;
    Ok(())
}

/// Whether an index, of this or another generation or format, names a blob file. One that cannot be asked does.
pub(crate) fn names(other: &Connection, digest: &Digest, variant: Variant) -> bool {
    let asked = other
        .prepare_cached("SELECT 1 FROM blob WHERE digest=?1 AND variant=?2 AND inode IS NOT NULL")
        .and_then(|mut statement| statement.exists((digest.as_bytes(), variant as i64)));
    asked.unwrap_or(true)
}

/// The blob files in one of the 256 directories that no index names, oldest traces of killed writers included.
pub(crate) fn orphans(
    files: &BlobFiles,
    directory: u8,
    age: std::time::Duration,
    named: impl Fn(&Digest, Variant) -> bool,
) -> Vec<(std::path::PathBuf, u64)> {
    let entries = std::fs::read_dir(files.directory(directory))
        .into_iter()
        .flatten()
        .flatten();
    let orphan = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        let blob = name.to_str().and_then(BlobFiles::parse);
        if blob.is_some_and(|(digest, variant)| named(&digest, variant)) {
            return None;
        }
        let metadata = entry.metadata().ok()?;
        let changed = std::os::unix::fs::MetadataExt::ctime(&metadata);
        let old_enough = crate::clock::unix_ms() / 1000 >= changed.max(0).cast_unsigned() + age.as_secs();
        old_enough.then(|| (entry.path(), metadata.len()))
    };
    entries.filter_map(orphan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_leaves_time_to_be_refreshed_away_and_ends() {
        let grace = 1000;
        assert_eq!(doom(0, 5000, grace), Doom::No);
        assert_eq!(doom(6000, 5000, grace), Doom::Soon);
        assert_eq!(doom(6000, 5499, grace), Doom::Soon);
        assert_eq!(doom(6000, 5500, grace), Doom::Gone);
        assert_eq!(doom(6000, 9000, grace), Doom::Gone);
        assert_eq!(doom(6000, 16_001, grace), Doom::No);
    }
}
