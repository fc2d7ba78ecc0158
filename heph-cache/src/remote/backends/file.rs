//! `file`: a directory, which may be on a file system that machines share.
//!
//! An object is a file; it is written beside its place under a temporary name and renamed. Nothing is synced: what a power cut
//! damages is found by its digest when it is read. No symbolic link below the directory is followed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::upload::{blocking, piece};
use crate::remote::access::Access;
use crate::remote::backend::{
    Answer, Backend, Body, Chunks, Limits, Object, Put, PutMode, RemoteError, RemoteErrorKind,
};

/// Bytes that are read or copied at once.
const PIECE: usize = 1 << 20;
/// Requests at once where the entry names no number: disks and file servers gain little from more.
const PARALLEL: usize = 16;
/// Files are readable for everyone whom the umask lets.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
/// Directories are what the umask makes of this.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o777);

/// A directory of objects.
#[derive(Debug)]
pub(super) struct Directory {
    place: Arc<Place>,
    parallel: usize,
}

/// Where the directory is.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    /// What makes temporary names of this process different.
    count: AtomicU64,
}

impl Directory {
    /// A directory that need not exist yet: the first write creates it.
    pub(super) fn new(directory: &Path, access: &Access) -> Self {
        Self {
            place: Arc::new(Place {
                directory: directory.to_owned(),
                count: AtomicU64::new(0),
            }),
            parallel: access.parallel(PARALLEL),
        }
    }

    /// Runs `work` with this place and the object's path where it may block.
    fn run<T: Send + 'static>(
        &self,
        object: &Object,
        work: impl FnOnce(&Place, &str) -> Result<T, RemoteError> + Send + 'static,
    ) -> Answer<'_, T> {
        let (place, path) = (Arc::clone(&self.place), object.path());
        Box::pin(blocking(move || work(&place, &path)))
    }
}

impl Backend for Directory {
    fn limits(&self) -> Limits {
        Limits {
            largest: None,
            parallel: self.parallel,
            conditional: true,
            batch: 1,
        }
    }

    fn get(&self, object: &Object, limit: u64) -> Answer<'_, Option<Bytes>> {
        self.run(object, move |place, path| {
            let Some((file, size)) = place.open(path)? else {
                return Ok(None);
            };
            if size > limit {
                return Err(RemoteError::too_large(path, size, limit));
            }
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
            // One byte more than is allowed shows a file that grew.
            let mut limited = file.take(limit.saturating_add(1));
            limited
                .read_to_end(&mut bytes)
                .map_err(|error| place.error("read", path, &error))?;
            let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            match read > limit {
                true => Err(RemoteError::too_large(path, read, limit)),
                false => Ok(Some(bytes.into())),
            }
        })
    }

    fn open(&self, object: &Object, offset: u64) -> Answer<'_, Option<Body>> {
        let shared = Arc::clone(&self.place);
        let name = object.path();
        self.run(object, move |place, path| {
            let Some((file, size)) = place.open(path)? else {
                return Ok(None);
            };
            let status = file
                .metadata()
                .map_err(|error| place.error("read", path, &error))?;
            let version = format!(
                "{}-{}-{}.{:09}",
                status.ino(),
                size,
                status.mtime(),
                status.mtime_nsec()
            );
            Ok(Some(Body {
                size,
                offset,
                version: Some(version),
                chunks: chunks(shared, name, file, offset, size),
            }))
        })
    }

    fn exist(&self, objects: &[Object]) -> Answer<'_, Vec<bool>> {
        let place = Arc::clone(&self.place);
        let paths: Vec<String> = objects.iter().map(Object::path).collect();
        Box::pin(blocking(move || {
            paths.iter().map(|path| Ok(place.open(path)?.is_some())).collect()
        }))
    }

    fn put(&self, object: &Object, bytes: Bytes, mode: PutMode) -> Answer<'_, Put> {
        self.run(object, move |place, path| {
            if mode == PutMode::IfAbsent && place.open(path)?.is_some() {
                return Ok(Put::Existed);
            }
            place.write(path, mode, |file| {
                file.write_all_at(&bytes, 0)
                    .map_err(|error| place.error("write", path, &error))
            })
        })
    }

    fn put_file(&self, object: &Object, source: File, size: u64) -> Answer<'_, Put> {
        self.run(object, move |place, path| {
            place.write(path, PutMode::Replace, |file| {
                let mut offset = 0;
                while offset < size {
                    let length = usize::try_from(size - offset).map_or(PIECE, |left| left.min(PIECE));
                    let bytes = piece(&source, offset, length)?;
                    file.write_all_at(&bytes, offset)
                        .map_err(|error| place.error("write", path, &error))?;
                    offset += u64::try_from(length).unwrap_or_default();
                }
                Ok(())
            })
        })
    }

    fn delete(&self, object: &Object) -> Answer<'_, ()> {
        self.run(object, |place, path| {
            let (parents, name) = parts(path);
            let Some(parent) = place.parent(&parents, false)? else {
                return Ok(());
            };
            match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(errno) => Err(place.error("remove", path, &errno.into())),
            }
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        self.run(&Object::Probe, |place, path| place.open(path).map(drop))
    }
}

impl Place {
    /// The file of an object and its size.
    fn open(&self, path: &str) -> Result<Option<(File, u64)>, RemoteError> {
        let (parents, name) = parts(path);
        let Some(parent) = self.parent(&parents, false)? else {
            return Ok(None);
        };
        // A pipe of that name must not keep this waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&parent, name, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.error("read", path, &errno.into())),
        };
        let status = file
            .metadata()
            .map_err(|error| self.error("read", path, &error))?;
        match status.is_file() {
            true => Ok(Some((file, status.len()))),
            false => Err(RemoteError::new(
                RemoteErrorKind::Invalid,
                format!("read '{}': it is not a file", self.directory.join(path).display()),
            )),
        }
    }

    /// The directory that holds an object; `None` when it is not there and not to be made.
    fn parent(&self, parents: &[&str], create: bool) -> Result<Option<OwnedFd>, RemoteError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let shown = |depth: usize| parents.iter().take(depth).collect::<PathBuf>();
        let failed =
            |depth: usize, errno: Errno| self.error("open", &shown(depth).to_string_lossy(), &errno.into());
        let mut at = match rustix::fs::open(&self.directory, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) if !create => return Ok(None),
            Err(Errno::NOENT) => {
                std::fs::create_dir_all(&self.directory).map_err(|error| self.error("create", "", &error))?;
                rustix::fs::open(&self.directory, flags, Mode::empty()).map_err(|errno| failed(0, errno))?
            }
            Err(errno) => return Err(failed(0, errno)),
        };
        for (depth, name) in parents.iter().enumerate() {
            let open = |at: &OwnedFd| rustix::fs::openat(at, *name, flags | OFlags::NOFOLLOW, Mode::empty());
            at = match open(&at) {
                Err(Errno::NOENT) if !create => return Ok(None),
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&at, *name, DIRECTORY_MODE) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(failed(depth + 1, errno)),
                    }
                    open(&at).map_err(|errno| failed(depth + 1, errno))?
                }
                found => found.map_err(|errno| failed(depth + 1, errno))?,
            };
        }
        Ok(Some(at))
    }

    /// Makes the file of an object: `fill` writes it under a temporary name, then it gets its own.
    fn write(
        &self,
        path: &str,
        mode: PutMode,
        fill: impl FnOnce(&File) -> Result<(), RemoteError>,
    ) -> Result<Put, RemoteError> {
        let (parents, name) = parts(path);
        let Some(parent) = self.parent(&parents, true)? else {
            return Ok(Put::Existed);
        };
        let temporary = self.temporary_name(name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |errno: Errno| self.error("write", path, &errno.into());
        let file = rustix::fs::openat(&parent, &temporary, flags, FILE_MODE).map_err(failed)?;
        let remove = || rustix::fs::unlinkat(&parent, &temporary, AtFlags::empty());
        let file = File::from(file);
        if let Err(error) = fill(&file) {
            let _ = remove();
            return Err(error);
        }
        drop(file);
        if mode == PutMode::IfAbsent {
            let linked = rustix::fs::linkat(&parent, &temporary, &parent, name, AtFlags::empty());
            match linked {
                Ok(()) => {
                    let _ = remove();
                    return Ok(Put::Written);
                }
                Err(Errno::EXIST) => {
                    let _ = remove();
                    return Ok(Put::Existed);
                }
                // A file system without links: whoever comes last wins.
                Err(_) => {}
            }
        }
        rustix::fs::renameat(&parent, &temporary, &parent, name).map_err(|errno| {
            let _ = remove();
            failed(errno)
        })?;
        Ok(Put::Written)
    }

    /// Different for all processes of all machines that write here.
    fn temporary_name(&self, name: &str) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let time = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let unique = heph_common::Digest::of(
            format!("{host} {} {count} {time} {:p}", std::process::id(), self).as_bytes(),
        );
        format!(".{name}.{:016x}.tmp", unique.prefix())
    }

    fn error(&self, action: &str, path: &str, error: &io::Error) -> RemoteError {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => RemoteErrorKind::Denied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RemoteErrorKind::Full,
            io::ErrorKind::FileTooLarge => RemoteErrorKind::TooLarge,
            io::ErrorKind::NotADirectory => RemoteErrorKind::Config,
            io::ErrorKind::NotFound => RemoteErrorKind::Missing,
            io::ErrorKind::TimedOut => RemoteErrorKind::TimedOut,
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => RemoteErrorKind::Invalid,
            _ => RemoteErrorKind::Unavailable,
        };
        let place = self.directory.join(path);
        RemoteError::new(kind, format!("{action} '{}': {error}", place.display()))
    }
}

/// Directories and name of an object's file.
fn parts(path: &str) -> (Vec<&str>, &str) {
    let mut segments: Vec<&str> = path.split('/').collect();
    let name = segments.pop().unwrap_or_default();
    (segments, name)
}

/// The bytes of `file` from `offset` to `size`.
fn chunks(place: Arc<Place>, path: String, file: File, offset: u64, size: u64) -> Chunks {
    let state = (place, Arc::<str>::from(path), Arc::new(file), offset);
    Box::pin(stream::try_unfold(
        state,
        move |(place, path, file, offset)| async move {
            if offset >= size {
                return Ok(None);
            }
            let length = usize::try_from(size - offset).map_or(PIECE, |left| left.min(PIECE));
            let (source, name, at) = (Arc::clone(&file), Arc::clone(&path), Arc::clone(&place));
            let bytes = blocking(move || {
                let mut bytes = vec![0; length];
                source
                    .read_exact_at(&mut bytes, offset)
                    .map_err(|error| at.error("read", &name, &error))?;
                Ok(Bytes::from(bytes))
            })
            .await?;
            let next = offset + u64::try_from(length).unwrap_or_default();
            Ok(Some((bytes, (place, path, file, next))))
        },
    ))
}

#[cfg(test)]
mod tests;
