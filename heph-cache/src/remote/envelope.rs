//! The object of an action in a remote cache: its manifest, who signed it, and small contents. See `docs/formats.md`.

use std::collections::HashMap;

use bytes::Bytes;
use heph_common::Digest;
use heph_common::package::link_leaves;
use heph_proto as proto;
use prost::Message;

use super::signing::{Signer, Verifier};
use crate::manifest::{Entry, Manifest};

/// Version of the meaning of the fields.
pub const FORMAT: u32 = 1;

/// Contents of at most so many bytes are part of the envelope.
pub const INLINE_CONTENT: u64 = 4 * 1024;

/// As long as all of them together have at most so many.
pub const INLINE_TOTAL: u64 = 64 * 1024;

/// The largest envelope in bytes: some 300,000 outputs.
pub const LARGEST: u64 = 64 * 1024 * 1024;

/// How the field `checksum`, the last one, begins: its tag and its length.
const CHECKSUM: [u8; 2] = [15 << 3 | 2, 32];

/// How one content is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its bytes, proved, where it is small.
    pub inline: Option<Bytes>,
    /// Whether its object is compressed.
    pub compressed: bool,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Kind of action.
    pub kind: &'a str,
    /// Its key.
    pub key: Digest,
    /// The platform that the asker runs on.
    pub platform: &'a str,
    /// The trust scope that was read.
    pub scope: &'a str,
    /// `cacheEpoch`; empty when there is none.
    pub epoch: &'a str,
    /// The largest content in bytes that is taken.
    pub largest: u64,
}

/// A manifest that arrived and is as it should be.
#[derive(Clone, Debug)]
pub struct Received {
    /// What was produced.
    pub manifest: Manifest,
    /// Id of the key that signed it, of those that are accepted.
    pub signer: Option<String>,
    /// How its contents are stored.
    pub contents: HashMap<Digest, Stored>,
    /// When it was written, in milliseconds since 1970.
    pub written_unix_ms: u64,
}

/// Where an envelope is written.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Trust scope.
    pub scope: &'a str,
    /// `cacheEpoch`; empty when there is none.
    pub epoch: &'a str,
    /// Milliseconds since 1970.
    pub now_unix_ms: u64,
}

/// Writes an envelope.
pub fn seal(
    manifest: &Manifest,
    contents: impl IntoIterator<Item = (Digest, Stored)>,
    place: Place<'_>,
    signer: Option<&Signer>,
) -> Bytes {
    let manifest = proto::RemoteManifest {
        format: FORMAT,
        manifest: Some(manifest.to_message()),
        scope: place.scope.to_owned(),
        epoch: place.epoch.to_owned(),
        written_unix_ms: place.now_unix_ms,
    };
    let manifest = Bytes::from(manifest.encode_to_vec());
    let contents = contents.into_iter().map(|(digest, stored)| proto::StoredContent {
        digest: Bytes::copy_from_slice(digest.as_bytes()),
        inline: stored.inline,
        compressed: stored.compressed,
    });
    let envelope = proto::Envelope {
        key_id: signer.map(|signer| signer.id().to_owned()).unwrap_or_default(),
        signature: signer
            .map(|signer| signer.sign(&manifest).into())
            .unwrap_or_default(),
        manifest,
        contents: contents.collect(),
        checksum: Bytes::new(),
        tombstone: Bytes::new(),
    };
    encode(&envelope)
}

/// An envelope without a checksum as it is written, with one.
pub(super) fn encode(envelope: &proto::Envelope) -> Bytes {
    let mut bytes = envelope.encode_to_vec();
    let checksum = Digest::of(&bytes);
    bytes.extend_from_slice(&CHECKSUM);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes.into()
}

/// Reads an envelope from anywhere: everything that its user relies on is checked here.
///
/// # Errors
/// Why it is refused, as a fragment.
pub fn open(bytes: Bytes, expected: &Expected<'_>, verifier: &Verifier) -> Result<Received, String> {
    let (remote, signer, stored) = unseal(bytes, verifier)?;
    let is = |what: &str, found: &str, wanted: &str| match found == wanted {
        true => Ok(()),
        false => Err(format!(
            "its {what} is '{}', not '{wanted}'",
            found.escape_debug()
        )),
    };
    is("scope", &remote.scope, expected.scope)?;
    is("epoch", &remote.epoch, expected.epoch)?;
    let message = remote.manifest.ok_or("it has no manifest")?;
    let manifest = Manifest::decode(&message.encode_to_vec()).map_err(|error| error.to_string())?;
    is("kind", &manifest.kind, expected.kind)?;
    is("platform", &manifest.platform, expected.platform)?;
    is("key", &manifest.key.to_hex(), &expected.key.to_hex())?;
    if manifest.exit_code != 0 {
        return Err(format!(
            "it is of a command that ended with {}",
            manifest.exit_code
        ));
    }
    check_contents(&manifest, expected.largest)?;
    Ok(Received {
        signer,
        contents: contents(&manifest, stored)?,
        manifest,
        written_unix_ms: remote.written_unix_ms,
    })
}

/// What an envelope says of itself.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What was produced.
    pub manifest: Manifest,
    /// Id of the key that signed it, of those that are accepted.
    pub signer: Option<String>,
    /// Trust scope that it was written to.
    pub scope: String,
    /// When it was written, in milliseconds since 1970.
    pub written_unix_ms: u64,
}

/// Reads an envelope for somebody who only looks: it is whole and its signature counts, and nothing else is checked.
///
/// # Errors
/// Why it is refused, as a fragment.
pub fn look(bytes: Bytes, verifier: &Verifier) -> Result<Seen, String> {
    let (remote, signer, _) = unseal(bytes, verifier)?;
    let message = remote.manifest.ok_or("it has no manifest")?;
    let manifest = Manifest::decode(&message.encode_to_vec()).map_err(|error| error.to_string())?;
    Ok(Seen {
        manifest,
        signer,
        scope: remote.scope,
        written_unix_ms: remote.written_unix_ms,
    })
}

type Unsealed = (proto::RemoteManifest, Option<String>, Vec<proto::StoredContent>);

fn unseal(bytes: Bytes, verifier: &Verifier) -> Result<Unsealed, String> {
    check_whole(&bytes)?;
    let envelope = proto::Envelope::decode(bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    let signer = verifier
        .check(&envelope.manifest, &envelope.key_id, &envelope.signature)?
        .map(str::to_owned);
    let remote = proto::RemoteManifest::decode(envelope.manifest)
        .map_err(|error| format!("its manifest cannot be read: {error}"))?;
    if remote.format != FORMAT {
        return Err(format!("it has the format {}, not {FORMAT}", remote.format));
    }
    Ok((remote, signer, envelope.contents))
}

/// Refuses what was damaged on its way or where it lay: most fields of an unsigned manifest are proved by nothing else.
pub(super) fn check_whole(bytes: &[u8]) -> Result<(), String> {
    let length = bytes.len().saturating_sub(CHECKSUM.len() + 32);
    let (text, end) = bytes.split_at_checked(length).unwrap_or_default();
    let Some(stated) = end.strip_prefix(&CHECKSUM).and_then(Digest::from_slice) else {
        return Err("it is cut off, or nothing that heph wrote".to_owned());
    };
    match Digest::of(text) == stated {
        true => Ok(()),
        false => Err("it is damaged: its checksum is another one".to_owned()),
    }
}

/// Refuses what cannot be stored everywhere, or not at all.
///
/// # Errors
/// Why, as a fragment.
pub fn check_contents(manifest: &Manifest, largest: u64) -> Result<(), String> {
    let mut sizes: HashMap<Digest, u64> = HashMap::new();
    let mut total = 0_u64;
    for (content, _) in manifest.contents() {
        if content.size > largest {
            return Err(format!(
                "a content has {} bytes, at most {largest} are taken",
                content.size
            ));
        }
        let before = sizes.insert(content.digest, content.size);
        if before.is_some_and(|size| size != content.size) {
            return Err("a content has two sizes".to_owned());
        }
        if before.is_none() {
            total = total.saturating_add(content.size);
        }
    }
    if total > largest {
        return Err(format!(
            "its contents have {total} bytes, at most {largest} are taken"
        ));
    }
    check_names(manifest)
}

/// Refuses names that are one name on some file systems, and links that leave the place of the outputs.
fn check_names(manifest: &Manifest) -> Result<(), String> {
    let mut names: HashMap<String, &str> = HashMap::new();
    for output in &manifest.outputs {
        let ends = output.path.match_indices('/').map(|(end, _)| end);
        for end in ends.chain([output.path.len()]) {
            let name = output.path.get(..end).unwrap_or_default();
            if names
                .insert(name.to_lowercase(), name)
                .is_some_and(|other| other != name)
            {
                return Err(format!("names differ only by case: {}", name.escape_debug()));
            }
        }
        if let Entry::Symlink { target } = &output.entry
            && link_leaves(&output.path, target)
        {
            let (path, target) = (output.path.escape_debug(), target.escape_debug());
            return Err(format!("the link {path} -> {target} leads out"));
        }
    }
    Ok(())
}

fn contents(
    manifest: &Manifest,
    stored: Vec<proto::StoredContent>,
) -> Result<HashMap<Digest, Stored>, String> {
    let wanted: HashMap<Digest, u64> = manifest
        .contents()
        .map(|(content, _)| (content.digest, content.size))
        .collect();
    let mut contents = HashMap::with_capacity(wanted.len());
    for stored in stored {
        let digest = Digest::from_slice(&stored.digest).ok_or("a digest has not 32 bytes")?;
        let Some(size) = wanted.get(&digest) else {
            return Err("it has a content that its manifest does not name".to_owned());
        };
        if let Some(bytes) = &stored.inline {
            if bytes.len() as u64 != *size {
                return Err(format!("a content in it has {} bytes, not {size}", bytes.len()));
            }
            if Digest::of(bytes) != digest {
                return Err("a content in it is not what its digest says".to_owned());
            }
        }
        let stored = Stored {
            inline: stored.inline,
            compressed: stored.compressed,
        };
        if contents.insert(digest, stored).is_some() {
            return Err("a content is in it twice".to_owned());
        }
    }
    match wanted.len() == contents.len() {
        true => Ok(contents),
        false => Err("it does not say where all its contents are".to_owned()),
    }
}
