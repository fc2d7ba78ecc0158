//! The list of what is refused.

use heph_proto::{EntryKind, StoredContent};

use super::offer::{LARGE, Offer, SMALL, file, large, link, small};

/// What is wrong, the reason that is told, and how an honest offer becomes it.
pub type Case = (&'static str, &'static str, fn(&mut Offer));

/// What is refused when the manifest arrives.
pub const MANIFESTS: &[Case] = &[
    // What is no envelope.
    ("nothing", "cut off", |o| o.spoil = |bytes| bytes.clear()),
    ("noise", "nothing that heph wrote", |o| {
        o.spoil = |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x5a)
    }),
    ("a half", "nothing that heph wrote", |o| {
        o.spoil = |bytes| bytes.truncate(bytes.len() / 2)
    }),
    ("without its last byte", "nothing that heph wrote", |o| {
        o.spoil = |bytes| bytes.truncate(bytes.len() - 1)
    }),
    ("with something behind it", "nothing that heph wrote", |o| {
        o.spoil = |bytes| bytes.extend(b"more")
    }),
    ("a turned bit", "its checksum", |o| {
        o.spoil = |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        };
    }),
    ("a turned bit of the checksum", "its checksum", |o| {
        o.spoil = |bytes| {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        };
    }),
    ("larger than any", "at most 67108864 are allowed", |o| {
        o.is_endless = true
    }),
    ("no manifest", "its manifest cannot be read", |o| {
        o.raw_manifest = Some(vec![0xff; 40])
    }),
    ("an empty manifest", "it has the format 0", |o| {
        o.raw_manifest = Some(Vec::new())
    }),
    ("a name that is no text", "cannot be read", |o| {
        o.manifest.outputs[0].path = "AAAA".to_owned();
        o.replace = Some((b"AAAA", b"\xff\xfe\xff\xfe"));
    }),
    // What is about something else.
    ("another format of envelopes", "it has the format 9", |o| {
        o.format = 9
    }),
    ("another format of manifests", "format 7", |o| {
        o.manifest.format = 7
    }),
    ("another key", "its key is", |o| {
        o.manifest.key = vec![7; 32].into()
    }),
    ("a key that is none", "32 bytes", |o| {
        o.manifest.key = vec![7; 31].into()
    }),
    ("another kind", "its kind is 'rustc'", |o| {
        o.manifest.kind = "rustc".to_owned()
    }),
    ("another platform", "its platform is 'amiga-m68k'", |o| {
        o.manifest.platform = "amiga-m68k".to_owned()
    }),
    ("another scope", "its scope is 'pull-7'", |o| {
        o.scope = "pull-7".to_owned()
    }),
    ("another epoch", "its epoch is 'old'", |o| {
        o.epoch = "old".to_owned()
    }),
    ("a failed command", "ended with 1", |o| o.manifest.exit_code = 1),
    ("a mode of sandboxes that is none", "is no mode", |o| {
        o.manifest.sandbox = 99
    }),
    // Paths.
    ("an absolute path", "it is absolute", |o| {
        o.name("/tmp/heph-hostile")
    }),
    ("a path upwards", "'..' are not allowed", |o| {
        o.name("../../heph-hostile")
    }),
    ("a path upwards inside", "'..' are not allowed", |o| {
        o.name("a/../../../heph-hostile")
    }),
    ("a path through here", "'.' and", |o| o.name("a/./b")),
    ("no path", "it is empty", |o| o.name("")),
    ("a path with an empty part", "a part of it is empty", |o| {
        o.name("a//b")
    }),
    ("a path with a slash at its end", "a part of it is empty", |o| {
        o.name("a/")
    }),
    ("a path with a NUL", "it contains a NUL", |o| o.name("a\0b")),
    ("an endless path", "longer than 4096 bytes", |o| {
        o.name(&"a/".repeat(3000))
    }),
    ("a path twice", "it occurs twice", |o| {
        o.outputs(vec![file("a", &small()), file("a", &small())])
    }),
    ("two things at one path", "two different things", |o| {
        let mut other = link("a", "b");
        other.group = "other".to_owned();
        o.outputs(vec![file("a", &small()), other]);
    }),
    ("a path below a file", "below a file or link", |o| {
        o.outputs(vec![file("a", &small()), file("a/b", &small())])
    }),
    ("a path through a link", "below a file or link", |o| {
        o.outputs(vec![link("a", "b"), file("a/passwd", &small())])
    }),
    ("names that differ by case", "only by case", |o| {
        o.outputs(vec![file("A", &small()), file("a", &small())])
    }),
    (
        "a path through a link that differs by case",
        "only by case",
        |o| o.outputs(vec![link("A", "b"), file("a/x", &small())]),
    ),
    ("paths in no order", "not sorted", |o| {
        o.outputs(vec![file("b", &small()), file("a", &small())])
    }),
    // Things.
    ("an absolute link", "leads out", |o| {
        o.outputs(vec![link("a", "/etc/passwd")])
    }),
    ("a link upwards", "leads out", |o| {
        o.outputs(vec![link("a/b", "../../etc/passwd")])
    }),
    ("a link with a NUL", "contains a NUL", |o| {
        o.outputs(vec![link("a", "b\0c")])
    }),
    ("a link to nothing", "link target is empty", |o| {
        o.outputs(vec![link("a", "")])
    }),
    ("an endless link", "longer than 4096", |o| {
        o.outputs(vec![link("a", &"b".repeat(5000))])
    }),
    ("a device", "is no kind", |o| o.manifest.outputs[0].kind = 40),
    ("a setuid program", "is no kind", |o| {
        o.manifest.outputs[0].kind = 0o4755
    }),
    ("no kind", "is no kind", |o| {
        o.manifest.outputs[0].kind = EntryKind::Unspecified.into()
    }),
    ("outputs that are others", "not the digest of the outputs", |o| {
        o.outputs_digest = Some(vec![1; 32])
    }),
    // Contents.
    ("a huge size", "at most", |o| {
        o.manifest.outputs[0].size = u64::MAX
    }),
    ("huge sizes together", "at most", |o| {
        o.outputs(
            (0..3000)
                .map(|at| {
                    let mut one = file(&format!("{at:04}"), &at.to_string().into_bytes());
                    one.size = u64::MAX / 3000 + 1;
                    one
                })
                .collect(),
        );
    }),
    ("a huge log", "at most", |o| {
        o.manifest.log_digest = vec![3; 32].into();
        o.manifest.log_size = u64::MAX;
    }),
    ("a content of two sizes", "two sizes", |o| {
        let mut other = file("b", &small());
        other.size += 1;
        o.outputs(vec![file("a", &small()), other]);
    }),
    ("a digest that is none", "32 bytes", |o| {
        o.manifest.outputs[0].digest = vec![1; 20].into()
    }),
    ("a content that is another one", "not what its digest says", |o| {
        o.contents[1].inline = Some(vec![b'x'; SMALL].into())
    }),
    ("a content longer than announced", "bytes, not", |o| {
        o.outputs(vec![file("a", &small())]);
        o.manifest.outputs[0].size = 3;
    }),
    ("a content shorter than announced", "bytes, not", |o| {
        o.outputs(vec![file("a", &small())]);
        o.manifest.outputs[0].size = 1 << 30;
    }),
    ("a content that nobody asked for", "does not name", |o| {
        o.contents.push(StoredContent {
            digest: vec![9; 32].into(),
            inline: None,
            compressed: false,
        });
    }),
    ("a content twice", "twice", |o| {
        o.contents.push(o.contents[0].clone())
    }),
    ("a content nowhere", "does not say where", |o| {
        drop(o.contents.pop())
    }),
    ("a stored digest that is none", "32 bytes", |o| {
        o.contents[0].digest = vec![1; 33].into()
    }),
];

/// What is refused when the large content arrives.
pub const CONTENTS: &[Case] = &[
    ("another content", "its digest is", |o| o.blob = vec![b'x'; LARGE]),
    ("a content that is cut off", "bytes instead of", |o| {
        o.blob.truncate(LARGE / 2)
    }),
    ("a content that is too long", "longer than announced", |o| {
        o.blob.push(0)
    }),
    ("an empty content", "bytes instead of", |o| o.blob.clear()),
    ("a bomb", "longer than announced", |o| {
        o.pack(zstd::bulk::compress(&vec![0; 200 << 20], 19).unwrap())
    }),
    ("a window larger than the memory", "memory", |o| {
        let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        packed.window_log(27).unwrap();
        std::io::copy(&mut &vec![0; 100 << 20][..], &mut packed).unwrap();
        o.pack(packed.finish().unwrap());
    }),
    (
        "a second content behind the first",
        "longer than announced",
        |o| {
            let mut packed = zstd::bulk::compress(&large(), 3).unwrap();
            packed.extend(zstd::bulk::compress(b"more", 3).unwrap());
            o.pack(packed);
        },
    ),
    ("half of what is compressed", "bytes instead of", |o| {
        let mut packed = zstd::bulk::compress(&large(), 3).unwrap();
        packed.truncate(packed.len() / 2);
        o.pack(packed);
    }),
    ("something that is not compressed", "", |o| o.pack(large())),
];
