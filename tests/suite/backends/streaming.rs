//! Large objects, with little of them in memory.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use heph_cache::remote::{Backend, Put, RemoteErrorKind};

use super::checks::{ANY, QUIET, blob, content, step, unique};

/// How much the process may grow while a large object goes through it.
const GROWTH: u64 = 40 << 20;

/// A large object, from a file and as a stream, with little of it in memory.
pub(super) async fn large(cache: &dyn Backend, size: u64) {
    let _alone = QUIET.write().await;
    let mut file = tempfile::tempfile().unwrap();
    let piece = content(1 << 20, unique());
    let mut hasher = blake3::Hasher::new();
    for at in 0..size >> 20 {
        let mut piece = piece.to_vec();
        piece[..8].copy_from_slice(&at.to_le_bytes());
        hasher.update(&piece);
        file.write_all(&piece).unwrap();
    }
    let object = blob("main");
    let position = || std::io::Seek::stream_position(&mut File::try_clone(&file).unwrap()).unwrap();
    assert_eq!(position(), size);

    let watch = Growth::watch();
    let started = Instant::now();
    assert_eq!(
        step(
            "put a file",
            cache.put_file(&object, file.try_clone().unwrap(), size)
        )
        .await,
        Put::Written
    );
    let up = started.elapsed();
    assert_eq!(position(), size, "the file's position is left alone");

    let started = Instant::now();
    let body = step("open", cache.open(&object, 0)).await.unwrap();
    assert_eq!(body.size, size);
    let (found, length) = body
        .chunks
        .try_fold(
            (blake3::Hasher::new(), 0_u64),
            async |(mut hasher, length), chunk| {
                hasher.update(&chunk);
                Ok((hasher, length + chunk.len() as u64))
            },
        )
        .await
        .unwrap();
    assert_eq!(length, size);
    assert!(found.finalize() == hasher.finalize(), "what was streamed differs");
    let grown = watch.end();
    eprintln!(
        "{size} bytes: up {up:?}, down {:?}, {} KiB more in memory",
        started.elapsed(),
        grown >> 10
    );
    assert!(grown < GROWTH, "the process has grown by {grown} bytes");
    step("delete", cache.delete(&object)).await;

    let error = cache.put_file(&object, file, size + 1).await.unwrap_err();
    assert!(
        !error.is_retryable() || error.kind == RemoteErrorKind::Unavailable,
        "{error}"
    );
    assert_eq!(
        step("get", cache.get(&object, ANY)).await,
        None,
        "half a file is no object"
    );
}

/// How much the process grows.
struct Growth {
    before: u64,
    most: std::sync::Arc<AtomicU64>,
    end: std::sync::Arc<AtomicBool>,
}

impl Growth {
    fn watch() -> Self {
        let watch = Self {
            before: resident(),
            most: Default::default(),
            end: Default::default(),
        };
        let (most, end) = (watch.most.clone(), watch.end.clone());
        std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        watch
    }

    fn end(self) -> u64 {
        self.end.store(true, Ordering::Relaxed);
        self.most
            .load(Ordering::Relaxed)
            .max(resident())
            .saturating_sub(self.before)
    }
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or_default();
    pages * 4096
}
