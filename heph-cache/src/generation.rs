//! Generations of the index.
//!
//! `cache/db/<format>-<generation>/` holds one index. `cache/CURRENT` names the generation in use, one line for each
//! format, so that two formats can share a home. A damaged index is left to those who have it open: a new generation
//! is made beside it and `CURRENT` replaced. Every opener holds the `lock` file in its generation shared; an old
//! generation is removed by whoever gets that lock alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use heph_common::Digest;

use crate::error::StoreError;
use crate::{schema, unique};

/// Tries to open a generation that others may be replacing meanwhile.
const TRIES: usize = 20;

/// One generation, kept from removal while this lives.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) directory: PathBuf,
    /// Whether whoever opened it has made it, too.
    pub(crate) made: bool,
    /// Inode of the lock file: numbers come again when somebody deletes the whole cache.
    inode: u64,
    /// When the lock file was made, in nanoseconds since 1970: inodes come again, too, once nobody has them open.
    born: i64,
    _shared: File,
}

/// The place of all generations.
#[derive(Debug)]
pub(crate) struct Generations {
    current: PathBuf,
    database: PathBuf,
}

impl Generation {
    /// The SQLite file.
    pub(crate) fn index(&self) -> PathBuf {
        self.directory.join("index.db")
    }

    /// Whether both are the same directory.
    pub(crate) fn same(&self, other: &Self) -> bool {
        (self.number, self.inode) == (other.number, other.inode)
    }

    /// A number that no other index of this home has, whenever it was made.
    pub(crate) fn identity(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for part in [self.number, self.inode, self.born.cast_unsigned()] {
            hasher.update(&part.to_le_bytes());
        }
        Digest::from(hasher.finalize()).prefix()
    }

    /// Whether it is still where it was.
    pub(crate) fn exists(&self) -> bool {
        fs::metadata(self.directory.join("lock")).is_ok_and(|found| found.ino() == self.inode)
    }
}

impl Generations {
    pub(crate) fn new(cache: &Path) -> Result<Self, StoreError> {
        let database = cache.join("db");
        fs::create_dir_all(&database).map_err(|error| StoreError::io("create", &database, error))?;
        Ok(Self {
            current: cache.join("CURRENT"),
            database,
        })
    }

    /// Number of the generation in use, `None` before the first one and where `CURRENT` is damaged.
    pub(crate) fn current(&self) -> Option<u64> {
        let text = fs::read_to_string(&self.current).ok()?;
        text.lines().find_map(number)
    }

    /// Opens the generation in use; makes one where there is none. Others than `damaged` are not questioned.
    pub(crate) fn open(&self, damaged: Option<u64>) -> Result<Generation, StoreError> {
        let mut made = None;
        for _ in 0..TRIES {
            let wanted = self.current().filter(|number| Some(*number) != damaged);
            let bad = match wanted {
                Some(number) => match self.share(number)? {
                    Some(generation) => {
                        let made = made == Some(number);
                        return Ok(Generation { made, ..generation });
                    }
                    None => Some(number),
                },
                None => damaged,
            };
            made = self.replace(bad)?.or(made);
        }
        Err(StoreError::Busy {
            path: self.current.clone(),
        })
    }

    /// Opens a generation by number, if it is there.
    fn share(&self, number: u64) -> Result<Option<Generation>, StoreError> {
        let directory = self.directory(number);
        let path = directory.join("lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(Duration::from_millis(1));
                return Ok(None);
            }
            Err(TryLockError::Error(error)) => return Err(StoreError::io("lock", &path, error)),
        }
        let metadata = file
            .metadata()
            .map_err(|error| StoreError::io("read", &path, error))?;
        let seconds = metadata.mtime().saturating_mul(1_000_000_000);
        let generation = Generation {
            number,
            directory,
            made: false,
            inode: metadata.ino(),
            born: seconds.saturating_add(metadata.mtime_nsec()),
            _shared: file,
        };
        // It may have been removed between opening and locking.
        Ok((generation.exists() && generation.index().exists()).then_some(generation))
    }

    /// Whether a generation is the one in use, for all.
    pub(crate) fn is_current(&self, generation: &Generation) -> bool {
        self.current() == Some(generation.number) && generation.exists()
    }

    /// Makes a new generation the current one, unless `CURRENT` names a usable one other than `bad` by now. Returns
    /// the number of the one that was made.
    fn replace(&self, bad: Option<u64>) -> Result<Option<u64>, StoreError> {
        fs::create_dir_all(&self.database)
            .map_err(|error| StoreError::io("create", &self.database, error))?;
        let guard_path = self.database.join("lock");
        let failed = |error| StoreError::io("lock", &guard_path, error);
        let guard = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&guard_path)
            .map_err(failed)?;
        guard.lock().map_err(failed)?;
        if let Some(number) = self.current().filter(|number| Some(*number) != bad)
            && self.directory(number).join("index.db").exists()
        {
            return Ok(None);
        }
        let existing = self.present()?;
        let newest = existing.into_iter().max().unwrap_or(0);
        let usable = bad.is_none() && newest > 0 && self.directory(newest).join("index.db").exists();
        let number = if usable {
            newest
        } else {
            newest.max(bad.unwrap_or(0)) + 1
        };
        if !usable {
            self.create(number)?;
        }
        self.write_current(number)?;
        Ok((!usable).then_some(number))
    }

    /// Makes an empty generation. Only called under the directory's lock, so whatever has no name yet is garbage.
    fn create(&self, number: u64) -> Result<(), StoreError> {
        self.remove_unfinished();
        let unfinished = self.database.join(format!(".{}", unique::name()));
        let failed = |error| StoreError::io("create", &unfinished, error);
        fs::create_dir(&unfinished).map_err(failed)?;
        let made = File::create(unfinished.join("lock"))
            .map_err(failed)
            .and_then(|_| schema::create(&unfinished.join("index.db")));
        if let Err(error) = made {
            let _ = fs::remove_dir_all(&unfinished);
            return Err(error);
        }
        let directory = self.directory(number);
        fs::rename(&unfinished, &directory).map_err(|error| StoreError::io("create", &directory, error))
    }

    fn remove_unfinished(&self) {
        let entries = fs::read_dir(&self.database).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".")) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }

    fn write_current(&self, number: u64) -> Result<(), StoreError> {
        let before = fs::read_to_string(&self.current).unwrap_or_default();
        let mut text = format!("{}\n", name(number));
        for line in before.lines().filter(|line| is_foreign(line)) {
            text.push_str(line);
            text.push('\n');
        }
        let unfinished = self
            .current
            .with_file_name(format!(".CURRENT-{}", unique::name()));
        let written = File::create_new(&unfinished).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            fs::rename(&unfinished, &self.current)
        });
        written.map_err(|error| {
            let _ = fs::remove_file(&unfinished);
            StoreError::io("write", &self.current, error)
        })
    }

    /// Makes a new generation current although the present one is sound; for clearing.
    pub(crate) fn renew(&self, present: u64) -> Result<Generation, StoreError> {
        self.replace(Some(present))?;
        self.open(Some(present))
    }

    /// Removes generations of this format that are not current and that nobody has open.
    pub(crate) fn remove_old(&self) -> Result<(), StoreError> {
        let Some(current) = self.current() else {
            return Ok(());
        };
        for number in self.present()?.into_iter().filter(|number| *number != current) {
            let directory = self.directory(number);
            let Ok(lock) = File::open(directory.join("lock")) else {
                continue;
            };
            if number < current && lock.try_lock().is_ok() {
                self.discard(&directory);
            }
        }
        Ok(())
    }

    /// Removes indexes of other formats that nobody has open and nobody has written to for so long: last-used times are
    /// written at least daily where one is used. Another version of heph that comes back begins with an empty one.
    pub(crate) fn remove_foreign(&self, unused: Duration) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("list", &self.database, error);
        for entry in fs::read_dir(&self.database).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let directory = entry.path();
            let foreign = entry.file_name().to_str().is_some_and(is_foreign);
            if !foreign || !is_older(&directory, unused) {
                continue;
            }
            let Ok(lock) = File::open(directory.join("lock")) else {
                continue;
            };
            if lock.try_lock().is_ok() {
                self.discard(&directory);
            }
        }
        Ok(())
    }

    /// Removes a generation whose lock the caller holds alone.
    fn discard(&self, directory: &Path) {
        let gone = self.database.join(format!(".{}", unique::name()));
        if fs::rename(directory, &gone).is_ok() {
            let _ = fs::remove_dir_all(&gone);
        }
    }

    /// The index files, of whatever format and generation, that exist beside this generation's.
    pub(crate) fn others(&self, own: u64) -> Result<Vec<PathBuf>, StoreError> {
        let own = self.directory(own);
        let failed = |error| StoreError::io("list", &self.database, error);
        let mut others = Vec::new();
        for entry in fs::read_dir(&self.database).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let hidden = path
                .file_name()
                .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && path != own && path.is_dir() {
                others.push(path.join("index.db"));
            }
        }
        Ok(others)
    }

    fn present(&self) -> Result<Vec<u64>, StoreError> {
        let failed = |error| StoreError::io("list", &self.database, error);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.database).map_err(failed)? {
            numbers.extend(entry.map_err(failed)?.file_name().to_str().and_then(number));
        }
        Ok(numbers)
    }

    fn directory(&self, number: u64) -> PathBuf {
        self.database.join(name(number))
    }
}

fn name(number: u64) -> String {
    format!("{}-{number:04}", schema::FORMAT)
}

fn number(name: &str) -> Option<u64> {
    let (format, number) = name.trim_end().split_once('-')?;
    (format.parse() == Ok(schema::FORMAT)).then(|| number.parse().ok())?
}

/// Whether nothing in a directory was written for so long.
fn is_older(directory: &Path, age: Duration) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files = entries.map(|entry| entry.metadata().and_then(|metadata| metadata.modified()));
    let now = SystemTime::now();
    files.all(|modified| {
        modified.is_ok_and(|modified| now.duration_since(modified).is_ok_and(|passed| passed >= age))
    })
}

fn is_foreign(line: &str) -> bool {
    line.split_once('-').is_some_and(|(format, number)| {
        format.parse::<u32>().is_ok_and(|format| format != schema::FORMAT) && number.parse::<u64>().is_ok()
    })
}
