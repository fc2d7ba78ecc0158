//! Time as it is written into files, and which boot of the machine this is.

use std::sync::OnceLock;

pub(crate) use heph_common::clock::unix_ms;

/// Names one boot of this machine. Files written in an earlier boot may have lost their bytes to a power cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Boot([u8; 16]);

impl Boot {
    /// The boot that this process runs in. Where the system does not tell, every process counts as a boot of its
    /// own, so that what others wrote is checked once.
    pub(crate) fn current() -> Self {
        static CURRENT: OnceLock<Boot> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
            let name = text.unwrap_or_else(crate::unique::name);
            Self::named(&name)
        })
    }

    /// The boot of that name.
    pub(crate) fn named(name: &str) -> Self {
        let digest = blake3::hash(name.trim().as_bytes());
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(digest.as_bytes()) {
            *to = *from;
        }
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}
