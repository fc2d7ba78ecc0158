//! System calls that rustix does not have, or has only as unsafe functions.

use std::ffi::{c_int, c_uint};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::{Errno, Result};

fn check(result: impl Into<i64>) -> Result<()> {
    if result.into() < 0 {
        return Err(last_error());
    }
    Ok(())
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// Closes every descriptor from `first` on.
pub(super) fn close_from(first: RawFd) -> Result<()> {
    // SAFETY: only for processes that are about to execute a program, or that have not opened anything yet.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, 0) })
}

/// Makes a detached mount read-only, without set-user-ID.
pub(super) fn make_read_only(tree: impl AsFd) -> Result<()> {
    set_mount_attributes(tree, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID)
}

fn set_mount_attributes(tree: impl AsFd, set: u64) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the kernel reads a structure of the given size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Moves this process into a namespace.
pub(super) fn enter(namespace: RawFd, kind: c_int) -> Result<()> {
    // SAFETY: takes a descriptor by number and touches no memory.
    check(unsafe { libc::setns(namespace, kind) })
}

/// Gives this process own copies of namespaces.
pub(super) fn leave_shared(kinds: c_int) -> Result<()> {
    // SAFETY: never called with CLONE_FILES, so descriptors stay what they are.
    check(unsafe { libc::unshare(kinds) })
}

/// The signals that spawner and keepers take when they are ready for them.
pub(super) fn signals() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` makes the set a valid one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        set.assume_init()
    }
}

/// Blocks [`signals`] and gives a descriptor that reports them.
pub(super) fn signal_descriptor() -> Result<OwnedFd> {
    let set = signals();
    // SAFETY: plain system calls on a local value; the descriptor returned is new.
    unsafe {
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const set,
            ptr::null_mut(),
        ))?;
        let descriptor = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(descriptor)?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// Blocks no signal. For a process that is about to execute a program.
pub(super) fn unblock_signals() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: as in `signals`.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}

/// Gives every signal its default action, as a new program expects, whatever was ignored by who started this one.
pub(super) fn default_signals() {
    /// What the kernel takes for an action: handler, flags, restorer and mask, all of them zero for the default.
    const DEFAULT: [usize; 4] = [0; 4];
    /// Bytes of the kernel's signal set.
    const SET: usize = 8;
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: installs no handler; signals that may not be changed are refused. The C library would also refuse
        // those that it uses itself, which need the default as much as all others.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                ptr::null_mut::<usize>(),
                SET,
            )
        };
    }
}

/// Gives this process an empty session keyring, so that commands do not have the user's. Kernels without keys have
/// nothing to hide.
pub(super) fn leave_session_keyring() {
    const JOIN: libc::c_long = 1;
    // SAFETY: a null name asks for a new anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN, ptr::null::<libc::c_char>()) };
}

/// Sets an interface of this network namespace up.
pub(super) fn set_loopback_up(socket: impl AsFd) -> Result<()> {
    // SAFETY: zeroes are a valid value; the kernel reads and writes one structure.
    unsafe {
        let mut request: libc::ifreq = MaybeUninit::zeroed().assume_init();
        for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
            *to = from.cast_signed();
        }
        let socket = socket.as_fd().as_raw_fd();
        check(libc::ioctl(socket, libc::SIOCGIFFLAGS, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request))
    }
}
