//! Copying what a slower cache had to faster ones, when the run that found it is over.
//!
//! A copy is the same envelope, byte for byte, in the same scope: its signature stays its writer's, and nothing is signed here that was not
//! made here. It only goes where this caller writes that very scope, and where the envelope would be accepted if it was read there.
//! What waits is only in memory: it is an economy, and whoever hits next copies again.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use heph_common::Digest;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::backend::Object;
use super::cache::{Cache, Lane};
use super::lock;
use super::sending::{self, Sender, Unpacked, check_purged};
use super::transfer::{self, Unfinished};
use crate::manifest::Content;
use crate::store::BlobSource;

/// Copies that are made at once.
const AT_ONCE: usize = 2;

/// Copies that may wait; what is more is left out.
const MOST: usize = 10_000;

/// Bytes of their envelopes.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A result on its way from a slower cache to a faster one.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// As it was read, and proved.
    pub envelope: Bytes,
    /// Its name, in both caches.
    pub object: Object,
    pub key: Digest,
    /// When the result was made, in milliseconds since 1970.
    pub made_unix_ms: u64,
    /// Contents with objects of their own: whether the store has them as executable files, and whether the objects are compressed.
    pub contents: Vec<(Content, bool, bool)>,
    /// The trust scope.
    pub scope: String,
    pub from: Arc<Cache>,
    pub to: Arc<Cache>,
}

/// Copies of one coordinator.
#[derive(Debug)]
pub(super) struct Backfill {
    sender: Sender,
    state: Mutex<State>,
    /// Nothing is left to be done.
    idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Copy>,
    bytes: usize,
    working: usize,
}

impl Backfill {
    pub(super) fn new(sender: Sender) -> Arc<Self> {
        Arc::new(Self {
            sender,
            state: Mutex::default(),
            idle: Notify::new(),
        })
    }

    /// Makes copies in the background.
    pub(super) fn add(self: &Arc<Self>, runtime: &Handle, copies: Vec<Copy>) {
        let mut state = lock(&self.state);
        for copy in copies {
            if state.waiting.len() >= MOST || state.bytes + copy.envelope.len() > MOST_BYTES {
                tracing::debug!(cache = copy.to.name, key = %copy.key, "too much is to be copied already");
                continue;
            }
            state.bytes += copy.envelope.len();
            state.waiting.push_back(copy);
        }
        while state.working < AT_ONCE.min(state.waiting.len()) {
            state.working += 1;
            runtime.spawn(Arc::clone(self).work());
        }
    }

    /// How many copies wait or are being made.
    pub(super) fn left(&self) -> usize {
        let state = lock(&self.state);
        state.waiting.len() + state.working
    }

    /// Waits for all of them, at most so long. Blocks.
    pub(super) fn settle(&self, runtime: &Handle, patience: Duration) {
        if self.left() > 0 {
            // Woken when the last one is done; one that was done meanwhile costs the wait, which callers repeat.
            let _ = runtime.block_on(async { timeout(patience, self.idle.notified()).await });
        }
    }

    async fn work(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = lock(&self.state);
                let next = state.waiting.pop_front();
                match &next {
                    Some(copy) => state.bytes -= copy.envelope.len(),
                    None => state.working -= 1,
                }
                next
            };
            let Some(copy) = next else {
                self.idle.notify_waiters();
                return;
            };
            if !copy.to.writing.is_closed() || !copy.from.reading.is_closed() {
                continue;
            }
            let (from, to, key) = (&copy.from.name, &copy.to.name, copy.key);
            match self.copy(&copy).await {
                Ok(is_new) => tracing::debug!(from, to, %key, is_new, "copied"),
                Err(Trouble::Target(sending::Trouble::Remote(error))) => {
                    tracing::info!(from, to, %key, %error, "not copied");
                    copy.to.writing.trip(&error);
                }
                Err(trouble) => tracing::info!(from, to, %key, ?trouble, "not copied"),
            }
        }
    }

    /// Makes a copy; `false` where there was one.
    async fn copy(&self, copy: &Copy) -> Result<bool, Trouble> {
        let to = &copy.to;
        let was_purged = check_purged(to, &copy.key, copy.made_unix_ms).await?;
        let replace = was_purged || to.is_bad(&copy.object);
        let one = std::slice::from_ref(&copy.object);
        if !replace {
            let there = to.request(Lane::Check, to.read_timeout(), |backend| backend.exist(one));
            if there.await.map_err(sending::Trouble::Remote)?.first() == Some(&true) {
                return Ok(false);
            }
        }
        for (content, executable, compressed) in &copy.contents {
            let object = Object::Blob {
                scope: copy.scope.clone(),
                digest: content.digest,
                compressed: *compressed,
            };
            if self.sender.has(to, &object, &content.digest).await? {
                continue;
            }
            let unpacked = self.content(copy, &object, (*content, *executable)).await?;
            self.sender
                .put_content(to, &object, *content, (unpacked, true))
                .await?;
        }
        let name = (&copy.key, &copy.object);
        let envelope = copy.envelope.clone();
        self.sender
            .put_manifest(to, name, envelope, copy.made_unix_ms, replace)
            .await?;
        to.writing.reset();
        Ok(true)
    }

    /// A content, proved: from the store, else from where the result came from.
    async fn content(
        &self,
        copy: &Copy,
        object: &Object,
        (content, executable): (Content, bool),
    ) -> Result<Unpacked, Trouble> {
        let store = Arc::clone(&self.sender.store);
        let stored = spawn_blocking(move || {
            let blob = store.blob(&content.digest, executable).ok().flatten()?;
            Unpacked::of(blob, content).ok()
        });
        if let Some((unpacked, _)) = stored.await.map_err(io::Error::other)? {
            return Ok(unpacked);
        }
        let stage = self.sender.store.home().join("stage");
        let compressed = matches!(object, Object::Blob { compressed: true, .. });
        let taken = transfer::take(&copy.from, &stage, object, content, compressed).await;
        match taken.map_err(Trouble::Source)? {
            Some(BlobSource::Bytes(bytes)) => Ok(Unpacked::Memory(bytes)),
            Some(BlobSource::File(path) | BlobSource::CopyOf(path)) => {
                // Open, it needs no name any more.
                let unfinished = Unfinished(path);
                Ok(Unpacked::File(File::open(&unfinished.0)?))
            }
            None => Err(Trouble::Gone),
        }
    }
}

/// Why a copy was not made.
#[derive(Debug)]
enum Trouble {
    /// The faster cache.
    Target(sending::Trouble),
    /// The slower one.
    #[expect(dead_code, reason = "shown in the log")]
    Source(transfer::Trouble),
    /// A content is not there any more.
    Gone,
}

impl From<sending::Trouble> for Trouble {
    fn from(trouble: sending::Trouble) -> Self {
        Self::Target(trouble)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Target(sending::Trouble::Local(error))
    }
}
