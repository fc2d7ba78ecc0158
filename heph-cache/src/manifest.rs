//! Manifests: what an action produced.
//!
//! In the index and in remote caches a manifest is the protobuf message `heph.v1.Manifest` (see `docs/formats.md`).
//! [`Manifest::decode`] takes bytes from anywhere: everything that a consumer relies on is checked there.

use std::time::Duration;

use heph_common::Digest;
use heph_proto::{self as proto, EntryKind};
use prost::Message;

pub use heph_proto::SandboxMode;

/// Version of the meaning of a manifest's fields.
pub const FORMAT: u32 = 1;

/// Longest path and link target in bytes.
const MAX_PATH: usize = 4096;

/// What an action produced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Kind of action, such as `target`.
    pub kind: String,
    /// Action key.
    pub key: Digest,
    /// Sorted by path, then by group; see [`Manifest::sort`].
    pub outputs: Vec<Output>,
    /// Standard output and error of the command, where it printed any.
    pub log: Option<Content>,
    /// Exit code of the command.
    pub exit_code: i32,
    /// Platform it was made on, as `linux-x86_64`.
    pub platform: String,
    /// Isolation that was achieved.
    pub sandbox: SandboxMode,
    /// Address of the target that made it.
    pub address: String,
    /// Version of heph that made it.
    pub producer: String,
    /// Milliseconds since 1970.
    pub created_unix_ms: u64,
    /// Wall time of the command, kept in milliseconds.
    pub duration: Duration,
}

/// One path that an action produced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Output group; empty for the default group.
    pub group: String,
    /// Relative to the workspace root, with forward slashes.
    pub path: String,
    /// What lies there.
    pub entry: Entry,
}

/// What lies at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A file.
    File {
        /// Its bytes.
        content: Content,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// What it says.
        target: String,
    },
    /// A directory, kept although nothing may be in it.
    Directory,
}

/// Bytes by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Content {
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
}

/// Why bytes are no manifest.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ManifestError {
    /// The bytes are no such message.
    #[error("decode a manifest: {0}")]
    Message(#[from] prost::DecodeError),
    /// Another version of heph wrote it.
    #[error("read a manifest of format {found}: this heph reads format {FORMAT}")]
    Format {
        /// The version found.
        found: u32,
    },
    /// A field holds what it may not.
    #[error("accept the manifest's {field}: {reason}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// An output has a path that may not be.
    #[error("accept the manifest's output '{path}': {reason}")]
    Path {
        /// The path as found.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Manifest {
    /// Digest over group, path, kind and content of every output: while it is the same, dependants need not run again.
    pub fn outputs_digest(&self) -> Digest {
        digest_outputs(&self.outputs)
    }

    /// Brings the outputs into the order in which they are stored.
    pub fn sort(&mut self) {
        self.outputs
            .sort_by(|a, b| (&a.path, &a.group).cmp(&(&b.path, &b.group)));
    }

    /// Every content that it names, with whether it has to be executable; some may occur several times.
    pub fn contents(&self) -> impl Iterator<Item = (Content, bool)> + '_ {
        let files = self.outputs.iter().filter_map(|output| match output.entry {
            Entry::File { content, executable } => Some((content, executable)),
            Entry::Symlink { .. } | Entry::Directory => None,
        });
        files.chain(self.log.iter().map(|log| (*log, false)))
    }

    /// The manifest as bytes.
    ///
    /// # Errors
    /// [`ManifestError`] where [`Manifest::decode`] would refuse the result.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        Ok(self.to_message().encode_to_vec())
    }

    /// Reads bytes that [`Manifest::encode`] wrote, here or elsewhere.
    ///
    /// # Errors
    /// [`ManifestError`] for anything that is not a manifest of this format whose paths stay below the output
    /// directory, pass through no link, are sorted and unique, and whose digests have the right length.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let message = proto::Manifest::decode(bytes)?;
        if message.format != FORMAT {
            return Err(ManifestError::Format {
                found: message.format,
            });
        }
        let stated = digest_field("outputs_digest", &message.outputs_digest)?;
        let manifest = Self::from_message(message)?;
        manifest.check()?;
        if manifest.outputs_digest() != stated {
            return Err(ManifestError::Field {
                field: "outputs_digest",
                reason: "it is not the digest of the outputs".to_owned(),
            });
        }
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.kind.is_empty() {
            return Err(ManifestError::Field {
                field: "kind",
                reason: "it is empty".to_owned(),
            });
        }
        for output in &self.outputs {
            check_path(&output.path).map_err(|reason| ManifestError::Path {
                path: output.path.clone(),
                reason,
            })?;
            if let Entry::Symlink { target } = &output.entry {
                check_target(target).map_err(|reason| ManifestError::Path {
                    path: output.path.clone(),
                    reason,
                })?;
            }
        }
        check_order(&self.outputs)
    }

    pub(crate) fn to_message(&self) -> proto::Manifest {
        proto::Manifest {
            format: FORMAT,
            kind: self.kind.clone(),
            key: bytes_of(self.key),
            outputs: self.outputs.iter().map(Output::to_message).collect(),
            log_digest: self.log.map(|log| bytes_of(log.digest)).unwrap_or_default(),
            log_size: self.log.map_or(0, |log| log.size),
            exit_code: self.exit_code,
            platform: self.platform.clone(),
            sandbox: self.sandbox.into(),
            address: self.address.clone(),
            producer: self.producer.clone(),
            created_unix_ms: self.created_unix_ms,
            duration_ms: u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX),
            outputs_digest: bytes_of(self.outputs_digest()),
        }
    }

    fn from_message(message: proto::Manifest) -> Result<Self, ManifestError> {
        let log = match message.log_digest.is_empty() {
            true => None,
            false => Some(Content {
                digest: digest_field("log_digest", &message.log_digest)?,
                size: message.log_size,
            }),
        };
        let sandbox = SandboxMode::try_from(message.sandbox).map_err(|_| ManifestError::Field {
            field: "sandbox",
            reason: format!("{} is no mode", message.sandbox),
        })?;
        Ok(Self {
            kind: message.kind,
            key: digest_field("key", &message.key)?,
            outputs: message
                .outputs
                .into_iter()
                .map(Output::from_message)
                .collect::<Result<_, _>>()?,
            log,
            exit_code: message.exit_code,
            platform: message.platform,
            sandbox,
            address: message.address,
            producer: message.producer,
            created_unix_ms: message.created_unix_ms,
            duration: Duration::from_millis(message.duration_ms),
        })
    }
}

impl Output {
    /// The output as a message.
    pub fn to_message(&self) -> proto::OutputEntry {
        let (kind, content, link_target) = match &self.entry {
            Entry::File {
                content,
                executable: false,
            } => (EntryKind::File, Some(content), ""),
            Entry::File {
                content,
                executable: true,
            } => (EntryKind::Executable, Some(content), ""),
            Entry::Symlink { target } => (EntryKind::Symlink, None, target.as_str()),
            Entry::Directory => (EntryKind::Directory, None, ""),
        };
        proto::OutputEntry {
            group: self.group.clone(),
            path: self.path.clone(),
            kind: kind.into(),
            digest: content.map(|c| bytes_of(c.digest)).unwrap_or_default(),
            size: content.map_or(0, |c| c.size),
            link_target: link_target.to_owned(),
        }
    }

    /// Reads one output; its path is checked with the manifest's other ones by [`Manifest::encode`].
    ///
    /// # Errors
    /// [`ManifestError`] for an unknown kind or a digest of the wrong length.
    pub fn from_message(message: proto::OutputEntry) -> Result<Self, ManifestError> {
        let kind = EntryKind::try_from(message.kind).unwrap_or(EntryKind::Unspecified);
        let file = |executable| {
            Ok::<_, ManifestError>(Entry::File {
                content: Content {
                    digest: digest_field("output digest", &message.digest)?,
                    size: message.size,
                },
                executable,
            })
        };
        let entry = match kind {
            EntryKind::File => file(false)?,
            EntryKind::Executable => file(true)?,
            EntryKind::Symlink => Entry::Symlink {
                target: message.link_target,
            },
            EntryKind::Directory => Entry::Directory,
            EntryKind::Unspecified => {
                return Err(ManifestError::Field {
                    field: "output kind",
                    reason: format!("{} is no kind ('{}')", message.kind, message.path),
                });
            }
        };
        Ok(Self {
            group: message.group,
            path: message.path,
            entry,
        })
    }
}

fn bytes_of(digest: Digest) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(digest.as_bytes())
}

fn digest_field(field: &'static str, bytes: &[u8]) -> Result<Digest, ManifestError> {
    Digest::from_slice(bytes).ok_or_else(|| ManifestError::Field {
        field,
        reason: format!("a digest has 32 bytes, not {}", bytes.len()),
    })
}

fn digest_outputs(outputs: &[Output]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut text = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    text(b"heph-outputs-v1");
    for output in outputs {
        text(output.group.as_bytes());
        text(output.path.as_bytes());
        match &output.entry {
            Entry::File { content, executable } => {
                text(if *executable { b"x" } else { b"f" });
                text(content.digest.as_bytes());
            }
            Entry::Symlink { target } => {
                text(b"l");
                text(target.as_bytes());
            }
            Entry::Directory => text(b"d"),
        }
    }
    hasher.finalize().into()
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.len() > MAX_PATH {
        return Err("it is longer than 4096 bytes");
    }
    if path.starts_with('/') {
        return Err("it is absolute");
    }
    for segment in path.split('/') {
        match segment {
            "" => return Err("a part of it is empty"),
            "." | ".." => return Err("'.' and '..' are not allowed in it"),
            _ if segment.contains('\0') => return Err("it contains a NUL"),
            _ => {}
        }
    }
    Ok(())
}

fn check_target(target: &str) -> Result<(), &'static str> {
    match target {
        "" => Err("its link target is empty"),
        _ if target.contains('\0') => Err("its link target contains a NUL"),
        _ if target.len() > MAX_PATH => Err("its link target is longer than 4096 bytes"),
        _ => Ok(()),
    }
}

/// Outputs are sorted; a path may be in several groups but is one thing; nothing lies below a file or link.
fn check_order(outputs: &[Output]) -> Result<(), ManifestError> {
    let refuse = |output: &Output, reason| {
        Err(ManifestError::Path {
            path: output.path.clone(),
            reason,
        })
    };
    for pair in outputs.windows(2) {
        let [before, after] = pair else { continue };
        match (&before.path, &before.group).cmp(&(&after.path, &after.group)) {
            std::cmp::Ordering::Greater => return refuse(after, "outputs are not sorted"),
            std::cmp::Ordering::Equal => return refuse(after, "it occurs twice"),
            std::cmp::Ordering::Less => {}
        }
        if before.path == after.path && before.entry != after.entry {
            return refuse(after, "it is two different things");
        }
    }
    let solid: std::collections::HashSet<&str> = outputs
        .iter()
        .filter(|output| output.entry != Entry::Directory)
        .map(|output| output.path.as_str())
        .collect();
    for output in outputs {
        for (end, _) in output.path.match_indices('/') {
            if output
                .path
                .get(..end)
                .is_some_and(|parent| solid.contains(parent))
            {
                return refuse(output, "it lies below a file or link");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
