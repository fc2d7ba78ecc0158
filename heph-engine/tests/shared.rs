//! Several runs in one engine at once.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail by panicking"
)]

mod support;

use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use heph_engine::engine::Engine;
use heph_proto::{Cancelled, Report, Start, TargetOutcome, report};
use support::Bench;

const BUILD: &str = r#"
target(name = "a", driver = "sh", run = "echo a > $OUT", out = "a")
target(name = "b", driver = "sh", deps = [":a"], run = "cat $SRC > $OUT", out = "b")
target(name = "c", driver = "sh", deps = [":a"], run = "cat $SRC > $OUT", out = "c")
target(name = "bad", driver = "sh", run = "echo it went wrong >&2; exit 3", out = "bad")
"#;

#[test]
fn equal_work_is_done_once() {
    let bench = Bench::new(&[("BUILD", BUILD)]);
    let engine = bench.engine();
    let executed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let run = || {
            let execute = |plan: &heph_proto::Plan| {
                executed.fetch_add(1, Ordering::Relaxed);
                bench.execute(plan)
            };
            let ran = bench.run_with(&engine, &bench.start("//:b || //:c"), &execute);
            assert_eq!(ran.finished.exit_code, 0, "{ran:?}");
        };
        for _ in 0..16 {
            scope.spawn(run);
        }
    });
    assert_eq!(executed.into_inner(), 3);
}

/// Two runs of a query: the first is led to `execute` and stays there until the second waits for it.
fn two(
    bench: &Bench,
    query: &str,
    leader: &Start,
    end: impl Fn(&heph_proto::Plan) -> Report + Sync,
) -> [support::Ran; 2] {
    let engine = bench.engine();
    let (begun, has_begun) = mpsc::channel();
    let (follows, followed) = mpsc::channel();
    let followed = std::sync::Mutex::new(followed);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            let execute = |plan: &heph_proto::Plan| {
                begun.send(()).unwrap();
                followed
                    .lock()
                    .unwrap()
                    .recv_timeout(Duration::from_secs(60))
                    .unwrap();
                end(plan)
            };
            bench.run_with(&engine, leader, &execute)
        });
        has_begun.recv_timeout(Duration::from_secs(60)).unwrap();
        let execute = |plan: &heph_proto::Plan| {
            // Where it does not only follow, the first one goes on.
            let _ = follows.send(());
            bench.execute(plan)
        };
        let waiting = |_: &str| follows.send(()).unwrap();
        let second = bench.run_watched(&engine, &bench.start(query), &execute, &waiting);
        [first.join().unwrap(), second]
    })
}

#[test]
fn a_failure_is_seen_by_both() {
    let bench = Bench::new(&[("BUILD", BUILD)]);
    let ran = two(&bench, "//:bad", &bench.start("//:bad"), |plan| {
        bench.execute(plan)
    });
    assert_eq!(ran[0].executed, ["//:bad"]);
    assert_eq!(ran[1].executed, [""; 0]);
    for ran in ran {
        assert_eq!(ran.finished.exit_code, 1);
        assert_eq!(ran.failures["//:bad"].exit_code, Some(3));
        assert_eq!(ran.failures["//:bad"].message, "it went wrong\n");
    }
}

#[test]
fn a_result_is_seen_by_both() {
    let bench = Bench::new(&[("BUILD", BUILD)]);
    let ran = two(&bench, "//:a", &bench.start("//:a"), |plan| bench.execute(plan));
    assert_eq!(ran[0].executed, ["//:a"]);
    assert_eq!(ran[1].executed, [""; 0]);
    assert_eq!(ran[1].outcomes["//:a"], TargetOutcome::Local);
}

#[test]
fn what_is_cancelled_is_done_by_whoever_waits_for_it() {
    let bench = Bench::new(&[("BUILD", BUILD)]);
    let ran = two(&bench, "//:a", &bench.start("//:a"), |_| Report {
        outcome: Some(report::Outcome::Cancelled(Cancelled::default())),
        ..Report::default()
    });
    assert_eq!(ran[0].finished.exit_code, 130);
    assert_eq!(ran[1].executed, ["//:a"]);
    assert_eq!(ran[1].finished.exit_code, 0);
}

struct Stopped(Child);

impl Stopped {
    fn new() -> Self {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let stop = Command::new("kill")
            .args(["-STOP", &child.id().to_string()])
            .status();
        assert!(stop.unwrap().success());
        Self(child)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A run whose client is stopped while its command runs, and another one beside it; then the first goes on to its end.
fn beside_a_stopped_client(bench: &Bench, jobs: u32, beside: impl FnOnce(&Engine)) {
    let client = Stopped::new();
    let engine = bench.engine();
    let (begun, has_begun) = mpsc::channel();
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let leader = Start {
            client_pid: client.0.id(),
            jobs,
            ..bench.start("//:a")
        };
        let engine = &engine;
        let first = scope.spawn(move || {
            let execute = |plan: &heph_proto::Plan| {
                begun.send(()).unwrap();
                is_done.recv_timeout(Duration::from_secs(60)).unwrap();
                bench.execute(plan)
            };
            bench.run_with(engine, &leader, &execute)
        });
        has_begun.recv_timeout(Duration::from_secs(60)).unwrap();
        beside(engine);
        done.send(()).unwrap();
        assert_eq!(first.join().unwrap().finished.exit_code, 0);
    });
}

#[test]
fn a_stopped_client_is_waited_for_ten_seconds() {
    let bench = Bench::new(&[("BUILD", BUILD)]);
    // Both publish in the end: that does no harm.
    beside_a_stopped_client(&bench, 0, |engine| {
        let began = Instant::now();
        let second = bench.run_in(engine, &bench.start("//:a"));
        assert_eq!(second.executed, ["//:a"]);
        assert_eq!(second.finished.exit_code, 0);
        assert!(
            began.elapsed() >= Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
    });
}

#[test]
fn a_stopped_client_does_not_keep_the_slots() {
    // Its one target takes all slots.
    let build = BUILD.replacen("driver = \"sh\",", "driver = \"sh\", slots = 2,", 1);
    let bench = Bench::new(&[("BUILD", &build)]);
    beside_a_stopped_client(&bench, 1, |engine| {
        let second = Start {
            client_pid: std::process::id(),
            ..bench.start("//:bad")
        };
        assert_eq!(bench.run_in(engine, &second).executed, ["//:bad"]);
    });
}
