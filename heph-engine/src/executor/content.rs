//! Putting bytes into files, by the cheapest means that the file systems allow.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use heph_common::digest::Digest;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use super::place::Trash;

/// Files up to this size are read whole; cloning pays above.
const SMALL: u64 = 128 * 1024;

/// Bytes moved at a time.
const CHUNK: usize = 256 * 1024;

/// How a file that was to be copied turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// The copy has the digest.
    Verified,
    /// The file has other bytes than expected, or is none.
    Differs,
}

/// Creates a file, from what another sandbox no longer needs where there is such. The caller has to write `size` bytes: until then
/// it may have others.
pub(super) fn create_or_reuse(
    trash: Option<&Trash>,
    at: &OwnedFd,
    path: &str,
    mode: Mode,
    size: u64,
) -> Result<OwnedFd> {
    match trash.and_then(|trash| trash.file(at, path, mode, size)) {
        Some(file) => Ok(file),
        None => create(at, path, mode),
    }
}

/// Creates a file that does not exist yet, with exactly this mode.
pub(super) fn create(at: impl AsFd, path: &str, mode: Mode) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, path, flags, mode)?;
    if super::umask::takes_from(mode) {
        rustix::fs::fchmod(&file, mode)?;
    }
    Ok(file)
}

pub(super) fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Fills `to` with the bytes of the file at `source`, provided that they have `digest` and `size`.
///
/// What is compared is what was written, so a file that changes meanwhile is noticed.
pub(super) fn copy_verified(
    source: &Path,
    to: &OwnedFd,
    digest: &[u8],
    size: u64,
) -> std::result::Result<Copied, CopyError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = match rustix::fs::open(source, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => return Ok(Copied::Differs),
        result => File::from(result.map_err(CopyError::Read)?),
    };
    let stat = rustix::fs::fstat(&from).map_err(CopyError::Read)?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    if !is_file || u64::try_from(stat.st_size) != Ok(size) {
        return Ok(Copied::Differs);
    }
    let expected = Digest::from_slice(digest);
    if size > SMALL && clone_file(&from, to) {
        let copy = reopen(to).map_err(CopyError::Write)?;
        let found = digest_of(copy).map_err(CopyError::Write)?;
        return Ok(verdict(expected, found));
    }
    let mut hasher = blake3::Hasher::new();
    let capacity = if size > SMALL {
        CHUNK
    } else {
        usize::try_from(size).unwrap_or(CHUNK) + 1
    };
    let mut buffer = vec![0; capacity];
    let mut from = from;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(super::stop::errno(&error))),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        hasher.update(bytes);
        write_all(to, bytes).map_err(CopyError::Write)?;
    }
    Ok(verdict(expected, hasher.finalize().into()))
}

fn verdict(expected: Option<Digest>, found: Digest) -> Copied {
    if expected == Some(found) {
        Copied::Verified
    } else {
        Copied::Differs
    }
}

/// Which side of a copy failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum CopyError {
    /// The source could not be read.
    Read(Errno),
    /// The copy could not be written.
    Write(Errno),
}

/// Fills `to` with the bytes of a trusted file.
pub(super) fn copy_trusted(source: &Path, to: &OwnedFd, size: u64) -> std::result::Result<(), CopyError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let from = rustix::fs::open(source, flags, Mode::empty()).map_err(CopyError::Read)?;
    let mut from = File::from(from);
    if size > SMALL && clone_file(&from, to) {
        return Ok(());
    }
    let mut to = File::from(
        to.try_clone()
            .map_err(|error| CopyError::Write(super::stop::errno(&error)))?,
    );
    // Uses the kernel's own copying where there is one.
    match std::io::copy(&mut from, &mut to) {
        Ok(copied) if copied == size => Ok(()),
        Ok(_) => Err(CopyError::Read(Errno::IO)),
        Err(error) => Err(CopyError::Write(super::stop::errno(&error))),
    }
}

/// Shares the blocks of a file; false where the file system cannot.
#[cfg(target_os = "linux")]
pub(super) fn clone_file(from: impl AsFd, to: impl AsFd) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// Shares the blocks of a file; false where the file system cannot.
#[cfg(not(target_os = "linux"))]
pub(super) fn clone_file(_from: impl AsFd, _to: impl AsFd) -> bool {
    false
}

/// The digest of everything from the current position on.
pub(super) fn digest_of(mut file: File) -> Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(super::stop::errno(&error)),
        };
    }
}

/// Opens the file behind a descriptor once more, for reading.
fn reopen(file: &OwnedFd) -> Result<File> {
    use std::os::fd::AsRawFd as _;
    let path = format!("/dev/fd/{}", file.as_raw_fd());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(File::from)
}
