//! Whether a process that does not answer is at work, or hangs.

use std::fs;

use heph_engine::stalled::state;

/// What a process was seen to have used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    pid: u32,
    /// Processor time of all its threads, in clock ticks; `None` where the system does not say.
    ticks: Option<u64>,
}

impl Seen {
    /// Looks at a process.
    pub fn now(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Self {
            pid,
            ticks: used(&stat),
        }
    }

    /// Whether it has used processor time since, or would if it got any: a thread of it is ready to run, or waits for a disk.
    ///
    /// `false` where that cannot be told.
    pub fn is_at_work(self) -> bool {
        let has_worked = self.ticks.is_some() && Self::now(self.pid).ticks > self.ticks;
        has_worked || is_ready(self.pid)
    }
}

/// `utime` and `stime` of `proc_pid_stat(5)`.
fn used(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields
        .split(' ')
        .skip(11)
        .map_while(|field| field.parse::<u64>().ok());
    Some(times.next()? + times.next()?)
}

fn is_ready(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    threads.flatten().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        matches!(state(&stat), Some('R' | 'D'))
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn who_uses_the_processor_is_at_work_and_who_sleeps_is_not() {
        if !std::path::Path::new("/proc/self/stat").exists() {
            return;
        }
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let asleep = Seen::now(sleeper.id());
        // It may still be on its way to sleep.
        let began = Instant::now();
        while asleep.is_at_work() {
            assert!(began.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(Seen::now(std::process::id()).is_at_work(), "this thread runs");
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 90 0 0 0 25 17 0 0 20 0 1 0 100 1000";
        assert_eq!(used(stat), Some(42));
        assert_eq!(used(""), None);
    }
}
