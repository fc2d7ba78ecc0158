//! Marks of purged actions: what was made until then is neither used nor sent any more. See `docs/formats.md`.
//!
//! A mark lies twice in a cache: under a name of its own, where uploaders look before and after they send something, and in the place of
//! the action's manifest, where readers find it without asking for more and conditional writes of others fail.

use bytes::Bytes;
use heph_common::Digest;
use heph_proto as proto;
use prost::Message;

use super::envelope::{self, FORMAT};
use super::signing::{Signer, Verifier};

/// What the bytes that are signed begin with. A signed manifest never does: these bytes are none.
const PREFIX: &[u8] = b"heph-tombstone-v1";

/// The largest mark in bytes.
pub const LARGEST: u64 = 4096;

/// Writes a mark.
pub fn seal(key: &Digest, scope: &str, purged_unix_ms: u64, signer: Option<&Signer>) -> Bytes {
    let tombstone = proto::RemoteTombstone {
        format: FORMAT,
        key: Bytes::copy_from_slice(key.as_bytes()),
        scope: scope.to_owned(),
        purged_unix_ms,
    };
    let tombstone = Bytes::from(tombstone.encode_to_vec());
    let signature = signer.map(|signer| signer.sign(&signed(&tombstone)));
    let envelope = proto::Envelope {
        key_id: signer.map(|signer| signer.id().to_owned()).unwrap_or_default(),
        signature: signature.unwrap_or_default().into(),
        tombstone,
        ..proto::Envelope::default()
    };
    envelope::encode(&envelope)
}

/// Reads a mark from anywhere: until when results of the action are purged, in milliseconds since 1970. `None` for what is no mark.
///
/// # Errors
/// Why a mark does not count, as a fragment.
pub fn open(bytes: Bytes, key: &Digest, scope: &str, verifier: &Verifier) -> Result<Option<u64>, String> {
    if envelope::check_whole(&bytes).is_err() {
        return Ok(None);
    }
    let Ok(envelope) = proto::Envelope::decode(bytes) else {
        return Ok(None);
    };
    if envelope.tombstone.is_empty() {
        return Ok(None);
    }
    verifier.check(
        &signed(&envelope.tombstone),
        &envelope.key_id,
        &envelope.signature,
    )?;
    let tombstone = proto::RemoteTombstone::decode(envelope.tombstone)
        .map_err(|error| format!("the mark cannot be read: {error}"))?;
    if tombstone.format != FORMAT {
        return Err(format!(
            "the mark has the format {}, not {FORMAT}",
            tombstone.format
        ));
    }
    if tombstone.key.as_ref() != key.as_bytes() || tombstone.scope != scope {
        return Err("the mark is of another action".to_owned());
    }
    Ok(Some(tombstone.purged_unix_ms))
}

/// When the result in an envelope was made, by its own word, in milliseconds since 1970; `None` where there is none.
pub fn made_at(envelope: Bytes) -> Option<u64> {
    let envelope = proto::Envelope::decode(envelope).ok()?;
    let remote = proto::RemoteManifest::decode(envelope.manifest).ok()?;
    remote.manifest.map(|manifest| manifest.created_unix_ms)
}

fn signed(tombstone: &[u8]) -> Vec<u8> {
    [PREFIX, tombstone].concat()
}

#[cfg(test)]
mod tests {
    use heph_common::config::Signing;

    use super::super::signing::generate;
    use super::*;

    #[test]
    fn a_mark_counts_for_its_action_and_scope_and_as_its_signature_allows() {
        let directory = tempfile::tempdir().unwrap();
        let (file, public) = generate().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, file).unwrap();
        let signing = Signing {
            key_file: Some(path),
            public_keys: vec![public],
            revoked: Vec::new(),
            required: true,
        };
        let signer = Signer::of(&signing).unwrap().unwrap();
        let (strict, any) = (Verifier::of(&signing).unwrap(), Verifier::default());
        let (key, other) = (Digest::of(b"key"), Digest::of(b"other"));
        let mark = seal(&key, "main", 1234, Some(&signer));
        assert_eq!(open(mark.clone(), &key, "main", &strict), Ok(Some(1234)));
        assert_eq!(open(mark.clone(), &key, "main", &any), Ok(Some(1234)));
        open(mark.clone(), &other, "main", &strict).unwrap_err();
        open(mark.clone(), &key, "pull-7", &strict).unwrap_err();
        let mut flipped = mark.to_vec();
        flipped[50] ^= 1;
        assert_eq!(open(flipped.into(), &key, "main", &any), Ok(None));
        let unsigned = seal(&key, "main", 1234, None);
        open(unsigned.clone(), &key, "main", &strict).unwrap_err();
        assert_eq!(open(unsigned, &key, "main", &any), Ok(Some(1234)));
        assert_eq!(open(Bytes::new(), &key, "main", &any), Ok(None));
        assert_eq!(open(Bytes::from_static(b"<html>"), &key, "main", &any), Ok(None));

        // A signature over a manifest is none over a mark, and the other way round.
        let mut forged = proto::Envelope::decode(mark).unwrap();
        forged.checksum = Bytes::new();
        forged.signature = signer.sign(&forged.tombstone).into();
        open(envelope::encode(&forged), &key, "main", &strict).unwrap_err();
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_arrives_is_a_fault(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = open(bytes.clone().into(), &Digest::of(b"key"), "main", &Verifier::default());
            let _ = made_at(bytes.into());
        }
    }
}
