//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heph_common::Digest;

use crate::manifest::ManifestError;

/// Why the store could not do something. Messages fit after "failed to".
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The home is on a file system that several machines share.
    #[error("use '{path}' as heph's home: it is on a network file system ({kind})")]
    NetworkFilesystem {
        /// The home.
        path: PathBuf,
        /// Name of the kind of file system.
        kind: String,
    },
    /// The home belongs to another user.
    #[error("use '{path}' as heph's home: it belongs to uid {owner}, and heph runs as uid {user}")]
    ForeignHome {
        /// The home.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who runs.
        user: u32,
    },
    /// The home cannot be created or written.
    #[error("write to heph's home '{path}': {source}")]
    Unwritable {
        /// The place that cannot be written.
        path: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// The file system is full or has no inodes left.
    #[error("write '{path}': no space is left on the file system ({full})")]
    Full {
        /// What was to be written.
        path: PathBuf,
        /// What ran out.
        full: Scarcity,
    },
    /// The file system is read-only.
    #[error("write '{path}': the file system is read-only")]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// Another operation on a file failed.
    #[error("{action} '{path}': {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// SQLite reported an error.
    #[error("use the index '{path}': {source}")]
    Index {
        /// The index.
        path: PathBuf,
        /// The cause.
        source: Arc<rusqlite::Error>,
    },
    /// A manifest may not be stored.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Bytes are not what their digest says.
    #[error("store {path} as {expected}: its content has digest {found}")]
    WrongContent {
        /// Where the bytes came from.
        path: String,
        /// The digest that was announced.
        expected: Digest,
        /// The digest that the bytes have.
        found: Digest,
    },
    /// A file does not have the announced length.
    #[error("store '{path}': it has {found} bytes, {expected} were announced")]
    WrongSize {
        /// The file.
        path: PathBuf,
        /// The length that was announced.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
    /// A manifest names content that was neither given nor stored before.
    #[error("store the result {key}: its content {digest} is missing")]
    MissingContent {
        /// Action key.
        key: Digest,
        /// The content.
        digest: Digest,
    },
    /// Other processes kept the index busy for too long.
    #[error("write to the index '{path}': other processes keep it busy")]
    Busy {
        /// The index.
        path: PathBuf,
    },
    /// Runs are using the store.
    #[error("clear '{path}': {runs} live run(s) use it")]
    InUse {
        /// The cache directory.
        path: PathBuf,
        /// How many runs there are.
        runs: usize,
    },
    /// The store was closed meanwhile.
    #[error("write to '{path}': the store is closed")]
    Closed {
        /// The cache directory.
        path: PathBuf,
    },
}

/// What a full file system has run out of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scarcity {
    /// No blocks are left.
    Blocks,
    /// No inodes are left.
    Inodes,
    /// The user's quota is used up.
    Quota,
}

impl std::fmt::Display for Scarcity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Blocks => "disk full",
            Self::Inodes => "no inodes",
            Self::Quota => "quota exceeded",
        })
    }
}

impl StoreError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NetworkFilesystem { .. } => Some(
                "set HEPH_HOME, or homeDir in .hephconfig, to a directory on a local disk".to_owned(),
            ),
            Self::ForeignHome { .. } => Some(
                "run heph as the user who owns it, or set HEPH_HOME to a directory of your own (under sudo, HOME may still be that of the other user)"
                    .to_owned(),
            ),
            Self::Unwritable { .. } | Self::ReadOnly { .. } => {
                Some("set HEPH_HOME to a directory that can be written".to_owned())
            }
            Self::Full { .. } => Some(
                "free some space, or lower cache.maxSizeBytes and run `heph cache gc`".to_owned(),
            ),
            Self::InUse { .. } => Some("wait until they have ended".to_owned()),
            _ => None,
        }
    }

    /// An input/output error with its place; a full or read-only file system is told apart.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull => Self::Full {
                full: scarcity(&path),
                path,
            },
            io::ErrorKind::QuotaExceeded => Self::Full {
                full: Scarcity::Quota,
                path,
            },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ => Self::Io {
                action,
                path,
                source: Arc::new(source),
            },
        }
    }

    /// An SQLite error with its place.
    pub(crate) fn index(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full {
                full: scarcity(&path),
                path,
            },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            _ => Self::Index {
                path,
                source: Arc::new(source),
            },
        }
    }
}

pub(crate) fn scarcity(path: &Path) -> Scarcity {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    match existing.and_then(|place| rustix::fs::statvfs(place).ok()) {
        Some(stat) if stat.f_files > 0 && stat.f_favail == 0 => Scarcity::Inodes,
        _ => Scarcity::Blocks,
    }
}
