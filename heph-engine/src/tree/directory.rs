//! Reading one directory.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use heph_common::Digest;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::{DirStat, Entry, Kind, Listing, Tree, WORKSPACE_MARK, join};
use crate::stat::{Stat, now};

impl Tree {
    pub(super) fn read(&self, dir: &str) -> io::Result<Listing> {
        let descriptor = open(self.root(), dir)?;
        // Before the entries are read: what changes later must not look as if it had been seen.
        let reading = now();
        let stat = Stat::of(&rustix::fs::fstat(&descriptor)?);
        let stat = DirStat {
            stat,
            settled: stat.settled(reading),
        };
        let mut entries = Vec::new();
        let mut escaped = Vec::new();
        let mut foreign = false;
        for entry in Dir::read_from(&descriptor)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    match rustix::fs::statat(&descriptor, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) => kind(FileType::from_raw_mode(stat.st_mode)),
                        Err(rustix::io::Errno::NOENT) => continue,
                        Err(error) => return Err(error.into()),
                    }
                }
                known => kind(known),
            };
            let Ok(name) = str::from_utf8(bytes) else {
                escaped.push(Entry {
                    name: bytes.escape_ascii().to_string().into(),
                    kind,
                });
                continue;
            };
            foreign |= name == WORKSPACE_MARK && !dir.is_empty();
            if kind == Kind::Directory && self.is_pruned(&join(dir, name)) || name == ".git" {
                continue;
            }
            entries.push(Entry {
                name: name.into(),
                kind,
            });
        }
        entries.sort_unstable();
        entries.shrink_to_fit();
        escaped.sort_unstable();
        Ok(Listing {
            digest: digest(&entries, &escaped, foreign),
            stat,
            entries,
            escaped,
            foreign,
        })
    }
}

fn digest(entries: &[Entry], escaped: &[Entry], foreign: bool) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for entry in entries.iter().chain(escaped) {
        hasher
            .update(entry.name.as_bytes())
            .update(&[0, entry.kind as u8]);
    }
    hasher.update(&[u8::from(foreign)]);
    hasher.finalize().into()
}

/// Opens a directory without following a symbolic link anywhere below the root.
fn open(root: &Path, dir: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    if !dir.is_empty() {
        use rustix::fs::ResolveFlags;
        let base = rustix::fs::open(root, OFlags::PATH | flags, Mode::empty())?;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(base, dir, flags, Mode::empty(), resolve) {
            // A kernel or a filter that has no openat2.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {}
            Err(rustix::io::Errno::LOOP) => return Err(rustix::io::Errno::NOTDIR.into()),
            opened => return Ok(opened?),
        }
    }
    let mut descriptor = rustix::fs::open(root, flags, Mode::empty())?;
    for name in dir.split('/').filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name.as_bytes());
        descriptor = rustix::fs::openat(&descriptor, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(descriptor)
}

/// What a directory is now.
pub(super) fn stat(path: &Path) -> Option<Stat> {
    let stat = rustix::fs::lstat(path).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::Directory).then(|| Stat::of(&stat))
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}
