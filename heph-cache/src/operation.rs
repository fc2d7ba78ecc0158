//! What the writer is asked to do to the index.

use std::sync::Arc;

use bytes::Bytes;
use heph_common::Digest;

use crate::blob::{FileRecord, Variant};
use crate::gate::Hold;
use crate::index::BlobRow;
use crate::lock::Guard;
use crate::manifest::Manifest;
use crate::origin::Origin;

/// One change of the index. Each can be applied again, in another generation too.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// Store a result.
    Publish { result: Arc<Publish>, _claims: Claims },
    /// A blob was found missing or bad; `seen` is the file record that was.
    Lost {
        digest: Digest,
        variant: Variant,
        seen: Option<FileRecord>,
    },
    /// A blob file was hashed and is right: record what it looks like now.
    Verified {
        digest: Digest,
        variant: Variant,
        record: FileRecord,
    },
    /// Remove a result, whatever its origin.
    Forget { key: Digest },
    /// Remove the results of a key that were made until then, in milliseconds since 1970, and remember that.
    Purge { key: Digest, until: u64 },
    /// Remove those rows of a key whose checksum is wrong.
    RemoveBad { key: Digest },
    /// Remember what a key was made of.
    Revision(RevisionRow),
    /// Store a caller's own value.
    Record {
        namespace: String,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    /// An upload is done, or given up. Without `replace`, one stays that was asked to replace what is there meanwhile.
    Uploaded {
        key: Digest,
        cache: String,
        replace: bool,
    },
    /// An upload was tried in vain.
    UploadFailed { key: Digest, cache: String },
    /// Take what waits for these caches and is nobody's, until then (milliseconds since 1970); nothing belongs to the dead.
    LeaseUploads {
        caches: Vec<String>,
        owner: String,
        until: u64,
        dead: Vec<String>,
    },
    /// What an owner has taken is nobody's again.
    ReleaseUploads { owner: String },
}

/// A result with everything that its rows need.
#[derive(Debug)]
pub(crate) struct Publish {
    pub manifest: Arc<Manifest>,
    pub encoded: Vec<u8>,
    pub origin: Origin,
    /// Every blob that the manifest names, once each.
    pub blobs: Vec<PublishBlob>,
    pub revision: Option<RevisionRow>,
    pub uploads: Vec<String>,
    /// Whether they replace what the caches have.
    pub replace: bool,
    /// Seconds since 1970.
    pub used: u64,
}

/// What a publication keeps until its commit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    /// Keeps deleters out; not needed when all blobs are here.
    pub _hold: Option<Arc<Hold>>,
    /// Others that do the same work wait for this.
    pub _lock: Option<Arc<Guard>>,
}

/// A blob of a result: its bytes, or the file that is in place already.
#[derive(Clone, Debug)]
pub(crate) struct PublishBlob {
    pub digest: Digest,
    pub variant: Variant,
    pub size: u64,
    pub content: BlobRow,
}

/// What a target's key was made of.
#[derive(Clone, Debug)]
pub(crate) struct RevisionRow {
    pub root: String,
    pub address: String,
    pub key: Digest,
    /// Milliseconds since 1970.
    pub time: u64,
    /// Encoded key parts.
    pub parts: Vec<u8>,
    pub history: Option<u32>,
}

impl Operation {
    /// The same change, for one that is committed: others need not wait for it any more.
    pub(crate) fn without_claims(&self) -> Self {
        match self {
            Self::Publish { result, .. } => Self::Publish {
                result: Arc::clone(result),
                _claims: Claims::default(),
            },
            other => other.clone(),
        }
    }

    /// Roughly how many bytes it keeps in memory.
    pub(crate) fn weight(&self) -> usize {
        const ROW: usize = 256;
        match self {
            Self::Publish { result: publish, .. } => {
                let blobs = publish.blobs.iter().map(|blob| match &blob.content {
                    BlobRow::Inline(bytes) => Bytes::len(bytes) + ROW,
                    BlobRow::File(_) | BlobRow::Absent => ROW,
                });
                let parts = publish
                    .revision
                    .as_ref()
                    .map_or(0, |revision| revision.parts.len());
                blobs.sum::<usize>() + publish.encoded.len() * 2 + parts + ROW
            }
            Self::Revision(revision) => revision.parts.len() + ROW,
            Self::Record { key, value, .. } => key.len() + value.len() + ROW,
            _ => ROW,
        }
    }
}
