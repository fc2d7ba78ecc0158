//! Key parts as rows of the index hold them: all bytes are answered, and what is accepted encodes to the same bytes.
#![no_main]

use heph_cache::row::{decode_parts, encode_parts};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(parts) = decode_parts(bytes) {
        assert_eq!(encode_parts(&parts), bytes);
    }
});
