//! Signatures over what is written to remote caches: Ed25519 (RFC 8032).

use std::fmt;
use std::path::{Path, PathBuf};

use heph_common::Digest;
use heph_common::config::Signing;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// What signed bytes begin with, so that a signature means nothing elsewhere.
const PREFIX: &[u8] = b"heph-manifest-v1";

/// First word of a file that holds a private key.
const KEY_FILE: &str = "heph-signing-key-v1";

/// Signs with one private key.
pub struct Signer {
    id: String,
    pair: Ed25519KeyPair,
}

/// Whose signatures are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verifier {
    /// Public keys by their ids, without the revoked ones.
    keys: Vec<(String, [u8; 32])>,
    required: bool,
}

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The file cannot be read.
    #[error("cannot read the signing key {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{} is no signing key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A public key is none.
    #[error("'{text}' is no public key: 64 hexadecimal digits")]
    NoPublicKey {
        /// As it is written.
        text: String,
    },
    /// The system has no random numbers.
    #[error("no key can be made: the system has no random numbers")]
    NoRandomness,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.id)
    }
}

/// A new pair of keys: the text of its file, and the public key.
///
/// # Errors
/// [`SigningError::NoRandomness`].
pub fn generate() -> Result<(String, String), SigningError> {
    use ring::rand::SecureRandom as _;
    let mut seed = [0_u8; 32];
    ring::rand::SystemRandom::new()
        .fill(&mut seed)
        .map_err(|_| SigningError::NoRandomness)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| SigningError::NoRandomness)?;
    let public = hex(pair.public_key().as_ref());
    Ok((format!("{KEY_FILE} {}\n", hex(&seed)), public))
}

/// The id by which a public key is named in `revoked` and in what it signed: 16 hexadecimal digits.
pub fn key_id(public: &[u8]) -> String {
    let mut id = Digest::of(public).to_hex();
    id.truncate(16);
    id
}

impl Signer {
    /// The signer of a cache; `None` when it does not sign.
    ///
    /// # Errors
    /// [`SigningError`] where the key file cannot be used.
    pub fn of(settings: &Signing) -> Result<Option<Self>, SigningError> {
        settings.key_file.as_deref().map(Self::read).transpose()
    }

    fn read(path: &Path) -> Result<Self, SigningError> {
        let text = std::fs::read_to_string(path).map_err(|source| SigningError::Read {
            path: path.to_owned(),
            source,
        })?;
        let none = || SigningError::NoKey {
            path: path.to_owned(),
        };
        let (word, seed) = text.trim().split_once(' ').ok_or_else(none)?;
        let seed = unhex(seed).filter(|_| word == KEY_FILE).ok_or_else(none)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| none())?;
        Ok(Self {
            id: key_id(pair.public_key().as_ref()),
            pair,
        })
    }

    /// The id of its key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The signature of bytes.
    pub fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        self.pair.sign(&[PREFIX, bytes].concat()).as_ref().to_vec()
    }
}

impl Verifier {
    /// The verifier of a cache.
    ///
    /// # Errors
    /// [`SigningError::NoPublicKey`].
    pub fn of(settings: &Signing) -> Result<Self, SigningError> {
        let mut keys = Vec::with_capacity(settings.public_keys.len());
        for text in &settings.public_keys {
            let key = unhex(text.trim()).ok_or_else(|| SigningError::NoPublicKey { text: text.clone() })?;
            let id = key_id(&key);
            if !settings.revoked.contains(&id) && !settings.revoked.contains(text) {
                keys.push((id, key));
            }
        }
        Ok(Self {
            keys,
            required: settings.required,
        })
    }

    /// Ids of the keys that are accepted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(id, _)| id.as_str())
    }

    /// Whether what nobody signed is refused.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Who signed the bytes, of those that are accepted; `Ok(None)` for nobody, where that is enough.
    ///
    /// # Errors
    /// Why it is refused, as a fragment.
    pub fn check(&self, bytes: &[u8], key_id: &str, signature: &[u8]) -> Result<Option<&str>, String> {
        if self.keys.is_empty() && !self.required {
            return Ok(None);
        }
        if signature.is_empty() {
            return match self.required {
                true => Err("it is not signed".to_owned()),
                false => Ok(None),
            };
        }
        let Some((id, key)) = self.keys.iter().find(|(id, _)| id == key_id) else {
            return Err(format!(
                "it is signed with the key {}, which is not accepted",
                key_id.escape_debug()
            ));
        };
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&[PREFIX, bytes].concat(), signature)
            .map_err(|_| format!("its signature with the key {id} is wrong"))?;
        Ok(Some(id))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digest: Digest = text.parse().ok()?;
    Some(*digest.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(directory: &Path) -> (Signing, String) {
        let (file, public) = generate().unwrap();
        let path = directory.join(&public);
        std::fs::write(&path, file).unwrap();
        let signing = Signing {
            key_file: Some(path),
            public_keys: vec![public.clone()],
            revoked: Vec::new(),
            required: true,
        };
        (signing, public)
    }

    #[test]
    fn only_signatures_of_accepted_keys_over_the_same_bytes_count() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, _) = pair(directory.path());
        let (theirs, _) = pair(directory.path());
        let signer = Signer::of(&ours).unwrap().unwrap();
        let signature = signer.sign(b"text");
        let verifier = Verifier::of(&ours).unwrap();
        assert_eq!(
            verifier.check(b"text", signer.id(), &signature),
            Ok(Some(signer.id()))
        );
        for (bytes, id, signature, why) in [
            (&b"other"[..], signer.id(), &signature[..], "is wrong"),
            (b"text", signer.id(), &signature[..63], "is wrong"),
            (b"text", "0123456789abcdef", &signature, "not accepted"),
            (b"text", "", &[], "not signed"),
        ] {
            let refused = verifier.check(bytes, id, signature).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let other = Signer::of(&theirs).unwrap().unwrap();
        assert!(verifier.check(b"text", other.id(), &other.sign(b"text")).is_err());
        let forged = verifier.check(b"text", signer.id(), &other.sign(b"text"));
        assert!(forged.is_err());
    }

    #[test]
    fn a_revoked_key_is_not_accepted_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let (mut signing, public) = pair(directory.path());
        let signer = Signer::of(&signing).unwrap().unwrap();
        let signature = signer.sign(b"text");
        for revoked in [signer.id().to_owned(), public] {
            signing.revoked = vec![revoked];
            let verifier = Verifier::of(&signing).unwrap();
            assert!(verifier.check(b"text", signer.id(), &signature).is_err());
        }
    }

    #[test]
    fn without_keys_everything_is_accepted_and_nothing_is_proved() {
        let verifier = Verifier::default();
        assert_eq!(verifier.check(b"text", "any", b"any"), Ok(None));
    }

    #[test]
    fn what_is_no_key_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "no key").unwrap();
        assert!(matches!(Signer::read(&path), Err(SigningError::NoKey { .. })));
        let missing = directory.path().join("missing");
        assert!(matches!(Signer::read(&missing), Err(SigningError::Read { .. })));
    }
}
