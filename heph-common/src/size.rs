//! Sizes in bytes, as people write them: `65536`, `20 GiB`, `1.5MB`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes. Serialized as that number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// A text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not a size: expected a number of bytes, or a number with a unit such as 512 KiB, 1.5 MB or 20 GiB", crate::package::printable(.0))]
pub struct ParseSizeError(pub String);

/// Names in lower case, largest first, so that a size prints in its largest whole unit.
const BINARY: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];
const DECIMAL: [(&str, u64); 5] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// `n` times 1024 bytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` times 1024² bytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` times 1024³ bytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Rounded to one decimal in the largest unit that gives at least 1, as `1.4 GiB`.
    pub fn rounded(self) -> String {
        match BINARY.iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) => format!("{:.1} {name}", self.0 as f64 / *unit as f64),
            None => format!("{} B", self.0),
        }
    }
}

/// Exact: in the largest binary unit of which it is a multiple, as `20 GiB` or `1500 B`.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BINARY
            .iter()
            .find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit))
        {
            Some((name, unit)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .map(Self)
            .ok_or_else(|| ParseSizeError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let unit = unit.trim_start();
    let scale = if unit.is_empty() {
        1
    } else {
        BINARY
            .iter()
            .chain(&DECIMAL)
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))?
            .1
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() && fraction.len() <= 9 => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let whole: u64 = whole.parse().ok()?;
    let part = if fraction.is_empty() {
        0
    } else {
        let digits: u128 = fraction.parse().ok()?;
        let product = digits * u128::from(scale);
        let power = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        // Half a byte cannot be meant.
        if scale == 1 {
            return None;
        }
        u64::try_from(product / power).ok()?
    };
    whole.checked_mul(scale)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("65536", 65536),
            ("0", 0),
            ("20 GiB", 20 << 30),
            ("20gib", 20 << 30),
            ("1.5MB", 1_500_000),
            ("1.5 KiB", 1536),
            ("100B", 100),
            ("2 TB", 2_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "1.5",
            "1.5 B",
            "1 G",
            "20 GiBs",
            "1,5 MB",
            "1e9",
            "1.",
            ".5 MB",
            "99999999 TiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        insta::assert_snapshot!("20 GIG".parse::<ByteSize>().unwrap_err(), @"'20 GIG' is not a size: expected a number of bytes, or a number with a unit such as 512 KiB, 1.5 MB or 20 GiB");
    }

    #[test]
    fn a_rounded_size_has_one_decimal() {
        assert_eq!(ByteSize(1_500_000_000).rounded(), "1.4 GiB");
        assert_eq!(ByteSize(1023).rounded(), "1023 B");
    }

    proptest! {
        #[test]
        fn printing_is_exact(bytes in any::<u64>(), shift in 0..40u32) {
            let size = ByteSize(bytes >> shift << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn any_text_is_answered(text in any::<String>(), noise in "[0-9. KMGiB]{0,8}") {
            let _ = text.parse::<ByteSize>();
            let _ = noise.parse::<ByteSize>();
        }
    }
}
