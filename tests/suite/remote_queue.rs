//! The queue of uploads: what is under way at once, and who sends what.

use std::time::{Duration, Instant};

use heph_tests::servers::Slow;
use heph_tests::{Environment, Mode, wait_until};
use rustix::process::Signal;

use crate::remote::uploads_left;

/// A machine whose targets have outputs of `size` random bytes each, and a slow server as its cache.
fn machine(server: &Slow, targets: usize, size: usize) -> Environment {
    let env = Environment::new();
    define(&env, server, "    read: false\n");
    let targets = (0..targets).map(|number| {
        format!(
            "target(name = \"t{number}\", driver = \"sh\", run = \"head -c {size} /dev/urandom > $OUT\", out = \"t{number}.out\")\n"
        )
    });
    env.write("BUILD", targets.collect::<String>());
    env
}

fn define(env: &Environment, server: &Slow, settings: &str) {
    env.write(
        ".hephconfig",
        format!(
            "{}sandbox:\n  mode: \"off\"\ncaches:\n  slow:\n    uri: http://127.0.0.1:{}/cache\n{settings}",
            heph_tests::CONFIG,
            server.port
        ),
    );
}

#[test]
fn bytes_under_way_are_bounded() {
    const SIZE: usize = 100_000;
    let most = |layer: &str| {
        let server = Slow::new(Duration::from_millis(60));
        let env = machine(&server, 12, SIZE);
        let file = env.user_home().join(".config/heph/hephconfig");
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, before + layer).unwrap();
        env.build("//...");
        env.heph(["cache", "flush"]).run().success();
        assert_eq!(uploads_left(&env), 0);
        assert_eq!(server.files("/blobs/").len(), 12);
        env.stop_daemons();
        server.most_under_way()
    };
    let bound = 256 * 1024;
    assert!(most("") > bound, "else what follows says nothing");
    let bounded = most("uploads:\n  maxInFlightBytes: 256 KiB\n");
    assert!((SIZE..=bound).contains(&bounded), "{bounded}");
    // What is larger by itself goes alone.
    let alone = most("uploads:\n  maxInFlightBytes: 1 KiB\n");
    assert_eq!(alone, SIZE);
}

/// Puts that were sent more than once.
fn repeated(server: &Slow) -> Vec<String> {
    let mut puts = server.requests("PUT ");
    puts.sort();
    let twice = puts.windows(2).filter(|pair| pair[0] == pair[1]);
    twice.map(|pair| pair[0].clone()).collect()
}

#[test]
fn two_coordinators_of_one_home_send_each_result_once() {
    let server = Slow::new(Duration::from_millis(300));
    let env = machine(&server, 24, 10_000).with_mode(Mode::InProcess);
    let first = env.heph(["run", "//..."]).start();
    wait_until("the first one sends", || !server.requests("PUT ").is_empty());
    let second = env.heph(["cache", "flush"]).run();
    assert_eq!(second.success().out(), "everything is uploaded\n");
    first.wait().success();
    assert_eq!(server.files("/actions/").len(), 24);
    assert_eq!(repeated(&server), [""; 0]);
}

#[test]
fn what_a_killed_coordinator_had_taken_is_sent_by_the_next_one() {
    let server = Slow::new(Duration::from_millis(300));
    let env = machine(&server, 12, 10_000).with_mode(Mode::InProcess);
    let first = env.heph(["run", "//..."]).start();
    wait_until("the first one sends", || !server.requests("PUT ").is_empty());
    first.signal(Signal::KILL);
    first.wait();
    assert!(uploads_left(&env) > 0);
    server.set_delay(Duration::ZERO);
    let began = Instant::now();
    let second = env.heph(["cache", "flush"]).run();
    assert_eq!(second.success().out(), "everything is uploaded\n");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "nobody waits for the end of the lease of a dead one"
    );
    let made = env.heph(["cache", "stats", "--json"]).run().json()["results"].as_u64();
    assert_eq!(Some(server.files("/actions/").len() as u64), made);
}

#[test]
fn a_forced_run_reads_nothing_and_replaces_what_the_cache_has() {
    let server = Slow::new(Duration::ZERO);
    let first = machine(&server, 2, 10_000);
    first.build("//...");
    first.heph(["cache", "flush"]).run().success();
    let read = |env: &Environment| env.heph(["run", "-q", "--cat-out", "//:t0"]).run().stdout;
    let other = || {
        let env = machine(&server, 2, 10_000);
        define(&env, &server, "    write: false\n");
        env
    };
    let before = read(&first);
    assert_eq!(read(&other()), before);

    let second = machine(&server, 2, 10_000);
    define(&second, &server, "");
    let asked = || {
        server
            .requests("GET ")
            .iter()
            .filter(|r| r.contains("/actions/"))
            .count()
    };
    let asked_before = asked();
    let forced = second.heph(["run", "--force", "--json", "//..."]).build();
    assert_eq!(forced.executed(), ["//:t0", "//:t1"]);
    second.heph(["cache", "flush"]).run().success();
    assert_eq!(asked(), asked_before);
    let after = read(&second);
    assert_ne!(after, before, "they are random");
    assert_eq!(read(&other()), after);

    // Without it, the first good one stays.
    let third = machine(&server, 2, 10_000);
    third.build("//...");
    third.heph(["cache", "flush"]).run().success();
    assert_eq!(read(&other()), after);
    for env in [&first, &second, &third] {
        env.stop_daemons();
    }
}

#[test]
fn what_waits_and_which_cache_rests_is_told() {
    let server = Slow::new(Duration::ZERO);
    let env = machine(&server, 3, 100_000);
    let define = |port: u16| {
        env.write(
            ".hephconfig",
            format!(
                "{}sandbox:\n  mode: \"off\"\ncaches:\n  away:\n    uri: http://me:hidden@127.0.0.1:{port}/cache\n    read: false\n    retries: 0\n    pause: 1h\n",
                heph_tests::CONFIG
            ),
        );
    };
    // Nobody listens there.
    define(9);
    env.build("//...");
    let _ = env.heph(["cache", "flush", "--timeout", "5s"]).run();
    let stats = env.heph(["cache", "stats"]).run();
    stats
        .success()
        .says("uploads    3 results, 293.0 KiB, for cache 'away'");
    let status = env.heph(["status", "--json"]).run().json();
    assert_eq!(
        status["uploads"],
        serde_json::json!([{"cache": "away", "results": 3, "bytes": 300_000}])
    );
    let status = env.heph(["status"]).run();
    status
        .success()
        .says("uploads     3 results, 293.0 KiB, for cache 'away'")
        .never_says("hidden");
    if env.mode() == Mode::InProcess {
        return;
    }
    status.says("caches      away (http://");
    let daemon = env.heph(["daemon", "status"]).run();
    daemon
        .success()
        .says("scope main; not written for ")
        .says("it cannot be reached")
        .says("uploads     3 results, 293.0 KiB, for cache 'away'")
        .never_says("hidden");
    let document = env.heph(["daemon", "status", "--json"]).run().json();
    let daemon = &document["daemons"][0];
    assert_eq!(daemon["uploads"][0]["known"], true);
    assert!(
        daemon["caches"][0]["writing"]["left_ms"].as_u64().unwrap() > 60_000,
        "{document}"
    );
    assert_eq!(daemon["caches"][0]["reading"], serde_json::Value::Null);

    // Another daemon does not know the cache until somebody uses it.
    env.stop_daemons();
    env.heph(["daemon", "start"]).run().success();
    let document = env.heph(["daemon", "status", "--json"]).run().json();
    assert_eq!(document["daemons"][0]["uploads"][0]["known"], false, "{document}");
    env.heph(["daemon", "status"])
        .run()
        .says("for cache 'away', when somebody uses it");
}
