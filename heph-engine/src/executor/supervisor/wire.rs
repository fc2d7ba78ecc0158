//! What client and supervisor say to each other, over sockets of two processes of one binary.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::protocol::{Ended, How, Isolation, Step};

/// To the guard: start a spawner that listens on the attached socket.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::executor) struct Start {
    /// Set for the spawner of strict mode: what its trial run shows.
    pub(in crate::executor) trial: Option<Isolation>,
}

/// A spawner's first word: whether it can do its work, and if not, why.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::executor) struct Ready {
    pub(in crate::executor) obstacle: Option<String>,
}

/// Bytes of an encoded [`Ended`].
pub(in crate::executor) const ENDED: usize = 36;

/// Bytes of text that may follow an [`Ended`].
pub(in crate::executor) const EXPLANATION: usize = 1024;

impl Ended {
    pub(in crate::executor) fn encode(&self) -> [u8; ENDED] {
        let (kind, value, errno) = match self.how {
            How::Exited(code) => (1i32, code, 0),
            How::Signaled(signal) => (2, signal, 0),
            How::NotStarted(step, errno) => (3, step as i32, errno.raw_os_error()),
            How::Lost => (4, 0, 0),
        };
        let mut bytes = [0; ENDED];
        let fields = kind
            .to_le_bytes()
            .into_iter()
            .chain(value.to_le_bytes())
            .chain(errno.to_le_bytes())
            .chain(self.wall_us.to_le_bytes())
            .chain(self.cpu_us.to_le_bytes())
            .chain(self.memory_bytes.to_le_bytes());
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }

    pub(in crate::executor) fn decode(bytes: &[u8]) -> Option<Self> {
        let (small, large) = bytes.split_at_checked(12)?;
        let mut small = small.chunks_exact(4).filter_map(|four| four.try_into().ok());
        let mut large = large.chunks_exact(8).filter_map(|eight| eight.try_into().ok());
        let kind = i32::from_le_bytes(small.next()?);
        let value = i32::from_le_bytes(small.next()?);
        let errno = i32::from_le_bytes(small.next()?);
        let how = match kind {
            1 => How::Exited(value),
            2 => How::Signaled(value),
            3 => How::NotStarted(Step::from_number(value)?, Errno::from_raw_os_error(errno)),
            _ => How::Lost,
        };
        Some(Self {
            how,
            wall_us: u64::from_le_bytes(large.next()?),
            cpu_us: u64::from_le_bytes(large.next()?),
            memory_bytes: u64::from_le_bytes(large.next()?),
        })
    }
}

/// Messages above this size go through a file in memory: a socket takes about 200 KiB.
const INLINE: usize = 64 * 1024;

/// Most descriptors that go with one message.
const DESCRIPTORS: usize = 8;

/// Two ends that keep message boundaries and notice the other's death.
pub(in crate::executor) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Sends one message with descriptors.
pub(in crate::executor) fn send<M: Serialize>(
    socket: impl AsFd,
    message: &M,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(|_| Errno::INVAL)?;
    if bytes.len() <= INLINE {
        return send_parts(socket, b"i", &bytes, descriptors);
    }
    let file = rustix::fs::memfd_create("request", MemfdFlags::CLOEXEC)?;
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        written += rustix::io::write(&file, rest)?;
    }
    let mut all = vec![file.as_fd()];
    all.extend_from_slice(descriptors);
    send_parts(socket, b"m", &[], &all)
}

fn send_parts(
    socket: impl AsFd,
    tag: &[u8],
    bytes: &[u8],
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::INVAL);
    }
    let parts = [IoSlice::new(tag), IoSlice::new(bytes)];
    loop {
        match rustix::net::sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => continue,
            result => return result.map(drop),
        }
    }
}

/// Space for a message, kept between two of them.
pub(in crate::executor) struct Buffer(Vec<u8>);

impl Buffer {
    pub(in crate::executor) fn new() -> Self {
        Self(vec![0; INLINE + 1])
    }
}

/// The next message and its descriptors; `None` when the other end is gone.
pub(in crate::executor) fn receive<M: DeserializeOwned>(
    socket: impl AsFd,
    Buffer(buffer): &mut Buffer,
) -> Result<Option<(M, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let length = loop {
        let mut parts = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET) => return Ok(None),
            result => break result?.bytes,
        }
    };
    let mut descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let decode = |bytes: &[u8]| postcard::from_bytes(bytes).map_err(|_| Errno::BADMSG);
    match buffer.get(..length).and_then(<[u8]>::split_first) {
        None => Ok(None),
        Some((b'i', bytes)) => Ok(Some((decode(bytes)?, descriptors))),
        Some(_) if descriptors.is_empty() => Err(Errno::BADMSG),
        Some(_) => {
            let bytes = read_from_start(&descriptors.remove(0))?;
            Ok(Some((decode(&bytes)?, descriptors)))
        }
    }
}

fn read_from_start(file: &OwnedFd) -> Result<Vec<u8>> {
    let size = rustix::fs::fstat(file)?.st_size;
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| Errno::FBIG)?];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, filled as u64)? {
            0 => return Err(Errno::BADMSG),
            count => filled += count,
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::super::protocol::{Request, Spawn};
    use super::*;

    #[test]
    fn the_end_of_a_command_survives_the_wire() {
        for how in [
            How::Exited(7),
            How::Signaled(9),
            How::NotStarted(Step::Proc, Errno::PERM),
            How::Lost,
        ] {
            let ended = Ended {
                how,
                wall_us: 1 << 40,
                cpu_us: 3,
                memory_bytes: u64::MAX,
            };
            assert_eq!(Ended::decode(&ended.encode()), Some(ended));
        }
        assert_eq!(Ended::decode(b"short"), None);
    }

    #[test]
    fn large_messages_arrive_whole() {
        let (left, right) = pair().unwrap();
        let mut buffer = Buffer::new();
        let argv = vec![vec![b'x'; 3_000_000], b"y".to_vec()];
        let spawn = Spawn {
            argv: argv.clone(),
            ..Spawn::default()
        };
        send(&left, &Request::Spawn(Box::new(spawn)), &[left.as_fd()]).unwrap();
        let (message, descriptors) = receive::<Request>(&right, &mut buffer).unwrap().unwrap();
        assert_eq!(descriptors.len(), 1);
        assert!(matches!(message, Request::Spawn(spawn) if spawn.argv == argv));
        drop((left, descriptors));
        assert!(receive::<Request>(&right, &mut buffer).unwrap().is_none());
    }
}
