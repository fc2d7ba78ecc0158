//! Live runs: one locked file each, `run/live/<id>`.
//!
//! What a live run may use is not evicted. The claim is the lock on the file, so it ends with the process, however
//! that ends; the file's content (`<start in unix ms> <pid>`) only says since when.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock;
use crate::error::StoreError;
use crate::shared::Shared;
use crate::unique;

/// How old a file that never got its name must be before it is taken for the remains of a killed process.
const UNFINISHED: Duration = Duration::from_secs(60);

/// A run that uses the store; its claim ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct LiveRun {
    path: PathBuf,
    started_unix_ms: u64,
    _locked: File,
    // Dropped after the lock: then nothing of this run is protected any more.
    _counted: Option<Counted>,
}

/// A run that its store knows of.
#[derive(Debug)]
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.run_ended();
    }
}

impl LiveRun {
    /// The store has followed to the generation in use, and is told when the run ends.
    pub(crate) fn counted_by(mut self, shared: &Arc<Shared>) -> Self {
        shared.run_began();
        self._counted = Some(Counted(Arc::clone(shared)));
        self
    }

    /// The name of its file.
    pub(crate) fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// When it began, in milliseconds since 1970.
    pub fn started_unix_ms(&self) -> u64 {
        self.started_unix_ms
    }
}

impl Drop for LiveRun {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The directory of live runs.
#[derive(Debug)]
pub(crate) struct LiveRuns {
    directory: PathBuf,
}

/// What lives.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Living {
    /// How many runs.
    pub count: usize,
    /// Start of the oldest one in milliseconds since 1970.
    pub oldest_unix_ms: Option<u64>,
}

impl LiveRuns {
    pub(crate) fn new(home: &Path) -> Result<Self, StoreError> {
        let directory = home.join("run/live");
        fs::create_dir_all(&directory).map_err(|error| StoreError::io("create", &directory, error))?;
        Ok(Self { directory })
    }

    /// Another directory of the same kind, for others than runs.
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Whether one lives that was begun here, by its name.
    pub(crate) fn lives(&self, name: &str) -> bool {
        // Shared: those who look do not take each other for the living.
        match File::open(self.directory.join(name)).map(|file| file.try_lock_shared()) {
            Ok(Err(TryLockError::WouldBlock)) => true,
            Ok(Ok(()) | Err(TryLockError::Error(_))) => false,
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Begins a run. The file is locked before it gets its name: nobody ever sees it unlocked.
    pub(crate) fn begin(&self) -> Result<LiveRun, StoreError> {
        let started_unix_ms = clock::unix_ms();
        let id = unique::name();
        let unfinished = self.directory.join(format!(".{id}"));
        let path = self.directory.join(&id);
        let failed = |error| StoreError::io("write", &path, error);
        fs::create_dir_all(&self.directory).map_err(failed)?;
        let mut file = File::create_new(&unfinished).map_err(failed)?;
        file.lock().map_err(failed)?;
        write!(file, "{started_unix_ms} {}", std::process::id()).map_err(failed)?;
        fs::rename(&unfinished, &path).map_err(failed)?;
        Ok(LiveRun {
            path,
            started_unix_ms,
            _locked: file,
            _counted: None,
        })
    }

    /// Which runs live; the files of dead ones are removed.
    pub(crate) fn living(&self) -> Result<Living, StoreError> {
        let mut living = Living::default();
        let failed = |error| StoreError::io("list", &self.directory, error);
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(living),
            other => other.map_err(failed)?,
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let Ok(mut file) = File::open(&path) else {
                continue;
            };
            let unfinished = path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if unfinished && !is_old(&file) {
                continue;
            }
            match file.try_lock() {
                Ok(()) => {
                    let _ = fs::remove_file(&path);
                }
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    let _ = file.read_to_string(&mut text);
                    let started = text.split(' ').next().and_then(|word| word.parse().ok());
                    let started: u64 = started.unwrap_or(0);
                    living.count += 1;
                    living.oldest_unix_ms =
                        Some(living.oldest_unix_ms.map_or(started, |old| old.min(started)));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(StoreError::io("lock", &path, error));
                }
            }
        }
        Ok(living)
    }
}

fn is_old(file: &File) -> bool {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| {
        SystemTime::now()
            .duration_since(time)
            .is_ok_and(|age| age > UNFINISHED)
    })
}
