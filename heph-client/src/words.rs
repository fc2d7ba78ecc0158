//! Numbers and names in words.

use std::borrow::Cow;
use std::time::Duration;

/// `1 target`, `2 targets`.
pub fn counted(count: u64, noun: &str) -> String {
    match (count, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "match") => format!("{count} matches"),
        _ => format!("{count} {noun}s"),
    }
}

/// A moment in milliseconds since 1970 as `2026-11-21 20:15:03 UTC`.
pub fn time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01 in eras of 400 years, each of which has as many days (Howard Hinnant, chrono-compatible low-level date algorithms).
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02} UTC")
}

/// A duration as short as it is still true: `820us`, `28ms`, `1.2s`, `2m 05s`, `1h 02m`.
pub fn duration(duration: Duration) -> String {
    let us = duration.as_micros();
    let seconds = duration.as_secs();
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => format!("{}ms", us / 1_000),
        1_000_000..60_000_000 => format!("{:.1}s", us as f64 / 1e6),
        60_000_000..3_600_000_000 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// A size in binary units: `12 B`, `1.5 KiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    match unit {
        0 => format!("{bytes} {name}"),
        _ => format!("{value:.1} {name}"),
    }
}

/// The name of a signal, as `SIGSEGV`; the number where it has none.
pub fn signal(number: i32) -> Cow<'static, str> {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return Cow::Owned(format!("signal {number}")),
    };
    Cow::Borrowed(name)
}

/// A line of a command's log, fit for a terminal: what a carriage return wrote over and escape sequences are left
/// out, other control characters but tabs are escaped.
pub fn printable(line: &str) -> Cow<'_, str> {
    let bad = |c: char| c.is_control() && c != '\t';
    if !line.contains(bad) {
        return Cow::Borrowed(line);
    }
    let last = line
        .trim_end_matches('\r')
        .rsplit('\r')
        .next()
        .unwrap_or_default();
    let mut shown = String::with_capacity(last.len());
    let mut rest = last.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\x1b' && rest.next_if_eq(&'[').is_some() {
            // A control sequence ends with its first byte from @ to ~.
            for c in rest.by_ref() {
                if matches!(c, '@'..='~') {
                    break;
                }
            }
        } else if bad(c) {
            shown.extend(c.escape_debug());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_ms, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399_999, "2000-02-28 23:59:59 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199_000, "2024-02-29 23:59:59 UTC"),
            (1_735_689_600_000, "2025-01-01 00:00:00 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(time(unix_ms), text);
        }
    }

    #[test]
    fn durations_are_short() {
        let shown = [0, 820, 28_400, 1_234_000, 59_940_000, 125_000_000, 3_725_000_000]
            .map(|us| duration(Duration::from_micros(us)));
        assert_eq!(
            shown,
            ["0us", "820us", "28ms", "1.2s", "59.9s", "2m 05s", "1h 02m"]
        );
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(
            [0, 1023, 1536, 10 << 30].map(size),
            ["0 B", "1023 B", "1.5 KiB", "10.0 GiB"]
        );
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\tc\x07"), "ab\tc\\u{7}");
        assert_eq!(printable("\x1b[31merror:\x1b[0m no"), "error: no");
        assert_eq!(printable("10%\r50%\r100%\r"), "100%");
        assert_eq!(printable("plain"), "plain");
    }
}
