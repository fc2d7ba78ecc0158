//! Clients that are stopped (Ctrl-Z, SIGSTOP, a debugger): nobody waits for them for long.

use std::time::Duration;

/// Who is stopped for so long is not waited for.
pub const STALL_LIMIT: Duration = Duration::from_secs(10);

/// Time between two looks, while somebody waits.
const LOOK: Duration = Duration::from_secs(1);

/// Whether a process is stopped; `false` where that cannot be told.
pub fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    matches!(state(&stat), Some('T' | 't'))
}

/// The state that a line of `proc_pid_stat(5)` tells.
pub fn state(stat: &str) -> Option<char> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.chars().next()
}

/// Looks now and then, on a thread of its own, until `look` says that nobody waits any more. `false` where there can be no thread.
pub fn look_while(name: &str, mut look: impl FnMut() -> bool + Send + 'static) -> bool {
    let looking = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        while look() {
            std::thread::sleep(LOOK);
        }
    });
    if let Err(error) = &looking {
        tracing::warn!("no thread looks after stopped clients: {error}");
    }
    looking.is_ok()
}
