//! What every backend does alike.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use heph_cache::remote::{Backend, Body, Object, Put, PutMode, RemoteErrorKind};
use heph_common::Digest;

use super::subject::Subject;

/// Larger than anything that is read whole here.
const ANY: u64 = 256 << 20;
/// How much the process may grow while a large object goes through it.
const GROWTH: u64 = 40 << 20;

/// Held by whoever measures the whole process, and shared by all others.
pub(super) static QUIET: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// All checks.
pub(super) async fn all(subject: &Subject) {
    let cache = subject.backend();
    let cache = cache.as_ref();
    let others = QUIET.read().await;
    step("probe", cache.probe()).await;
    round_trip(cache).await;
    first_or_last_wins(cache, subject.conditional).await;
    sizes(cache, subject.largest).await;
    limits(cache).await;
    offsets(cache).await;
    odd_names(cache).await;
    batches(cache).await;
    parallel(cache, subject.tries).await;
    given_up(cache, subject.whole).await;
    drop(others);
    streams(cache, subject.largest).await;
}

/// Those that show that a cache can be used at all.
pub(super) async fn small(subject: &Subject) {
    let _others = QUIET.read().await;
    let cache = subject.backend();
    step("probe", cache.probe()).await;
    round_trip(cache.as_ref()).await;
}

/// What is written to one is not in the other.
pub(super) async fn apart(subject: &Subject, other: &Subject) {
    let (one, other) = (subject.backend(), other.backend());
    let object = blob("main");
    step(
        "put",
        one.put(&object, Bytes::from_static(b"one"), PutMode::Replace),
    )
    .await;
    assert_eq!(step("get", other.get(&object, ANY)).await, None);
    assert!(step("get", one.get(&object, ANY)).await.is_some());
}

/// What is written to one is in the other.
pub(super) async fn shared(subject: &Subject, other: &Subject) {
    let (one, other) = (subject.backend(), other.backend());
    for at in 0..50 {
        let object = blob("main");
        let bytes = content(100, at + 1);
        step("put", one.put(&object, bytes.clone(), PutMode::Replace)).await;
        assert!(step("get", other.get(&object, ANY)).await == Some(bytes), "{at}");
    }
}

/// An object of which the server drops a part is absent, or an error when it is streamed.
pub(super) async fn dropped_parts(subject: &Subject, size: usize) {
    let _others = QUIET.read().await;
    let cache = subject.backend();
    let object = blob("main");
    let bytes = content(size, 7);
    step("put", cache.put(&object, bytes.clone(), PutMode::Replace)).await;
    let found = step("get", cache.get(&object, ANY)).await;
    assert!(
        found.is_none(),
        "{size} bytes are more than the server has room for"
    );
    if let Some(body) = step("open", cache.open(&object, 0)).await {
        let read: Result<Vec<Bytes>, _> = body.chunks.try_collect().await;
        assert!(read.is_err(), "a stream with a hole in it");
    }
}

/// What is written is gone when its time is over.
pub(super) async fn ends(subject: &Subject) {
    let cache = subject.backend();
    let object = blob("main");
    step(
        "put",
        cache.put(&object, Bytes::from_static(b"short"), PutMode::Replace),
    )
    .await;
    let started = Instant::now();
    while step("get", cache.get(&object, ANY)).await.is_some() {
        assert!(started.elapsed() < Duration::from_secs(30), "it stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a step comes to, within a time in which a hanging one is found.
async fn step<T>(what: &str, answer: impl Future<Output = Result<T, heph_cache::remote::RemoteError>>) -> T {
    match tokio::time::timeout(Duration::from_secs(120), answer).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("{what}: {error} ({:?})", error.kind),
        Err(_) => panic!("{what}: no answer"),
    }
}

/// Different for each call, so that checks can be run against one server again and again.
fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    u64::try_from(time.as_nanos()).unwrap_or_default() ^ (COUNT.fetch_add(1, Ordering::Relaxed) << 48)
}

fn blob(scope: &str) -> Object {
    Object::Blob {
        scope: scope.to_owned(),
        digest: Digest::of(&unique().to_le_bytes()),
        compressed: false,
    }
}

/// Bytes that do not repeat.
fn content(length: usize, seed: u64) -> Bytes {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

async fn round_trip(cache: &dyn Backend) {
    let kinds = [
        blob("main"),
        Object::Blob {
            scope: "main".to_owned(),
            digest: Digest::of(&unique().to_le_bytes()),
            compressed: true,
        },
        Object::Action {
            scope: "pr/7".to_owned(),
            kind: "target".to_owned(),
            key: Digest::of(&unique().to_le_bytes()),
        },
        Object::Trace {
            scope: "main".to_owned(),
            kind: "run".to_owned(),
            name: format!("//some/where:{}", unique()),
        },
        Object::Tombstone {
            scope: "main".to_owned(),
            key: Digest::of(&unique().to_le_bytes()),
        },
    ];
    for object in kinds {
        let get = || step("get", cache.get(&object, ANY));
        let exists = || step("exist", cache.exist(std::slice::from_ref(&object)));
        assert_eq!(get().await, None, "{object}");
        assert_eq!(exists().await, [false]);
        assert!(step("open", cache.open(&object, 0)).await.is_none());
        step("delete what is not there", cache.delete(&object)).await;

        let put = |text: &'static str| {
            step(
                "put",
                cache.put(&object, Bytes::from_static(text.as_bytes()), PutMode::Replace),
            )
        };
        assert_eq!(put("first").await, Put::Written);
        assert_eq!(get().await.unwrap(), "first");
        assert_eq!(exists().await, [true]);
        assert_eq!(put("the second, longer").await, Put::Written);
        assert_eq!(get().await.unwrap(), "the second, longer");
        step("delete", cache.delete(&object)).await;
        assert_eq!(get().await, None, "deleted");
        assert_eq!(exists().await, [false]);
    }
}

/// Both answers to a second writer are right, if they are true.
async fn first_or_last_wins(cache: &dyn Backend, conditional: bool) {
    let object = blob("main");
    let put = |text: &'static str| {
        step(
            "put",
            cache.put(&object, Bytes::from_static(text.as_bytes()), PutMode::IfAbsent),
        )
    };
    assert_eq!(put("first").await, Put::Written);
    let second = put("second").await;
    let kept = step("get", cache.get(&object, ANY)).await.unwrap();
    match second {
        Put::Existed => assert_eq!(kept, "first"),
        Put::Written => assert_eq!(kept, "second"),
    }
    if conditional {
        assert_eq!(second, Put::Existed);
        assert!(cache.limits().conditional);
    }
}

async fn sizes(cache: &dyn Backend, largest: u64) {
    for length in [0, 1, 4096, 65_537, 1 << 20, (1 << 20) + 1, 5 << 20] {
        if u64::try_from(length).unwrap() > largest {
            continue;
        }
        let object = blob("main");
        let bytes = content(length, unique());
        step("put", cache.put(&object, bytes.clone(), PutMode::Replace)).await;
        let found = step("get", cache.get(&object, ANY)).await.unwrap();
        assert!(
            found == bytes,
            "{length} bytes came back as {} or with others",
            found.len()
        );
        let body = step("open", cache.open(&object, 0)).await.unwrap();
        assert_eq!((body.size, body.offset), (bytes.len() as u64, 0));
        assert!(
            collect(body).await == bytes,
            "{length} bytes differ when streamed"
        );
        step("delete", cache.delete(&object)).await;
    }
}

async fn limits(cache: &dyn Backend) {
    let object = blob("main");
    let bytes = content(100_000, unique());
    step("put", cache.put(&object, bytes.clone(), PutMode::Replace)).await;
    assert!(step("get", cache.get(&object, 100_000)).await.unwrap() == bytes);
    for limit in [99_999, 1, 0] {
        let error = cache.get(&object, limit).await.unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::TooLarge, "{error}");
        let many = step("get many", cache.get_many(std::slice::from_ref(&object), limit)).await;
        let error = many.into_iter().next().unwrap().unwrap_err();
        assert_eq!(error.kind, RemoteErrorKind::TooLarge, "{error}");
    }
    // A refused answer must not spoil the connection for others.
    assert!(step("get", cache.get(&object, ANY)).await.unwrap() == bytes);
}

async fn collect(body: Body) -> Vec<u8> {
    body.chunks
        .try_fold(Vec::new(), async |mut all, chunk| {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .unwrap_or_else(|error| panic!("the stream broke: {error}"))
}

async fn offsets(cache: &dyn Backend) {
    let object = blob("main");
    let bytes = content(300_000, unique());
    step("put", cache.put(&object, bytes.clone(), PutMode::Replace)).await;
    for offset in [1, 150_000, 299_999] {
        let body = step("open", cache.open(&object, offset as u64)).await.unwrap();
        assert_eq!((body.size, body.offset), (300_000, offset as u64));
        assert!(collect(body).await == bytes.slice(offset..), "from {offset}");
    }
    for offset in [300_000, 300_001] {
        let body = step("open at the end", cache.open(&object, offset))
            .await
            .unwrap();
        assert!(collect(body).await.is_empty(), "from {offset}");
    }

    // A transfer that is given up and taken up again.
    let mut body = step("open", cache.open(&object, 0)).await.unwrap();
    let version = body.version.clone();
    let mut begun = body.chunks.next().await.unwrap().unwrap().to_vec();
    drop(body);
    let rest = step("resume", cache.open(&object, begun.len() as u64))
        .await
        .unwrap();
    assert_eq!(rest.version, version, "the same object has the same version");
    begun.extend(collect(rest).await);
    assert!(begun == bytes, "two halves are the whole");

    if version.is_some() {
        step(
            "put",
            cache.put(&object, content(300_001, unique()), PutMode::Replace),
        )
        .await;
        let other = step("open", cache.open(&object, 0)).await.unwrap();
        assert_ne!(
            other.version, version,
            "another object of the name has another version"
        );
    }
}

async fn odd_names(cache: &dyn Backend) {
    let long = "x".repeat(400);
    let names = [
        "a b",
        "ä/ö",
        "..",
        ".",
        "",
        "a%2Fb",
        "a~2Fb",
        "a+b",
        "a&b=c?d#e",
        "'\"<>|*\\",
        "\n\t\0",
        "//pkg:name@k=\"v w\"",
        "🦀",
        &long,
    ];
    let seed = unique();
    let object = |name: &str| Object::Trace {
        scope: format!("pr/{seed}/ü x"),
        kind: "k i/n:d".to_owned(),
        name: name.to_owned(),
    };
    for name in names {
        step(
            name,
            cache.put(&object(name), Bytes::from(name.to_owned()), PutMode::Replace),
        )
        .await;
    }
    for name in names {
        let found = step(name, cache.get(&object(name), ANY)).await;
        assert_eq!(found, Some(Bytes::from(name.to_owned())), "{name:?}");
    }
}

async fn batches(cache: &dyn Backend) {
    let objects: Vec<Object> = (0..500).map(|_| blob("batch")).collect();
    let there = |at: usize| at % 5 != 3;
    let bytes = |at: usize| content(at * 7, at as u64 + 1);
    let puts = objects.iter().enumerate().filter(|(at, _)| there(*at));
    let puts: Vec<_> = puts
        .map(|(at, object)| cache.put(object, bytes(at), PutMode::Replace))
        .collect();
    let written: Vec<Put> = step("put 400", stream::iter(puts).buffer_unordered(32).try_collect()).await;
    assert_eq!(written.len(), 400);

    let found = step("exist", cache.exist(&objects)).await;
    assert_eq!(found.len(), 500);
    for (at, found) in found.into_iter().enumerate() {
        assert_eq!(found, there(at), "{at}");
    }
    let found = step("get many", cache.get_many(&objects, ANY)).await;
    assert_eq!(found.len(), 500);
    for (at, found) in found.into_iter().enumerate() {
        let expected = there(at).then(|| bytes(at));
        assert!(found.unwrap() == expected, "{at}");
    }
    assert!(step("get none", cache.get_many(&[], ANY)).await.is_empty());
    assert!(step("look for none", cache.exist(&[])).await.is_empty());
}

async fn parallel(cache: &dyn Backend, tries: u32) {
    let answers = (0..64_u64).map(|at| async move {
        let object = blob("parallel");
        let bytes = content(20_000, at + 1);
        for left in (0..tries).rev() {
            let put = cache.put(&object, bytes.clone(), PutMode::IfAbsent);
            match step("put", async { Ok(put.await) }).await {
                Err(error) if left > 0 && error.is_retryable() => {}
                put => {
                    put.unwrap();
                    break;
                }
            }
        }
        let found = step("get", cache.get(&object, ANY)).await;
        assert!(found == Some(bytes), "{at}");
    });
    futures_util::future::join_all(answers).await;
}

/// Requests whose futures are dropped at any moment spoil neither others nor what is stored.
async fn given_up(cache: &dyn Backend, whole: bool) {
    let bytes = content(700_000, unique());
    let there = blob("main");
    step("put", cache.put(&there, bytes.clone(), PutMode::Replace)).await;
    for at in 0..24_u64 {
        let object = blob("main");
        let time = Duration::from_micros(at * at * 40);
        let _ = tokio::time::timeout(time, cache.put(&object, bytes.clone(), PutMode::Replace)).await;
        let _ = tokio::time::timeout(time, cache.get(&there, ANY)).await;
        let _ = tokio::time::timeout(time, cache.get_many(&[there.clone(), object.clone()], ANY)).await;
        let body = step("open", cache.open(&there, at)).await.unwrap();
        let _ = tokio::time::timeout(time, collect(body)).await;
        let found = step("get", cache.get(&object, ANY)).await;
        assert!(
            !whole || found.is_none_or(|found| found == bytes),
            "half of what was being written"
        );
        assert!(step("get", cache.get(&there, ANY)).await.unwrap() == bytes);
    }
}

/// A large object, from a file and as a stream, with little of it in memory.
async fn streams(cache: &dyn Backend, size: u64) {
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
