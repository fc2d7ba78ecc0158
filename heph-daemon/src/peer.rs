//! Who is at the other end of a socket.

use std::io;

use tokio::net::UnixStream;

/// The process at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its number; 0 where unknown, and in another pid namespace.
    pub pid: u32,
}

/// Another user is at the other end, or it cannot be told who is.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// Another user.
    #[error("user {user} is at the other end, and this is user {own}")]
    OtherUser {
        /// Numeric id of the user at the other end.
        user: u32,
        /// Effective numeric id of this process.
        own: u32,
    },
    /// The system does not say.
    #[error("it cannot be told who is at the other end: {0}")]
    Unknown(io::Error),
}

/// Who is at the other end (`SO_PEERCRED` of `unix(7)`, `getpeereid(3)`), if it is this user.
pub fn check(stream: &UnixStream) -> Result<Peer, PeerError> {
    let credentials = stream.peer_cred().map_err(PeerError::Unknown)?;
    let (user, own) = (credentials.uid(), rustix::process::geteuid().as_raw());
    if user != own {
        return Err(PeerError::OtherUser { user, own });
    }
    let pid = credentials
        .pid()
        .and_then(|pid| u32::try_from(pid).ok())
        .unwrap_or(0);
    Ok(Peer { pid })
}
