//! Opening files below a directory without ever leaving it, whatever links lie there.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use super::relative;

/// Opens `path` below `directory`. Links in the middle are followed while they stay below, the last part never is.
///
/// # Errors
///
/// `LOOP` when the last part is a link, `XDEV` when the way leads out of the directory.
#[cfg(target_os = "linux")]
pub(super) fn open(directory: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    use rustix::fs::ResolveFlags;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
            // A rename somewhere made the kernel unsure, or a signal came.
            Err(Errno::AGAIN | Errno::INTR) => continue,
            // Kernels before 5.6, and some containers.
            Err(Errno::NOSYS | Errno::PERM) => return open_by_parts(directory, path, flags),
            result => return result,
        }
    }
}

/// Opens `path` below `directory`. No links are followed.
///
/// # Errors
///
/// `LOOP` when the last part is a link, `XDEV` when another part is one.
#[cfg(not(target_os = "linux"))]
pub(super) fn open(directory: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open_by_parts(directory, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC)
}

fn open_by_parts(directory: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let is_plain = path
        .to_str()
        .is_none_or(|path| path == "." || relative::is_plain(path));
    if !is_plain {
        return Err(Errno::XDEV);
    }
    let middle = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at: Option<OwnedFd> = None;
    let parents = path.parent().into_iter().flat_map(Path::components);
    for part in parents {
        let here = at.as_ref().unwrap_or(directory);
        at = Some(
            match rustix::fs::openat(here, part.as_os_str(), middle, Mode::empty()) {
                Err(Errno::LOOP) => return Err(Errno::XDEV),
                // What a link is taken for when a directory is wanted.
                Err(Errno::NOTDIR) if is_link(here, part.as_os_str()) => return Err(Errno::XDEV),
                result => result?,
            },
        );
    }
    let last = path.file_name().unwrap_or_else(|| ".".as_ref());
    rustix::fs::openat(at.as_ref().unwrap_or(directory), last, flags, Mode::empty())
}

/// Opens the directory `path` below `root` without following any link; makes what is missing of it when `make`.
///
/// # Errors
///
/// `XDEV` when a part of it is a link.
pub(super) fn directory(root: &OwnedFd, path: &str, make: bool) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::io::fcntl_dupfd_cloexec(root, 0)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let opened = match rustix::fs::openat(&at, part, flags, Mode::empty()) {
            Err(Errno::NOENT) if make => {
                match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                rustix::fs::openat(&at, part, flags, Mode::empty())
            }
            result => result,
        };
        at = match opened {
            Err(Errno::LOOP) => return Err(Errno::XDEV),
            Err(Errno::NOTDIR) if is_link(&at, part.as_ref()) => return Err(Errno::XDEV),
            result => result?,
        };
    }
    Ok(at)
}

fn is_link(at: &OwnedFd, name: &std::ffi::OsStr) -> bool {
    rustix::fs::statat(at, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_is_opened() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir_all(inner.join("a")).unwrap();
        std::fs::write(inner.join("a/file"), "x").unwrap();
        std::fs::write(outer.path().join("secret"), "x").unwrap();
        symlink(outer.path(), inner.join("out")).unwrap();
        symlink("..", inner.join("up")).unwrap();
        symlink("a/file", inner.join("link")).unwrap();
        let directory = OwnedFd::from(std::fs::File::open(&inner).unwrap());
        let flags = OFlags::RDONLY;
        type Open = fn(&OwnedFd, &Path, OFlags) -> Result<OwnedFd>;
        let all: [Open; 2] = [open, |at, path, flags| {
            open_by_parts(at, path, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC)
        }];
        for open in all {
            assert!(open(&directory, Path::new("a/file"), flags).is_ok());
            let error = |path: &str| open(&directory, Path::new(path), flags).unwrap_err();
            assert_eq!(error("link"), Errno::LOOP);
            assert_eq!(error("out/secret"), Errno::XDEV);
            assert_eq!(error("up/secret"), Errno::XDEV);
            assert_eq!(error("../secret"), Errno::XDEV);
            assert_eq!(error("a/none"), Errno::NOENT);
        }
    }
}
