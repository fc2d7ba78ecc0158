//! Small files that are used again, and removed at the end of the run instead of at once.
//!
//! ext4 without a journal (usual in small virtual machines) does not use the number of a file again for minutes after
//! it was removed, and looks at each such file whenever another one is made: after a thousand removals, making a file
//! takes ten times as long (`recently_deleted` in `fs/ext4/ialloc.c`). Moving a file costs as much as removing it, and no
//! file is made or removed while a moved one can be used for the next input.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};

use super::{is_same, make, open_directory, sweep};

/// Files that are kept at most.
const MOST: usize = 20_000;

/// Bytes of a file that is worth keeping for a while.
const SMALL: i64 = 16 * 1024;

/// Begins the names of such directories.
const PREFIX: &str = "trash-";

/// A directory of files that nobody needs.
#[derive(Debug)]
pub(in crate::executor) struct Trash {
    path: PathBuf,
    directory: OwnedFd,
    /// User and group of what is made here.
    owner: (u32, u32),
    next: AtomicU32,
    /// Numbers of the files that are there.
    files: Mutex<Vec<u32>>,
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
        Self::new(path, directory)
    }

    fn new(path: PathBuf, directory: OwnedFd) -> Option<Self> {
        rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).ok()?;
        let stat = rustix::fs::fstat(&directory).ok()?;
        Some(Self {
            path,
            directory,
            owner: (stat.st_uid, stat.st_gid),
            next: AtomicU32::new(0),
            files: Mutex::default(),
        })
    }

    fn files(&self) -> MutexGuard<'_, Vec<u32>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a file out of a directory; false when it has to be removed.
    pub(super) fn take(&self, from: &OwnedFd, name: &CStr) -> bool {
        let is_small = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_size <= SMALL && stat.st_nlink == 1);
        if !is_small || self.files().len() >= MOST {
            return false;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let is_taken = rustix::fs::renameat(from, name, &self.directory, number.to_string()).is_ok();
        if is_taken {
            self.files().push(number);
        }
        is_taken
    }

    /// Puts a file with this mode at a path where nothing is; `None` where none can be had. The caller writes `size` bytes, from the
    /// start: until then it has others.
    ///
    /// It is not emptied first: ext4 writes a file to the disk when it is closed after that.
    /// Whoever had it before has ended: nobody has it open.
    pub(in crate::executor) fn file(
        &self,
        at: &OwnedFd,
        path: &str,
        mode: Mode,
        size: u64,
    ) -> Option<OwnedFd> {
        let number = self.files().pop()?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(&self.directory, number.to_string(), at, path, flags).ok()?;
        let file = self.cut(at, path, mode, size);
        if file.is_none() {
            // Then one is made in its place.
            let _ = rustix::fs::unlinkat(at, path, AtFlags::empty());
        }
        file
    }

    /// Opens a file, cut to at most `size` bytes; `None` when anything about it is unusual.
    fn cut(&self, at: &OwnedFd, path: &str, mode: Mode, size: u64) -> Option<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let before = rustix::fs::statat(at, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if before.st_mode & 0o200 == 0 {
            // Only its owner's own sandboxes are here, and the mode is set below.
            rustix::fs::chmodat(at, path, Mode::RUSR | Mode::WUSR, AtFlags::empty()).ok()?;
        }
        let file = rustix::fs::openat(at, path, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_usual = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()
            && stat.st_nlink == 1
            && (stat.st_uid, stat.st_gid) == self.owner
            && !sweep::has_attributes(&file);
        if !is_usual {
            return None;
        }
        if u64::try_from(stat.st_size).ok()? > size {
            rustix::fs::ftruncate(&file, size).ok()?;
        }
        if Mode::from_raw_mode(stat.st_mode) != mode {
            rustix::fs::fchmod(&file, mode).ok()?;
        }
        Some(file)
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
        Trash::new(path, directory).unwrap()
    }

    #[test]
    fn files_are_used_again_as_if_they_were_new() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let trash = at(parent.path().join("trash-1"));
        let from = open_directory(CWD, parent.path()).unwrap();
        let mode = Mode::from_raw_mode(0o644);
        assert!(trash.file(&from, "none", mode, 1).is_none(), "there is none yet");
        let old = parent.path().join("old");
        let permissions = |bits| std::fs::Permissions::from_mode(bits);
        for (bits, text) in [
            (0o600, "text"),
            (0o444, "read-only"),
            (0o755, ""),
            (0o4755, "set-user-id"),
        ] {
            std::fs::write(&old, text).unwrap();
            std::fs::set_permissions(&old, permissions(bits)).unwrap();
            assert!(trash.take(&from, c"old"));
            let file = trash.file(&from, "new", mode, 2).unwrap();
            rustix::io::write(&file, b"xy").unwrap();
            let new = parent.path().join("new");
            assert_eq!(std::fs::read(&new).unwrap(), b"xy");
            assert_eq!(
                std::fs::metadata(&new).unwrap().permissions(),
                permissions(0o100_644)
            );
            std::fs::remove_file(new).unwrap();
        }
    }

    #[test]
    fn a_file_with_another_name_is_not_used_again() {
        let parent = tempfile::tempdir().unwrap();
        let trash = at(parent.path().join("trash-1"));
        let from = open_directory(CWD, parent.path()).unwrap();
        std::fs::write(parent.path().join("old"), "kept").unwrap();
        assert!(trash.take(&from, c"old"));
        std::fs::hard_link(parent.path().join("trash-1/0"), parent.path().join("elsewhere")).unwrap();
        assert!(trash.file(&from, "new", Mode::from_raw_mode(0o644), 1).is_none());
        assert_eq!(std::fs::read(parent.path().join("elsewhere")).unwrap(), b"kept");
        assert!(!parent.path().join("new").exists());
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
