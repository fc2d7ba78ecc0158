//! Small files that are removed at the end of the run instead of at once.
//!
//! ext4 without a journal (usual in small virtual machines) does not use the number of a file again for minutes after
//! it was removed, and looks at each such file whenever another one is made: after a thousand removals, making a file
//! takes ten times as long (`recently_deleted` in `fs/ext4/ialloc.c`). Moving a file costs as much as removing it.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, FlockOperation};

use super::{is_same, make, open_directory, sweep};

/// Files that are kept at most.
const MOST: u32 = 20_000;

/// Bytes of a file that is worth keeping for a while.
const SMALL: i64 = 16 * 1024;

/// Begins the names of such directories.
const PREFIX: &str = "trash-";

/// A directory of files that nobody needs.
#[derive(Debug)]
pub(in crate::executor) struct Trash {
    path: PathBuf,
    directory: OwnedFd,
    count: AtomicU32,
}

impl Trash {
    /// A trash beside the sandboxes in `parent`, where it pays. Removes those of processes that were killed.
    pub(in crate::executor) fn open(parent: &Path) -> Option<Self> {
        if !pays(parent) {
            return None;
        }
        remove_abandoned(parent);
        let path = parent.join(format!("{PREFIX}{}", super::super::unique::name()));
        make(CWD, &path).ok()?;
        let directory = open_directory(CWD, &path).ok()?;
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
        Some(Self {
            path,
            directory,
            count: AtomicU32::new(0),
        })
    }

    /// Takes a file out of a directory; false when it has to be removed.
    pub(super) fn take(&self, from: &OwnedFd, name: &CStr) -> bool {
        let is_small = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_size <= SMALL && stat.st_nlink == 1);
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        is_small
            && number < MOST
            && rustix::fs::renameat(from, name, &self.directory, number.to_string()).is_ok()
    }

    /// Removes all of it.
    pub(in crate::executor) fn remove(self) {
        if sweep::empty(&self.directory).is_ok() {
            let _ = rustix::fs::rmdir(&self.path);
        }
    }
}

/// Whether a directory lies on ext4 without a journal.
#[cfg(target_os = "linux")]
fn pays(directory: &Path) -> bool {
    const EXT4: rustix::fs::FsWord = 0xEF53;
    let is_ext4 = rustix::fs::statfs(directory).is_ok_and(|stat| stat.f_type == EXT4);
    let Some(stat) = rustix::fs::stat(directory).ok().filter(|_| is_ext4) else {
        return false;
    };
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let device = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"));
    let Some(device) = device
        .ok()
        .and_then(|path| path.file_name().map(ToOwned::to_owned))
    else {
        return false;
    };
    let device = device.to_string_lossy();
    // One entry for each journal: `<device>-<inode>`, or the name of a device that is one.
    let Ok(journals) = std::fs::read_dir("/proc/fs/jbd2") else {
        return false;
    };
    !journals.flatten().any(|journal| {
        let journal = journal.file_name().to_string_lossy().into_owned();
        journal.split('-').next() == Some(&*device)
    })
}

/// Whether a directory lies on ext4 without a journal.
#[cfg(not(target_os = "linux"))]
fn pays(_directory: &Path) -> bool {
    false
}

fn remove_abandoned(parent: &Path) {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| {
        entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
    }) {
        let Ok(directory) = open_directory(CWD, entry.path()) else {
            continue;
        };
        let is_free = rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_free && is_same(&entry.path(), &directory) == Ok(true) && sweep::empty(&directory).is_ok() {
            let _ = rustix::fs::rmdir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: PathBuf) -> Trash {
        make(CWD, &path).unwrap();
        let directory = open_directory(CWD, &path).unwrap();
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).unwrap();
        Trash {
            path,
            directory,
            count: AtomicU32::new(0),
        }
    }

    #[test]
    fn small_files_are_taken_until_the_end() {
        let parent = tempfile::tempdir().unwrap();
        let trash = at(parent.path().join("trash-1"));
        let from = open_directory(CWD, parent.path()).unwrap();
        std::fs::write(parent.path().join("small"), "x").unwrap();
        std::fs::write(parent.path().join("large"), vec![0; 100_000]).unwrap();
        assert!(trash.take(&from, c"small"));
        assert!(!trash.take(&from, c"large"));
        assert!(!trash.take(&from, c"none"));
        assert!(!parent.path().join("small").exists());
        trash.remove();
        assert!(!parent.path().join("trash-1").exists());
    }

    #[test]
    fn trash_of_the_dead_is_removed_and_that_of_the_living_stays() {
        let parent = tempfile::tempdir().unwrap();
        let trash = at(parent.path().join("trash-1"));
        std::fs::create_dir_all(parent.path().join("trash-2")).unwrap();
        std::fs::write(parent.path().join("trash-2/0"), "").unwrap();
        remove_abandoned(parent.path());
        assert!(trash.path.exists());
        assert!(!parent.path().join("trash-2").exists());
    }
}
