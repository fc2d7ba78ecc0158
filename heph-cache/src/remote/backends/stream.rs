//! Streams of bytes.

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::remote::backend::{Chunks, RemoteError};

/// The stream without its first `skip` bytes.
pub(super) fn skipped(
    bytes: impl futures_util::Stream<Item = Result<Bytes, RemoteError>> + Send + 'static,
    mut skip: u64,
) -> Chunks {
    Box::pin(bytes.map_ok(move |mut chunk| {
        let drop = usize::try_from(skip).map_or(chunk.len(), |skip| skip.min(chunk.len()));
        skip -= u64::try_from(drop).unwrap_or_default();
        chunk.split_off(drop)
    }))
}
