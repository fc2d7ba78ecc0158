//! Downloads, from a server in the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use heph_engine::executor::{Cancel, Control, Executor, ExecutorOptions, Proxies};
use heph_proto::content::Content as Held;
use heph_proto::plan::Action;
use heph_proto::report::Outcome;
use heph_proto::{EntryKind, FailureKind, Fetch, Plan};

use crate::support::{Bench, completed, failed};

/// A server that gives each request the next answer, the last one for ever. Counts requests.
struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
    lines: Arc<std::sync::Mutex<Vec<String>>>,
}

fn serve(answers: Vec<Vec<u8>>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let lines = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (count, seen) = (Arc::clone(&requests), Arc::clone(&lines));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            let _ = reader.read_line(&mut line);
            seen.lock().unwrap().push(line.clone());
            while line.trim() != "" {
                line.clear();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
            }
            let number = count.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
            let _ = stream.write_all(&answers[number]);
        }
    });
    Server { url, requests, lines }
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn plan(url: &str, sha256: &str) -> Plan {
    Plan {
        address: "//pkg:fetch".to_owned(),
        action: Some(Action::Fetch(Fetch {
            url: url.to_owned(),
            sha256: sha256.to_owned(),
            out: "pkg/file".to_owned(),
            executable: true,
        })),
        ..Plan::default()
    }
}

#[test]
fn a_file_with_the_right_digest_is_an_output() {
    let bench = Bench::new();
    for body in [b"small".to_vec(), vec![7; 1_000_000]] {
        let server = serve(vec![ok(&body)]);
        let report = bench.run(plan(&server.url, &sha256(&body)));
        let produced = &completed(&report).outputs[0];
        let entry = produced.entry.as_ref().unwrap();
        assert_eq!(
            (entry.path.as_str(), entry.kind()),
            ("pkg/file", EntryKind::Executable)
        );
        assert_eq!(entry.digest, crate::support::digest(&body));
        match produced.content.as_ref().unwrap().content.as_ref().unwrap() {
            Held::Inline(bytes) => assert_eq!(bytes[..], body),
            Held::File(path) => {
                assert_eq!(std::fs::read(path).unwrap(), body);
                assert_eq!(
                    std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
                    0o755
                );
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    assert_eq!(std::fs::read_dir(bench.home.join("stage")).unwrap().count(), 0);
}

#[test]
fn a_missing_or_wrong_digest_is_told_with_the_one_found() {
    let bench = Bench::new();
    let server = serve(vec![ok(b"body")]);
    let found = sha256(b"body");
    let report = bench.run(plan(&server.url, ""));
    assert_eq!(failed(&report).kind(), FailureKind::Fetch);
    assert_eq!(
        failed(&report).message,
        format!("{} has no sha256; it is {found}", server.url)
    );
    assert_eq!(
        failed(&report).hint,
        format!("if you trust this content, add: sha256 = \"{found}\"")
    );
    let wanted = "0".repeat(64);
    let report = bench.run(plan(&server.url, &wanted));
    assert_eq!(
        failed(&report).message,
        format!("{} has the sha256 {found}, not {wanted}", server.url)
    );
    let report = bench.run(plan(&server.url, "abc"));
    assert_eq!(failed(&report).kind(), FailureKind::Definition);
    assert_eq!(std::fs::read_dir(bench.home.join("stage")).unwrap().count(), 0);
}

#[test]
fn failures_that_may_pass_are_tried_again() {
    let bench = Bench::new();
    let body = b"at last";
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort".to_vec();
    let server = serve(vec![status("503 Service Unavailable"), cut, ok(body)]);
    completed(&bench.run(plan(&server.url, &sha256(body))));
    assert_eq!(server.requests.load(Ordering::SeqCst), 3);

    let server = serve(vec![status("404 Not Found")]);
    let report = bench.run(plan(&server.url, &sha256(body)));
    assert_eq!(
        failed(&report).message,
        format!(
            "failed to download {}: the server answered 404 Not Found",
            server.url
        )
    );
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[test]
fn only_http_and_https_are_fetched() {
    let bench = Bench::new();
    for url in ["file:///etc/passwd", "ftp://localhost/x", "nonsense"] {
        failed(&bench.run(plan(url, &"0".repeat(64))));
    }
    let mut plan = plan("http://localhost/x", &"0".repeat(64));
    if let Some(Action::Fetch(fetch)) = &mut plan.action {
        fetch.out = "../x".to_owned();
    }
    assert_eq!(failed(&bench.run(plan)).kind(), FailureKind::Definition);
}

#[test]
fn a_download_can_be_cancelled() {
    let bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let cancel = Cancel::new();
    let asked = cancel.clone();
    let server = std::thread::spawn(move || {
        let connection = listener.accept().unwrap();
        asked.cancel();
        connection
    });
    let control = Control {
        cancel,
        spawned: None,
    };
    let report = bench.run_with(plan(&url, &"0".repeat(64)), control);
    assert!(
        matches!(report.outcome, Some(Outcome::Cancelled(_))),
        "{report:?}"
    );
    drop(server.join());
}

#[test]
fn proxies_are_those_that_were_passed_in() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = serve(vec![ok(b"through the proxy")]);
    let options = ExecutorOptions {
        home: directory.path().to_owned(),
        proxies: Proxies {
            http: Some(proxy.url.clone()),
            none: Some("127.0.0.1".to_owned()),
            ..Proxies::default()
        },
        ..ExecutorOptions::default()
    };
    let executor = Executor::new(options);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let run = |url: &str, body: &[u8]| {
        let plan = plan(url, &sha256(body));
        completed(&runtime.block_on(executor.execute(plan, Control::default())));
    };
    run("http://heph.invalid/file", b"through the proxy");
    assert!(proxy.lines.lock().unwrap()[0].starts_with("GET http://heph.invalid/file "));
    let direct = serve(vec![ok(b"direct")]);
    run(&direct.url, b"direct");
}
