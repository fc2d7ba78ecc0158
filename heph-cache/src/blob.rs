//! Blobs: bytes under their digest, small ones in the index, others as files `cache/blobs/ab/<digest>`.
//!
//! A blob file is complete under its name from the first moment: it is written beside its place and renamed. It is
//! 0444, or 0555 and called `<digest>.x` where it has to be executable. It is trusted while its inode, size and
//! modification time are those that the index recorded; else its bytes are hashed again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use heph_common::Digest;

use crate::clock::Boot;
use crate::error::StoreError;
use crate::row::{self, Table};
use crate::unique;

/// Bytes that the store has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Blob {
    /// Here they are.
    Inline(Bytes),
    /// In this file of the store, which must not be changed.
    File(PathBuf),
}

/// How a blob is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Variant {
    Inline = 0,
    File = 1,
    Executable = 2,
}

impl Variant {
    /// The variant of a blob file.
    pub(crate) fn file(executable: bool) -> Self {
        if executable { Self::Executable } else { Self::File }
    }

    pub(crate) fn from_number(number: i64) -> Option<Self> {
        [Self::Inline, Self::File, Self::Executable]
            .into_iter()
            .find(|variant| *variant as i64 == number)
    }

    fn mode(self) -> u32 {
        if self == Self::Executable { 0o555 } else { 0o444 }
    }
}

/// What the index knows of a blob file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileRecord {
    pub size: u64,
    pub inode: u64,
    /// Modification time in nanoseconds since 1970.
    pub mtime: i64,
    /// The boot in which it was written, until its bytes have been seen to be on the disk.
    pub boot: Option<Boot>,
}

/// What became of a recorded file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Trust {
    /// It is as recorded.
    Trusted,
    /// It was not as recorded, but its bytes are right: this is to be recorded.
    Verified(FileRecord),
    /// It is missing, or its bytes are wrong.
    Bad,
}

impl FileRecord {
    fn of(metadata: &fs::Metadata, boot: Option<Boot>) -> Self {
        let seconds = metadata.mtime().saturating_mul(1_000_000_000);
        Self {
            size: metadata.size(),
            inode: metadata.ino(),
            mtime: seconds.saturating_add(metadata.mtime_nsec()),
            boot,
        }
    }

    /// Checksum of the record under its blob's name.
    pub(crate) fn checksum(&self, digest: &Digest, variant: Variant) -> [u8; row::CHECKSUM] {
        row::checksum(
            Table::File,
            &[
                digest.as_bytes(),
                &[variant as u8],
                &self.size.to_le_bytes(),
                &self.inode.to_le_bytes(),
                &self.mtime.to_le_bytes(),
                self.boot.as_ref().map_or(&[], |boot| boot.as_bytes()),
            ],
        )
    }
}

/// The directory of blob files.
#[derive(Debug)]
pub(crate) struct BlobFiles {
    root: PathBuf,
    boot: Boot,
}

impl BlobFiles {
    pub(crate) fn new(cache: &Path, boot: Boot) -> Result<Self, StoreError> {
        let root = cache.join("blobs");
        fs::create_dir_all(&root).map_err(|error| StoreError::io("create", &root, error))?;
        Ok(Self { root, boot })
    }

    /// One of the 256 directories, by the first byte of the digests in it.
    pub(crate) fn directory(&self, first: u8) -> PathBuf {
        self.root.join(format!("{first:02x}"))
    }

    pub(crate) fn has_directory(&self, first: u8) -> bool {
        self.directory(first).is_dir()
    }

    /// Where a blob's file is.
    pub(crate) fn path(&self, digest: &Digest, variant: Variant) -> PathBuf {
        let hex = digest.to_hex();
        let mut path = self.root.join(hex.get(..2).unwrap_or_default());
        path.push(&hex);
        if variant == Variant::Executable {
            path.as_mut_os_string().push(".x");
        }
        path
    }

    /// Which blob a file in the directory is, by its name.
    pub(crate) fn parse(name: &str) -> Option<(Digest, Variant)> {
        let (hex, variant) = match name.strip_suffix(".x") {
            Some(hex) => (hex, Variant::Executable),
            None => (name, Variant::File),
        };
        Some((hex.parse().ok()?, variant))
    }

    /// Compares a file with its record; hashes it where they differ, or where a power cut may have come between.
    pub(crate) fn check(&self, digest: &Digest, variant: Variant, record: &FileRecord) -> Trust {
        let path = self.path(digest, variant);
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            return Trust::Bad;
        };
        let found = FileRecord::of(&metadata, record.boot);
        let durable = record.boot.is_none_or(|boot| boot == self.boot);
        if found == *record && durable {
            return Trust::Trusted;
        }
        if !metadata.is_file() || metadata.size() != record.size {
            return Trust::Bad;
        }
        match self.verify(&path, digest, metadata.len()) {
            // What an earlier boot wrote and this one read came from the disk.
            Some(_) if !durable && found == *record => Trust::Verified(FileRecord { boot: None, ..found }),
            Some(metadata) => Trust::Verified(FileRecord::of(&metadata, Some(self.boot))),
            None => Trust::Bad,
        }
    }

    /// Hashes a file; its metadata when the bytes are those of `digest` and nothing wrote to it meanwhile.
    fn verify(&self, path: &Path, digest: &Digest, size: u64) -> Option<fs::Metadata> {
        let mut file = File::open(path).ok()?;
        let before = file.metadata().ok()?;
        let (found, length) = hash(&mut file).ok()?;
        let after = file.metadata().ok()?;
        let quiet = FileRecord::of(&before, None) == FileRecord::of(&after, None);
        (found == *digest && length == size && quiet).then_some(after)
    }

    /// Stores bytes whose digest the caller has checked.
    pub(crate) fn write(
        &self,
        digest: &Digest,
        variant: Variant,
        bytes: &[u8],
    ) -> Result<FileRecord, StoreError> {
        self.place(digest, variant, |file, _| file.write_all(bytes))
    }

    /// Stores a copy of a file, whose bytes are hashed on the way.
    pub(crate) fn copy(
        &self,
        digest: &Digest,
        variant: Variant,
        source: &Path,
    ) -> Result<FileRecord, StoreError> {
        let mut from = File::open(source).map_err(|error| StoreError::io("read", source, error))?;
        let mut found = None;
        let record = self.place(digest, variant, |file, path| {
            let hashed = copy_hashed(&mut from, file, path)?;
            found = Some(hashed);
            if hashed == *digest {
                return Ok(());
            }
            Err(io::ErrorKind::InvalidData.into())
        });
        match (record, found) {
            (Err(_), Some(found)) if found != *digest => Err(StoreError::WrongContent {
                path: source.display().to_string(),
                expected: *digest,
                found,
            }),
            (record, _) => record,
        }
    }

    /// Makes a file the store's own by renaming it. A file with other links, or on another file system, is copied,
    /// since somebody could write to it later.
    pub(crate) fn adopt(
        &self,
        digest: &Digest,
        variant: Variant,
        source: &Path,
    ) -> Result<FileRecord, StoreError> {
        let failed = |error| StoreError::io("read", source, error);
        let metadata = fs::symlink_metadata(source).map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is not a regular file")));
        }
        let target = self.path(digest, variant);
        if metadata.nlink() == 1 {
            fs::set_permissions(source, fs::Permissions::from_mode(variant.mode())).map_err(failed)?;
            match rename_into(source, &target) {
                Ok(()) => return Ok(FileRecord::of(&metadata, Some(self.boot))),
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
                Err(error) => return Err(StoreError::io("write", &target, error)),
            }
        }
        let record = self.copy(digest, variant, source)?;
        let _ = fs::remove_file(source);
        Ok(record)
    }

    /// Deletes a blob's file; one that is gone already is fine.
    pub(crate) fn remove(&self, digest: &Digest, variant: Variant) -> io::Result<()> {
        match fs::remove_file(self.path(digest, variant)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn place(
        &self,
        digest: &Digest,
        variant: Variant,
        fill: impl FnOnce(&mut File, &Path) -> io::Result<()>,
    ) -> Result<FileRecord, StoreError> {
        let target = self.path(digest, variant);
        let failed = |error| StoreError::io("write", &target, error);
        let directory = target.parent().unwrap_or(&self.root);
        let unfinished = directory.join(format!(".{}", unique::name()));
        let mut file = match create(&unfinished) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(directory).map_err(failed)?;
                create(&unfinished).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        let filled = fill(&mut file, &unfinished).and_then(|()| {
            file.set_permissions(fs::Permissions::from_mode(variant.mode()))?;
            let metadata = file.metadata()?;
            fs::rename(&unfinished, &target)?;
            Ok(FileRecord::of(&metadata, Some(self.boot)))
        });
        filled.map_err(|error| {
            let _ = fs::remove_file(&unfinished);
            failed(error)
        })
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn rename_into(source: &Path, target: &Path) -> io::Result<()> {
    match (fs::rename(source, target), target.parent()) {
        (Err(error), Some(directory)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            fs::rename(source, target)
        }
        (result, _) => result,
    }
}

/// Digest and length of what is left to read. Files are read, never mapped: a mapped file that somebody cuts
/// short would end the process.
pub(crate) fn hash(file: &mut File) -> io::Result<(Digest, u64)> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok((hasher.finalize().into(), hasher.count()))
}

/// Copies by sharing blocks where the file system can, then by bytes; returns the digest of what was copied.
fn copy_hashed(from: &mut File, to: &mut File, path: &Path) -> io::Result<Digest> {
    if crate::restore::share_blocks(from, to) {
        let (digest, _) = hash(&mut File::open(path)?)?;
        return Ok(digest);
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else {
            return Ok(hasher.finalize().into());
        };
        hasher.update(chunk);
        to.write_all(chunk)?;
    }
}
