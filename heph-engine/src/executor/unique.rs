//! Names that no other process and no other thread uses at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A new name: process, start of the clock, number.
pub(super) fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    format!(
        "{}-{:x}{:08x}-{number}",
        std::process::id(),
        now.tv_sec,
        now.tv_nsec
    )
}
