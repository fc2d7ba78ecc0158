//! Programs and libraries of the host: whatever the bytes, an object, an error or nothing, and names that lie in them.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The file alone: all of heph-engine would take minutes to build.
#[allow(dead_code, reason = "only the parser is used")]
#[path = "../../../../heph-engine/src/tool/elf.rs"]
mod elf;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(object)) = elf::Elf::parse(bytes) {
        let names = object
            .needed
            .iter()
            .chain(&object.interpreter)
            .chain(&object.soname);
        for name in names {
            let within = bytes
                .windows(name.len().max(1))
                .any(|window| window == name.as_bytes());
            assert!(within || name.is_empty(), "{name:?} is not in the file");
        }
        assert!(object.runpath.is_none() || object.rpath.is_empty());
        assert_eq!(elf::Elf::parse(bytes), Ok(Some(object)));
    }
});
