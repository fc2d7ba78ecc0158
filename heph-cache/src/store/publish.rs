//! Publishing: blobs first, then the manifest that names them.

use super::*;
use crate::blob::FileRecord;
use crate::gate::Hold;
use crate::lock::Guard;
use crate::operation::{Claims, Publish, PublishBlob};

/// How long a publication waits for its commit when earlier ones have failed.
const FAULT_PATIENCE: Duration = Duration::from_secs(10);

/// A result to be stored.
#[derive(Clone, Debug)]
pub struct Publication {
    /// What was produced.
    pub manifest: Manifest,
    /// The content that the manifest names, each at least once; what the store has already may be left out.
    pub blobs: Vec<NewBlob>,
    /// Where it came from.
    pub origin: Origin,
    /// What its key was made of, in which workspace.
    pub record: Option<Revision>,
    /// Names of the caches that it is to be sent to.
    pub uploads: Vec<String>,
    /// Whether it takes the place of what these have.
    pub replace: bool,
    /// Content that is neither given nor stored is left to be fetched when it is needed, from where the manifest came from.
    pub partial: bool,
    /// Small blobs become files, too: outputs of compilers, which are linked into user trees.
    pub always_files: bool,
    /// The lock of the key, where one is held: freed when other processes can see the result.
    pub lock: Option<Arc<Guard>>,
}

/// Bytes to be stored.
#[derive(Clone, Debug)]
pub struct NewBlob {
    /// Their digest.
    pub digest: Digest,
    /// Whether the file has to be executable.
    pub executable: bool,
    /// Where they are.
    pub source: BlobSource,
}

/// Where the bytes of a new blob are.
#[derive(Clone, Debug)]
pub enum BlobSource {
    /// Here. They are hashed.
    Bytes(Bytes),
    /// In a file that becomes the store's own. Nobody may write to it any more; its digest is trusted. It is
    /// gone afterwards, also when the store had the bytes already.
    File(PathBuf),
    /// In somebody else's file, which is copied and hashed.
    CopyOf(PathBuf),
}

/// What a target's key was made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revision {
    /// Absolute path of the workspace's root.
    pub root: String,
    /// Address of the target.
    pub address: String,
    /// Parts of the key.
    pub parts: Vec<KeyPart>,
    /// Results kept of this target in this workspace; `None` for as many as the size limit allows.
    pub history_limit: Option<u32>,
}

impl Store {
    /// Stores a result. It is visible to this process when this returns; it is committed soon after, together with
    /// others. An earlier result of the same key and origin is replaced.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`] or [`StoreError::Io`] where a file cannot be written, or where
    /// earlier results could not be and this one cannot either; [`StoreError::Manifest`],
    /// [`StoreError::WrongContent`] or [`StoreError::MissingContent`] where the publication itself is wrong. Nothing is
    /// visible then.
    pub fn publish(&self, publication: Publication) -> Result<Arc<Manifest>, StoreError> {
        self.shared.start_writer()?;
        let Publication {
            mut manifest,
            blobs,
            origin,
            record,
            uploads,
            replace,
            partial,
            always_files,
            lock,
        } = publication;
        manifest.sort();
        let encoded = manifest.encode()?;
        let mut new = NewBlobs {
            store: self,
            partial,
            always_files,
            hold: None,
            given: HashMap::with_capacity(blobs.len()),
        };
        for blob in blobs {
            new.given
                .entry((blob.digest, blob.executable))
                .or_insert(blob.source);
        }
        let mut placed: Vec<PublishBlob> = Vec::with_capacity(new.given.len());
        for (content, executable) in manifest.contents() {
            let name = (content.digest, content.size, executable);
            let blob = new.place(&manifest.key, name)?;
            if !placed
                .iter()
                .any(|other| other.digest == blob.digest && other.variant == blob.variant)
            {
                placed.push(blob);
            }
        }
        new.discard_rest();
        let hold = new.hold;
        for blob in &placed {
            if let BlobRow::Inline(bytes) = &blob.content {
                self.shared.memory.keep_blob(&blob.digest, bytes);
            }
        }
        let manifest = Arc::new(manifest);
        let publish = Arc::new(Publish {
            revision: record
                .as_ref()
                .map(|revision| revision_row(&manifest.key, revision)),
            manifest: Arc::clone(&manifest),
            encoded,
            origin,
            blobs: placed,
            uploads,
            replace,
            used: clock::unix_ms() / 1000,
        });
        let claims = Claims {
            _hold: hold,
            _lock: lock,
        };
        self.enqueue(&publish, claims)?;
        Ok(manifest)
    }

    fn enqueue(&self, publish: &Arc<Publish>, claims: Claims) -> Result<(), StoreError> {
        let queue = &self.shared.queue;
        let failing = queue.lock().fault.is_some();
        let number = queue.push(
            Operation::Publish {
                result: Arc::clone(publish),
                _claims: claims,
            },
            || self.shared.busy(),
            |number| self.shared.pending.add(publish, number),
        )?;
        if !failing {
            return Ok(());
        }
        queue.settle(number, FAULT_PATIENCE).inspect_err(|_| {
            self.shared.pending.remove(publish, number);
        })
    }
}

/// The blobs of one publication on their way into the store.
struct NewBlobs<'a> {
    store: &'a Store,
    partial: bool,
    always_files: bool,
    hold: Option<Arc<Hold>>,
    given: HashMap<(Digest, bool), BlobSource>,
}

impl NewBlobs<'_> {
    /// Sees to it that one content is in the store, or on its way.
    fn place(&mut self, key: &Digest, name: (Digest, u64, bool)) -> Result<PublishBlob, StoreError> {
        let (digest, size, executable) = name;
        let given = self.given.get(&(digest, executable)).cloned();
        let as_file = self.always_files || size > self.store.shared.options.spill_threshold;
        let Some(source) = given else {
            return match self.find(&name)? {
                Some(found) => Ok(found),
                None if self.partial => Ok(PublishBlob {
                    digest,
                    variant: if as_file {
                        Variant::file(executable)
                    } else {
                        Variant::Inline
                    },
                    size,
                    content: BlobRow::Absent,
                }),
                None => Err(StoreError::MissingContent { key: *key, digest }),
            };
        };
        if as_file {
            return self.place_file(name, &source);
        }
        let bytes = read_all(&source, digest, size)?;
        if let BlobSource::File(path) = &source {
            // Bytes in hand: what is left behind is not needed, and the next publication of it finds the bytes.
            let _ = std::fs::remove_file(path);
            self.given
                .insert((digest, executable), BlobSource::Bytes(bytes.clone()));
        }
        Ok(PublishBlob {
            digest,
            variant: Variant::Inline,
            size,
            content: BlobRow::Inline(bytes),
        })
    }

    fn place_file(
        &mut self,
        name: (Digest, u64, bool),
        source: &BlobSource,
    ) -> Result<PublishBlob, StoreError> {
        let (digest, size, executable) = name;
        let variant = Variant::file(executable);
        self.enter()?;
        let record = match self.trusted_file(&digest, variant)? {
            Some(record) => record,
            None => self.write_file(&digest, size, variant, source)?,
        };
        if let BlobSource::File(path) = source {
            let _ = std::fs::remove_file(path);
        }
        Ok(PublishBlob {
            digest,
            variant,
            size: record.size,
            content: BlobRow::File(record),
        })
    }

    fn write_file(
        &self,
        digest: &Digest,
        size: u64,
        variant: Variant,
        source: &BlobSource,
    ) -> Result<FileRecord, StoreError> {
        let files = &self.store.shared.files;
        let (record, place) = match source {
            BlobSource::Bytes(bytes) => {
                check(bytes, digest, "bytes")?;
                (files.write(digest, variant, bytes)?, None)
            }
            BlobSource::File(path) => {
                check_size(path, digest, size)?;
                (files.adopt(digest, variant, path)?, Some(path))
            }
            BlobSource::CopyOf(path) => (files.copy(digest, variant, path)?, Some(path)),
        };
        if record.size == size {
            return Ok(record);
        }
        Err(wrong_size(
            place.map_or(Path::new("bytes"), |path| path),
            record.size,
            size,
        ))
    }

    /// Content that was not given has to be in the store already.
    fn find(&mut self, name: &(Digest, u64, bool)) -> Result<Option<PublishBlob>, StoreError> {
        let (digest, size, executable) = *name;
        self.enter()?;
        let shared = &self.store.shared;
        let inline = match shared.pending.blob(&digest, Variant::Inline) {
            Some(row) => Some(Row::Good(row)),
            None => shared
                .read(|index| index.blob(&digest, Variant::Inline))?
                .flatten(),
        };
        if let Some(Row::Good(content)) = inline {
            return Ok(Some(PublishBlob {
                digest,
                variant: Variant::Inline,
                size,
                content,
            }));
        }
        let variant = Variant::file(executable);
        let record = self.trusted_file(&digest, variant)?;
        Ok(record.map(|record| PublishBlob {
            digest,
            variant,
            size: record.size,
            content: BlobRow::File(record),
        }))
    }

    /// The record of a blob file that is there and right.
    fn trusted_file(&self, digest: &Digest, variant: Variant) -> Result<Option<FileRecord>, StoreError> {
        let shared = &self.store.shared;
        let row = match shared.pending.blob(digest, variant) {
            Some(row) => Some(Row::Good(row)),
            None => shared.read(|index| index.blob(digest, variant))?.flatten(),
        };
        let Some(Row::Good(BlobRow::File(record))) = row else {
            return Ok(None);
        };
        Ok(match shared.files.check(digest, variant, &record) {
            Trust::Trusted => Some(record),
            Trust::Verified(record) => Some(record),
            Trust::Bad => None,
        })
    }

    /// Keeps deleters out from now until the commit.
    fn enter(&mut self) -> Result<(), StoreError> {
        if self.hold.is_none() {
            self.hold = Some(self.store.shared.queue.hold(&self.store.shared.gate)?);
        }
        Ok(())
    }

    /// Files that were handed over belong to the store, needed or not.
    fn discard_rest(&self) {
        for source in self.given.values() {
            if let BlobSource::File(path) = source {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn read_all(source: &BlobSource, digest: Digest, size: u64) -> Result<Bytes, StoreError> {
    let (bytes, place) = match source {
        BlobSource::Bytes(bytes) => (bytes.clone(), Path::new("bytes")),
        BlobSource::File(path) | BlobSource::CopyOf(path) => {
            let bytes = std::fs::read(path).map_err(|error| StoreError::io("read", path, error))?;
            (Bytes::from(bytes), path.as_path())
        }
    };
    check(&bytes, &digest, &place.display().to_string())?;
    if bytes.len() as u64 == size {
        return Ok(bytes);
    }
    Err(wrong_size(place, bytes.len() as u64, size))
}

fn check(bytes: &[u8], digest: &Digest, place: &str) -> Result<(), StoreError> {
    let found = Digest::of(bytes);
    if found == *digest {
        return Ok(());
    }
    Err(StoreError::WrongContent {
        path: place.to_owned(),
        expected: *digest,
        found,
    })
}

/// A file whose digest is trusted must at least have the right length.
fn check_size(path: &Path, digest: &Digest, size: u64) -> Result<(), StoreError> {
    let metadata = std::fs::symlink_metadata(path).map_err(|error| StoreError::io("read", path, error))?;
    if metadata.len() == size {
        return Ok(());
    }
    tracing::warn!(%digest, path = %path.display(), "a file to be stored has another length than was announced");
    Err(wrong_size(path, metadata.len(), size))
}

fn wrong_size(path: &Path, found: u64, expected: u64) -> StoreError {
    StoreError::WrongSize {
        path: path.to_owned(),
        expected,
        found,
    }
}
