//! Sending one result to a remote cache: contents first, the manifest last.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::try_join;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use heph_common::Digest;
use tokio::task::spawn_blocking;

use super::backend::{Object, RemoteError, RemoteErrorKind};
use super::budget::Budget;
use super::cache::{Cache, Lane, transfer_limit};
use super::envelope::{self, Place, Stored};
use super::lock;
use super::packing::{self, SMALL};
use crate::blob::Blob;
use crate::clock;
use crate::manifest::{Content, Manifest};
use crate::origin::OriginFilter;
use crate::store::Store;

/// Contents of one result that are sent at once.
const CONTENTS_AT_ONCE: usize = 8;

/// Contents of at most so many bytes are sent without asking whether they are there: that would take as long.
const UNASKED: u64 = 32 * 1024;

/// Sends results of one store.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub store: Arc<Store>,
    /// What is under way.
    pub budget: Arc<Budget>,
}

/// What is sent, and where to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending<'a> {
    pub cache: &'a Cache,
    pub key: Digest,
    /// `cacheEpoch`; empty when there is none.
    pub epoch: &'a str,
    /// Whether it takes the place of what is there.
    pub replace: bool,
}

impl Sender {
    /// Sends a result that was made here.
    pub(super) async fn send(&self, sending: Sending<'_>) -> Result<(), Trouble> {
        let Sending {
            cache, key, replace, ..
        } = sending;
        let store = Arc::clone(&self.store);
        let id = cache.id.clone();
        // Only what was made here is passed on.
        let read = spawn_blocking(move || {
            let found = store.lookup(&key, &OriginFilter::local()).ok().flatten();
            found.map(|manifest| (inline_contents(&store, &manifest), manifest))
        });
        let Some((inline, manifest)) = read.await.map_err(io::Error::other)? else {
            tracing::debug!(%key, id, "a queued result is not there any more");
            return Err(Trouble::Gone);
        };
        envelope::check_contents(&manifest, u64::MAX).map_err(Trouble::Refused)?;
        let mut seen = HashSet::new();
        let large = manifest
            .contents()
            .filter(|(content, _)| !inline.contains_key(&content.digest) && seen.insert(content.digest));
        let large: Vec<(Content, bool)> = large.collect();
        let sends = large.into_iter().map(|(content, executable)| async move {
            let compressed = self.send_content(&sending, content, executable).await?;
            Ok::<_, Trouble>((
                content.digest,
                Stored {
                    inline: None,
                    compressed,
                },
            ))
        });
        let sent = stream::iter(sends)
            .buffer_unordered(CONTENTS_AT_ONCE)
            .try_collect::<Vec<_>>();
        let made = manifest.created_unix_ms;
        let (was_purged, sent) = try_join(check_purged(cache, &key, made), sent).await?;
        let inline = inline.into_iter().map(|(digest, bytes)| {
            let stored = Stored {
                inline: Some(bytes),
                compressed: false,
            };
            (digest, stored)
        });
        let place = Place {
            scope: &cache.scope,
            epoch: sending.epoch,
            now_unix_ms: clock::unix_ms(),
        };
        let bytes = envelope::seal(
            &manifest,
            sent.into_iter().chain(inline),
            place,
            cache.signer.as_ref(),
        );
        let object = Object::Action {
            scope: cache.scope.clone(),
            kind: manifest.kind.clone(),
            key,
        };
        // An older mark has the manifest's place.
        self.put_manifest(cache, (&key, &object), bytes, made, replace || was_purged)
            .await
    }

    /// Puts an envelope in its place, unless its result, which was made then, is purged meanwhile.
    pub(super) async fn put_manifest(
        &self,
        cache: &Cache,
        (key, object): (&Digest, &Object),
        envelope: Bytes,
        made_unix_ms: u64,
        replace: bool,
    ) -> Result<(), Trouble> {
        let under_way = self.budget.take(envelope.len() as u64).await;
        cache.put(object, envelope, replace).await?;
        drop(under_way);
        // Not all servers know conditional writes: who purged it meanwhile has to win.
        match cache.tombstone(key).await? {
            Some((until, mark)) if until >= made_unix_ms => {
                cache.put(object, mark, true).await?;
                Err(Trouble::Purged(until))
            }
            _ => Ok(()),
        }
    }

    /// Sends a content unless the server has it; whether it is kept compressed.
    async fn send_content(
        &self,
        sending: &Sending<'_>,
        content: Content,
        executable: bool,
    ) -> Result<bool, Trouble> {
        let cache = sending.cache;
        let store = Arc::clone(&self.store);
        let found = spawn_blocking(move || {
            let blob = store.blob(&content.digest, executable).ok().flatten();
            Unpacked::of(blob.ok_or(Trouble::Gone)?, content)
        });
        let (unpacked, compressed) = found.await.map_err(io::Error::other)??;
        let object = Object::Blob {
            scope: cache.scope.clone(),
            digest: content.digest,
            compressed,
        };
        // Who replaces a result does not trust what is there.
        let is_known = !sending.replace && !cache.is_bad(&object) && cache.is_there(&content.digest);
        let is_asked = !sending.replace && content.size > UNASKED;
        if is_known || is_asked && self.has(cache, &object, &content.digest).await? {
            return Ok(compressed);
        }
        let replace = sending.replace || is_asked;
        self.put_content(cache, &object, content, (unpacked, replace))
            .await?;
        Ok(compressed)
    }

    /// Puts a content in its place, compressed where its object is; a small one that is there stays unless it is to be replaced.
    pub(super) async fn put_content(
        &self,
        cache: &Cache,
        object: &Object,
        content: Content,
        (unpacked, replace): (Unpacked, bool),
    ) -> Result<(), Trouble> {
        let compressed = matches!(object, Object::Blob { compressed: true, .. });
        let _under_way = self.budget.take(content.size).await;
        let stage = self.store.home().join("stage");
        let packed = spawn_blocking(move || match compressed {
            true => unpacked.pack(&stage),
            false => Ok((unpacked, content.size)),
        });
        match packed.await.map_err(io::Error::other)?? {
            (Unpacked::Memory(bytes), _) => drop(cache.put(object, bytes, replace).await?),
            (Unpacked::File(file), size) => send_file(cache, object, &file, size).await?,
        }
        cache.note_there(content.digest);
        Ok(())
    }

    /// Whether a cache has a content already.
    pub(super) async fn has(&self, cache: &Cache, object: &Object, digest: &Digest) -> Result<bool, Trouble> {
        if cache.is_bad(object) {
            return Ok(false);
        }
        if cache.is_there(digest) {
            return Ok(true);
        }
        let one = std::slice::from_ref(object);
        let there = cache
            .request(Lane::Check, cache.read_timeout(), |backend| backend.exist(one))
            .await?;
        let is_there = there.first() == Some(&true);
        if is_there {
            cache.note_there(*digest);
        }
        Ok(is_there)
    }
}

/// Whether an action was purged before its result was made. One that was made before is not sent.
pub(super) async fn check_purged(cache: &Cache, key: &Digest, made_unix_ms: u64) -> Result<bool, Trouble> {
    match cache.tombstone(key).await? {
        Some((until, _)) if until >= made_unix_ms => Err(Trouble::Purged(until)),
        Some(_) => Ok(true),
        None => Ok(false),
    }
}

async fn send_file(cache: &Cache, object: &Object, file: &File, size: u64) -> Result<(), Trouble> {
    // Each try has a descriptor of its own.
    let tries = (0..=cache.retries())
        .map(|_| file.try_clone())
        .collect::<io::Result<Vec<_>>>()?;
    let tries = Mutex::new(tries);
    let put = cache.request(Lane::Bulk, transfer_limit(size), |backend| {
        match lock(&tries).pop() {
            Some(file) => backend.put_file(object, file, size),
            None => Box::pin(std::future::ready(Err(RemoteError::new(
                RemoteErrorKind::Unavailable,
                "too many tries failed",
            )))),
        }
    });
    put.await?;
    Ok(())
}

/// A content as it is sent, but perhaps for compression.
pub(super) enum Unpacked {
    Memory(Bytes),
    File(File),
}

impl Unpacked {
    /// The content of a blob, and whether it is sent compressed.
    pub(super) fn of(blob: Blob, content: Content) -> Result<(Self, bool), Trouble> {
        let bytes = match blob {
            Blob::Inline(bytes) => bytes,
            Blob::File(path) if content.size <= SMALL => std::fs::read(path)?.into(),
            Blob::File(path) => {
                let mut file = File::open(path)?;
                let pays = packing::pays_for_file(&file)?;
                file.rewind()?;
                return Ok((Self::File(file), pays));
            }
        };
        let pays = packing::pays(&bytes);
        Ok((Self::Memory(bytes), pays))
    }

    /// The compressed form, files by way of one without a name, and its size in bytes.
    fn pack(self, stage: &Path) -> io::Result<(Self, u64)> {
        match self {
            Self::Memory(bytes) => {
                let packed = packing::compressed(&bytes)?;
                let size = packed.len() as u64;
                Ok((Self::Memory(packed.into()), size))
            }
            Self::File(mut file) => {
                std::fs::create_dir_all(stage)?;
                let path = stage.join(format!("pack-{}", crate::unique::name()));
                let mut options = File::options();
                let mut packed = options.read(true).write(true).create_new(true).open(&path)?;
                std::fs::remove_file(&path)?;
                let size = packing::compress_file(&mut file, &mut packed)?;
                Ok((Self::File(packed), size))
            }
        }
    }
}

/// The small contents of a manifest, up to what an envelope takes.
fn inline_contents(store: &Store, manifest: &Manifest) -> HashMap<Digest, Bytes> {
    let mut left = envelope::INLINE_TOTAL;
    let mut inline = HashMap::new();
    for (content, executable) in manifest.contents() {
        if content.size > envelope::INLINE_CONTENT.min(left) || inline.contains_key(&content.digest) {
            continue;
        }
        let bytes = match store.blob(&content.digest, executable) {
            Ok(Some(Blob::Inline(bytes))) => Some(bytes),
            Ok(Some(Blob::File(path))) => std::fs::read(path).ok().map(Bytes::from),
            Ok(None) | Err(_) => None,
        };
        if let Some(bytes) = bytes.filter(|bytes| Digest::of(bytes) == content.digest) {
            left -= content.size;
            inline.insert(content.digest, bytes);
        }
    }
    inline
}

/// Why a result was not sent.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It is not in the store any more.
    Gone,
    /// Results that were made until then, in milliseconds since 1970, were purged.
    Purged(u64),
    /// No remote cache takes such a thing.
    Refused(String),
    Remote(RemoteError),
    Local(io::Error),
}

impl From<RemoteError> for Trouble {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}
