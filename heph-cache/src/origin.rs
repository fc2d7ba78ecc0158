//! Where a stored result came from, and which of these a request may read.

use heph_common::Digest;

/// Where a stored result came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// Made on this machine by this user. Only such results are signed or uploaded.
    Local,
    /// Read from a remote cache: a digest of the cache, the scope and the accepted signer.
    Remote(Digest),
}

impl Origin {
    /// As it is written in the index: nothing for a local result, 32 bytes for another one.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Local => &[],
            Self::Remote(digest) => digest.as_bytes(),
        }
    }

    /// Reads what [`Origin::as_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::Local);
        }
        Digest::from_slice(bytes).map(Self::Remote)
    }
}

/// The origins that a request may read. What was made here is always among them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OriginFilter {
    remote: Vec<Digest>,
}

impl OriginFilter {
    /// Only what was made here.
    pub fn local() -> Self {
        Self::default()
    }

    /// What was made here, then what came from these origins, preferred in this order.
    pub fn with_remote(remote: impl IntoIterator<Item = Digest>) -> Self {
        Self {
            remote: remote.into_iter().collect(),
        }
    }

    /// How much a result of this origin is preferred, 0 the most; `None` when it may not be read.
    pub fn rank(&self, origin: Origin) -> Option<usize> {
        match origin {
            Origin::Local => Some(0),
            Origin::Remote(digest) => self
                .remote
                .iter()
                .position(|accepted| *accepted == digest)
                .map(|position| position + 1),
        }
    }
}
