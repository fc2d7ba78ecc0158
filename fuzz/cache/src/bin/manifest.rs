//! Manifests: all bytes are answered, and what is accepted is safe to unpack and encodes to the same manifest.
#![no_main]

use heph_cache::{Entry, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = Manifest::decode(bytes) else { return };
    for output in &manifest.outputs {
        let path = std::path::Path::new(&output.path);
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        assert!(path.components().all(plain) && !output.path.contains('\0'), "{path:?}");
        let below = |other: &&heph_cache::Output| other.entry != Entry::Directory && other.path != output.path;
        let through = manifest.outputs.iter().filter(below).find(|other| path.starts_with(&other.path));
        assert!(through.is_none(), "{path:?} passes through {through:?}");
    }
    let encoded = manifest.encode().expect("what is read can be written");
    assert_eq!(Manifest::decode(&encoded).expect("what is written can be read"), manifest);
});
