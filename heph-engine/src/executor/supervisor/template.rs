//! The file system that commands in strict mode see, but for their own sandbox.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::super::protocol::View;
use super::namespace::{SetupError, during, own_mounts, path};
use super::raw_system;

/// Directories of the system that every command may read.
const SYSTEM: [&str; 10] = [
    "usr",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "etc",
    "nix/store",
    "gnu/store",
];

/// Devices that every command may use.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Directories that exist for what each command mounts there, and for programs that expect them.
const DIRECTORIES: [&str; 10] = [
    "dev",
    "dev/pts",
    "dev/shm",
    "proc",
    "tmp",
    "heph",
    "heph-base",
    "run",
    "var",
    "sys",
];

const LINKS: [(&str, &str); 6] = [
    ("dev/ptmx", "pts/ptmx"),
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
    ("var/tmp", "/tmp"),
];

/// Users that exist inside: results must not depend on who is known to this machine.
const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\n\
heph:x:1000:1000:heph:/heph/home:/bin/sh\n\
nobody:x:65534:65534:nobody:/:/bin/false\n";

const GROUP: &str = "root:x:0:\nheph:x:1000:\nnogroup:x:65534:\n";

type Setup<T> = std::result::Result<T, SetupError>;

/// Builds the file system of `view` in the mount namespace that this process is in, which must be its own.
///
/// Gives a descriptor of the namespace.
pub(super) fn build(view: &View) -> Setup<OwnedFd> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    during(
        "make the mounts private",
        rustix::mount::mount_change("/", private),
    )?;
    let namespace = during("open the mount namespace", own_mounts())?;
    let shown = Shown::collect(view)?;
    let root = during("make a root in memory", memory())?;
    // Whatever is at this place is covered only in this namespace, and every source has been opened.
    let place = "/usr";
    during("mount the root", attach(&root, place))?;
    during("enter the root", rustix::process::chdir(place))?;
    shown.arrange()?;
    let secure = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    during(
        "mount /proc",
        rustix::mount::mount("proc", "proc", "proc", secure, None),
    )?;
    during("change the root", rustix::process::pivot_root(".", "."))?;
    during(
        "leave the machine's root",
        rustix::mount::unmount(".", UnmountFlags::DETACH),
    )?;
    during("enter the new root", rustix::process::chdir("/"))?;
    during("make the root read-only", make_read_only(Path::new("/")))?;
    Ok(namespace)
}

/// What is shown where; opened before the root is changed.
struct Shown {
    links: Vec<(PathBuf, PathBuf)>,
    trees: Vec<Tree>,
    /// A second file system in memory, for what covers parts of the system directories.
    covers: OwnedFd,
    /// Directories that are hidden.
    masked: Vec<PathBuf>,
}

struct Tree {
    source: Source,
    /// Relative to the root.
    target: PathBuf,
    is_directory: bool,
}

enum Source {
    /// A detached mount.
    Mount(OwnedFd),
    /// A name in the file system of covers.
    Cover(String),
}

impl Shown {
    fn collect(view: &View) -> Setup<Self> {
        let covers = during("make a file system in memory", memory())?;
        let mut shown = Self {
            links: Vec::new(),
            trees: Vec::new(),
            covers,
            masked: Vec::new(),
        };
        for (link, target) in LINKS {
            shown.links.push((PathBuf::from(link), PathBuf::from(target)));
        }
        let mut known = BTreeSet::new();
        for name in SYSTEM {
            shown.add(&Path::new("/").join(name), true, &mut known)?;
        }
        for name in DEVICES {
            let device = Path::new("/dev").join(name);
            let mount = during(format!("show {}", device.display()), open(&device))?;
            let target = Path::new("dev").join(name);
            shown.trees.push(Tree {
                source: Source::Mount(mount),
                target,
                is_directory: false,
            });
        }
        shown.cover_file("etc/passwd", PASSWD)?;
        shown.cover_file("etc/group", GROUP)?;
        for secret in ["etc/shadow", "etc/gshadow"] {
            // Root may read them, wherever it is.
            if rustix::fs::access(Path::new("/").join(secret), rustix::fs::Access::READ_OK).is_ok() {
                shown.cover_file(secret, "")?;
            }
        }
        let system: Vec<PathBuf> = known.iter().cloned().collect();
        for (number, masked) in view.masked.iter().enumerate() {
            shown.mask(number, &path(masked), &system)?;
        }
        if view.network {
            // Often a link to a place that is not shown.
            let resolver = Path::new("/etc/resolv.conf");
            if let Ok(resolver) = std::fs::canonicalize(resolver) {
                shown.add(&resolver, true, &mut known)?;
            }
        }
        for visible in &view.visible {
            shown.add(&path(visible), false, &mut known)?;
        }
        if !view.base.is_empty() {
            let base = path(&view.base);
            let mount = during(format!("show {}", base.display()), open(&base))?;
            during("make it read-only", raw_system::make_read_only(&mount))?;
            let target = PathBuf::from("heph-base");
            shown.trees.push(Tree {
                source: Source::Mount(mount),
                target,
                is_directory: true,
            });
        }
        Ok(shown)
    }

    /// Shows a path read-only, with the links that lead to it; one that is shown already stays.
    fn add(&mut self, wanted: &Path, may_be_absent: bool, known: &mut BTreeSet<PathBuf>) -> Setup<()> {
        /// As many links in a row as the kernel follows.
        const LINKS_IN_A_ROW: u32 = 40;
        let mut rest: Vec<PathBuf> = components(wanted);
        let mut links = 0;
        let mut at = PathBuf::from("/");
        while let Some(next) = rest.pop() {
            if next == Path::new("..") {
                at.pop();
                continue;
            }
            at.push(next);
            let is_hidden = self.masked.iter().any(|masked| wanted.starts_with(masked));
            if known.contains(&at) && !is_hidden {
                return Ok(());
            }
            let step = || format!("show {}", wanted.display());
            let stat = match rustix::fs::lstat(&at) {
                Err(Errno::NOENT) if may_be_absent => return Ok(()),
                result => during(step(), result)?,
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind.is_symlink() {
                links += 1;
                if links > LINKS_IN_A_ROW {
                    return during(step(), Err(Errno::LOOP));
                }
                let target = std::fs::read_link(&at)
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
                let target = during(step(), target)?;
                self.links.push((relative(&at), target.clone()));
                rest.extend(components(&target));
                if target.is_absolute() {
                    at = PathBuf::from("/");
                } else {
                    at.pop();
                }
            } else if rest.is_empty() {
                let mount = during(step(), open(&at))?;
                during(step(), raw_system::make_read_only(&mount))?;
                self.trees.push(Tree {
                    source: Source::Mount(mount),
                    target: relative(&at),
                    is_directory: kind.is_dir(),
                });
                known.insert(at);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hides a directory that lies below one of the system's.
    fn mask(&mut self, number: usize, masked: &Path, system: &[PathBuf]) -> Setup<()> {
        let Ok(masked) = std::fs::canonicalize(masked) else {
            return Ok(());
        };
        if !system
            .iter()
            .any(|system| masked.starts_with(system) && masked != *system)
        {
            return Ok(());
        }
        let name = format!("mask{number}");
        let step = || format!("hide {}", masked.display());
        during(
            step(),
            rustix::fs::mkdirat(&self.covers, &*name, Mode::from_raw_mode(0o755)),
        )?;
        let target = relative(&masked);
        self.trees.push(Tree {
            source: Source::Cover(name),
            target,
            is_directory: true,
        });
        self.masked.push(masked);
        Ok(())
    }

    fn cover_file(&mut self, target: &str, text: &str) -> Setup<()> {
        if !Path::new("/").join(target).is_file() {
            return Ok(());
        }
        let name = target.replace('/', "-");
        let step = || format!("make /{target}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let file = during(step(), rustix::fs::openat(&self.covers, &*name, flags, mode))?;
        during(step(), rustix::io::write(&file, text.as_bytes()))?;
        let target = PathBuf::from(target);
        self.trees.push(Tree {
            source: Source::Cover(name),
            target,
            is_directory: false,
        });
        Ok(())
    }

    /// Puts everything below the working directory.
    fn arrange(self) -> Setup<()> {
        let mode = Mode::from_raw_mode(0o755);
        for name in DIRECTORIES {
            during(format!("make /{name}"), rustix::fs::mkdir(name, mode))?;
        }
        for (link, target) in &self.links {
            let step = || format!("make the link /{}", link.display());
            during(step(), make_parents(link))?;
            match rustix::fs::symlink(target, link) {
                Err(Errno::EXIST) => {}
                result => during(step(), result)?,
            }
        }
        // Sources of bind mounts have to be in this mount namespace.
        let place = Path::new("run");
        during("mount the covers", attach(&self.covers, place))?;
        for tree in &self.trees {
            let step = || format!("show /{}", tree.target.display());
            during(step(), make_mount_point(&tree.target, tree.is_directory))?;
            let result = match &tree.source {
                Source::Mount(mount) => attach(mount, &tree.target),
                Source::Cover(name) => rustix::mount::mount_bind(place.join(name), &tree.target),
            };
            during(step(), result)?;
        }
        for tree in &self.trees {
            if matches!(tree.source, Source::Cover(_)) {
                let step = || format!("make /{} read-only", tree.target.display());
                during(step(), make_read_only(&tree.target))?;
            }
        }
        during(
            "unmount the covers",
            rustix::mount::unmount(place, UnmountFlags::DETACH),
        )
    }
}

/// The parts of a path, last first.
fn components(path: &Path) -> Vec<PathBuf> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .rev()
        .collect()
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_path_buf()
}

fn make_parents(path: &Path) -> Result<()> {
    let mut at = PathBuf::new();
    for part in path.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        match rustix::fs::mkdir(&at, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A read-only directory of the system that has it.
            Err(Errno::ROFS) if at.is_dir() => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn make_mount_point(target: &Path, is_directory: bool) -> Result<()> {
    if rustix::fs::lstat(target).is_ok() {
        return Ok(());
    }
    make_parents(target)?;
    if is_directory {
        return rustix::fs::mkdir(target, Mode::from_raw_mode(0o755));
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    rustix::fs::open(target, flags, Mode::from_raw_mode(0o644)).map(drop)
}

fn memory() -> Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "mode", "0755")?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags)
}

fn make_read_only(target: &Path) -> Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::BIND;
    rustix::mount::mount_remount(target, flags, c"")
}

fn attach(tree: &OwnedFd, target: impl AsRef<Path>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", CWD, target.as_ref(), flags)
}
