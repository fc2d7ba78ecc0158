//! The tree at one moment, to be compared with the next.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::Tree;

/// What tells one state of a file from the next: inode, size, seconds and nanoseconds of its last change.
type Stamp = (u64, u64, i64, i64);

/// Every watched file and what it was like.
#[derive(Default)]
pub(super) struct Snapshot {
    files: BTreeMap<PathBuf, Stamp>,
}

impl Snapshot {
    /// The tree as it is now.
    pub(super) fn take(tree: &Tree) -> Self {
        let mut files = BTreeMap::new();
        tree.directories(&tree.root, |directory| {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let Some(path) = tree.relative(&entry.path()) else {
                    continue;
                };
                if let Ok(metadata) = entry.metadata()
                    && !metadata.is_dir()
                {
                    files.insert(
                        path,
                        (
                            metadata.ino(),
                            metadata.size(),
                            metadata.ctime(),
                            metadata.ctime_nsec(),
                        ),
                    );
                }
            }
        });
        Self { files }
    }

    /// A file that is not the same in `after`.
    pub(super) fn difference(&self, after: &Self, tree: &Tree) -> Option<PathBuf> {
        let changed = after
            .files
            .iter()
            .find(|(path, stamp)| self.files.get(*path) != Some(stamp) && !tree.own.contains(*path));
        let gone = || self.files.keys().find(|path| !after.files.contains_key(*path));
        changed.map(|(path, _)| path).or_else(gone).cloned()
    }
}
