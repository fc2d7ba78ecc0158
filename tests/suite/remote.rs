//! Remote caches: what one machine built, another one has. Two homes play two machines; the cache is a directory here, so that a
//! test can look into it and damage it. `backends.rs` has the real servers.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use heph_tests::{Environment, files_below, wait_until};

/// `middle` is larger than what goes along with manifests, and nobody asks for it as such.
pub(crate) const BUILD: &str = r#"
target(name = "first", driver = "sh", deps = glob("*.txt"), run = "cat $SRC > $OUT", out = "first.out")
target(name = "middle", driver = "sh", deps = ":first", run = "cat $SRC > $OUT; seq 1 20000 >> $OUT", out = "middle.out")
target(name = "last", driver = "sh", deps = ":middle", run = "cksum < $SRC > $OUT", out = "last.out")
"#;

/// A machine with a cache; `settings` are added to its entry.
pub(crate) fn machine(bucket: &Path, settings: &str) -> Environment {
    let env = Environment::new();
    configure(&env, bucket, settings);
    env.write("BUILD", BUILD);
    env.write("a.txt", "some text\n");
    env
}

pub(crate) fn configure(env: &Environment, bucket: &Path, settings: &str) {
    let config = heph_tests::CONFIG;
    let uri = format!("file://{}", bucket.display());
    env.write(
        ".hephconfig",
        format!("{config}sandbox:\n  mode: \"off\"\ncaches:\n  shared:\n    uri: {uri}\n{settings}"),
    );
}

pub(crate) fn bucket() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bucket");
    (directory, path)
}

pub(crate) fn objects(bucket: &Path, kind: &str) -> Vec<PathBuf> {
    let all = files_below(bucket).into_iter();
    let part = format!("/{kind}/");
    all.filter(|path| path.to_str().unwrap().contains(&part))
        .collect()
}

/// With a daemon, uploads go on after the run.
pub(crate) fn uploaded(env: &Environment, bucket: &Path, count: usize) {
    wait_until("everything is uploaded", || {
        objects(bucket, "actions").len() >= count && uploads_left(env) == 0
    });
}

pub(crate) fn uploads_left(env: &Environment) -> u64 {
    let stats = env.heph(["cache", "stats", "--json"]).run();
    stats.success();
    stats.json()["uploads"].as_u64().unwrap()
}

pub(crate) fn last(env: &Environment) -> String {
    env.heph(["run", "-q", "--cat-out", "//:last"])
        .run()
        .success()
        .out()
}

pub(crate) fn outcomes(env: &Environment) -> Vec<String> {
    env.build("//...").outcomes().into_values().collect()
}

#[test]
fn another_machine_executes_nothing_and_fetches_only_what_is_asked_for() {
    let (_guard, bucket) = bucket();
    let first = machine(&bucket, "");
    assert_eq!(outcomes(&first), ["executed"; 3]);
    let wanted = last(&first);
    uploaded(&first, &bucket, 3);

    let second = machine(&bucket, "");
    let built = second.build("//...");
    assert_eq!(built.outcomes().into_values().collect::<Vec<_>>(), ["remote"; 3]);
    assert_eq!(built.run.err(), "");
    assert_eq!(last(&second), wanted);
    let stats = second.heph(["cache", "stats", "--json"]).run().json();
    assert_eq!(stats["blobs"], 0, "nobody asked for the large one: {stats}");
    assert_eq!(outcomes(&second), ["up-to-date"; 3]);

    // A target that has to run needs it.
    second.write("BUILD", BUILD.replace("cksum < $SRC", "wc -l < $SRC"));
    assert_eq!(second.build("//...").executed(), ["//:last"]);
    assert_eq!(last(&second).trim(), "20001");
}

#[test]
fn what_is_asked_for_through_a_group_is_fetched() {
    let (_guard, bucket) = bucket();
    let build =
        format!("{BUILD}target(name = \"all\", driver = \"group\", deps = [\":first\", \":middle\"])\n");
    let first = machine(&bucket, "");
    first.write("BUILD", &build);
    first.build("//...");
    uploaded(&first, &bucket, 3);
    let second = machine(&bucket, "");
    second.write("BUILD", &build);
    assert_eq!(outcomes(&second), ["remote"; 3]);
    let out = second.beside("out");
    let run = second
        .heph(["run", "--copy-out", out.to_str().unwrap(), "//:all"])
        .run();
    run.success().never_says("executed");
    let copied: Vec<String> = files_below(&out)
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(copied, ["first.out", "middle.out"]);
}

#[test]
fn damage_in_the_cache_is_told_once_and_costs_a_rebuild() {
    let (_guard, bucket) = bucket();
    let first = machine(&bucket, "");
    first.build("//...");
    let wanted = last(&first);
    uploaded(&first, &bucket, 3);
    let blobs = objects(&bucket, "blobs");
    assert_eq!(blobs.len(), 1, "{blobs:?}");
    let ask_for_middle = |env: &Environment| {
        let run = env.heph(["run", "--cat-out", "//:middle"]).run();
        run.success();
        assert!(run.out().starts_with("some text\n1\n2\n") && run.out().ends_with("\n20000\n"));
        run
    };

    let whole = fs::read(&blobs[0]).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], b"", b"something else"] {
        fs::write(&blobs[0], damaged).unwrap();
        let other = machine(&bucket, "    write: false\n");
        let run = ask_for_middle(&other);
        assert_eq!(
            run.err().matches("has something that is not used").count(),
            1,
            "{}",
            run.err()
        );
        assert_eq!(last(&other), wanted);
    }
    // One that has expired is nothing to tell of.
    fs::remove_file(&blobs[0]).unwrap();
    let other = machine(&bucket, "");
    let run = ask_for_middle(&other);
    assert!(!run.err().contains("warning"), "{}", run.err());
    // Whoever makes it again and writes replaces it.
    uploaded(&other, &bucket, 3);
    wait_until("it is there again", || blobs[0].exists());
    assert_eq!(fs::read(&blobs[0]).unwrap(), whole);
}

#[test]
fn manifests_that_are_wrong_are_misses_with_a_reason() {
    let (_guard, bucket) = bucket();
    let first = machine(&bucket, "");
    first.build("//...");
    uploaded(&first, &bucket, 3);
    let actions = objects(&bucket, "actions");
    // Each says what another one is about.
    let texts: Vec<Vec<u8>> = actions.iter().map(|path| fs::read(path).unwrap()).collect();
    for (index, path) in actions.iter().enumerate() {
        fs::write(path, &texts[(index + 1) % texts.len()]).unwrap();
    }
    let other = machine(&bucket, "    write: false\n");
    let built = other.build("//...");
    assert_eq!(built.executed().len(), 3);
    built
        .run
        .says("has something that is not used")
        .says("its key is");
    assert_eq!(last(&other), last(&first));
}

#[test]
fn caches_are_read_and_written_as_they_say() {
    let (_guard, bucket) = bucket();
    let reader = machine(&bucket, "    write: false\n");
    reader.build("//...");
    assert_eq!(uploads_left(&reader), 0);
    assert!(!bucket.exists() || objects(&bucket, "actions").is_empty());
    let writer = machine(&bucket, "    read: false\n");
    writer.build("//...");
    uploaded(&writer, &bucket, 3);
    let other = machine(&bucket, "    read: false\n");
    assert_eq!(outcomes(&other), ["executed"; 3]);
    let local = machine(&bucket, "");
    local.write(
        "BUILD",
        BUILD.replace("name = \"last\"", "name = \"last\", cache = {\"remote\": False}"),
    );
    assert_eq!(local.build("//...").executed(), ["//:last"]);
}

#[test]
fn what_one_scope_wrote_is_not_read_or_passed_on_by_another() {
    let (_guard, bucket) = bucket();
    let env = machine(&bucket, "    scope: pull-7\n    readScopes: [pull-7, main]\n");
    env.build("//...");
    uploaded(&env, &bucket, 3);
    let in_main = || {
        let all = objects(&bucket, "actions");
        all.into_iter()
            .filter(|path| path.to_str().unwrap().contains("/main/"))
            .count()
    };
    assert_eq!(in_main(), 0);

    // Another machine builds for the pull request, then for main, in one home.
    let other = machine(&bucket, "    scope: pull-7\n    readScopes: [pull-7, main]\n");
    assert_eq!(outcomes(&other), ["remote"; 3]);
    configure(&other, &bucket, "    scope: main\n");
    assert_eq!(
        outcomes(&other),
        ["executed"; 3],
        "main does not hit what came from there"
    );
    uploaded(&other, &bucket, 6);
    assert_eq!(in_main(), 3, "what it made itself it uploads");
}

#[test]
fn results_that_were_not_sent_are_sent_by_whoever_comes_next() {
    let (_guard, bucket) = bucket();
    // A file where the directory of the cache should be.
    fs::write(&bucket, "in the way").unwrap();
    let env = machine(&bucket, "");
    let run = env.heph(["run", "//..."]).run();
    run.success();
    assert_eq!(
        run.err().matches("warning: cache 'shared'").count(),
        1,
        "{}",
        run.err()
    );
    assert_eq!(uploads_left(&env), 3);
    env.stop_daemons();
    fs::remove_file(&bucket).unwrap();
    env.heph(["run", "//..."]).run().success();
    uploaded(&env, &bucket, 3);
    assert_eq!(outcomes(&machine(&bucket, "")), ["remote"; 3]);
}

#[test]
fn only_manifests_signed_with_an_accepted_key_are_used_where_that_is_required() {
    let (guard, bucket) = bucket();
    let keygen = |env: &Environment, name: &str| {
        let file = guard.path().join(name).to_str().unwrap().to_owned();
        let run = env.heph(["cache", "keygen", &file]).run();
        run.success();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        env.heph(["cache", "keygen", &file])
            .run()
            .exits(1)
            .says("does not exist yet");
        (file, run.out().trim().to_owned())
    };
    let unsigned = machine(&bucket, "");
    unsigned.build("//...");
    uploaded(&unsigned, &bucket, 3);
    let (ours, public) = keygen(&unsigned, "ours");
    let (theirs, other_public) = keygen(&unsigned, "theirs");
    let accepts = |key: &str, more: &str| {
        format!("    write: false\n    signing:\n      publicKeys: [\"{key}\"]\n      required: true\n{more}")
    };

    let reader = machine(&bucket, &accepts(&public, ""));
    let built = reader.build("//...");
    assert_eq!(built.executed().len(), 3);
    built.run.says("it is not signed");

    fs::remove_dir_all(&bucket).unwrap();
    let writer = machine(&bucket, &format!("    signing:\n      keyFile: {ours}\n"));
    writer.build("//...");
    uploaded(&writer, &bucket, 3);
    assert_eq!(outcomes(&machine(&bucket, &accepts(&public, ""))), ["remote"; 3]);
    assert_eq!(
        outcomes(&machine(&bucket, "    write: false\n")),
        ["remote"; 3],
        "who asks for none takes all"
    );
    let stranger = machine(&bucket, &accepts(&other_public, ""));
    let built = stranger.build("//...");
    assert_eq!(built.executed().len(), 3);
    built.run.says("which is not accepted");
    let revoked = format!("      revoked: [\"{public}\"]\n");
    let later = machine(&bucket, &accepts(&public, &revoked));
    assert_eq!(later.build("//...").executed().len(), 3);

    // What the wrong key signed is in the way, and replaced by who signs with the right one.
    fs::remove_dir_all(&bucket).unwrap();
    let wrong = machine(&bucket, &format!("    signing:\n      keyFile: {theirs}\n"));
    wrong.build("//...");
    uploaded(&wrong, &bucket, 3);
    let both = format!(
        "    signing:\n      keyFile: {ours}\n      publicKeys: [\"{public}\"]\n      required: true\n"
    );
    let right = machine(&bucket, &both);
    assert_eq!(right.build("//...").executed().len(), 3);
    right.heph(["cache", "flush"]).run().success();
    assert_eq!(outcomes(&machine(&bucket, &accepts(&public, ""))), ["remote"; 3]);
}

#[test]
fn flush_waits_for_uploads_and_tells_what_is_left() {
    let (_guard, bucket) = bucket();
    let env = machine(&bucket, "");
    env.build("//...");
    assert_eq!(
        env.heph(["cache", "flush"]).run().success().out(),
        "everything is uploaded\n"
    );
    assert_eq!((objects(&bucket, "actions").len(), uploads_left(&env)), (3, 0));
    fs::remove_dir_all(&bucket).unwrap();
    fs::write(&bucket, "in the way").unwrap();
    env.write("a.txt", "another text\n");
    env.build("//...");
    let run = env.heph(["cache", "flush", "--timeout", "1s"]).run();
    run.exits(1);
    assert!(
        run.out()
            .starts_with("3 results left to be uploaded\ncache 'shared' does not take anything"),
        "{}",
        run.out()
    );
}

/// A server that has nothing, and takes its time to say so.
struct Empty {
    port: u16,
    asked: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Empty {
    fn new(delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let all = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let all = Arc::clone(&all);
                std::thread::spawn(move || {
                    let mut answers = stream.try_clone().unwrap();
                    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
                    while let Some(request) = lines.next() {
                        lines.by_ref().find(String::is_empty);
                        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                        all.lock().unwrap().push((Instant::now(), path));
                        std::thread::sleep(delay);
                        if answers
                            .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                            .is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, asked }
    }

    fn count(&self, part: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(_, path)| path.contains(part)).count()
    }

    fn first(&self, part: &str) -> Instant {
        let asked = self.asked.lock().unwrap();
        asked.iter().find(|(_, path)| path.contains(part)).unwrap().0
    }
}

#[test]
fn the_fastest_cache_is_read_first_and_measured_once() {
    let (slow, fast) = (Empty::new(Duration::from_millis(40)), Empty::new(Duration::ZERO));
    let env = Environment::new();
    let configure = |more: &str| {
        let (slow, fast) = (slow.port, fast.port);
        env.write(
            ".hephconfig",
            format!(
                "{}caches:\n  a:\n    uri: http://127.0.0.1:{slow}/x\n    write: false\n  b:\n    uri: http://127.0.0.1:{fast}/x\n    write: false\n{more}",
                heph_tests::CONFIG
            ),
        );
    };
    configure("");
    env.write("BUILD", BUILD);
    env.write("a.txt", "some text\n");
    env.build("//...");
    assert_eq!((slow.count("/actions/"), fast.count("/actions/")), (3, 3));
    assert!(fast.first("/actions/") < slow.first("/actions/"));
    let probes = (slow.count("/probe"), fast.count("/probe"));
    assert_eq!(probes, (4, 4), "one to open the connection, and three that count");

    // Neither the same nor another process measures again, unless the caches are others.
    env.stop_daemons();
    env.write("a.txt", "another text\n");
    env.build("//...");
    assert_eq!((slow.count("/probe"), fast.count("/probe")), probes);
    assert_eq!((slow.count("/actions/"), fast.count("/actions/")), (6, 6));
    configure("    scope: other\n");
    env.write("a.txt", "a third text\n");
    env.build("//...");
    assert_eq!((slow.count("/probe"), fast.count("/probe")), (8, 8));

    // Whoever asks is answered anew.
    configure("  gone:\n    uri: http://127.0.0.1:9/x\n    retries: 0\n");
    let measured = env.heph(["tool", "cache", "measure-latency"]).run();
    let lines = measured.success().lines();
    assert_eq!(lines[0], "Remote cache latency (fastest first):");
    assert!(
        lines[1].ends_with(&format!("ms  [r-]  b  (http://127.0.0.1:{}/x)", fast.port)),
        "{lines:?}"
    );
    assert!(
        lines[2].ends_with(&format!("ms  [r-]  a  (http://127.0.0.1:{}/x)", slow.port)),
        "{lines:?}"
    );
    assert_eq!(lines[3], "unreachable  [rw]  gone  (http://127.0.0.1:9/x)");
    assert!(lines[4].starts_with("cache 'gone': "), "{lines:?}");
    let json = env
        .heph(["tool", "cache", "measure-latency", "--json"])
        .run()
        .json();
    assert_eq!(json["caches"][0]["name"], "b");
    assert!(
        json["caches"][1]["latency_us"].as_u64().unwrap() >= 40_000,
        "{json}"
    );
    assert_eq!(json["caches"][2]["latency_us"], serde_json::Value::Null);
}

#[test]
fn a_cache_that_cannot_be_reached_costs_a_warning() {
    let env = Environment::new();
    let config = heph_tests::CONFIG;
    // Nobody listens there.
    env.write(
        ".hephconfig",
        format!("{config}caches:\n  far:\n    uri: http://127.0.0.1:9/cache\n    retries: 0\n"),
    );
    env.write("BUILD", BUILD);
    env.write("a.txt", "some text\n");
    let run = env.heph(["run", "//..."]).run();
    run.success();
    assert_eq!(
        run.err().matches("cache 'far' cannot be reached").count(),
        1,
        "{}",
        run.err()
    );
}
