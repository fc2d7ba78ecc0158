//! What was looked at to tell an identity, so that a glance at the same places tells whether it still holds.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use heph_common::Digest;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::ToolError;
use super::elf::Elf;
use super::loader_cache::LoaderCache;
use crate::file_table::digest_of;
use crate::stat::{Stat, now};

/// One place of the file system that entered an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Absolute path, not resolved.
    pub path: PathBuf,
    /// What was there.
    pub seen: Seen,
}

/// What was found at a watched place. A stat is `None` when it was not settled: then the next look finds a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// Nothing; if something appears, it is what would be found.
    Absent,
    /// A symlink.
    Link {
        /// Its text.
        target: PathBuf,
    },
    /// A file whose content counts.
    File {
        /// When it was read.
        stat: Option<Stat>,
        /// Digest of its content.
        digest: Digest,
    },
    /// A directory whose names count.
    Directory {
        /// When it was read.
        stat: Option<Stat>,
    },
    /// Something that was looked at and not taken, such as a file on PATH that is not executable.
    Passed {
        /// When it was looked at.
        stat: Option<Stat>,
    },
}

impl Watched {
    /// Whether the same is there. One system call; nothing is read.
    pub fn unchanged(&self) -> bool {
        match &self.seen {
            Seen::Absent => matches!(lstat(&self.path), Err(error) if is_absent(error)),
            Seen::Link { target } => read_link(&self.path).is_ok_and(|found| found == *target),
            Seen::File { stat, .. } | Seen::Directory { stat } | Seen::Passed { stat } => stat
                .as_ref()
                .is_some_and(|stat| lstat(&self.path).is_ok_and(|found| Stat::of(&found) == *stat)),
        }
    }
}

/// Whether all of them are [unchanged](Watched::unchanged).
pub fn all_unchanged(files: &[Watched]) -> bool {
    files.iter().all(Watched::unchanged)
}

/// Digests and structure of files, remembered while their stats stay the same. Shared by all tools of a run.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    digests: Mutex<HashMap<PathBuf, (Stat, Digest)>>,
    objects: Mutex<HashMap<PathBuf, (Stat, Object)>>,
    loader_cache: Mutex<Option<(Stat, Arc<LoaderCache>)>>,
}

/// What a file is to whoever executes it.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    /// A program or library for the loader.
    Elf(Arc<Elf>),
    /// A script: what follows `#!`, without the line's end.
    Script(Arc<str>),
    /// Anything else.
    Other,
}

/// The text after `#!` beyond which Linux does not look (BINPRM_BUF_SIZE).
const INTERPRETER_LIMIT: usize = 256;

impl Contents {
    /// Takes over the digests of an earlier identity.
    pub(crate) fn remember(&self, files: &[Watched]) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        for watched in files {
            if let Seen::File {
                stat: Some(stat),
                digest,
            } = &watched.seen
            {
                digests.insert(watched.path.clone(), (*stat, *digest));
            }
        }
    }

    fn digest(&self, path: &Path) -> io::Result<(Option<Stat>, Digest)> {
        let reading = now();
        let mut file = open(path)?;
        let stat = Stat::of(&rustix::fs::fstat(&file)?);
        let digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, digest)) = digests.get(path).filter(|(known, _)| *known == stat) {
            return Ok((Some(*known), *digest));
        }
        drop(digests);
        let (digest, _) = digest_of(&mut file, stat.size)?;
        let same = Stat::of(&rustix::fs::fstat(&file)?) == stat && stat.settled(reading);
        if same {
            let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
            digests.insert(path.to_owned(), (stat, digest));
        }
        Ok((same.then_some(stat), digest))
    }

    pub(crate) fn object(&self, path: &Path) -> io::Result<Object> {
        use super::elf::Bytes;
        let file = open(path)?;
        let reading = now();
        let stat = Stat::of(&rustix::fs::fstat(&file)?);
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, object)) = objects.get(path).filter(|(known, _)| *known == stat) {
            return Ok(object.clone());
        }
        drop(objects);
        let start = file.up_to(0, INTERPRETER_LIMIT);
        let object = match start.strip_prefix(b"#!") {
            Some(rest) => {
                let line = rest
                    .split(|byte| *byte == b'\n' || *byte == 0)
                    .next()
                    .unwrap_or_default();
                Object::Script(String::from_utf8_lossy(line).trim().into())
            }
            None => match Elf::parse(&file) {
                Ok(Some(elf)) => Object::Elf(Arc::new(elf)),
                Ok(None) | Err(_) => Object::Other,
            },
        };
        if stat.settled(reading) {
            let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            objects.insert(path.to_owned(), (stat, object.clone()));
        }
        Ok(object)
    }
}

/// Collects what one identity is made of.
pub(crate) struct Evidence<'a> {
    pub(crate) contents: &'a Contents,
    seen: BTreeMap<PathBuf, Seen>,
}

/// As the kernel does.
const LINK_LIMIT: usize = 40;

impl<'a> Evidence<'a> {
    pub(crate) fn new(contents: &'a Contents) -> Self {
        Self {
            contents,
            seen: BTreeMap::new(),
        }
    }

    pub(crate) fn finish(self) -> Vec<Watched> {
        self.seen
            .into_iter()
            .map(|(path, seen)| Watched { path, seen })
            .collect()
    }

    /// Follows every symlink of an absolute path, in directories too; `None` if nothing is there.
    pub(crate) fn resolve(&mut self, path: &Path) -> Result<Option<PathBuf>, ToolError> {
        let mut rest: Vec<OsString> = reversed(path);
        let mut found = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                found.pop();
                continue;
            }
            found.push(name);
            match lstat(&found) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(ToolError::Loop {
                            path: path.to_owned(),
                        });
                    }
                    let target = read_link(&found).map_err(|errno| unreadable(&found, errno))?;
                    rest.extend(reversed(&target));
                    let link = found.clone();
                    match target.is_absolute() {
                        true => found = PathBuf::from("/"),
                        false => _ = found.pop(),
                    }
                    self.seen.insert(link, Seen::Link { target });
                }
                Ok(stat)
                    if !rest.is_empty() && FileType::from_raw_mode(stat.st_mode) != FileType::Directory =>
                {
                    self.passed(&found);
                    return Ok(None);
                }
                Ok(_) => {}
                Err(errno) if is_absent(errno) => {
                    self.seen.insert(found, Seen::Absent);
                    return Ok(None);
                }
                Err(errno) => return Err(unreadable(&found, errno)),
            }
        }
        Ok(Some(found))
    }

    /// The resolved path of a file that may be executed; `None` if there is none.
    pub(crate) fn executable(&mut self, path: &Path) -> Result<Option<PathBuf>, ToolError> {
        let Some(resolved) = self.resolve(path)? else {
            return Ok(None);
        };
        let fit = lstat(&resolved).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0
        });
        if !fit {
            self.passed(&resolved);
        }
        Ok(fit.then_some(resolved))
    }

    /// Notes that `path` was looked at and not taken.
    pub(crate) fn passed(&mut self, path: &Path) {
        let reading = now();
        let stat = lstat(path)
            .ok()
            .map(|stat| Stat::of(&stat))
            .filter(|stat| stat.settled(reading));
        self.seen.entry(path.to_owned()).or_insert(Seen::Passed { stat });
    }

    /// The digest of a resolved file.
    pub(crate) fn digest(&mut self, resolved: &Path) -> Result<Digest, ToolError> {
        if let Some(Seen::File { digest, .. }) = self.seen.get(resolved) {
            return Ok(*digest);
        }
        let (stat, digest) = self
            .contents
            .digest(resolved)
            .map_err(|source| ToolError::Unreadable {
                path: resolved.to_owned(),
                source,
            })?;
        self.seen.insert(resolved.to_owned(), Seen::File { stat, digest });
        Ok(digest)
    }

    /// The whole text of a small file; `None` if there is none.
    pub(crate) fn text(&mut self, path: &Path) -> Result<Option<String>, ToolError> {
        let Some(resolved) = self.resolve(path)? else {
            return Ok(None);
        };
        if lstat(&resolved).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile) {
            self.passed(&resolved);
            return Ok(None);
        }
        self.digest(&resolved)?;
        match std::fs::read(&resolved) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(source) => Err(ToolError::Unreadable {
                path: resolved,
                source,
            }),
        }
    }

    /// The sorted names in a directory; `None` if there is none.
    pub(crate) fn names(&mut self, path: &Path) -> Result<Option<Vec<OsString>>, ToolError> {
        let Some(resolved) = self.resolve(path)? else {
            return Ok(None);
        };
        let reading = now();
        let before = lstat(&resolved).map_err(|errno| unreadable(&resolved, errno))?;
        if FileType::from_raw_mode(before.st_mode) != FileType::Directory {
            self.passed(&resolved);
            return Ok(None);
        }
        let names = std::fs::read_dir(&resolved).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect()
        });
        let mut names: Vec<OsString> = names.map_err(|source| ToolError::Unreadable {
            path: resolved.clone(),
            source,
        })?;
        names.sort_unstable();
        let stat = Some(Stat::of(&before)).filter(|stat| {
            stat.settled(reading) && lstat(&resolved).is_ok_and(|after| Stat::of(&after) == *stat)
        });
        self.seen.insert(resolved, Seen::Directory { stat });
        Ok(Some(names))
    }

    /// Names and contents of all below a directory but what `skip` names, in a fixed order; `None` if there is none.
    pub(crate) fn tree(&mut self, path: &Path, skip: &[&str]) -> Result<Option<Digest>, ToolError> {
        let Some(names) = self.names(path)? else {
            return Ok(None);
        };
        let mut hasher = blake3::Hasher::new();
        for name in names
            .iter()
            .filter(|name| !skip.iter().any(|skipped| *name == skipped))
        {
            let below = path.join(name);
            let Ok(found) = lstat(&below) else {
                continue;
            };
            let (mark, digest) = match FileType::from_raw_mode(found.st_mode) {
                FileType::Symlink => {
                    let target = read_link(&below).map_err(|errno| unreadable(&below, errno))?;
                    let digest = Digest::of(target.as_os_str().as_bytes());
                    self.seen.insert(below, Seen::Link { target });
                    (b"l", digest)
                }
                FileType::Directory => (b"d", self.tree(&below, skip)?.unwrap_or(Digest::of(b""))),
                FileType::RegularFile => {
                    // Watched under its resolved name, as everything is.
                    let Some(resolved) = self.resolve(&below)? else {
                        continue;
                    };
                    (b"f", self.digest(&resolved)?)
                }
                _ => continue,
            };
            hasher
                .update(&(name.len() as u64).to_le_bytes())
                .update(name.as_bytes());
            hasher.update(mark).update(digest.as_bytes());
        }
        Ok(Some(hasher.finalize().into()))
    }

    /// The loader's cache; empty if there is none.
    pub(crate) fn loader_cache(&mut self) -> Result<Arc<LoaderCache>, ToolError> {
        const PLACE: &str = "/etc/ld.so.cache";
        let Some(resolved) = self.resolve(Path::new(PLACE))? else {
            return Ok(Arc::default());
        };
        self.digest(&resolved)?;
        let stat = lstat(&resolved)
            .map(|stat| Stat::of(&stat))
            .map_err(|errno| unreadable(&resolved, errno))?;
        let mut remembered = self
            .contents
            .loader_cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cache)) = remembered.as_ref().filter(|(known, _)| *known == stat) {
            return Ok(cache.clone());
        }
        let bytes = std::fs::read(&resolved).map_err(|source| ToolError::Unreadable {
            path: resolved,
            source,
        })?;
        let cache = Arc::new(LoaderCache::parse(&bytes));
        *remembered = Some((stat, cache.clone()));
        Ok(cache)
    }
}

/// Opens a file for reading, and nothing that could block or never end.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file")),
    }
}

pub(crate) fn lstat(path: &Path) -> Result<rustix::fs::Stat, Errno> {
    rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn read_link(path: &Path) -> Result<PathBuf, Errno> {
    let target = rustix::fs::readlinkat(CWD, path, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Nothing is there for whoever executes or loads: such places are passed over.
fn is_absent(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::NAMETOOLONG
    )
}

fn unreadable(path: &Path, errno: Errno) -> ToolError {
    ToolError::Unreadable {
        path: path.to_owned(),
        source: errno.into(),
    }
}

/// The components of a path, last one first, without the root.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.collect()
}
