//! Contents on their way from a remote cache: proved as they arrive, and gone on with where they broke off.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::backend::{Chunks, Object, RemoteError, RemoteErrorKind};
use super::cache::{Cache, Lane, transfer_limit};
use super::packing::{Intake, SMALL};
use crate::manifest::Content;
use crate::store::BlobSource;

/// How often a transfer that broke off is gone on with.
const MOST_RESUMES: u32 = 4;

/// How often a transfer begins anew because the object became another one meanwhile.
const MOST_RESTARTS: u32 = 2;

/// Bytes that are gathered before they are written down.
const GATHERED: usize = 256 * 1024;

/// Why a content did not arrive.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The cache failed.
    Remote(RemoteError),
    /// What it has is not the content.
    Bad(String),
    /// What arrived cannot be written down.
    Local(io::Error),
}

impl From<RemoteError> for Trouble {
    fn from(error: RemoteError) -> Self {
        Self::Remote(error)
    }
}

/// Takes a content from its object, large ones by way of a file in `stage`; `None` when there is no such object.
pub(super) async fn take(
    cache: &Cache,
    stage: &Path,
    object: &Object,
    content: Content,
    compressed: bool,
) -> Result<Option<BlobSource>, Trouble> {
    if content.size <= SMALL {
        // A compressed one is never larger.
        let bytes = cache.get(Lane::Bulk, object, content.size.max(64)).await;
        let bytes = match bytes {
            Err(error) if error.kind == RemoteErrorKind::TooLarge => {
                return Err(Trouble::Bad(error.message));
            }
            other => other?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let whole = unpack(&bytes, content, compressed).map_err(|error| Trouble::Bad(error.to_string()))?;
        return Ok(Some(BlobSource::Bytes(whole)));
    }
    std::fs::create_dir_all(stage).map_err(Trouble::Local)?;
    let path = stage.join(format!("fetch-{}", crate::unique::name()));
    let unfinished = Unfinished(path.clone());
    // Until all of it is here: a stream that has begun takes as much as the request that began it.
    let _place = cache.place(Lane::Bulk).await;
    let limit = transfer_limit(content.size);
    let taken = timeout(limit, stream(cache, object, content, compressed, &path)).await;
    let taken = taken.unwrap_or_else(|_| {
        let limit = heph_common::duration::Shown(limit);
        let message = format!("get {object}: not all of it came within {limit}");
        Err(RemoteError::new(RemoteErrorKind::TimedOut, message).into())
    });
    match taken? {
        true => {
            std::mem::forget(unfinished);
            Ok(Some(BlobSource::File(path)))
        }
        false => Ok(None),
    }
}

/// Takes an object as a stream into a file; `false` when there is none. Begins anew when it becomes another one meanwhile.
async fn stream(
    cache: &Cache,
    object: &Object,
    content: Content,
    compressed: bool,
    path: &Path,
) -> Result<bool, Trouble> {
    for _ in 0..=MOST_RESTARTS {
        let file = File::create(path).map_err(Trouble::Local)?;
        let intake = Intake::new(content.digest, content.size, compressed, file).map_err(Trouble::Local)?;
        match once(cache, object, intake).await? {
            Came::Whole => return Ok(true),
            Came::Nothing => return Ok(false),
            Came::Changed => tracing::info!(cache = cache.name, %object, "it changed while it was read"),
        }
    }
    let message = format!("get {object}: it changed whenever it was read");
    Err(RemoteError::new(RemoteErrorKind::Unavailable, message).into())
}

/// What came of one transfer.
enum Came {
    Whole,
    Nothing,
    /// Parts of several versions.
    Changed,
}

/// One transfer, which is gone on with where it breaks off.
async fn once(cache: &Cache, object: &Object, intake: Intake<File>) -> Result<Came, Trouble> {
    let mut intake = intake;
    let mut offset = 0;
    let mut version: Option<Option<String>> = None;
    let mut resumes = 0;
    loop {
        let opened = cache.repeated(cache.read_timeout(), |backend| backend.open(object, offset));
        let Some(body) = opened.await? else {
            return Ok(Came::Nothing);
        };
        if version.as_ref().is_some_and(|version| *version != body.version) || body.offset != offset {
            return Ok(Came::Changed);
        }
        // Without versions, wrong bytes may come of two contents in one.
        let may_be_mixed = resumes > 0 && body.version.is_none();
        version.get_or_insert(body.version);
        let broken = match part(cache, body.chunks, intake, &mut offset).await {
            Ok(Part::Last) => return Ok(Came::Whole),
            Ok(Part::Broken(unfinished, error)) => {
                intake = *unfinished;
                error
            }
            Err(Trouble::Bad(_)) if may_be_mixed => return Ok(Came::Changed),
            Err(trouble) => return Err(trouble),
        };
        resumes += 1;
        if resumes > MOST_RESUMES || !broken.is_retryable() {
            return Err(broken.into());
        }
    }
}

enum Part {
    /// The content is whole, and proved.
    Last,
    /// More is to come from elsewhere.
    Broken(Box<Intake<File>>, RemoteError),
}

/// What one answer brings.
///
/// What came is written down while more comes, a good deal at once: to wake another thread for each piece takes longer than writing it.
async fn part(
    cache: &Cache,
    mut chunks: Chunks,
    intake: Intake<File>,
    offset: &mut u64,
) -> Result<Part, Trouble> {
    let patience = cache.read_timeout();
    let mut writer = Writer {
        idle: Some(Box::new(intake)),
        busy: None,
        gathered: Vec::new(),
        bytes: 0,
    };
    let broken = loop {
        match timeout(patience, chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                *offset += chunk.len() as u64;
                writer.gather(chunk).await?;
            }
            Ok(Some(Err(error))) => break Some(error),
            Ok(None) => break None,
            Err(_) => {
                let patience = heph_common::duration::Shown(patience);
                let message = format!("the transfer stalled: nothing came for {patience}");
                break Some(RemoteError::new(RemoteErrorKind::TimedOut, message));
            }
        }
    };
    let intake = writer.end().await?;
    if let Some(error) = broken {
        return Ok(Part::Broken(intake, error));
    }
    let finished = spawn_blocking(move || intake.finish()).await;
    match finished.map_err(io::Error::other).map_err(Trouble::Local)? {
        Ok(_) => Ok(Part::Last),
        Err(error) => Err(bad_or_local(error)),
    }
}

type Written = (Box<Intake<File>>, io::Result<()>);

/// Hands what comes to threads that may block, one after the other.
struct Writer {
    /// Unless it is being written to.
    idle: Option<Box<Intake<File>>>,
    busy: Option<JoinHandle<Written>>,
    gathered: Vec<Bytes>,
    /// Of what is gathered.
    bytes: usize,
}

impl Writer {
    async fn gather(&mut self, chunk: Bytes) -> Result<(), Trouble> {
        self.bytes += chunk.len();
        self.gathered.push(chunk);
        match self.bytes >= GATHERED {
            true => self.write().await,
            false => Ok(()),
        }
    }

    /// Begins to write what is gathered, once what came before is written.
    async fn write(&mut self) -> Result<(), Trouble> {
        let mut intake = self.written().await?;
        let gathered = std::mem::take(&mut self.gathered);
        self.bytes = 0;
        self.busy = Some(spawn_blocking(move || {
            let taken = gathered.iter().try_for_each(|chunk| intake.take(chunk));
            (intake, taken)
        }));
        Ok(())
    }

    /// What is written to, when all that was begun is done.
    async fn written(&mut self) -> Result<Box<Intake<File>>, Trouble> {
        if let Some(busy) = self.busy.take() {
            let (intake, taken) = busy.await.map_err(io::Error::other).map_err(Trouble::Local)?;
            taken.map_err(bad_or_local)?;
            return Ok(intake);
        }
        let lost = || Trouble::Local(io::Error::other("what is written to is lost"));
        self.idle.take().ok_or_else(lost)
    }

    async fn end(mut self) -> Result<Box<Intake<File>>, Trouble> {
        self.write().await?;
        self.written().await
    }
}

/// Errors with a number come from the system, others from what was read.
fn bad_or_local(error: io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(_) => Trouble::Local(error),
        None => Trouble::Bad(error.to_string()),
    }
}

fn unpack(bytes: &Bytes, content: Content, compressed: bool) -> io::Result<Bytes> {
    let mut intake = Intake::new(content.digest, content.size, compressed, Vec::new())?;
    intake.take(bytes)?;
    intake.finish().map(Bytes::from)
}

/// A file that is removed unless it is forgotten.
pub(super) struct Unfinished(pub(super) PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
