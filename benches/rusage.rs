//! What a process and all it waited for have used. Needs `wait4`, which no safe wrapper at hand offers.
#![expect(unsafe_code, reason = "wait4 fills a structure of the C library")]

use std::mem::MaybeUninit;
use std::process::Child;
use std::time::Duration;

/// What was used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Exit code, 128 + signal when killed.
    pub code: i32,
    /// Processor time of user and system.
    pub cpu: Duration,
    /// Largest resident set of any process, in bytes.
    pub peak_memory: u64,
}

/// Waits for a child.
pub fn wait(child: &Child) -> Usage {
    let pid = libc::pid_t::try_from(child.id()).expect("a process id");
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live memory of the right types, and nobody else waits for this child.
        let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        if waited == pid {
            break;
        }
        let error = std::io::Error::last_os_error();
        assert!(error.kind() == std::io::ErrorKind::Interrupted, "wait4: {error}");
    }
    // SAFETY: wait4 has filled it, and zeroes are a valid rusage too.
    let usage = unsafe { usage.assume_init() };
    let time = |value: libc::timeval| {
        let micros = value.tv_usec.try_into().unwrap_or(0);
        Duration::from_secs(value.tv_sec.unsigned_abs()) + Duration::from_micros(micros)
    };
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    Usage {
        code: if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        },
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_memory: usage.ru_maxrss.unsigned_abs() * unit,
    }
}
