//! Records that wait to be taken in: one small file each.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heph_proto::RunRecord;

use super::{MOST_RUNS, record};

/// Ends the name of a record that is whole.
const RECORD: &str = ".run";

/// Begins the name of one that is not.
const UNFINISHED: &str = ".new-";

/// One process in so many looks whether there are too many files: to look costs more than to leave one.
const LOOKS: u32 = 32;

/// What was not finished for so long never will be.
const ABANDONED: Duration = Duration::from_secs(600);

/// Larger files are no records.
const MOST_BYTES: u64 = 4 << 20;

/// A record in the spool.
pub(super) struct Spooled {
    pub path: PathBuf,
    /// `None`: of no use.
    pub record: Option<RunRecord>,
}

/// The spool below the directory of a history.
fn place(directory: &Path) -> PathBuf {
    directory.join("spool")
}

/// Leaves a record: whole, or not at all.
pub(super) fn leave(directory: &Path, record: &RunRecord) -> io::Result<()> {
    let spool = place(directory);
    let unfinished = spool.join(format!("{UNFINISHED}{}", record.id));
    let create = || File::options().write(true).create_new(true).open(&unfinished);
    let mut file = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&spool)?;
            create()?
        }
        other => other?,
    };
    let name = format!("{:015}-{}{RECORD}", record.started_unix_ms, record.id);
    let written = file
        .write_all(&record::encode(record))
        .and_then(|()| fs::rename(&unfinished, spool.join(name)));
    if written.is_err() {
        drop(fs::remove_file(&unfinished));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if now.subsec_micros().is_multiple_of(LOOKS) {
        shorten(directory)?;
    }
    written
}

/// Whether there is anything.
pub(super) fn has_any(directory: &Path) -> bool {
    fs::read_dir(place(directory)).is_ok_and(|mut entries| entries.next().is_some())
}

/// The latest records, oldest first; older ones than may be kept, and what killed processes left, are removed.
pub(super) fn read(directory: &Path) -> io::Result<Vec<Spooled>> {
    let paths = shorten(directory)?;
    let read = |path: PathBuf| {
        let is_small = fs::metadata(&path).is_ok_and(|file| file.len() <= MOST_BYTES);
        let bytes = is_small.then(|| fs::read(&path).ok()).flatten();
        Spooled {
            record: bytes.and_then(|bytes| record::decode(&bytes)),
            path,
        }
    };
    Ok(paths.into_iter().map(read).collect())
}

/// Removes what is too much or abandoned, and names what is left, oldest first.
fn shorten(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(place(directory)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut records = Vec::new();
    for entry in entries {
        let entry = entry?;
        let is_record = entry.file_name().to_string_lossy().ends_with(RECORD);
        if is_record {
            records.push(entry.path());
        } else if is_abandoned(&entry) {
            drop(fs::remove_file(entry.path()));
        }
    }
    records.sort_unstable();
    let too_many = records.len().saturating_sub(MOST_RUNS);
    for old in records.drain(..too_many) {
        drop(fs::remove_file(old));
    }
    Ok(records)
}

fn is_abandoned(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|file| file.modified());
    modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> RunRecord {
        let mut record = RunRecord {
            started_unix_ms: number,
            ..RunRecord::default()
        };
        record::identify(&mut record);
        record
    }

    #[test]
    fn what_is_left_is_found_in_its_order_and_what_is_not_whole_is_not() {
        let home = tempfile::tempdir().unwrap();
        for number in [30, 1, 7] {
            leave(home.path(), &record(number)).unwrap();
        }
        let spool = place(home.path());
        fs::write(spool.join("000000000000099-cut.run"), b"hrr1").unwrap();
        fs::write(spool.join(".new-0123"), b"").unwrap();
        let old = File::create(spool.join(".new-4567")).unwrap();
        old.set_modified(SystemTime::now() - ABANDONED * 2).unwrap();
        let found = read(home.path()).unwrap();
        let times: Vec<_> = found
            .iter()
            .map(|found| found.record.as_ref().map(|record| record.started_unix_ms))
            .collect();
        assert_eq!(times, [Some(1), Some(7), Some(30), None]);
        assert!(spool.join(".new-0123").exists(), "its process may still write it");
        assert!(!spool.join(".new-4567").exists());
    }

    #[test]
    fn there_are_never_many_more_than_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let record = record(1);
        for number in 0..MOST_RUNS as u64 * 2 {
            leave(
                home.path(),
                &RunRecord {
                    id: number.to_string(),
                    started_unix_ms: number,
                    ..record.clone()
                },
            )
            .unwrap();
        }
        let there = fs::read_dir(place(home.path())).unwrap().count();
        assert!(there < MOST_RUNS + LOOKS as usize * 20, "{there}");
        let latest = read(home.path()).unwrap();
        assert_eq!(latest.len(), MOST_RUNS);
        let oldest = latest
            .first()
            .and_then(|first| first.record.as_ref())
            .map(|record| record.started_unix_ms);
        assert_eq!(oldest, Some(MOST_RUNS as u64));
    }
}
