//! What comes from remote caches: all bytes are answered, and what is accepted is what was asked for, in full.
//!
//! The first byte says how the others are read: 0 as an envelope whose checksum is put right, 1 as one that is damaged or not, anything else as
//! an object compressed with zstd.
#![no_main]

use bytes::Bytes;
use heph_cache::remote::envelope::{self, Expected, Place};
use heph_cache::remote::packing::Intake;
use heph_cache::remote::signing::Verifier;
use heph_cache::remote::tombstone;
use heph_common::Digest;
use libfuzzer_sys::fuzz_target;

const LARGEST: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else {
        return;
    };
    match how {
        0 => {
            let checksum = [&[122, 32], Digest::of(bytes).as_bytes().as_slice()].concat();
            envelope(Bytes::from([bytes, &checksum].concat()));
        }
        1 => envelope(Bytes::copy_from_slice(bytes)),
        _ => compressed(bytes),
    }
});

fn envelope(bytes: Bytes) {
    let verifier = Verifier::default();
    let key = Digest::from_bytes([1; 32]);
    let expected = Expected {
        kind: "target",
        key,
        platform: "linux-x86_64",
        scope: "main",
        epoch: "",
        largest: LARGEST,
    };
    let opened = envelope::open(bytes.clone(), &expected, &verifier);
    let is_mark = tombstone::open(bytes, &key, "main", &verifier).is_ok_and(|until| until.is_some());
    let Ok(received) = opened else { return };
    assert!(!is_mark, "a mark is no result");
    let manifest = &received.manifest;
    assert_eq!((manifest.kind.as_str(), manifest.key), ("target", key));
    for (content, _) in manifest.contents() {
        assert!(content.size <= LARGEST);
        let stored = received.contents.get(&content.digest).expect("each content is somewhere");
        let is_it = |inline: &Bytes| Digest::of(inline) == content.digest && inline.len() as u64 == content.size;
        assert!(stored.inline.as_ref().is_none_or(is_it), "inline contents are proved");
    }
    let place = Place {
        scope: "main",
        epoch: "",
        now_unix_ms: received.written_unix_ms,
    };
    let sealed = envelope::seal(manifest, received.contents.clone(), place, None);
    let again = envelope::open(sealed, &expected, &verifier).expect("what is written can be read");
    assert_eq!((&again.manifest, &again.contents), (manifest, &received.contents));
}

/// Never gives more bytes than were announced, nor other ones.
fn compressed(bytes: &[u8]) {
    let wanted = b"what is wanted";
    let size = wanted.len() as u64;
    let mut intake = Intake::new(Digest::of(wanted), size, true, Vec::new()).expect("zstd has memory");
    let whole = bytes.chunks(7).try_for_each(|piece| intake.take(piece));
    if let Ok(got) = whole.and_then(|()| intake.finish()) {
        assert_eq!(got, wanted);
    }
}
