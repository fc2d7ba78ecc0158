//! Whether a directory can be heph's home.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use crate::error::StoreError;

/// Creates the home where it is missing and refuses one that cannot serve.
///
/// # Errors
/// [`StoreError::Unwritable`], [`StoreError::ForeignHome`] or [`StoreError::NetworkFilesystem`].
pub fn prepare(home: &Path) -> Result<(), StoreError> {
    let unwritable = |source: std::io::Error| StoreError::Unwritable {
        path: home.to_owned(),
        source: Arc::new(source),
    };
    let metadata = match fs::metadata(home) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(home)
                .map_err(unwritable)?;
            fs::metadata(home).map_err(unwritable)?
        }
        Err(error) => return Err(unwritable(error)),
    };
    if !metadata.is_dir() {
        return Err(unwritable(std::io::ErrorKind::NotADirectory.into()));
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(StoreError::ForeignHome {
            path: home.to_owned(),
            owner: metadata.uid(),
            user,
        });
    }
    // Asked of the kernel, for permission bits say nothing to root and nothing of read-only file systems.
    rustix::fs::access(home, rustix::fs::Access::WRITE_OK).map_err(|error| unwritable(error.into()))?;
    match network_filesystem(home) {
        Some(kind) => Err(StoreError::NetworkFilesystem {
            path: home.to_owned(),
            kind,
        }),
        None => Ok(()),
    }
}

/// Name of the kind of network file system that `path` is on; `None` for a local one, or where it cannot be told.
#[cfg(target_os = "linux")]
fn network_filesystem(path: &Path) -> Option<String> {
    /// `f_type` of statfs(2).
    const KINDS: [(i64, &str); 6] = [
        (0x6969, "nfs"),
        (0x517b, "smb"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb2"),
        (0x0102_1997, "9p"),
        (0x00c3_6400, "ceph"),
    ];
    const FUSE: i64 = 0x6573_5546;
    let magic = rustix::fs::statfs(path).ok()?.f_type;
    if magic == FUSE {
        return fuse_kind(path).filter(|kind| {
            [
                "virtiofs",
                "fuse.sshfs",
                "fuse.glusterfs",
                "fuse.s3fs",
                "fuse.rclone",
            ]
            .contains(&kind.as_str())
        });
    }
    KINDS
        .iter()
        .find(|(known, _)| *known == magic)
        .map(|(_, name)| (*name).to_owned())
}

/// The file system's type as `/proc/self/mountinfo` gives it: FUSE and virtiofs share one magic number.
#[cfg(target_os = "linux")]
fn fuse_kind(path: &Path) -> Option<String> {
    let device = fs::metadata(path).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        (place.split(' ').nth(2)? == device)
            .then(|| kind.split(' ').next().map(str::to_owned))
            .flatten()
    })
}

/// Elsewhere the kind is not looked up.
#[cfg(not(target_os = "linux"))]
fn network_filesystem(_path: &Path) -> Option<String> {
    None
}
