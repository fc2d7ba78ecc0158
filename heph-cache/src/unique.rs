//! Names that nobody else uses, in whatever pid namespace they run.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A new name of hex digits and dashes. Unlike a process id, it is not repeated in another pid namespace.
pub(crate) fn name() -> String {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let process = PROCESS.get_or_init(|| {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(crate::clock::unix_ms());
        hasher.write_u32(std::process::id());
        hasher.finish()
    });
    format!("{process:016x}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
