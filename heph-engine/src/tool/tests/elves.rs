use proptest::prelude::*;

use super::super::elf::{Elf, Kind};
use super::super::loader_cache::LoaderCache;
use super::*;

/// An object with one segment that holds everything, and this dynamic section.
fn object(wide: bool, big: bool, interpreter: &str, dynamic: &[(u64, &str)]) -> Vec<u8> {
    let half = |value: u16| {
        if big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let int = |value: u32| {
        if big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let word = |value: u64| -> Vec<u8> {
        match (wide, big) {
            (true, true) => value.to_be_bytes().into(),
            (true, false) => value.to_le_bytes().into(),
            (false, _) => int(value as u32).into(),
        }
    };
    let (header_size, segment_size, entry) = if wide { (64, 56, 16) } else { (52, 32, 8) };
    let mut strings = vec![0];
    let mut table = Vec::new();
    for (tag, text) in dynamic {
        table.push((*tag, strings.len() as u64));
        strings.extend(text.as_bytes());
        strings.push(0);
    }
    let strings_at = header_size + 3 * segment_size;
    let interpreter_at = strings_at + strings.len() as u64;
    let dynamic_at = interpreter_at + interpreter.len() as u64 + 1;
    table.extend([(5, 0x10000 + strings_at), (10, strings.len() as u64), (0, 0)]);
    let size = dynamic_at + table.len() as u64 * entry;

    let mut bytes = b"\x7fELF".to_vec();
    bytes.extend([1 + u8::from(wide), 1 + u8::from(big), 1]);
    bytes.resize(16, 0);
    bytes.extend([half(3), half(62)].concat());
    bytes.extend(int(1));
    bytes.extend([word(0), word(header_size), word(0)].concat());
    bytes.extend(int(0));
    bytes.extend([half(header_size as u16), half(segment_size as u16), half(3)].concat());
    bytes.resize(header_size as usize, 0);
    let segments = [
        (1, 0, size),
        (3, interpreter_at, interpreter.len() as u64 + 1),
        (2, dynamic_at, table.len() as u64 * entry),
    ];
    for (kind, offset, length) in segments {
        bytes.extend(int(kind));
        if wide {
            bytes.extend(int(4));
        }
        bytes.extend(
            [
                word(offset),
                word(0x10000 + offset),
                word(0x10000 + offset),
                word(length),
                word(length),
            ]
            .concat(),
        );
        bytes.extend(if wide { word(8) } else { [int(4), int(8)].concat() });
    }
    bytes.extend(strings);
    bytes.extend(interpreter.as_bytes());
    bytes.push(0);
    for (tag, value) in table {
        bytes.extend([word(tag), word(value)].concat());
    }
    bytes
}

#[test]
fn all_classes_and_byte_orders_are_read() {
    for (wide, big) in [(true, false), (true, true), (false, false), (false, true)] {
        let dynamic = [
            (1, "liba.so"),
            (1, "libb.so"),
            (1, "liba.so"),
            (14, "self.so"),
            (29, "/a:$ORIGIN/b:"),
        ];
        let elf = Elf::parse(object(wide, big, "/lib/ld.so", &dynamic).as_slice())
            .unwrap()
            .unwrap();
        assert_eq!(
            elf.kind,
            Kind {
                wide,
                big,
                machine: 62
            }
        );
        assert_eq!(elf.interpreter.as_deref(), Some("/lib/ld.so"));
        assert_eq!(elf.needed, ["liba.so", "libb.so"]);
        assert_eq!(elf.soname.as_deref(), Some("self.so"));
        assert_eq!(elf.runpath.unwrap(), ["/a", "$ORIGIN/b"]);
    }
    let both = object(true, false, "", &[(15, "/old"), (29, "/new")]);
    assert!(Elf::parse(both.as_slice()).unwrap().unwrap().rpath.is_empty());
    let old = object(true, false, "", &[(15, "/old")]);
    assert_eq!(Elf::parse(old.as_slice()).unwrap().unwrap().rpath, ["/old"]);
}

#[test]
fn other_files_are_none() {
    for bytes in [&b""[..], b"\x7fEL", b"#!/bin/sh\n0123456789", b"\x7fELF"] {
        assert_eq!(Elf::parse(bytes), Ok(None));
    }
    assert!(Elf::parse(&b"\x7fELF\x09\x01\x01\0\0\0\0\0\0\0\0\0"[..]).is_err());
}

#[test]
fn a_cut_object_is_an_error_or_says_less() {
    let whole = object(true, false, "/lib/ld.so", &[(1, "liba.so")]);
    let parsed = Elf::parse(whole.as_slice()).unwrap().unwrap();
    for end in 0..whole.len() {
        if let Ok(Some(cut)) = Elf::parse(&whole[..end]) {
            assert!(cut.needed.is_empty() || cut.needed == parsed.needed);
        }
    }
}

#[test]
fn this_program_is_read_from_its_file() {
    let file = fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let elf = Elf::parse(&file).unwrap().unwrap();
    assert!(elf.needed.iter().any(|name| name.starts_with("libc.")));
    assert!(elf.interpreter.is_some());
}

proptest! {
    #[test]
    fn damaged_objects_never_panic(
        wide: bool,
        big: bool,
        changes in proptest::collection::vec((0usize..400, any::<u8>()), 1..12),
    ) {
        let mut bytes = object(wide, big, "/lib/ld.so", &[(1, "liba.so"), (29, "/a")]);
        for (at, value) in changes {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        _ = Elf::parse(bytes.as_slice());
    }

    #[test]
    fn any_bytes_are_no_loader_cache(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut cache = b"glibc-ld.so.cache1.1".to_vec();
        cache.extend(&bytes);
        LoaderCache::parse(&cache);
        let mut cache = b"ld.so-1.7.0\0".to_vec();
        cache.extend(&bytes);
        LoaderCache::parse(&cache);
    }
}
