//! Transfers of large contents that break off, stall, or meet an object that becomes another one. The server is one that does so on purpose.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use heph_cache::remote::envelope::{Place, Stored, seal};
use heph_cache::remote::{Caller, Remotes, Wanted, Warning};
use heph_cache::{Content, Entry, Manifest, Output, SandboxMode, Store, StoreOptions};
use heph_common::Digest;
use heph_common::config::{Base, parse};

const KEY: Digest = Digest::from_bytes([5; 32]);
const PLATFORM: &str = "linux-test";
const PATIENCE: Duration = Duration::from_secs(60);

/// One answer to a request for the content.
#[derive(Clone, Copy)]
struct Part {
    /// Which of the two compressed forms it is of.
    form: usize,
    /// What the server says of its version.
    version: Option<&'static str>,
    /// So much of what was asked for comes, as a share of the whole object.
    share: f64,
    /// Whether the connection stays open and silent behind it.
    stalls: bool,
}

const fn part(form: usize, version: Option<&'static str>, share: f64) -> Part {
    Part {
        form,
        version,
        share,
        stalls: false,
    }
}

/// 400,000 bytes that shrink to some tens of thousands.
fn content() -> Vec<u8> {
    let words: Vec<String> = (0_u32..60_000)
        .map(|at| at.wrapping_mul(2_654_435_761).to_string())
        .collect();
    let mut text = words.join(" ").into_bytes();
    text.truncate(400_000);
    text
}

/// The same content, compressed by two releases that do it differently.
fn forms() -> [Vec<u8>; 2] {
    [1, 19].map(|level| zstd::bulk::compress(&content(), level).unwrap())
}

fn envelope() -> Vec<u8> {
    let bytes = content();
    let content = Content {
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
    };
    let manifest = Manifest {
        kind: "target".to_owned(),
        key: KEY,
        outputs: vec![Output {
            group: String::new(),
            path: "out".to_owned(),
            entry: Entry::File {
                content,
                executable: false,
            },
        }],
        log: None,
        exit_code: 0,
        platform: PLATFORM.to_owned(),
        sandbox: SandboxMode::Strict,
        address: "//some:target".to_owned(),
        producer: "0.1.0".to_owned(),
        created_unix_ms: 1_700_000_000_000,
        duration: Duration::ZERO,
    };
    let stored = Stored {
        inline: None,
        compressed: true,
    };
    let place = Place {
        scope: "main",
        epoch: "",
        now_unix_ms: 1_700_000_000_000,
    };
    seal(&manifest, [(content.digest, stored)], place, None).to_vec()
}

/// Answers requests for the content as it is told, the last way for all further ones; the ranges that were asked for.
fn serve(script: Vec<Part>) -> (u16, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
    let all = Arc::clone(&asked);
    // Before anybody waits for it.
    let (envelope, forms) = (envelope(), forms());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // One request a connection: what stalls does so until the client goes.
            answer(stream, &envelope, &forms, &script, &all);
        }
    });
    (port, asked)
}

fn answer(
    mut stream: TcpStream,
    envelope: &[u8],
    forms: &[Vec<u8>; 2],
    script: &[Part],
    asked: &Mutex<Vec<usize>>,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .lines()
        .map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let mut offset = 0;
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            offset = range.trim_end_matches('-').parse().unwrap();
        }
    }
    if request.contains("/actions/") {
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            envelope.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), envelope].concat());
        return;
    }
    if !request.contains("/blobs/") {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    let at = {
        let mut asked = asked.lock().unwrap();
        asked.push(offset);
        asked.len() - 1
    };
    let part = script[at.min(script.len() - 1)];
    let whole = &forms[part.form];
    let rest = whole.get(offset..).unwrap_or_default();
    let version = part
        .version
        .map(|tag| format!("ETag: \"{tag}\"\r\n"))
        .unwrap_or_default();
    let head = match offset {
        0 => format!(
            "HTTP/1.1 200 OK\r\n{version}Connection: close\r\nContent-Length: {}\r\n\r\n",
            rest.len()
        ),
        _ => format!(
            "HTTP/1.1 206 Partial Content\r\n{version}Connection: close\r\nContent-Range: bytes {offset}-{}/{}\r\nContent-Length: {}\r\n\r\n",
            whole.len() - 1,
            whole.len(),
            rest.len()
        ),
    };
    let length = rest.len().min((whole.len() as f64 * part.share) as usize);
    let _ = stream.write_all(&[head.as_bytes(), &rest[..length]].concat());
    if part.stalls {
        // The client goes away.
        let _ = lines.next();
    }
}

/// What came of fetching the content: whether it is there, what was told, and the offsets that were asked for.
fn fetched(script: Vec<Part>) -> (bool, Vec<Warning>, Vec<usize>) {
    let (port, asked) = serve(script);
    let place = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&place.path().join("home"), StoreOptions::default()).unwrap());
    let text = format!(
        "caches:\n  shared:\n    uri: http://127.0.0.1:{port}/x\n    write: false\n    readTimeout: 2s\n    retries: 0\n"
    );
    let config = parse(".hephconfig", &text, Base::default()).unwrap().config;
    let remotes = Remotes::new(Arc::clone(&store), &place.path().join("state"), &config.uploads);
    let environment = BTreeMap::new();
    let caller = Caller {
        config: &config,
        environment: &environment,
        branch: &|| None,
        platform: PLATFORM,
    };
    let session = remotes.session(&caller).unwrap();
    let (tell, told) = mpsc::channel();
    session.look_up("target", KEY, |_| Ok(()), move |found| tell.send(found).unwrap());
    assert!(told.recv_timeout(PATIENCE).unwrap().is_some());
    let wanted = Wanted {
        key: KEY,
        digest: Digest::of(&content()),
        executable: false,
    };
    let (tell, told) = mpsc::channel();
    session.fetch("target", vec![wanted], move |missing| tell.send(missing).unwrap());
    let missing = told.recv_timeout(PATIENCE).unwrap();
    let is_there = store.blob(&wanted.digest, false).unwrap().is_some();
    assert_eq!(missing.is_empty(), is_there);
    let stage = std::fs::read_dir(place.path().join("home/stage"));
    assert_eq!(stage.into_iter().flatten().count(), 0, "nothing is left over");
    let offsets = asked.lock().unwrap().clone();
    (is_there, session.take_warnings(), offsets)
}

fn half(form: usize) -> usize {
    forms()[form].len() / 2
}

#[test]
fn a_transfer_that_breaks_off_is_gone_on_with() {
    for stalls in [false, true] {
        let first = Part {
            stalls,
            ..part(0, Some("one"), 0.5)
        };
        let (is_there, warnings, offsets) = fetched(vec![first, part(0, Some("one"), 1.0)]);
        assert!(is_there, "{warnings:?}");
        assert_eq!((warnings, offsets), (Vec::new(), vec![0, half(0)]));
    }
}

#[test]
fn an_object_that_became_another_one_is_read_anew() {
    // With what the server says of versions, and without.
    for versions in [[Some("one"), Some("two")], [None, None]] {
        let script = vec![
            part(0, versions[0], 0.5),
            part(1, versions[1], 1.0),
            part(1, versions[1], 1.0),
        ];
        let (is_there, warnings, offsets) = fetched(script);
        assert!(is_there, "{warnings:?}");
        assert_eq!((warnings, offsets), (Vec::new(), vec![0, half(0), 0]));
    }
}

#[test]
fn an_object_that_never_stays_the_same_is_given_up() {
    let turns = (0..20).map(|at| part(at % 2, [Some("one"), Some("two")][at % 2], 0.5));
    let (is_there, warnings, offsets) = fetched(turns.collect());
    assert!(!is_there);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].message.contains("it changed whenever it was read"),
        "{warnings:?}"
    );
    assert_eq!(
        offsets.iter().filter(|offset| **offset == 0).count(),
        3,
        "once, and twice anew"
    );
    assert_eq!(offsets.len(), 6);
}

#[test]
fn a_transfer_that_breaks_off_again_and_again_is_given_up() {
    let (is_there, warnings, offsets) = fetched(vec![part(0, Some("one"), 0.05)]);
    assert!(!is_there);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(offsets.len(), 5, "once, and gone on with four times");
    assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "{offsets:?}");
}
