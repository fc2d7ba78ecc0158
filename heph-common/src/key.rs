//! Action keys: an ordered list of labelled parts, digested in one fixed way.
//!
//! A key is the BLAKE3 digest of the [`FORMAT`] and the kind of the action, then of every part: one byte for its
//! shape, the length of its label (8 bytes, little-endian), the label, the digest of its value. So two keys are
//! equal exactly when the kinds and all labels, shapes, values and their order are equal.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Version of how keys are built. Another way of building them needs another number.
pub const FORMAT: u32 = 1;

/// One ingredient of a key: what it is called, and the digest of its value.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct KeyPart {
    /// What the part is, such as `run` or `input src/main.c`.
    pub label: String,
    /// Digest of the value; for a part that is itself a digest, that one.
    pub digest: Digest,
}

/// How a part was given. The same bytes given in another shape are another part.
#[derive(Clone, Copy)]
enum Shape {
    Bytes = 0,
    Digest = 1,
    List = 2,
}

/// Collects the parts of one key in order.
#[derive(Debug)]
pub struct KeyBuilder {
    hasher: blake3::Hasher,
    parts: Vec<KeyPart>,
}

impl KeyBuilder {
    /// A key for an action of this kind, such as `target` or `rustc`.
    pub fn new(kind: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"heph-key");
        let mut builder = Self {
            hasher,
            parts: Vec::new(),
        };
        builder
            .part("format", &FORMAT.to_le_bytes())
            .part("kind", kind.as_bytes());
        builder
    }

    /// Adds the bytes of a value.
    pub fn part(&mut self, label: &str, value: &[u8]) -> &mut Self {
        self.add(Shape::Bytes, label, Digest::of(value))
    }

    /// Adds the digest of a value that is known already.
    pub fn digest(&mut self, label: &str, digest: Digest) -> &mut Self {
        self.add(Shape::Digest, label, digest)
    }

    /// Adds an ordered list of values. An empty list differs from a missing one and from an empty value.
    pub fn list<I>(&mut self, label: &str, values: I) -> &mut Self
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut hasher = blake3::Hasher::new();
        for value in values {
            let value = value.as_ref();
            hasher.update(&length(value)).update(value);
        }
        self.add(Shape::List, label, hasher.finalize().into())
    }

    /// The key, and the parts in the order in which they were added.
    pub fn finish(self) -> (Digest, Vec<KeyPart>) {
        (self.hasher.finalize().into(), self.parts)
    }

    fn add(&mut self, shape: Shape, label: &str, digest: Digest) -> &mut Self {
        self.hasher
            .update(&[shape as u8])
            .update(&length(label.as_bytes()))
            .update(label.as_bytes())
            .update(digest.as_bytes());
        self.parts.push(KeyPart {
            label: label.to_owned(),
            digest,
        });
        self
    }
}

fn length(bytes: &[u8]) -> [u8; 8] {
    (bytes.len() as u64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, PartialEq, Debug)]
    enum Part {
        Bytes(String, Vec<u8>),
        Digest(String, u8),
        List(String, Vec<Vec<u8>>),
    }

    fn key(kind: &str, parts: &[Part]) -> Digest {
        let mut builder = KeyBuilder::new(kind);
        for part in parts {
            match part {
                Part::Bytes(label, value) => builder.part(label, value),
                Part::Digest(label, byte) => builder.digest(label, Digest::of(&[*byte])),
                Part::List(label, values) => builder.list(label, values),
            };
        }
        builder.finish().0
    }

    /// A small alphabet, so that equal parts and shifted borders are frequent.
    fn part() -> impl Strategy<Value = Part> {
        let label = || "[ab]{0,2}".prop_map(String::from);
        let bytes = || proptest::collection::vec(97..99u8, 0..3);
        prop_oneof![
            (label(), bytes()).prop_map(|(l, v)| Part::Bytes(l, v)),
            (label(), 97..99u8).prop_map(|(l, v)| Part::Digest(l, v)),
            (label(), proptest::collection::vec(bytes(), 0..3)).prop_map(|(l, v)| Part::List(l, v)),
        ]
    }

    proptest! {
        #[test]
        fn keys_are_equal_exactly_when_all_parts_are(
            kinds in ("[ab]{1,2}", "[ab]{1,2}"),
            left in proptest::collection::vec(part(), 0..4),
            right in proptest::collection::vec(part(), 0..4),
        ) {
            let equal = kinds.0 == kinds.1 && left == right;
            prop_assert_eq!(key(&kinds.0, &left) == key(&kinds.1, &right), equal);
            prop_assert_eq!(key(&kinds.0, &left), key(&kinds.0, &left));
        }
    }

    #[test]
    fn a_label_and_its_value_do_not_run_into_each_other() {
        let shifted = |label: &str, value: &[u8]| key("k", &[Part::Bytes(label.into(), value.into())]);
        assert_ne!(shifted("ab", b"c"), shifted("a", b"bc"));
        let listed = |values: &[&[u8]]| {
            key(
                "k",
                &[Part::List(
                    "l".into(),
                    values.iter().map(|v| v.to_vec()).collect(),
                )],
            )
        };
        assert_ne!(listed(&[b"ab", b"c"]), listed(&[b"a", b"bc"]));
        assert_ne!(listed(&[]), listed(&[b""]));
    }

    #[test]
    fn the_parts_are_recorded_in_order() {
        let mut builder = KeyBuilder::new("target");
        builder
            .part("run", b"make")
            .digest("input a.c", Digest::of(b"int a;"));
        let (_, parts) = builder.finish();
        let labels: Vec<&str> = parts.iter().map(|p| p.label.as_str()).collect();
        assert_eq!(labels, ["format", "kind", "run", "input a.c"]);
        assert_eq!(parts.last().unwrap().digest, Digest::of(b"int a;"));
    }

    /// A change here disowns every stored result: raise [`FORMAT`] with it.
    #[test]
    fn keys_stay_what_they_are() {
        assert_eq!(FORMAT, 1);
        let mut builder = KeyBuilder::new("target");
        builder
            .part("run", b"cc -c a.c")
            .digest("input a.c", Digest::of(b"int a;\n"))
            .list("env", ["A=1", "B=2"]);
        insta::assert_snapshot!(builder.finish().0, @"b3565318a9ed60007c51e18f5de6d03744f4d3350c4405a231d136c7c6a21449");
        insta::assert_snapshot!(KeyBuilder::new("rustc").finish().0, @"e0eae986aafada79b2c33415d55e291c81e4629d2c71618e90ec9056824fce87");
    }
}
