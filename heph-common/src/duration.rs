//! Spans of time, as people write them: `250ms`, `5m`, `1h30m`, `7d`.

use std::fmt;
use std::time::Duration;

/// A text is not a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a duration: expected numbers with units, as in 250ms, 30s, 5m, 1h30m or 7d", crate::package::printable(.0))]
pub struct ParseDurationError(pub String);

/// Largest first, with their milliseconds. A text names each at most once and in this order.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads a span of time: numbers with the units `d h m s ms`, larger ones first, or a plain `0`.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    milliseconds(text)
        .map(Duration::from_millis)
        .ok_or_else(|| ParseDurationError(text.to_owned()))
}

fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(letters)?;
        let (_, scale) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*scale)?)?;
        rest = tail;
    }
    Some(total)
}

/// Prints a span of time in whole milliseconds, in the form that [`parse`] reads: `1h30m`, `0s`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, scale) in UNITS {
            let count = rest / u128::from(scale);
            rest %= u128::from(scale);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

/// For `#[serde(with = "heph_common::duration::text")]`: a span of time as the text that [`parse`] reads.
pub mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the text.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::Shown(*duration))
    }

    /// Reads the text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, milliseconds) in [
            ("3h", 3 * 3_600_000),
            ("5m", 300_000),
            ("7d", 7 * 86_400_000),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("1m5s", 65_000),
            ("90m", 5_400_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "5",
            "m",
            "5 m",
            "30m1h",
            "1h1h",
            "-1s",
            "1.5h",
            "5min",
            "1h30",
            "99999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        insta::assert_snapshot!(parse("5 minutes").unwrap_err(), @"'5 minutes' is not a duration: expected numbers with units, as in 250ms, 30s, 5m, 1h30m or 7d");
    }

    proptest! {
        #[test]
        fn what_prints_is_read_again(milliseconds in 0..u64::MAX / 2) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&Shown(duration).to_string()), Ok(duration));
        }

        #[test]
        fn any_text_is_answered(text in any::<String>(), noise in "[0-9dhms ]{0,8}") {
            let _ = parse(&text);
            let _ = parse(&noise);
        }
    }
}
