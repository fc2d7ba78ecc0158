//! The two sides of systemd that a daemon meets: a socket that is handed over, and telling that it is ready.
//!
//! `sd_listen_fds(3)`, `sd_notify(3)`. Elsewhere neither variable is set.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use crate::raw_process;

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// The listening socket that this process was started with; `None` when it was not.
///
/// `pid` and `count` are the values of `LISTEN_PID` and `LISTEN_FDS`. Only the first call may take it.
///
/// # Errors
/// When there is no socket, or more than one, though the variables say so.
pub fn listener(pid: Option<&str>, count: Option<&str>) -> io::Result<Option<UnixListener>> {
    let is_ours = pid.and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    match count.and_then(|count| count.parse::<u32>().ok()) {
        Some(1) if is_ours => {}
        None | Some(0) => return Ok(None),
        Some(_) if !is_ours => return Ok(None),
        Some(count) => {
            return Err(io::Error::other(format!(
                "{count} sockets were handed over, and one is needed"
            )));
        }
    }
    let descriptor = raw_process::take(FIRST)?;
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    if !is_listening(descriptor.as_fd())? {
        return Err(io::Error::other("what was handed over is not a listening socket"));
    }
    Ok(Some(UnixListener::from(descriptor)))
}

#[cfg(target_os = "linux")]
fn is_listening(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_acceptconn(socket)?)
}

/// Where the system does not say, the first accept does.
#[cfg(not(target_os = "linux"))]
fn is_listening(_: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(true)
}

/// Tells whoever started this process how it is, as in `READY=1`. `socket` is the value of `NOTIFY_SOCKET`.
///
/// # Errors
/// When nobody can be told.
pub fn notify(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(target_os = "linux")]
fn abstract_name(name: &[u8]) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    SocketAddr::from_abstract_name(name)
}

#[cfg(not(target_os = "linux"))]
fn abstract_name(_: &[u8]) -> io::Result<SocketAddr> {
    Err(io::ErrorKind::Unsupported.into())
}
