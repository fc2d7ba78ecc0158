//! Putting blobs where somebody wants them.
//!
//! Blocks are shared where the file system can (`FICLONE`), else bytes are copied. Hard links are made only for
//! callers that can promise that nobody writes through them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::blob::Blob;
use crate::error::Scarcity;

/// How a blob gets to its place. Where the first means fails for reasons of the file system, the next one is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Sharing blocks, else copying.
    Reflink,
    /// Copying only.
    CopyOnly,
    /// A hard link to the store's own file, else sharing blocks, else copying. Only for places that nobody can
    /// write to. The mode is the store's: 0444 or 0555.
    LinkReadOnly,
}

/// How a blob got to its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// Its blocks are shared with the store's file.
    Reflinked,
    /// Its bytes were copied.
    Copied,
    /// It is the store's file.
    Linked,
}

/// Why a blob is not in its place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The store's file is gone: it has to be made again.
    #[error("read the blob '{path}': it is gone")]
    Gone {
        /// The store's file.
        path: PathBuf,
    },
    /// No space is left where it was to go.
    #[error("write '{path}': no space is left on the file system ({full})")]
    Full {
        /// Its place.
        path: PathBuf,
        /// What ran out.
        full: Scarcity,
    },
    /// Something else failed.
    #[error("write '{path}': {source}")]
    Io {
        /// Its place.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Puts a blob at `destination`, which must not exist yet while its directory does, with these permission bits
/// (setuid, setgid and sticky are left out).
///
/// # Errors
/// [`PlaceError`]; nothing is left at `destination` then, unless something was there before.
pub fn place(source: &Blob, destination: &Path, how: Placement, mode: u32) -> Result<Placed, PlaceError> {
    let result = match source {
        Blob::Inline(bytes) => write(bytes, destination, mode).map(|()| Placed::Copied),
        Blob::File(file) => match how {
            Placement::LinkReadOnly => link(file, destination, mode),
            Placement::Reflink => copy(file, destination, mode, true),
            Placement::CopyOnly => copy(file, destination, mode, false),
        },
    };
    result.map_err(|error| explain(error, source, destination))
}

fn write(bytes: &[u8], destination: &Path, mode: u32) -> io::Result<()> {
    let mut file = create(destination, mode)?;
    file.write_all(bytes)
        .and_then(|()| set_mode(&file, mode))
        .inspect_err(|_| drop(fs::remove_file(destination)))
}

fn link(file: &Path, destination: &Path, mode: u32) -> io::Result<Placed> {
    match fs::hard_link(file, destination) {
        Ok(()) => Ok(Placed::Linked),
        // Too many links (EMLINK), another file system (EXDEV), no links there at all (EPERM, EOPNOTSUPP).
        Err(error) => match error.kind() {
            io::ErrorKind::TooManyLinks
            | io::ErrorKind::CrossesDevices
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::Unsupported => copy(file, destination, mode, true),
            _ => Err(error),
        },
    }
}

fn copy(file: &Path, destination: &Path, mode: u32, share: bool) -> io::Result<Placed> {
    let mut from = File::open(file)?;
    let mut to = create(destination, mode)?;
    let copied = if share && share_blocks(&from, &to) {
        Ok(Placed::Reflinked)
    } else {
        io::copy(&mut from, &mut to).map(|_| Placed::Copied)
    };
    copied
        .and_then(|placed| set_mode(&to, mode).map(|()| placed))
        .inspect_err(|_| drop(fs::remove_file(destination)))
}

fn create(destination: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode & 0o777)
        .open(destination)
}

/// Sets what the umask has taken away; costs nothing where it took nothing.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    let mode = mode & 0o777;
    // No usual umask touches the owner's bits.
    if mode & 0o077 == 0 || umask_leaves(mode) {
        return Ok(());
    }
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// Whether this process's umask leaves a mode as it is. Read once: asking means setting, which races.
fn umask_leaves(mode: u32) -> bool {
    static UMASK: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    let umask = *UMASK.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok())
            .unwrap_or(0o777)
    });
    mode & umask == 0
}

/// Makes `to` share the blocks of `from`; false where the file systems cannot, which is no error.
#[cfg(target_os = "linux")]
pub(crate) fn share_blocks(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// Makes `to` share the blocks of `from`; not here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn share_blocks(_from: &File, _to: &File) -> bool {
    false
}

fn explain(error: io::Error, source: &Blob, destination: &Path) -> PlaceError {
    let path = destination.to_owned();
    match (error.kind(), source) {
        (io::ErrorKind::StorageFull, _) => PlaceError::Full {
            full: crate::error::scarcity(&path),
            path,
        },
        (io::ErrorKind::QuotaExceeded, _) => PlaceError::Full {
            full: Scarcity::Quota,
            path,
        },
        (io::ErrorKind::NotFound, Blob::File(file)) if !file.exists() => {
            PlaceError::Gone { path: file.clone() }
        }
        _ => PlaceError::Io { path, source: error },
    }
}
