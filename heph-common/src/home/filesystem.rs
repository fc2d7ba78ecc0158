//! Whether a file system is on another machine.

use std::io;
use std::path::Path;

/// The name of the network file system that `path` is on; `None` when it is local.
///
/// There, locks do not reliably hold across machines and memory maps can fail at any access.
pub fn network_filesystem(path: &Path) -> io::Result<Option<String>> {
    imp::network_filesystem(path)
}

#[cfg(target_os = "linux")]
mod imp {
    use std::fs;
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    /// `statfs(2)`, and `linux/magic.h` of the kernel.
    const MAGIC: [(u32, &str); 11] = [
        (0x6969, "nfs"),
        (0x517b, "smb"),
        (0xff53_4d42, "cifs"),
        (0xfe53_4d42, "smb"),
        (0x0102_1997, "9p"),
        (0x5346_414f, "afs"),
        (0x6b41_4653, "afs"),
        (0x00c3_6400, "ceph"),
        (0x7375_7245, "coda"),
        (0x0bd0_0bd0, "lustre"),
        (0x4750_4653, "gpfs"),
    ];

    /// virtiofs and everything in user space have this one in common.
    const FUSE: u32 = 0x6573_5546;

    /// Types of FUSE mounts that are on another machine. Others, such as fuse-overlayfs and fuseblk, are local.
    const FUSE_NETWORK: [&str; 12] = [
        "virtiofs",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "fuse.mountpoint-s3",
        "fuse.goofys",
        "fuse.rclone",
        "fuse.glusterfs",
        "fuse.ceph-fuse",
        "fuse.blobfuse",
        "fuse.blobfuse2",
        "fuse.davfs2",
    ];

    pub(super) fn network_filesystem(path: &Path) -> io::Result<Option<String>> {
        let magic = rustix::fs::statfs(path)?.f_type as u32;
        if let Some((_, name)) = MAGIC.iter().find(|(known, _)| *known == magic) {
            return Ok(Some((*name).to_owned()));
        }
        if magic != FUSE {
            return Ok(None);
        }
        let device = fs::metadata(path)?.dev();
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        Ok(fuse_type(&mounts, device)
            .filter(|kind| FUSE_NETWORK.contains(kind))
            .map(str::to_owned))
    }

    /// The type of the mount with that device number, after `proc_pid_mountinfo(5)`.
    pub(super) fn fuse_type(mounts: &str, device: u64) -> Option<&str> {
        let wanted = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let line = mounts
            .lines()
            .find(|line| line.split(' ').nth(2) == Some(&wanted))?;
        line.split_once(" - ")?.1.split(' ').next()
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::path::Path;

    const NETWORK: [&str; 5] = ["nfs", "smbfs", "afpfs", "webdav", "macfuse"];

    pub(super) fn network_filesystem(path: &Path) -> io::Result<Option<String>> {
        let name: String = rustix::fs::statfs(path)?
            .f_fstypename
            .iter()
            .map(|c| char::from(*c as u8))
            .take_while(|c| *c != '\0')
            .collect();
        Ok(NETWORK.contains(&name.as_str()).then_some(name))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn local_directories_are_local() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(network_filesystem(directory.path()).unwrap(), None);
        assert_eq!(network_filesystem(Path::new("/proc")).unwrap(), None);
        assert!(network_filesystem(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn the_type_of_a_mount_is_found_by_its_device() {
        let mounts = "\
29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
77 29 0:51 / /mnt/a\\040b rw,nosuid shared:2 master:3 - fuse.sshfs host:/x rw,user_id=0\n\
78 29 0:52 / /mnt/c rw - virtiofs share rw\n";
        let device = |minor| rustix::fs::makedev(0, minor);
        assert_eq!(imp::fuse_type(mounts, device(51)), Some("fuse.sshfs"));
        assert_eq!(imp::fuse_type(mounts, device(52)), Some("virtiofs"));
        assert_eq!(imp::fuse_type(mounts, device(53)), None);
    }
}
