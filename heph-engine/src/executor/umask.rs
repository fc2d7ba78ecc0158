//! The file mode creation mask of this process, which modes of staged files must not depend on.

use std::sync::OnceLock;

use rustix::fs::Mode;

/// Whether a file made with `mode` would get less than that.
pub(super) fn takes_from(mode: Mode) -> bool {
    current().intersects(mode)
}

fn current() -> Mode {
    static CURRENT: OnceLock<Mode> = OnceLock::new();
    *CURRENT.get_or_init(|| read().unwrap_or(Mode::from_raw_mode(0o777)))
}

/// Reading it by `umask` would change it for a moment, for all threads.
fn read() -> Option<Mode> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8)
        .ok()
        .map(|mask| Mode::from_raw_mode(mask as rustix::fs::RawMode))
}
