//! What the file system says of a file without reading it, and when that may stand for its content.

use serde::{Deserialize, Serialize};

/// The identity and the times of one file.
///
/// While all five fields stay equal, a digest that was taken of a [settled](Stat::settled) file still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stat {
    /// Device that holds the file.
    pub device: u64,
    /// Its number on that device.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When the content was changed last, in nanoseconds since 1970.
    pub modified: i64,
    /// When content, mode or links were changed last, in nanoseconds since 1970.
    pub changed: i64,
}

/// Two writes within one tick of the kernel's clock may leave equal times. 100 Hz is the slowest clock in use.
const TICK: i64 = 20_000_000;

/// The same, where a file system keeps whole seconds (FAT: two of them).
const COARSE_TICK: i64 = 2_100_000_000;

impl Stat {
    #[expect(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "the fields have other widths and signs on other systems"
    )]
    pub(crate) fn of(stat: &rustix::fs::Stat) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            modified: nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// Whether any later change will show in the times, given that the content was not read before `reading`
    /// ([`now`]).
    ///
    /// A file that was changed within the last tick of the clock, or has times in the future, is not settled: it may
    /// change again and look the same.
    pub fn settled(&self, reading: i64) -> bool {
        let tick = match self.changed % 1_000_000_000 {
            0 => COARSE_TICK,
            _ => TICK,
        };
        self.modified.max(self.changed) < reading.saturating_sub(tick)
    }
}

/// The clock that file times are compared with, in nanoseconds since 1970.
pub fn now() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed_at(time: i64) -> Stat {
        Stat {
            device: 1,
            inode: 2,
            size: 3,
            modified: time,
            changed: time,
        }
    }

    #[test]
    fn a_file_settles_after_a_tick() {
        let stat = changed_at(5_000_000_001);
        assert!(!stat.settled(5_000_000_001));
        assert!(!stat.settled(5_000_000_001 + TICK));
        assert!(stat.settled(5_000_000_002 + TICK));
    }

    #[test]
    fn whole_seconds_settle_after_two_of_them() {
        let stat = changed_at(5_000_000_000);
        assert!(!stat.settled(6_900_000_000));
        assert!(stat.settled(7_200_000_000));
    }

    #[test]
    fn the_future_is_never_settled() {
        assert!(!changed_at(now() + 60_000_000_001).settled(now()));
        let backdated = Stat {
            modified: 1,
            ..changed_at(now())
        };
        assert!(!backdated.settled(now()));
    }
}
