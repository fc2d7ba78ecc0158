//! A bucket into which somebody else writes, as a build meets it. `heph-cache/tests/hostile` has the whole list.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use heph_cache::{Manifest, Output, SandboxMode};
use heph_common::Digest;
use heph_proto::{EntryKind, Envelope, OutputEntry, RemoteManifest};
use heph_tests::{Environment, files_below, wait_until};
use prost::Message as _;

/// `generated` is written into the tree; `large` is an object of its own.
const BUILD: &str = r#"
target(name = "small", driver = "sh", deps = file("text"), run = "tr a-z A-Z < $SRC > $OUT", out = "small.out")
target(name = "large", driver = "sh", deps = ":small", run = "cat $SRC > $OUT; seq 1 90000 >> $OUT", out = "large.out")
target(name = "generated", driver = "sh", deps = ":small", run = "cat $SRC > $OUT", out = "generated.txt", codegen = "copy")
"#;

fn machine(bucket: &Path) -> Environment {
    let env = Environment::new();
    let (config, bucket) = (heph_tests::CONFIG, bucket.display());
    env.write(
        ".hephconfig",
        format!("{config}sandbox:\n  mode: \"off\"\ncaches:\n  shared:\n    uri: file://{bucket}\n"),
    );
    env.write("BUILD", BUILD);
    env.write("text", "some text\n");
    env
}

/// A copy of what an honest machine has sent.
struct Bucket {
    place: tempfile::TempDir,
}

impl Bucket {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let bucket = Self { place };
        let env = machine(&bucket.path());
        env.build("//...");
        wait_until("everything is uploaded", || {
            env.heph(["cache", "flush"]).run().code == 0
        });
        bucket
    }

    fn path(&self) -> PathBuf {
        self.place.path().join("bucket")
    }

    fn objects(&self, kind: &str) -> Vec<PathBuf> {
        let part = format!("/{kind}/");
        let all = files_below(&self.path()).into_iter();
        all.filter(|path| path.to_str().unwrap().contains(&part))
            .collect()
    }

    /// Changes the outputs of every manifest; the sums in it are made to fit.
    fn change(&self, change: impl Fn(&mut Vec<OutputEntry>)) {
        for path in self.objects("actions") {
            let mut envelope = Envelope::decode(&fs::read(&path).unwrap()[..]).unwrap();
            let mut remote = RemoteManifest::decode(&envelope.manifest[..]).unwrap();
            let manifest = remote.manifest.as_mut().unwrap();
            change(&mut manifest.outputs);
            manifest.outputs_digest = outputs_digest(&manifest.outputs).as_bytes().to_vec().into();
            envelope.manifest = remote.encode_to_vec().into();
            envelope.checksum = Vec::new().into();
            let mut bytes = envelope.encode_to_vec();
            let checksum = Digest::of(&bytes);
            bytes.extend([0x7a, 32]);
            bytes.extend(checksum.as_bytes());
            fs::write(path, bytes).unwrap();
        }
    }
}

fn outputs_digest(outputs: &[OutputEntry]) -> Digest {
    let outputs = outputs
        .iter()
        .cloned()
        .map(|output| Output::from_message(output).unwrap());
    let manifest = Manifest {
        kind: String::new(),
        key: Digest::of(b""),
        outputs: outputs.collect(),
        log: None,
        exit_code: 0,
        platform: String::new(),
        sandbox: SandboxMode::Unspecified,
        address: String::new(),
        producer: String::new(),
        created_unix_ms: 0,
        duration: std::time::Duration::ZERO,
    };
    manifest.outputs_digest()
}

/// Every path beside the home and the copied outputs.
fn surroundings(env: &Environment) -> BTreeSet<PathBuf> {
    let place = env.root();
    let all = files_below(place.parent().unwrap()).into_iter();
    let own = [env.home(), env.beside("out")];
    all.filter(|path| !own.iter().any(|own| path.starts_with(own)))
        .filter(|path| !path.file_name().unwrap().to_str().unwrap().starts_with("report-"))
        .collect()
}

/// Another machine builds: everything is right, what is wrong is told once, nothing else is anywhere.
#[track_caller]
fn refused(bucket: &Bucket, reason: &str, hits: usize) {
    let env = machine(&bucket.path());
    let before = surroundings(&env);
    let out = env.beside("out");
    let built = env
        .heph(["run", "--json", "--copy-out", out.to_str().unwrap(), "//..."])
        .build();
    built.run.success().says(reason);
    let told = built
        .notices()
        .iter()
        .filter(|code| *code == "remote-cache")
        .count();
    assert_eq!(told, 1, "{}", built.run);
    assert_eq!(built.executed().len(), 3 - hits, "{}", built.run);
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(read("small.out"), "SOME TEXT\n");
    assert_eq!(env.read("generated.txt"), "SOME TEXT\n");
    let large = read("large.out");
    assert!(large.starts_with("SOME TEXT\n1\n2\n") && large.ends_with("\n90000\n"));
    let mut after = surroundings(&env);
    assert!(after.remove(&env.path("generated.txt")));
    assert_eq!(after, before);
}

#[test]
fn outputs_that_would_lie_elsewhere_are_made_here() {
    for (path, reason) in [
        ("../../heph-hostile", "'..' are not allowed"),
        ("/tmp/heph-hostile", "it is absolute"),
        ("a\0b", "it contains a NUL"),
    ] {
        let bucket = Bucket::new();
        bucket.change(|outputs| outputs[0].path = path.to_owned());
        refused(&bucket, reason, 0);
    }
    let bucket = Bucket::new();
    bucket.change(|outputs| {
        let through = outputs[0].clone();
        let link = OutputEntry {
            path: "a".to_owned(),
            kind: EntryKind::Symlink.into(),
            link_target: "/tmp".to_owned(),
            digest: Vec::new().into(),
            size: 0,
            group: String::new(),
        };
        *outputs = vec![
            link,
            OutputEntry {
                path: "a/heph-hostile".to_owned(),
                ..through
            },
        ];
    });
    refused(&bucket, "below a file or link", 0);
    assert!(!Path::new("/tmp/heph-hostile").exists());
}

#[test]
fn outputs_that_the_target_does_not_declare_are_made_here() {
    for path in [".git/hooks/pre-commit", "BUILD", "other.out"] {
        let bucket = Bucket::new();
        bucket.change(|outputs| outputs[0].path = path.to_owned());
        refused(&bucket, "does not declare", 0);
    }
    // All that it declares, and something beside it.
    let bucket = Bucket::new();
    bucket.change(|outputs| {
        let more = OutputEntry {
            path: ".envrc".to_owned(),
            ..outputs[0].clone()
        };
        outputs.insert(0, more);
    });
    refused(&bucket, "does not declare", 0);
}

#[test]
fn a_bomb_is_made_here() {
    let bucket = Bucket::new();
    let blobs = bucket.objects("blobs");
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    // A gigabyte of nothing, in some 32 KiB.
    let mut bomb = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 1 << 30), &mut bomb).unwrap();
    fs::write(&blobs[0], bomb.finish().unwrap()).unwrap();
    refused(&bucket, "longer than announced", 2);
}
