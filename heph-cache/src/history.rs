//! What was run: one record for each run that ended.
//!
//! A run costs its process one small file in a *spool* (`state/<build>/spool/`), written after the answer. Now and then, and whenever
//! somebody asks, a *keeper* takes them into the database (`state/<build>/db/`): a process of its own that lives for milliseconds, since
//! the database keeps threads that wake all the time, and may die of damage. All of it may be lost.

mod keeper;
mod record;
mod spool;
mod statistics;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heph_proto::{HistoryReply, HistoryRequest, RunRecord};
use prost::Message;

pub use keeper::keep;
pub use record::{MOST_EXECUTIONS, identify};

/// Runs that are kept.
pub const MOST_RUNS: usize = 1000;

/// Records older than this are dropped.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bytes of all records together.
pub const MOST_BYTES: usize = 16 << 20;

/// Files in the spool after which a process that stays has them taken in.
const SPOOLED: usize = 256;

/// Records that wait to be written; more are dropped.
const MOST_PENDING: usize = 256;

/// A keeper is done within this time.
const KEEPER_LIMIT: Duration = Duration::from_secs(20);

/// Why the history does not answer. Messages fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The keeper could not be started, or died.
    #[error("read the history in {}: {message}", directory.display())]
    Keeper {
        /// Where it is.
        directory: PathBuf,
        /// What happened.
        message: String,
    },
    /// The keeper has no answer.
    #[error("{0}")]
    Refused(String),
}

/// The history of one build of heph in one home.
#[derive(Debug)]
pub struct History {
    directory: PathBuf,
    /// Program and arguments of the keeper; empty to do its work in this process.
    keeper: Vec<OsString>,
    pending: Mutex<Vec<RunRecord>>,
    /// Files that are probably in the spool.
    spooled: AtomicUsize,
}

impl History {
    /// The history in `directory`, `state/<build>` of a home. Nothing is opened or made. `keeper` is a program, and arguments, that
    /// calls [`keep`]; without one its work is done in this process.
    pub fn new(directory: PathBuf, keeper: Vec<OsString>) -> Self {
        Self {
            directory,
            keeper,
            pending: Mutex::default(),
            // What processes before this one left.
            spooled: AtomicUsize::new(1),
        }
    }

    /// A run has ended. It is only remembered here: nothing is written.
    pub fn note(&self, record: RunRecord) {
        let mut pending = self.pending();
        if pending.len() < MOST_PENDING {
            pending.push(record);
        }
    }

    /// Writes down what was noted. What cannot be written is dropped: it is worth no error.
    pub fn write_down(&self) {
        // Held while it is written: who asks next finds it in the one place or the other.
        let mut pending = self.pending();
        for record in pending.drain(..) {
            match spool::leave(&self.directory, &record) {
                Ok(()) => drop(self.spooled.fetch_add(1, Ordering::Relaxed)),
                Err(error) => tracing::debug!("a run is not remembered: {error}"),
            }
        }
    }

    /// Writes down what was noted, and takes in what has gathered if it is much.
    pub fn write_down_and_gather(&self) {
        self.write_down();
        if self.spooled.load(Ordering::Relaxed) >= SPOOLED {
            self.take_in();
        }
    }

    /// Takes in what has gathered. What goes wrong is in the log.
    pub fn take_in(&self) {
        self.write_down();
        if self.spooled.load(Ordering::Relaxed) == 0 || !spool::has_any(&self.directory) {
            return;
        }
        let nothing = HistoryRequest {
            since_unix_ms: u64::MAX,
            ..HistoryRequest::default()
        };
        if let Err(error) = self.ask(&nothing) {
            tracing::debug!("failed to {error}");
        }
    }

    /// Looks into it, with all that was noted so far.
    pub fn ask(&self, request: &HistoryRequest) -> Result<HistoryReply, HistoryError> {
        self.write_down();
        let gathered = self.spooled.load(Ordering::Relaxed);
        let reply = match self.keeper.split_first() {
            None => keeper::answer(&self.directory, request),
            Some((program, arguments)) => self.ask_keeper(program, arguments, request)?,
        };
        for problem in &reply.problems {
            tracing::warn!("{problem}");
        }
        if !reply.failure.is_empty() {
            return Err(HistoryError::Refused(reply.failure));
        }
        self.spooled.fetch_sub(gathered, Ordering::Relaxed);
        Ok(reply)
    }

    fn ask_keeper(
        &self,
        program: &OsString,
        arguments: &[OsString],
        request: &HistoryRequest,
    ) -> Result<HistoryReply, HistoryError> {
        let failed = |message: String| HistoryError::Keeper {
            directory: self.directory.clone(),
            message,
        };
        let child = Command::new(program)
            .args(arguments)
            .arg(&self.directory)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(|error| failed(format!("its keeper does not start: {error}")))?;
        let answered = converse(&mut child, &request.encode_to_vec());
        if answered.is_none() {
            // It is this process's own child and not waited for yet: nobody else can have its number.
            drop(child.kill());
        }
        let status = child.wait().map_err(|error| failed(error.to_string()))?;
        match answered {
            None => Err(failed(format!("no answer within {KEEPER_LIMIT:?}"))),
            Some(_) if !status.success() => Err(failed(format!("its keeper ended with {status}"))),
            Some(bytes) => HistoryReply::decode(bytes.as_slice()).map_err(|error| failed(error.to_string())),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Vec<RunRecord>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request and reads to the end; `None` when that takes too long.
fn converse(child: &mut Child, request: &[u8]) -> Option<Vec<u8>> {
    if let Some(mut input) = child.stdin.take() {
        // Shorter than a pipe. A keeper that is gone already is seen at its status.
        drop(input.write_all(request));
    }
    let mut output = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(output.read_to_end(&mut bytes));
        drop(sender.send(bytes));
    });
    receiver.recv_timeout(KEEPER_LIMIT).ok()
}
