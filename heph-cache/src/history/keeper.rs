//! The keeper: takes records into the database and answers one question.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heph_proto::{HistoryReply, HistoryRequest};
use prost::Message;

use super::statistics::Statistics;
use super::{LONGEST, MOST_BYTES, MOST_RUNS, record, spool};
use crate::clock;
use crate::state::{State, StateError, set_aside, with_state};

/// Other keepers of the same history are done within this time.
const OTHERS_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked whether they are.
const PAUSE: Duration = Duration::from_millis(5);

/// Keepers in a row that may die before what they die of is taken for damage.
const DEATHS: usize = 2;

/// The whole life of a keeper: the request is on standard input, the reply goes to standard output. `directory` is that of the history.
///
/// # Errors
/// When it cannot read or write those.
pub fn keep(directory: &Path) -> io::Result<()> {
    let mut request = Vec::new();
    io::stdin().lock().read_to_end(&mut request)?;
    let request = HistoryRequest::decode(request.as_slice()).map_err(io::Error::other)?;
    let reply = answer(directory, &request).encode_to_vec();
    let mut out = io::stdout().lock();
    out.write_all(&reply)?;
    out.flush()
}

/// Takes in what is in the spool, and answers. A failure is in the answer.
pub(super) fn answer(directory: &Path, request: &HistoryRequest) -> HistoryReply {
    let mut problems = Vec::new();
    let reply = try_answer(directory, request, &mut problems);
    let reply = reply.unwrap_or_else(|error| HistoryReply {
        failure: error.to_string(),
        ..HistoryReply::default()
    });
    HistoryReply { problems, ..reply }
}

fn try_answer(
    directory: &Path,
    request: &HistoryRequest,
    problems: &mut Vec<String>,
) -> Result<HistoryReply, StateError> {
    let failed = |source| StateError::Io {
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let _alone = alone(directory).map_err(failed)?;
    let attempt = Attempt::begin(directory).map_err(failed)?;
    let database = directory.join("db");
    if attempt.deaths >= DEATHS {
        problems.push(format!(
            "the history in {} was damaged (it ended {} processes); it begins anew",
            database.display(),
            attempt.deaths
        ));
        set_aside(&database)?;
    }
    let reply = with_state(&database, problems, |state| work(directory, state, request));
    attempt.end();
    reply
}

/// Whoever has this file locked is the one keeper.
fn alone(directory: &Path) -> io::Result<File> {
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join("lock"))?;
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if began.elapsed() > OTHERS_LIMIT => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process has it locked",
                ));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
        }
    }
}

/// A file that is there while a keeper works: a byte for each one in a row that did not come to its end.
struct Attempt {
    path: PathBuf,
    deaths: usize,
}

impl Attempt {
    fn begin(directory: &Path) -> io::Result<Self> {
        let path = directory.join("attempts");
        let deaths = fs::metadata(&path).map_or(0, |file| usize::try_from(file.len()).unwrap_or(usize::MAX));
        let mut file = File::options().create(true).append(true).open(&path)?;
        file.write_all(b".")?;
        Ok(Self { path, deaths })
    }

    fn end(self) {
        drop(fs::remove_file(self.path));
    }
}

fn work(directory: &Path, state: &dyn State, request: &HistoryRequest) -> Result<HistoryReply, StateError> {
    let spooled = spool::read(directory).map_err(|source| StateError::Io {
        path: directory.to_owned(),
        source,
    })?;
    let mut has_new = false;
    for record in spooled.iter().filter_map(|spooled| spooled.record.as_ref()) {
        state.put(&record::key(record), &record::encode(record))?;
        has_new = true;
    }
    if has_new {
        shorten(state)?;
        state.sync()?;
    }
    // Only now they are elsewhere. Taken in a second time, they replace themselves.
    for spooled in &spooled {
        drop(fs::remove_file(&spooled.path));
    }
    let mut statistics = Statistics::new(request);
    state.descend(&mut |_, value| match record::decode(value) {
        Some(record) => statistics.add(record),
        None => true,
    })?;
    Ok(statistics.finish())
}

/// Drops records that are too many, too much or too old.
fn shorten(state: &dyn State) -> Result<(), StateError> {
    let oldest = clock::unix_ms().saturating_sub(LONGEST.as_millis() as u64);
    let (mut records, mut bytes, mut dropped) = (0, 0, Vec::new());
    state.descend(&mut |key, value| {
        records += 1;
        bytes += value.len();
        let began = key.first_chunk().map_or(0, |began| u64::from_be_bytes(*began));
        if records > MOST_RUNS || bytes > MOST_BYTES || began < oldest {
            dropped.push(key.to_vec());
        }
        true
    })?;
    dropped.iter().try_for_each(|key| state.remove(key))
}

#[cfg(test)]
mod tests;
