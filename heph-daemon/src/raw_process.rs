//! What can only be said of a process before it is one: its session, and descriptors by their numbers.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives the process of a command a session of its own from its first instruction on: a Ctrl-C is not for it.
pub(crate) fn own_session(command: &mut Command) {
    let begin = || {
        rustix::process::setsid()?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(begin) };
}

/// Closes every descriptor from `first` on.
///
/// Only for a process that has not opened anything of its own yet, and has one thread.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: nothing in this process owns a descriptor yet, as the caller warrants.
        let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    #[cfg(not(target_os = "linux"))]
    for descriptor in first..1024 {
        // SAFETY: as above; closing what is not open does nothing.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// Takes a descriptor that came with the process.
///
/// Only once for each, and only for those that the environment says are there for this process.
pub(crate) fn take(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: asks for flags, which fails when it is not open and changes nothing.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and as the caller warrants nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
