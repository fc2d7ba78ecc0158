//! The memory of this process, and how much of it there may be.

use heph_engine::engine::Engine;

/// Resident memory of this process, after `proc_pid_statm(5)`; `None` where the system has no such file.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// How much memory a daemon may keep between runs.
#[derive(Clone, Copy, Debug)]
pub struct Ceiling {
    /// Resident memory; above it, what is warm is dropped.
    pub bytes: u64,
    /// Gives free memory back.
    pub trim: fn(),
}

impl Ceiling {
    /// Drops what is warm until there is less, or nothing that nobody uses: the workspace that was used longest ago first.
    pub(crate) fn keep(&self, engine: &Engine) {
        let is_above = || resident_bytes().filter(|bytes| *bytes > self.bytes);
        if is_above().is_none() {
            return;
        }
        (self.trim)();
        while let Some(bytes) = is_above() {
            let Some(root) = engine.drop_oldest() else {
                engine.store().relax();
                (self.trim)();
                return;
            };
            (self.trim)();
            tracing::info!(
                "dropped what was known of {}: {bytes} bytes of memory are more than daemon.maxMemoryBytes, {}",
                root.display(),
                self.bytes
            );
        }
    }
}
