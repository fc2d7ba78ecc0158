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

/// Room for bytes that a server announces: what is reserved for a large object grows as it comes.
pub(super) fn reserved(announced: Option<u64>) -> Vec<u8> {
    const MOST: u64 = 8 << 20;
    Vec::with_capacity(usize::try_from(announced.unwrap_or(0).min(MOST)).unwrap_or_default())
}
