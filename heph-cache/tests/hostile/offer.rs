//! What somebody puts into a bucket: honest at first, and then changed at will. Sums that an attacker can make fit do fit.

use std::fs;
use std::path::Path;

use heph_cache::remote::Object;
use heph_cache::remote::signing::Signer;
use heph_cache::{Manifest, Output, SandboxMode};
use heph_common::Digest;
use heph_common::config::Signing;
use heph_proto::{self as proto, EntryKind, OutputEntry, StoredContent};
use prost::Message;

pub const KIND: &str = "target";
pub const PLATFORM: &str = "linux-test";
pub const KEY: Digest = Digest::from_bytes([5; 32]);
/// Size of the content that goes along with the manifest.
pub const SMALL: usize = 20;
/// Size of the content that is an object of its own, and is received as a stream.
pub const LARGE: usize = 400 << 10;

pub fn small() -> Vec<u8> {
    vec![b's'; SMALL]
}

pub fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at / 7 % 251) as u8).collect()
}

/// A file as an output.
pub fn file(path: &str, bytes: &[u8]) -> OutputEntry {
    OutputEntry {
        group: String::new(),
        path: path.to_owned(),
        kind: EntryKind::File.into(),
        digest: Digest::of(bytes).as_bytes().to_vec().into(),
        size: bytes.len() as u64,
        link_target: String::new(),
    }
}

/// A link as an output.
pub fn link(path: &str, target: &str) -> OutputEntry {
    OutputEntry {
        kind: EntryKind::Symlink.into(),
        digest: Vec::new().into(),
        size: 0,
        link_target: target.to_owned(),
        ..file(path, b"")
    }
}

pub struct Offer {
    pub manifest: proto::Manifest,
    /// In place of what fits.
    pub outputs_digest: Option<Vec<u8>>,
    pub format: u32,
    pub scope: String,
    pub epoch: String,
    pub contents: Vec<StoredContent>,
    /// Id of the key, and the signature.
    pub signature: Option<(String, Vec<u8>)>,
    /// In place of the encoded manifest.
    pub raw_manifest: Option<Vec<u8>>,
    /// Bytes of the encoded manifest that are replaced by others.
    pub replace: Option<(&'static [u8], &'static [u8])>,
    /// What is done to the finished envelope.
    pub spoil: fn(&mut Vec<u8>),
    /// Whether the envelope is a file of terabytes.
    pub is_endless: bool,
    /// The object of the large content.
    pub blob: Vec<u8>,
}

impl Offer {
    pub fn honest() -> Self {
        let manifest = proto::Manifest {
            format: 1,
            kind: KIND.to_owned(),
            key: KEY.as_bytes().to_vec().into(),
            platform: PLATFORM.to_owned(),
            sandbox: SandboxMode::Strict.into(),
            address: "//some:target".to_owned(),
            producer: "0.1.0".to_owned(),
            created_unix_ms: 1_700_000_000_000,
            ..proto::Manifest::default()
        };
        let mut offer = Self {
            manifest,
            outputs_digest: None,
            format: 1,
            scope: "main".to_owned(),
            epoch: String::new(),
            contents: Vec::new(),
            signature: None,
            raw_manifest: None,
            replace: None,
            spoil: |_| {},
            is_endless: false,
            blob: large(),
        };
        offer.outputs(vec![
            file("out/large", &large()),
            file("out/small", &small()),
            link("out/to", "small"),
        ]);
        offer
    }

    /// With these outputs; the small content and the large one are where they are, others nowhere.
    pub fn outputs(&mut self, outputs: Vec<OutputEntry>) {
        let mut digests: Vec<_> = outputs.iter().map(|output| output.digest.clone()).collect();
        digests.retain(|digest| !digest.is_empty());
        let mut seen = std::collections::HashSet::new();
        digests.retain(|digest| seen.insert(digest.clone()));
        self.contents = digests
            .into_iter()
            .map(|digest| StoredContent {
                inline: (digest == Digest::of(&small()).as_bytes()[..]).then(|| small().into()),
                digest,
                compressed: false,
            })
            .collect();
        self.manifest.outputs = outputs;
    }

    /// With one output of this name.
    pub fn name(&mut self, path: &str) {
        self.outputs(vec![file(path, &small())]);
    }

    /// With this as the compressed form of the large content.
    pub fn pack(&mut self, packed: Vec<u8>) {
        self.blob = packed;
        self.contents[0].compressed = true;
    }

    /// Signed, as it is now, with the key of a file.
    pub fn sign(&mut self, file: &str) {
        let signing = Signing {
            key_file: Some(file.into()),
            public_keys: Vec::new(),
            revoked: Vec::new(),
            required: false,
        };
        let signer = Signer::of(&signing).unwrap().unwrap();
        self.signature = Some((signer.id().to_owned(), signer.sign(&self.manifest_bytes())));
    }

    fn manifest_bytes(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw_manifest {
            return raw.clone();
        }
        let mut manifest = self.manifest.clone();
        let outputs = manifest.outputs.iter().cloned().map(Output::from_message);
        let digest = match (&self.outputs_digest, outputs.collect::<Result<Vec<_>, _>>()) {
            (Some(digest), _) => digest.clone(),
            (None, Ok(outputs)) => digest_of(outputs).as_bytes().to_vec(),
            // It is refused before that is looked at.
            (None, Err(_)) => vec![0; 32],
        };
        manifest.outputs_digest = digest.into();
        let remote = proto::RemoteManifest {
            format: self.format,
            manifest: Some(manifest),
            scope: self.scope.clone(),
            epoch: self.epoch.clone(),
            written_unix_ms: 1,
        };
        let mut bytes = remote.encode_to_vec();
        if let Some((from, to)) = self.replace {
            let at = bytes
                .windows(from.len())
                .position(|window| window == from)
                .unwrap();
            bytes[at..at + to.len()].copy_from_slice(to);
        }
        bytes
    }

    fn envelope(&self) -> Vec<u8> {
        let (key_id, signature) = self.signature.clone().unwrap_or_default();
        let envelope = proto::Envelope {
            manifest: self.manifest_bytes().into(),
            key_id,
            signature: signature.into(),
            contents: self.contents.clone(),
            checksum: Vec::new().into(),
            ..proto::Envelope::default()
        };
        let mut bytes = envelope.encode_to_vec();
        let checksum = Digest::of(&bytes);
        bytes.extend([0x7a, 32]);
        bytes.extend(checksum.as_bytes());
        (self.spoil)(&mut bytes);
        bytes
    }

    /// Puts it where a reader looks for it.
    pub fn put(&self, bucket: &Path) {
        let scope = || "main".to_owned();
        let action = Object::Action {
            scope: scope(),
            kind: KIND.to_owned(),
            key: KEY,
        };
        let blob = Object::Blob {
            scope: scope(),
            digest: Digest::of(&large()),
            compressed: self.contents.first().is_some_and(|first| first.compressed),
        };
        for (object, bytes) in [(action.path(), self.envelope()), (blob.path(), self.blob.clone())] {
            let path = bucket.join(object);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        if self.is_endless {
            let file = fs::File::options().write(true).open(bucket.join(action.path()));
            file.unwrap().set_len(4 << 40).unwrap();
        }
    }
}

fn digest_of(outputs: Vec<Output>) -> Digest {
    let manifest = Manifest {
        kind: KIND.to_owned(),
        key: KEY,
        outputs,
        log: None,
        exit_code: 0,
        platform: PLATFORM.to_owned(),
        sandbox: SandboxMode::Strict,
        address: String::new(),
        producer: String::new(),
        created_unix_ms: 0,
        duration: std::time::Duration::ZERO,
    };
    manifest.outputs_digest()
}
