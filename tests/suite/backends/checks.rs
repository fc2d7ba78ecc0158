//! What every backend does alike.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use heph_cache::remote::{Backend, Body, Object, Put, PutMode, RemoteError, RemoteErrorKind};
use heph_common::Digest;

use super::streaming;
use super::subject::Subject;

/// Larger than anything that is read whole here.
pub(super) const ANY: u64 = 256 << 20;

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
    offsets(cache, subject.weak).await;
    odd_names(cache).await;
    batches(cache, subject.weak).await;
    parallel(cache, subject.weak).await;
    given_up(cache, subject.whole).await;
    drop(others);
    streaming::large(cache, subject.largest).await;
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
pub(super) async fn step<T>(what: &str, answer: impl Future<Output = Result<T, RemoteError>>) -> T {
    match tokio::time::timeout(Duration::from_secs(120), answer).await {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("{what}: {error} ({:?})", error.kind),
        Err(_) => panic!("{what}: no answer"),
    }
}

/// Different for each call, so that checks can be run against one server again and again.
pub(super) fn unique() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    u64::try_from(time.as_nanos()).unwrap_or_default() ^ (COUNT.fetch_add(1, Ordering::Relaxed) << 48)
}

pub(super) fn blob(scope: &str) -> Object {
    Object::Blob {
        scope: scope.to_owned(),
        digest: Digest::of(&unique().to_le_bytes()),
        compressed: false,
    }
}

/// Bytes that do not repeat.
pub(super) fn content(length: usize, seed: u64) -> Bytes {
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

async fn offsets(cache: &dyn Backend, weak: bool) {
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

    // A transfer that is given up and taken up again. A version that differs once is no promise broken: whoever resumes begins anew.
    let mut tries = 0;
    let (version, mut begun, rest) = loop {
        let mut body = step("open", cache.open(&object, 0)).await.unwrap();
        let version = body.version.clone();
        let begun = body.chunks.next().await.unwrap().unwrap().to_vec();
        drop(body);
        let rest = step("resume", cache.open(&object, begun.len() as u64))
            .await
            .unwrap();
        // The weak one makes up another one now and then.
        if weak || rest.version == version {
            break (version, begun, rest);
        }
        tries += 1;
        assert!(
            tries < 3,
            "the same object has the same version: {version:?}, {:?}",
            rest.version
        );
    };
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

async fn batches(cache: &dyn Backend, weak: bool) {
    let objects: Vec<Object> = (0..500).map(|_| blob("batch")).collect();
    let there = |at: usize| at % 5 != 3;
    let bytes = |at: usize| content(at * 7, at as u64 + 1);
    let puts = objects.iter().enumerate().filter(|(at, _)| there(*at));
    let puts: Vec<_> = puts
        .map(|(at, object)| put_once_or_more(cache, object, bytes(at), PutMode::Replace, weak))
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

/// Puts an object; into a weak server, several times if need be.
async fn put_once_or_more(
    cache: &dyn Backend,
    object: &Object,
    bytes: Bytes,
    mode: PutMode,
    weak: bool,
) -> Result<Put, RemoteError> {
    let mut left = if weak { 4 } else { 0 };
    loop {
        match cache.put(object, bytes.clone(), mode).await {
            Err(error) if left > 0 && error.is_retryable() => left -= 1,
            answer => return answer,
        }
    }
}

async fn parallel(cache: &dyn Backend, weak: bool) {
    let answers = (0..64_u64).map(|at| async move {
        let object = blob("parallel");
        let bytes = content(20_000, at + 1);
        let put = put_once_or_more(cache, &object, bytes.clone(), PutMode::IfAbsent, weak);
        step("put", put).await;
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
