//! Values as they stand in rows of the index, each with a checksum of its own.
//!
//! SQLite does not notice a page of zeros or a flipped bit in a value. So every value that is used carries a checksum
//! over itself and over the key that it was looked up by: a value that has strayed under another key is found, too.

use heph_common::{Digest, KeyPart};

/// Length of a checksum in bytes.
pub(crate) const CHECKSUM: usize = 16;

/// What a checksum is about; keeps rows of different tables apart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Table {
    Action = 1,
    File = 2,
    Revision = 3,
    Record = 4,
}

/// Checksum over the fields of a row: the first 16 bytes of the BLAKE3 of the table's number and, for each field, its
/// length (8 bytes, little-endian) and its bytes.
pub(crate) fn checksum(table: Table, fields: &[&[u8]]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[table as u8]);
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let mut short = [0; CHECKSUM];
    for (to, from) in short.iter_mut().zip(hasher.finalize().as_bytes()) {
        *to = *from;
    }
    short
}

/// Row ids as bytes: 8 each, little-endian.
pub(crate) fn encode_ids(ids: &[i64]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Reads what [`encode_ids`] wrote.
pub(crate) fn decode_ids(bytes: &[u8]) -> Option<Vec<i64>> {
    let chunks = bytes.chunks_exact(8);
    if !chunks.remainder().is_empty() {
        return None;
    }
    chunks
        .map(|chunk| chunk.try_into().ok().map(i64::from_le_bytes))
        .collect()
}

/// Key parts as bytes: for each the length of the label (4 bytes, little-endian), the label, 32 bytes of digest.
pub fn encode_parts(parts: &[KeyPart]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.label.len() + 36).sum();
    let mut bytes = Vec::with_capacity(length);
    for part in parts {
        let label = part.label.as_bytes();
        bytes.extend_from_slice(&u32::try_from(label.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(label);
        bytes.extend_from_slice(part.digest.as_bytes());
    }
    bytes
}

/// Reads what [`encode_parts`] wrote; `None` for anything else.
pub fn decode_parts(mut bytes: &[u8]) -> Option<Vec<KeyPart>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (label, rest) = rest.split_at_checked(length)?;
        let (digest, rest) = rest.split_first_chunk::<{ Digest::LENGTH }>()?;
        parts.push(KeyPart {
            label: std::str::from_utf8(label).ok()?.to_owned(),
            digest: Digest::from_bytes(*digest),
        });
        bytes = rest;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_survive(labels in proptest::collection::vec(".{0,20}", 0..8)) {
            let parts: Vec<KeyPart> = labels
                .into_iter()
                .map(|label| KeyPart { digest: Digest::of(label.as_bytes()), label })
                .collect();
            prop_assert_eq!(decode_parts(&encode_parts(&parts)), Some(parts));
        }

        #[test]
        fn any_bytes_decode_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(parts) = decode_parts(&bytes) {
                prop_assert_eq!(encode_parts(&parts), bytes);
            }
        }

        #[test]
        fn ids_survive(ids in proptest::collection::vec(any::<i64>(), 0..8)) {
            prop_assert_eq!(decode_ids(&encode_ids(&ids)), Some(ids));
        }
    }

    #[test]
    fn a_checksum_tells_fields_tables_and_borders_apart() {
        let sum = checksum(Table::Action, &[b"ab", b"c"]);
        assert_ne!(sum, checksum(Table::Action, &[b"a", b"bc"]));
        assert_ne!(sum, checksum(Table::Record, &[b"ab", b"c"]));
        assert_eq!(sum, checksum(Table::Action, &[b"ab", b"c"]));
    }
}
