//! Reading a file that is to be uploaded, piece by piece.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};

use crate::remote::backend::{RemoteError, RemoteErrorKind};

/// What is uploaded.
pub(super) enum Content {
    /// What is in memory.
    Bytes(Bytes),
    /// So many bytes of a file, from its beginning.
    File(Arc<File>, u64),
}

impl Content {
    /// Its length in bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::File(_, size) => *size,
        }
    }

    /// A part of it.
    pub(super) async fn piece(&self, offset: u64, length: u64) -> Result<Bytes, RemoteError> {
        let length = usize::try_from(length).unwrap_or_default();
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or_default();
                Ok(bytes.slice(start.min(bytes.len())..(start + length).min(bytes.len())))
            }
            Self::File(file, _) => read_piece(Arc::clone(file), offset, length).await,
        }
    }
}

/// Runs what may block away from the async workers.
pub(in crate::remote) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RemoteError> + Send + 'static,
) -> Result<T, RemoteError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(RemoteError::new(
            RemoteErrorKind::Unavailable,
            format!("finish work on files: {error}"),
        )),
    }
}

/// Refuses a file that is shorter than was announced, before anything of it is sent: some servers keep what they got of an upload
/// that breaks off.
pub(super) fn check(file: &File, size: u64) -> Result<(), RemoteError> {
    let found = file.metadata().map(|status| status.len());
    match found {
        Ok(found) if found >= size => Ok(()),
        Ok(found) => Err(RemoteError::new(
            RemoteErrorKind::Invalid,
            format!("read the file to upload: it has {found} bytes, {size} were announced"),
        )),
        Err(error) => Err(RemoteError::new(
            RemoteErrorKind::Invalid,
            format!("read the file to upload: {error}"),
        )),
    }
}

/// `length` bytes of `file` from `offset` on; its position is neither used nor moved.
pub(super) fn piece(file: &File, offset: u64, length: usize) -> Result<Bytes, RemoteError> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it is shorter than was announced".to_owned(),
            _ => error.to_string(),
        };
        RemoteError::new(
            RemoteErrorKind::Invalid,
            format!("read the file to upload: {what}"),
        )
    })?;
    Ok(bytes.into())
}

/// [`piece`], away from the async workers.
pub(super) async fn read_piece(file: Arc<File>, offset: u64, length: usize) -> Result<Bytes, RemoteError> {
    blocking(move || piece(&file, offset, length)).await
}

/// The first `size` bytes of a file in pieces of `length` bytes.
pub(super) fn pieces(
    file: Arc<File>,
    size: u64,
    length: usize,
) -> impl Stream<Item = Result<Bytes, RemoteError>> + Send + 'static {
    stream::try_unfold(0, move |offset| {
        let file = Arc::clone(&file);
        async move {
            if offset >= size {
                return Ok(None);
            }
            let length = usize::try_from(size - offset).map_or(length, |left| left.min(length));
            let bytes = read_piece(file, offset, length).await?;
            Ok(Some((bytes, offset + u64::try_from(length).unwrap_or_default())))
        }
    })
}
