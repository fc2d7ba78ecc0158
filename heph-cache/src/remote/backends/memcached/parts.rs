//! Tables of the parts of objects that are too large for one item.
//!
//! `heph-parts-1 <size> <length of a part> <id>\n`, numbers in decimal, id in hex digits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use heph_common::Digest;

const MAGIC: &str = "heph-parts-1";
/// No table is longer.
pub(super) const LONGEST: u64 = 256;
/// More parts than this are no table of ours.
const MOST: u64 = 1 << 20;

/// What an object that is split consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Table {
    /// Bytes of the object.
    pub size: u64,
    /// Bytes of each part but the last.
    pub part: u64,
    /// Different for each writing, so that parts of two do not mix.
    pub id: String,
}

impl Table {
    /// The table of an object that is about to be written.
    pub(super) fn new(key: &str, size: u64, part: u64) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let seed = format!("{host} {} {count} {time} {key}", std::process::id());
        Self {
            size,
            part: part.max(1),
            id: Digest::of(seed.as_bytes()).to_hex().chars().take(32).collect(),
        }
    }

    /// How many parts there are.
    pub(super) fn count(&self) -> u64 {
        self.size.div_ceil(self.part)
    }

    /// Bytes of one part.
    pub(super) fn length(&self, at: u64) -> u64 {
        self.size.saturating_sub(at * self.part).min(self.part)
    }

    /// Key of one part.
    pub(super) fn key(&self, at: u64) -> String {
        format!("heph-part/{}/{at}", self.id)
    }

    /// How many parts make up `bytes`, at least one.
    pub(super) fn in_flight(&self, bytes: u64) -> usize {
        usize::try_from(bytes / self.part).unwrap_or(1).clamp(1, 16)
    }

    /// The table as the value of an item.
    pub(super) fn encode(&self) -> Vec<u8> {
        format!("{MAGIC} {} {} {}\n", self.size, self.part, self.id).into_bytes()
    }

    /// The table that a value is.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.strip_suffix('\n')?;
        let words: Vec<&str> = text.split(' ').collect();
        let [MAGIC, size, part, id] = words.as_slice() else {
            return None;
        };
        let table = Self {
            size: size.parse().ok()?,
            part: part.parse().ok().filter(|&part| part > 0)?,
            id: (*id).to_owned(),
        };
        let plain = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        (plain && table.count() <= MOST).then_some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let table = Table::new("key", 2500, 1000);
        assert_eq!(Table::decode(&table.encode()), Some(table.clone()));
        assert_eq!(
            (0..table.count()).map(|at| table.length(at)).collect::<Vec<_>>(),
            [1000, 1000, 500]
        );
        assert_ne!(table.id, Table::new("key", 2500, 1000).id);
        assert!(table.encode().len() as u64 <= LONGEST);
        let id = &table.id;
        for wrong in [
            String::new(),
            "heph-parts-1 1 1 x\n".to_owned(),
            format!("heph-parts-1 1 0 {id}\n"),
            format!("heph-parts-2 1 1 {id}\n"),
            format!("heph-parts-1 {} 1 {id}\n", u64::MAX),
            format!("heph-parts-1 1 1 {id}"),
            format!("heph-parts-1 1 1 {id} x\n"),
        ] {
            assert_eq!(Table::decode(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
