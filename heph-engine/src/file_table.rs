//! Digests of the files of a workspace, remembered while their stats stay the same.
//!
//! Paths are relative to the workspace root and separated by `/`. Each question costs one `lstat`; a file is read only
//! when it is new or its stat differs. A digest is remembered only of a settled file (see [`Stat::settled`]).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use heph_common::Digest;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::stat::{Stat, now};

/// What one file of the workspace is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileState {
    /// What it is.
    pub kind: FileKind,
    /// Digest of its bytes; of the text of the link for a symlink; of nothing for a directory.
    pub digest: Digest,
    /// Bytes of what the digest was made of.
    pub size: u64,
}

/// What a path of the workspace leads to. Symlinks are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    /// A file.
    Regular {
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symlink that stays within the workspace.
    Symlink {
        /// The text of the link.
        target: Box<str>,
    },
    /// A directory.
    Directory,
}

impl FileState {
    /// Whether it is a file that its owner may execute.
    pub fn executable(&self) -> bool {
        matches!(self.kind, FileKind::Regular { executable: true })
    }

    /// The text of a symlink.
    pub fn link_target(&self) -> Option<&str> {
        match &self.kind {
            FileKind::Symlink { target } => Some(target),
            FileKind::Regular { .. } | FileKind::Directory => None,
        }
    }
}

/// Why the state of a file cannot be told. Paths are relative to the workspace root.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Nothing is there.
    #[error("no such file: {path}")]
    Missing {
        /// The path.
        path: String,
    },
    /// A socket, a device or a pipe.
    #[error("{path} is a {kind}, which cannot be an input")]
    Special {
        /// The path.
        path: String,
        /// Such as `socket`.
        kind: &'static str,
    },
    /// A symlink to something outside the workspace, or an absolute one.
    #[error("the symlink {path} -> {target} leaves the workspace")]
    Leaves {
        /// The path of the link.
        path: String,
        /// Its text.
        target: String,
    },
    /// The path itself is absolute, has `..`, or passes through a symlink that leaves the workspace.
    #[error("'{path}' is not a path within the workspace")]
    Outside {
        /// The path.
        path: String,
    },
    /// A name or the text of a symlink is not UTF-8.
    #[error("the name \"{escaped}\" is not UTF-8")]
    NotUtf8 {
        /// The path with other bytes as `\xff`.
        escaped: String,
    },
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl FileError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Leaves { target, .. } if target.starts_with('/') => {
                "make the link relative and its target a file of the workspace"
            }
            Self::Leaves { .. } | Self::Outside { .. } => "copy what it leads to into the workspace",
            Self::NotUtf8 { .. } => "inputs and outputs need UTF-8 names; rename it",
            Self::Missing { .. } | Self::Special { .. } | Self::Read { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        let hint = error.hint();
        Self {
            hint,
            ..Self::new(error.to_string())
        }
    }
}

/// A remembered state, for a snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Relative to the workspace root.
    pub path: Box<str>,
    /// What the file system said when it was read.
    pub stat: Stat,
    /// What was found.
    pub state: FileState,
}

#[derive(Clone, Debug)]
struct Entry {
    stat: Stat,
    state: FileState,
}

/// The table; shared by all threads of a run.
#[derive(Debug)]
pub struct FileTable {
    root: OwnedFd,
    path: PathBuf,
    entries: RwLock<HashMap<Box<str>, Entry>>,
}

/// Below this many files a second thread costs more than it gains.
const PARALLEL_FROM: usize = 512;

/// A file that changes while it is read is read again so often.
const READ_TRIES: usize = 3;

impl FileTable {
    /// An empty table of the workspace at `root`.
    pub fn open(root: &Path) -> Result<Self, FileError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let directory =
            rustix::fs::openat(CWD, root, flags, Mode::empty()).map_err(|errno| FileError::Read {
                path: root.display().to_string(),
                source: errno.into(),
            })?;
        Ok(Self {
            root: directory,
            path: root.to_owned(),
            entries: RwLock::default(),
        })
    }

    /// Whether the root that was opened is still what its path leads to.
    pub fn is_current(&self) -> bool {
        let (Ok(open), Ok(now)) = (rustix::fs::fstat(&self.root), rustix::fs::stat(&self.path)) else {
            return false;
        };
        (open.st_dev, open.st_ino) == (now.st_dev, now.st_ino)
    }

    /// The workspace root as it was given.
    pub fn root(&self) -> &Path {
        &self.path
    }

    /// The state of one file, read anew if its stat is not the remembered one.
    pub fn state(&self, path: impl AsRef<Path>) -> Result<FileState, FileError> {
        let path = checked(path.as_ref())?;
        let known = match self.stat(path) {
            Ok((stat, _)) => self.known(path, &stat),
            Err(FileError::Missing { .. }) => {
                self.forget(path);
                None
            }
            Err(_) => None,
        };
        match known {
            Some(state) => Ok(state),
            None => self.read(path),
        }
    }

    /// The states of many files, in their order, read in parallel.
    pub fn states<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Vec<Result<FileState, FileError>> {
        in_parallel(paths, |path| self.state(path))
    }

    /// What is remembered of a file, without looking at it.
    pub fn remembered(&self, path: &str) -> Option<FileState> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(path).map(|entry| entry.state.clone())
    }

    /// Paths of everything that is remembered, in no order.
    pub fn paths(&self) -> Vec<Box<str>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.keys().cloned().collect()
    }

    /// Those of `paths` whose stat is not the remembered one, as indices in ascending order: changed, unknown, gone,
    /// or remembered as unsettled. Nothing is read; `lstat` only, in parallel.
    pub fn changed<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Vec<usize> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<Option<(&str, Stat)>> = paths
            .iter()
            .map(|path| {
                let path = path.as_ref().to_str()?;
                Some((path, entries.get(path)?.stat))
            })
            .collect();
        drop(entries);
        let same = in_parallel(&known, |known| {
            known.is_some_and(|(path, stat)| self.stat(path).is_ok_and(|(found, _)| found == stat))
        });
        same.iter()
            .enumerate()
            .filter(|(_, same)| !**same)
            .map(|(index, _)| index)
            .collect()
    }

    /// What is remembered, sorted by path.
    pub fn export(&self) -> Vec<FileRecord> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut records: Vec<FileRecord> = entries
            .iter()
            .map(|(path, entry)| FileRecord {
                path: path.clone(),
                stat: entry.stat,
                state: entry.state.clone(),
            })
            .collect();
        drop(entries);
        records.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        records
    }

    /// Takes over what an earlier run remembered. What is in the table already stays.
    pub fn import(&self, records: impl IntoIterator<Item = FileRecord>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for FileRecord { path, stat, state } in records {
            entries.entry(path).or_insert(Entry { stat, state });
        }
    }

    /// Drops every entry whose path `keep` refuses.
    pub fn retain(&self, mut keep: impl FnMut(&str) -> bool) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|path, _| keep(path));
    }

    fn known(&self, path: &str, stat: &Stat) -> Option<FileState> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(path)
            .filter(|entry| entry.stat == *stat)
            .map(|entry| entry.state.clone())
    }

    fn forget(&self, path: &str) {
        self.entries
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(path);
    }

    fn stat(&self, path: &str) -> Result<(Stat, rustix::fs::Stat), FileError> {
        let found = rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| read_error(path, errno))?;
        Ok((Stat::of(&found), found))
    }

    /// Reads what is there now, and remembers it if it is settled.
    fn read(&self, path: &str) -> Result<FileState, FileError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let reading = now();
            let (stat, found) = self.stat(path)?;
            let (state, after) = match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => match self.read_regular(path) {
                    Err(Errno::LOOP | Errno::NOENT) if tries < READ_TRIES => continue,
                    read => read.map_err(|errno| read_error(path, errno))?,
                },
                FileType::Symlink => (self.read_symlink(path)?, self.stat(path)?.0),
                FileType::Directory => {
                    let state = FileState {
                        kind: FileKind::Directory,
                        digest: Digest::of(b""),
                        size: 0,
                    };
                    return Ok(state);
                }
                other => {
                    return Err(FileError::Special {
                        path: path.to_owned(),
                        kind: special(other),
                    });
                }
            };
            if stat == after && stat.settled(reading) {
                let entry = Entry {
                    stat,
                    state: state.clone(),
                };
                self.entries
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(path.into(), entry);
            } else {
                self.forget(path);
            }
            if stat == after || tries == READ_TRIES {
                return Ok(state);
            }
        }
    }

    fn read_regular(&self, path: &str) -> Result<(FileState, Stat), Errno> {
        // A pipe that took the file's place must not block the open.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let mut file = File::from(self.open_beneath(path, flags)?);
        let found = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(Errno::NOENT);
        }
        let (digest, size) = digest_of(&mut file, Stat::of(&found).size)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let executable = found.st_mode & 0o100 != 0;
        let state = FileState {
            kind: FileKind::Regular { executable },
            digest,
            size,
        };
        Ok((state, Stat::of(&rustix::fs::fstat(&file)?)))
    }

    /// Opens a path that may pass through symlinks, but never out of the workspace.
    #[cfg(target_os = "linux")]
    fn open_beneath(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        use rustix::fs::ResolveFlags;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => self.open_canonical(path, flags),
            opened => opened,
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn open_beneath(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.open_canonical(path, flags)
    }

    /// The same where the kernel cannot (before 5.6, some containers): the resolved parent is compared by name.
    fn open_canonical(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
            let root = self.path.canonicalize().map_err(errno)?;
            let parent = self.path.join(parent).canonicalize().map_err(errno)?;
            if !parent.starts_with(root) {
                return Err(Errno::XDEV);
            }
        }
        rustix::fs::openat(&self.root, path, flags, Mode::empty())
    }

    fn read_symlink(&self, path: &str) -> Result<FileState, FileError> {
        let text =
            rustix::fs::readlinkat(&self.root, path, Vec::new()).map_err(|errno| read_error(path, errno))?;
        let target = text.to_str().map_err(|_| FileError::NotUtf8 {
            escaped: format!("{path} -> {}", text.to_bytes().escape_ascii()),
        })?;
        if heph_common::package::link_leaves(path, target) {
            return Err(FileError::Leaves {
                path: path.to_owned(),
                target: target.to_owned(),
            });
        }
        Ok(FileState {
            digest: Digest::of(target.as_bytes()),
            size: target.len() as u64,
            kind: FileKind::Symlink {
                target: target.into(),
            },
        })
    }
}

/// Digest and length of the rest of a file; `size` is what it is expected to be.
pub(crate) fn digest_of(file: &mut impl Read, size: u64) -> io::Result<(Digest, u64)> {
    const CHUNK: u64 = 256 * 1024;
    let mut buffer = vec![0; usize::try_from((size + 1).min(CHUNK)).unwrap_or(1)];
    let mut hasher = blake3::Hasher::new();
    let mut total = 0;
    loop {
        let count = match file.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let read = buffer.get(..count).unwrap_or_default();
        if read.is_empty() {
            return Ok((hasher.finalize().into(), total));
        }
        hasher.update(read);
        total += count as u64;
    }
}

/// A path of the workspace as text: relative, UTF-8, without `..`.
fn checked(path: &Path) -> Result<&str, FileError> {
    let text = path.to_str().ok_or_else(|| FileError::NotUtf8 {
        escaped: path.as_os_str().as_bytes().escape_ascii().to_string(),
    })?;
    let inside = path
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if !inside || text.is_empty() || text.contains('\0') {
        return Err(FileError::Outside {
            path: text.escape_debug().to_string(),
        });
    }
    Ok(text)
}

fn read_error(path: &str, errno: Errno) -> FileError {
    let path = path.to_owned();
    match errno {
        Errno::NOENT | Errno::NOTDIR => FileError::Missing { path },
        Errno::XDEV => FileError::Outside { path },
        _ => FileError::Read {
            path,
            source: errno.into(),
        },
    }
}

fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "special file",
    }
}

/// Applies `each` to all items, on all cores when they are many; results are in the items' order.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], each: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(8);
    if items.len() < PARALLEL_FROM || threads == 1 {
        return items.iter().map(each).collect();
    }
    let chunk = items.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let each = &each;
        let mut chunks = items.chunks(chunk);
        let own = chunks.next().unwrap_or_default();
        let others: Vec<_> = chunks
            .map(|chunk| scope.spawn(move || chunk.iter().map(each).collect::<Vec<R>>()))
            .collect();
        let mut results: Vec<R> = own.iter().map(each).collect();
        results.reserve(items.len().saturating_sub(results.len()));
        for other in others {
            match other.join() {
                Ok(more) => results.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

#[cfg(test)]
mod tests;
