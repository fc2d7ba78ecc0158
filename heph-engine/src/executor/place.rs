//! The directory of one sandbox: claimed by one process at a time, empty when it is claimed.
//!
//! Directories are costly to make and to remove, so those of a sandbox that did its work are swept and used again under
//! another name, as long as nothing about them is unusual.

mod sweep;
mod trash;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, Result};

pub(super) use trash::Trash;

/// A claimed directory with `ws`, `tmp`, `home` and `list` in it. The claim ends with the process, whatever happens to it.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    top: OwnedFd,
    ws: OwnedFd,
    tmp: OwnedFd,
    home: OwnedFd,
    /// Files that list inputs, for commands that ask for them.
    list: OwnedFd,
    /// Directories below `ws`; all the others of this value are implied.
    directories: BTreeSet<String>,
    stamps: Stamps,
}

/// When the directories were changed last before a command ran, and when that was: what it did not touch need not be
/// looked at again.
#[derive(Clone, Copy, Debug, Default)]
struct Stamps {
    /// Of `ws`, `tmp`, `home` and `list`: the last change of any kind.
    inner: [i64; 4],
    /// When the place was claimed.
    claimed: i64,
}

/// How often a place may turn out to be taken, or be removed by its owner at the same moment.
const TRIES: u32 = 1000;

/// Mode of every directory.
const MODE: rustix::fs::RawMode = 0o755;

impl Place {
    /// Claims `<parent>/<name>`, or `<parent>/<name>-2` and so on while another process has that, and empties it.
    pub(super) fn claim(parent: &Path, name: &str) -> Result<Self> {
        let mut number = 1;
        for _ in 0..TRIES {
            let path = match number {
                1 => parent.join(name),
                _ => parent.join(format!("{name}-{number}")),
            };
            let is_new = match make(CWD, &path) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(Errno::NOENT) => {
                    std::fs::create_dir_all(parent).map_err(|error| super::stop::errno(&error))?;
                    continue;
                }
                Err(errno) => return Err(errno),
            };
            let top = match open_directory(CWD, &path) {
                Err(Errno::NOENT) => continue,
                result => result?,
            };
            match rustix::fs::flock(&top, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    number += 1;
                    continue;
                }
                Err(errno) => return Err(errno),
            }
            // Its owner may have removed or renamed it between opening and locking.
            if !is_new {
                if !is_same(&path, &top)? {
                    continue;
                }
                sweep::empty(&top)?;
            }
            return Self::furnish(path, top);
        }
        Err(Errno::AGAIN)
    }

    fn furnish(path: PathBuf, top: OwnedFd) -> Result<Self> {
        let inner = |name: &str| -> Result<OwnedFd> {
            make(&top, name)?;
            open_directory(&top, name)
        };
        let (ws, tmp, home, list) = (inner("ws")?, inner("tmp")?, inner("home")?, inner("list")?);
        Ok(Self {
            path,
            top,
            ws,
            tmp,
            home,
            list,
            directories: BTreeSet::new(),
            stamps: Stamps {
                claimed: crate::stat::now(),
                ..Stamps::default()
            },
        })
    }

    /// Takes a spare place to another path; gives it back when there is something.
    pub(super) fn rename(mut self, path: PathBuf) -> std::result::Result<Self, Self> {
        if self.path == path {
            return Ok(self.claimed_again());
        }
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, &path, flags) {
            Ok(()) => {
                self.path = path;
                Ok(self.claimed_again())
            }
            Err(_) => Err(self),
        }
    }

    /// Begins another use under the same name.
    pub(super) fn claimed_again(mut self) -> Self {
        self.stamps.claimed = crate::stat::now();
        self
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The top directory.
    pub(super) fn top(&self) -> &OwnedFd {
        &self.top
    }

    /// The workspace as the command sees it.
    pub(super) fn ws(&self) -> &OwnedFd {
        &self.ws
    }

    /// Where files that list inputs are put.
    pub(super) fn list(&self) -> &OwnedFd {
        &self.list
    }

    /// Makes exactly these directories below `ws`. They have to contain their parents.
    ///
    /// # Errors
    ///
    /// With the path that could not be made or removed.
    pub(super) fn arrange(&mut self, wanted: BTreeSet<String>) -> std::result::Result<(), (String, Errno)> {
        // Deepest first: what is below one has been moved or removed before it.
        let mut old = self.directories.iter().rev().filter(|old| !wanted.contains(*old));
        for new in wanted.difference(&self.directories) {
            // Moving one that is empty costs less than making and removing, and its number is not lost for a while.
            match old.next() {
                Some(old) => rustix::fs::renameat(&self.ws, &**old, &self.ws, &**new),
                None => make(&self.ws, &**new),
            }
            .map_err(|errno| (new.clone(), errno))?;
        }
        for old in old {
            rustix::fs::unlinkat(&self.ws, &**old, AtFlags::REMOVEDIR)
                .map_err(|errno| (old.clone(), errno))?;
        }
        self.directories = wanted;
        Ok(())
    }

    /// Empties it for another use; `None` when it is removed instead.
    pub(super) fn recycle(mut self, trash: Option<&Trash>) -> Option<Self> {
        match sweep::sweep(&self, trash) {
            Ok(stamps) => {
                self.stamps = stamps;
                Some(self)
            }
            Err(_) => {
                self.remove();
                None
            }
        }
    }

    /// Removes it with all that is in it. What cannot be removed is left to the next claim.
    pub(super) fn remove(self) {
        if sweep::empty(&self.top).is_ok() {
            let _ = rustix::fs::rmdir(&self.path);
        }
    }
}

fn is_same(path: &Path, directory: &OwnedFd) -> Result<bool> {
    let open = rustix::fs::fstat(directory)?;
    match rustix::fs::lstat(path) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (open.st_dev, open.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Makes a directory whose mode does not depend on the user's mask.
pub(super) fn make(at: impl AsFd, path: impl rustix::path::Arg + Copy) -> Result<()> {
    let mode = Mode::from_raw_mode(MODE);
    rustix::fs::mkdirat(&at, path, mode)?;
    if super::umask::takes_from(mode) {
        rustix::fs::chmodat(&at, path, mode, AtFlags::empty())?;
    }
    Ok(())
}

pub(super) fn open_directory(at: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_place_is_claimed_once_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let first = Place::claim(parent.path(), "id").unwrap();
        let second = Place::claim(parent.path(), "id").unwrap();
        assert_eq!(second.path(), parent.path().join("id-2"));
        std::fs::write(first.path().join("ws/left"), "").unwrap();
        drop(first);
        let third = Place::claim(parent.path(), "id").unwrap();
        assert_eq!(third.path(), parent.path().join("id"));
        assert_eq!(names(&third.path().join("ws")), [""; 0]);
    }

    #[test]
    fn a_recycled_place_is_as_good_as_new() {
        let parent = tempfile::tempdir().unwrap();
        let mut place = Place::claim(parent.path(), "one").unwrap();
        let wanted = ["a", "a/b", "c"].map(str::to_owned);
        place.arrange(wanted.into_iter().collect()).unwrap();
        let path = place.path().to_owned();
        for file in [
            "log", "ws/x", "ws/a/x", "ws/a/b/x", "tmp/x", "home/.x", "list/SRC",
        ] {
            std::fs::write(path.join(file), "text").unwrap();
        }
        std::fs::create_dir_all(path.join("ws/a/new/deep")).unwrap();
        std::fs::create_dir_all(path.join("bin")).unwrap();
        std::os::unix::fs::symlink("/", path.join("tmp/root")).unwrap();
        let place = place.recycle(None).unwrap();
        let mut place = place.rename(parent.path().join("two")).unwrap();
        assert!(!path.exists());
        place.arrange(["a".to_owned()].into()).unwrap();
        let path = parent.path().join("two");
        assert_eq!(names(&path), ["home", "list", "tmp", "ws"]);
        assert_eq!(names(&path.join("ws")), ["a"]);
        for empty in ["ws/a", "tmp", "home", "list"] {
            assert_eq!(names(&path.join(empty)), [""; 0], "{empty}");
        }
    }

    #[test]
    fn unusual_directories_are_not_used_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        for changed in ["", "ws", "ws/a", "tmp", "home", "list"] {
            let mut place = Place::claim(parent.path(), "one").unwrap();
            place.arrange(["a".to_owned()].into()).unwrap();
            let path = place.path().join(changed);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
            assert!(place.recycle(None).is_none(), "{changed}");
            assert_eq!(names(parent.path()), [""; 0]);
        }
        for replaced in ["ws", "ws/a", "tmp"] {
            let mut place = Place::claim(parent.path(), "one").unwrap();
            place.arrange(["a".to_owned()].into()).unwrap();
            let path = place.path().join(replaced);
            std::fs::remove_dir_all(&path).unwrap();
            std::fs::create_dir_all(&path).unwrap();
            assert_eq!(place.recycle(None).is_some(), replaced == "ws/a", "{replaced}");
        }
    }
}
