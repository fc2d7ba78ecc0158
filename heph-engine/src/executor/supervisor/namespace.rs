//! What the commands of strict mode enter: mount namespaces that are made once for each view, and network namespaces
//! that are used again when nothing ever went through them.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid};
use rustix::io::{Errno, Result};
use rustix::mount::MountPropagationFlags;

use super::super::protocol::View;
use super::raw_process::{NewNetwork, in_new_network};
use super::{raw_system, template};

/// What the spawner of strict mode is cloned with. Its PID namespace ends all commands when it dies.
pub(super) const FLAGS: i32 =
    libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWUTS;

/// Templates kept ready. Each costs a few mounts.
const TEMPLATES: usize = 32;

/// Network namespaces kept ready.
const NETWORKS: usize = 64;

/// Whose rights are mapped into the namespaces.
pub(super) struct Identity {
    user: Uid,
    group: Gid,
}

impl Identity {
    pub(super) fn current() -> Self {
        Self {
            user: rustix::process::geteuid(),
            group: rustix::process::getegid(),
        }
    }
}

/// Failed to set strict mode up: the step and why.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step}: {errno}")]
pub(super) struct SetupError {
    pub(super) step: String,
    pub(super) errno: Errno,
}

/// Names the step that a result belongs to.
pub(super) fn during<T>(step: impl Into<String>, result: Result<T>) -> std::result::Result<T, SetupError> {
    result.map_err(|errno| SetupError {
        step: step.into(),
        errno,
    })
}

/// The namespaces of one run.
pub(super) struct Rooms {
    /// The mount namespace that this process lives in: a copy of the machine's that follows it.
    home: OwnedFd,
    templates: Vec<(View, OwnedFd)>,
    networks: Vec<Lease>,
}

impl Rooms {
    /// Finishes the namespaces that this process was cloned with.
    pub(super) fn new(identity: &Identity) -> std::result::Result<Self, SetupError> {
        during("refuse setgroups", write("/proc/self/setgroups", "deny"))?;
        let inner = super::INNER_ID;
        let map = |outer: u32| format!("{inner} {outer} 1");
        during(
            "map the group",
            write("/proc/self/gid_map", &map(identity.group.as_raw())),
        )?;
        during(
            "map the user",
            write("/proc/self/uid_map", &map(identity.user.as_raw())),
        )?;
        during("set the host name", rustix::system::sethostname(b"heph"))?;
        let follow = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        during(
            "detach the mounts from the machine's",
            rustix::mount::mount_change("/", follow),
        )?;
        raw_system::leave_session_keyring();
        let home = during("open the mount namespace", own_namespace("mnt"))?;
        Ok(Self {
            home,
            templates: Vec::new(),
            networks: Vec::new(),
        })
    }

    /// The mount namespace that shows `view`, made when it is first asked for.
    pub(super) fn template(&mut self, view: &View) -> std::result::Result<RawFd, String> {
        if let Some((_, template)) = self.templates.iter().find(|(known, _)| known == view) {
            return Ok(template.as_raw_fd());
        }
        let made = self.build(view).map_err(|error| error.to_string())?;
        let descriptor = made.as_raw_fd();
        if self.templates.len() >= TEMPLATES {
            // Commands that are running have their own copies.
            self.templates.remove(0);
        }
        self.templates.push((view.clone(), made));
        Ok(descriptor)
    }

    fn build(&self, view: &View) -> std::result::Result<OwnedFd, SetupError> {
        during(
            "make a mount namespace",
            raw_system::leave_shared(libc::CLONE_NEWNS),
        )?;
        let made = template::build(view);
        let back = raw_system::enter(self.home.as_raw_fd(), libc::CLONE_NEWNS);
        during("return from a mount namespace", back)?;
        made
    }

    /// A network namespace that has a loopback interface and nothing else, and that nobody else uses.
    pub(super) fn network(&mut self) -> std::result::Result<Lease, String> {
        if let Some(lease) = self.networks.pop() {
            return Ok(lease);
        }
        Lease::new().map_err(|error| error.to_string())
    }

    /// Takes a network namespace back when all who used it are gone. It is used again only if not one packet went
    /// through it: then there is no state in it.
    pub(super) fn give_back(&mut self, lease: Lease) {
        if self.networks.len() < NETWORKS && lease.is_untouched() {
            self.networks.push(lease);
        }
    }
}

/// A network namespace in use by one command.
pub(super) struct Lease {
    namespace: OwnedFd,
    /// `/proc/net/dev` of it.
    counters: OwnedFd,
    /// What that said when it was new.
    untouched: Vec<u8>,
}

impl Lease {
    fn new() -> std::result::Result<Self, SetupError> {
        let made = during("make a network namespace", in_new_network(set_up))?;
        if let Some(errno) = made.failed {
            return during("set the loopback interface up", Err(errno));
        }
        let (Some(namespace), Some(counters)) = (made.namespace, made.counters) else {
            return during("make a network namespace", Err(Errno::BADF));
        };
        let untouched = during("read the counters of a network namespace", read(&counters))?;
        Ok(Self {
            namespace,
            counters,
            untouched,
        })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.namespace.as_raw_fd()
    }

    fn is_untouched(&self) -> bool {
        read(&self.counters).is_ok_and(|now| now == self.untouched)
    }
}

/// Runs in a process of its own inside the new namespace, with shared memory and descriptors.
fn set_up(network: &mut NewNetwork) {
    let attempt = || -> Result<(OwnedFd, OwnedFd)> {
        let family = rustix::net::AddressFamily::INET;
        let kind = rustix::net::SocketType::DGRAM;
        let flags = rustix::net::SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, kind, flags, None)?;
        raw_system::set_loopback_up(&socket)?;
        Ok((
            open(c"/proc/thread-self/ns/net")?,
            open(c"/proc/thread-self/net/dev")?,
        ))
    };
    match attempt() {
        Ok((namespace, counters)) => {
            network.namespace = Some(namespace);
            network.counters = Some(counters);
        }
        Err(errno) => network.failed = Some(errno),
    }
}

fn open(path: &std::ffi::CStr) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn own_namespace(kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/self/ns/{kind}");
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// The mount namespace that this process is in.
pub(super) fn own_mounts() -> Result<OwnedFd> {
    own_namespace("mnt")
}

fn write(path: &str, text: &str) -> Result<()> {
    let file = rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

fn read(file: impl AsFd) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 4096];
    let count = rustix::io::pread(file, &mut buffer[..], 0)?;
    buffer.truncate(count);
    Ok(buffer)
}

/// A path from bytes that came over the wire.
pub(super) fn path(bytes: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(bytes)).to_path_buf()
}
