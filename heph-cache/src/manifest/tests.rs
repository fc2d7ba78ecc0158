use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn file(path: &str, bytes: &[u8]) -> Output {
    Output {
        group: String::new(),
        path: path.to_owned(),
        entry: Entry::File {
            content: Content {
                digest: Digest::of(bytes),
                size: bytes.len() as u64,
            },
            executable: false,
        },
    }
}

fn manifest(outputs: Vec<Output>) -> Manifest {
    let mut manifest = Manifest {
        kind: "target".to_owned(),
        key: Digest::of(b"key"),
        outputs,
        log: Some(Content {
            digest: Digest::of(b"log"),
            size: 3,
        }),
        exit_code: 0,
        platform: "linux-x86_64".to_owned(),
        sandbox: SandboxMode::Strict,
        address: "//a:b".to_owned(),
        producer: "0.1.0".to_owned(),
        created_unix_ms: 1,
        duration: Duration::from_millis(12),
    };
    manifest.sort();
    manifest
}

/// Encodes without the checks of `encode`, as a hostile writer would.
fn forged(manifest: &Manifest) -> Vec<u8> {
    manifest.to_message().encode_to_vec()
}

#[test]
fn what_was_encoded_is_decoded() {
    let mut outputs = vec![file("b/c", b"1"), file("a", b"2")];
    outputs.push(Output {
        group: "bin".to_owned(),
        path: "b/link".to_owned(),
        entry: Entry::Symlink {
            target: "../a".to_owned(),
        },
    });
    outputs.push(Output {
        group: String::new(),
        path: "b".to_owned(),
        entry: Entry::Directory,
    });
    let manifest = manifest(outputs);
    let bytes = manifest.encode().unwrap();
    assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
}

#[test]
fn paths_that_leave_the_output_directory_are_refused() {
    for path in ["", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\0b", "a/."] {
        let bytes = forged(&manifest(vec![file(path, b"1")]));
        let error = Manifest::decode(&bytes).unwrap_err();
        assert!(matches!(error, ManifestError::Path { .. }), "{path:?}: {error}");
        assert!(manifest(vec![file(path, b"1")]).encode().is_err(), "{path:?}");
    }
}

#[test]
fn nothing_passes_through_a_link_or_a_file() {
    let link = Output {
        group: String::new(),
        path: "a".to_owned(),
        entry: Entry::Symlink {
            target: "/etc".to_owned(),
        },
    };
    for parent in [link, file("a", b"x")] {
        let bytes = forged(&manifest(vec![parent, file("a-b", b""), file("a/passwd", b"1")]));
        assert!(Manifest::decode(&bytes).is_err());
    }
}

#[test]
fn a_path_occurs_once_in_a_group_and_is_one_thing() {
    assert!(manifest(vec![file("a", b"1"), file("a", b"1")]).encode().is_err());
    let mut other = file("a", b"2");
    other.group = "g".to_owned();
    assert!(manifest(vec![file("a", b"1"), other.clone()]).encode().is_err());
    assert!(manifest(vec![file("a", b"2"), other]).encode().is_ok());
}

#[test]
fn unsorted_outputs_are_refused() {
    let mut unsorted = manifest(vec![file("a", b"1"), file("b", b"1")]);
    unsorted.outputs.reverse();
    assert!(Manifest::decode(&forged(&unsorted)).is_err());
}

#[test]
fn unknown_kinds_modes_formats_and_digests_are_refused() {
    let good = manifest(vec![file("a", b"1")]).to_message();
    let changes: [fn(&mut proto::Manifest); 7] = [
        |m| m.format = 2,
        |m| m.key = bytes::Bytes::from_static(b"short"),
        |m| m.sandbox = 77,
        |m| m.kind = String::new(),
        |m| m.outputs[0].kind = 9,
        |m| m.outputs[0].digest = bytes::Bytes::new(),
        |m| m.outputs_digest = bytes_of(Digest::of(b"other")),
    ];
    assert!(Manifest::decode(&good.encode_to_vec()).is_ok());
    for (index, change) in changes.iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(Manifest::decode(&bad.encode_to_vec()).is_err(), "change {index}");
    }
}

#[test]
fn the_outputs_digest_follows_content_kind_path_and_group_only() {
    let base = manifest(vec![file("a", b"1")]);
    let mut later = base.clone();
    later.created_unix_ms += 1;
    later.key = Digest::of(b"another");
    later.log = None;
    assert_eq!(base.outputs_digest(), later.outputs_digest());
    let mut executable = base.clone();
    if let Entry::File { executable, .. } = &mut executable.outputs[0].entry {
        *executable = true;
    }
    let mut grouped = base.clone();
    grouped.outputs[0].group = "g".to_owned();
    let others = [
        manifest(vec![file("a", b"2")]),
        manifest(vec![file("b", b"1")]),
        executable,
        grouped,
    ];
    for other in others {
        assert_ne!(base.outputs_digest(), other.outputs_digest());
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::decode(&bytes);
    }

    #[test]
    fn a_changed_byte_is_an_error_or_another_valid_manifest(position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let good = manifest(vec![file("a", b"1"), file("b/c", b"22")]);
        let mut bytes = good.encode().unwrap();
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        if let Ok(changed) = Manifest::decode(&bytes) {
            prop_assert!(changed.encode().is_ok());
        }
    }
}
