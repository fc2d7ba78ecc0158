//! How a store is set up.

use std::time::Duration;

use crate::clock::Boot;
use crate::memory::MemoryOptions;

/// How a store is set up. The defaults are those of the product.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// Artifacts of more bytes than this are files, others are kept in the index.
    pub spill_threshold: u64,
    /// Size limit in bytes; `None` for 10 GiB or 10 % of the disk, whichever is less.
    pub max_size: Option<u64>,
    /// The memory tier.
    pub memory: MemoryOptions,
    /// Who is kept from doing equal work at the same time.
    pub lock: LockBackend,
    /// What was used this long before the oldest live run began is not evicted.
    pub live_window: Duration,
    /// Time between choosing what goes, while runs live, and deleting it.
    pub grace: Duration,
    /// How long a publication waits for others before it is written, to share a transaction with them.
    pub linger: Duration,
    /// Name of this boot of the machine; `None` for what the system says.
    pub boot: Option<String>,
}

/// Who is kept from doing equal work at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LockBackend {
    /// All processes that share the home.
    #[default]
    Fs,
    /// The threads of this process.
    Mem,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            spill_threshold: 64 * 1024,
            max_size: None,
            memory: MemoryOptions::default(),
            lock: LockBackend::Fs,
            live_window: Duration::from_secs(3600),
            grace: Duration::from_secs(60),
            linger: Duration::from_millis(15),
            boot: None,
        }
    }
}

impl StoreOptions {
    pub(crate) fn boot(&self) -> Boot {
        self.boot.as_deref().map_or_else(Boot::current, Boot::named)
    }
}
