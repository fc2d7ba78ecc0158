//! The trait behind which every kind of remote cache is.

mod error;
mod object;

use std::fmt::{self, Debug};
use std::fs::File;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

pub use error::{RemoteError, RemoteErrorKind};
pub use object::Object;

/// What a backend answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RemoteError>> + Send + 'a>>;

/// The bytes of an object as they arrive.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, RemoteError>> + Send>>;

/// A place that keeps objects.
///
/// Each request is made once. Failing ones are repeated by the caller, and so are those that take too long: a future may be
/// dropped at any moment. What was being written is then complete or absent, except on servers of plain files that keep what they got
/// of an upload; whoever reads checks digests anyway.
///
/// Futures and the backend itself live on a Tokio runtime.
pub trait Backend: Send + Sync + Debug {
    /// What it can take and do.
    fn limits(&self) -> Limits;

    /// The whole object; `None` when there is none. One of more than `limit` bytes is [`RemoteErrorKind::TooLarge`],
    /// and not read further.
    fn get(&self, object: &Object, limit: u64) -> Answer<'_, Option<Bytes>>;

    /// Several objects, each as [`Backend::get`] would answer, in the order of `objects`. The outer error is one that concerns
    /// all of them.
    fn get_many(
        &self,
        objects: &[Object],
        limit: u64,
    ) -> Answer<'_, Vec<Result<Option<Bytes>, RemoteError>>> {
        let parallel = self.limits().parallel;
        let answers: Vec<_> = objects.iter().map(|object| self.get(object, limit)).collect();
        Box::pin(async move { Ok(stream::iter(answers).buffered(parallel.max(1)).collect().await) })
    }

    /// The object from byte `offset` on, as a stream; `None` when there is none. An offset at or behind the end gives an empty
    /// stream. To go on with a broken transfer, compare [`Body::version`] with that of the first part.
    fn open(&self, object: &Object, offset: u64) -> Answer<'_, Option<Body>>;

    /// Which of the objects there are, in the order of `objects`.
    fn exist(&self, objects: &[Object]) -> Answer<'_, Vec<bool>>;

    /// Writes a whole object. [`PutMode::IfAbsent`] saves work where the server can tell ([`Limits::conditional`]);
    /// others write anyway.
    fn put(&self, object: &Object, bytes: Bytes, mode: PutMode) -> Answer<'_, Put>;

    /// Writes the first `size` bytes of a file as an object, replacing what was there. At most 16 MiB of it are in memory at a
    /// time. The file's position is neither used nor moved. A file that is shorter is [`RemoteErrorKind::Invalid`].
    fn put_file(&self, object: &Object, file: File, size: u64) -> Answer<'_, Put>;

    /// Removes an object. One that is not there is no error.
    fn delete(&self, object: &Object) -> Answer<'_, ()>;

    /// One small reading round trip. That there is nothing ([`Object::Probe`] need not exist) is an answer.
    fn probe(&self) -> Answer<'_, ()>;
}

/// What a backend can take and do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The largest object in bytes, where there is a limit that is known.
    pub largest: Option<u64>,
    /// How many requests at once make sense.
    pub parallel: usize,
    /// Whether [`PutMode::IfAbsent`] is passed on to the server. Servers are known that ignore it: an economy, never a promise.
    pub conditional: bool,
    /// How many objects [`Backend::get_many`] and [`Backend::exist`] ask for in one request; 1 where there are no batches.
    pub batch: usize,
}

/// Whether an object that is there is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutMode {
    /// It is.
    Replace,
    /// It stays.
    IfAbsent,
}

/// What became of an object that was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It was written.
    Written,
    /// Another one was there already, and stays.
    Existed,
}

/// An object that is being read.
pub struct Body {
    /// Length of the whole object in bytes.
    pub size: u64,
    /// Where the stream begins in it.
    pub offset: u64,
    /// What tells this version of the object from others of the same name (an ETag, a generation, a file's times), where the server has
    /// such a thing.
    pub version: Option<String>,
    /// The bytes from `offset` on. Ends early only with an error.
    pub chunks: Chunks,
}

impl Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("size", &self.size)
            .field("offset", &self.offset)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
