//! Which files of a source tree heph wrote, and with which content.
//!
//! One file for each workspace root, below `<home>/codegen`: lines of a digest, a space and a path, sorted by path.
//! Extended attributes would be lost by editors, archives and version control.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use heph_common::digest::Digest;

/// First line of the file.
const HEADER: &str = "heph codegen 1";

/// What heph wrote into one source tree.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    files: BTreeMap<String, Digest>,
    /// Held while the record may be changed.
    _lock: Option<File>,
}

/// The record could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}, the record of generated files: {source}", path.display())]
pub struct RecordError {
    action: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl Record {
    /// The record of the workspace at `root`, for looking at; empty when heph never wrote anything there.
    ///
    /// # Errors
    ///
    /// When the file is there but cannot be read.
    pub fn read(home: &Path, root: &Path) -> Result<Self, RecordError> {
        let name = Digest::of(root.as_os_str().as_bytes()).to_hex();
        let path = home.join("codegen").join(name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => {
                return Err(RecordError {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        Ok(Self {
            path,
            files: parse(&text),
            _lock: None,
        })
    }

    /// The paths with the digest of what heph wrote there, relative to the workspace root, sorted.
    pub fn files(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.files.iter().map(|(path, digest)| (path.as_str(), *digest))
    }

    /// The digest of what heph wrote at `path`.
    pub fn digest(&self, path: &str) -> Option<Digest> {
        self.files.get(path).copied()
    }

    /// The record, for changing it: other processes wait.
    pub(super) fn lock(home: &Path, root: &Path) -> Result<Self, RecordError> {
        let directory = home.join("codegen");
        let failed = |source| RecordError {
            action: "lock",
            path: directory.clone(),
            source,
        };
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let lock = File::create(directory.join("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self {
            _lock: Some(lock),
            ..Self::read(home, root)?
        })
    }

    pub(super) fn insert(&mut self, path: &str, digest: Digest) {
        self.files.insert(path.to_owned(), digest);
    }

    pub(super) fn save(&self) -> Result<(), RecordError> {
        let failed = |source| RecordError {
            action: "write",
            path: self.path.clone(),
            source,
        };
        let mut text = format!("{HEADER}\n");
        for (path, digest) in &self.files {
            text.push_str(&format!("{digest} {path}\n"));
        }
        let new = self.path.with_extension("new");
        let mut file = File::create(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).map_err(failed)?;
        std::fs::rename(&new, &self.path).map_err(failed)
    }
}

/// Lines that are damaged are left out: such a file is then treated as not heph's.
fn parse(text: &str) -> BTreeMap<String, Digest> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return BTreeMap::new();
    }
    lines
        .filter_map(|line| {
            let (digest, path) = line.split_once(' ')?;
            Some((path.to_owned(), digest.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back() {
        let home = tempfile::tempdir().unwrap();
        let root = Path::new("/some/root");
        assert_eq!(Record::read(home.path(), root).unwrap().files().count(), 0);
        let mut record = Record::lock(home.path(), root).unwrap();
        record.insert("b/c d", Digest::of(b"1"));
        record.insert("a", Digest::of(b"2"));
        record.save().unwrap();
        drop(record);
        let record = Record::read(home.path(), root).unwrap();
        let files: Vec<_> = record.files().collect();
        assert_eq!(files, [("a", Digest::of(b"2")), ("b/c d", Digest::of(b"1"))]);
        assert_eq!(
            Record::read(home.path(), Path::new("/other"))
                .unwrap()
                .files()
                .count(),
            0
        );
    }

    #[test]
    fn damage_disowns_files() {
        let good = Digest::of(b"1");
        assert_eq!(parse(&format!("{HEADER}\nxyz a\n{good} b\n")).len(), 1);
        assert!(parse(&format!("something else\n{good} b\n")).is_empty());
    }
}
