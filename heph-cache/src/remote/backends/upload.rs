//! Reading a file that is to be uploaded, piece by piece.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use crate::remote::backend::{RemoteError, RemoteErrorKind};

/// Runs what may block away from the async workers.
pub(super) async fn blocking<T: Send + 'static>(
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
#[expect(dead_code, reason = "backends that upload over the network come next")]
pub(super) async fn read_piece(file: &Arc<File>, offset: u64, length: usize) -> Result<Bytes, RemoteError> {
    let file = Arc::clone(file);
    blocking(move || piece(&file, offset, length)).await
}
