//! Client and daemon are killed at any moment while a slow server receives what they made: in the end the server has all of it.

use std::time::{Duration, Instant};

use heph_tests::faults::{Fault, Protocol, Proxy};
use heph_tests::servers::SeaweedFs;
use heph_tests::{Build, Environment, Mode, Running, needs, wait_until};
use rustix::process::{Signal, kill_process};

/// `large` is a content of its own; the others go along with their manifests.
const BUILD: &str = r#"
target(name = "small", driver = "sh", deps = file("revision"), run = "cat $SRC > $OUT", out = "small.out")
target(name = "other", driver = "sh", deps = file("revision"), run = "sleep 0.05; tac $SRC > $OUT", out = "other.out")
target(name = "large", driver = "sh", deps = [":small", file("data")], run = "cat $SRC > $OUT", out = "large.out")
target(name = "last", driver = "sh", deps = ":large", run = "cksum < $SRC > $OUT", out = "last.out")
"#;

/// Of a client's life and what its daemon does afterwards, kills cover so much.
const MOMENTS: u32 = 900_000;

fn machine(port: u16, mode: Mode) -> Environment {
    let mut env = Environment::new().with_mode(mode);
    let (key, secret) = SeaweedFs::KEY;
    env.set("AWS_ACCESS_KEY_ID", key);
    env.set("AWS_SECRET_ACCESS_KEY", secret);
    let config = heph_tests::CONFIG;
    env.write(
        ".hephconfig",
        format!(
            "{config}sandbox:\n  mode: \"off\"\ncaches:\n  shared:\n    uri: s3://kills/all\n    region: us-east-1\n    endpoint: http://127.0.0.1:{port}\n"
        ),
    );
    env.write("BUILD", BUILD);
    env
}

/// What the sources of a revision are.
fn sources(revision: u32) -> (String, Vec<u8>) {
    let mut data = vec![0; 300 << 10];
    blake3::Hasher::new()
        .update(&revision.to_le_bytes())
        .finalize_xof()
        .fill(&mut data);
    (format!("revision {revision}\n"), data)
}

fn set_revision(env: &Environment, revision: u32) {
    let (text, data) = sources(revision);
    env.write("revision", text);
    env.write("data", data);
}

/// Builds the revision that is set, to its end; its outputs are right.
fn whole(env: &Environment, revision: u32) -> Build {
    let out = env.beside("out");
    let built = env
        .heph(["run", "--json", "--copy-out", out.to_str().unwrap(), "//..."])
        .build();
    built.run.success();
    let (text, data) = sources(revision);
    let read = |name: &str| std::fs::read(out.join(name)).unwrap();
    assert!(
        read("small.out") == text.as_bytes() && read("other.out") == text.as_bytes(),
        "{}",
        built.run
    );
    assert!(
        read("large.out") == [text.as_bytes(), &data].concat(),
        "{}",
        built.run
    );
    built
}

fn kill_all(env: &Environment, running: Running) {
    // It may have ended by itself.
    let _ = kill_process(running.pid(), Signal::KILL);
    let kill_daemons = || {
        for pid in env.daemons() {
            let _ = kill_process(pid, Signal::KILL);
        }
    };
    kill_daemons();
    running.wait();
    // One that was just being started.
    wait_until("no daemon is left", || {
        kill_daemons();
        env.daemons().is_empty()
    });
}

#[test]
fn kills_at_any_moment_lose_no_upload() {
    let name = "remote_kills::kills_at_any_moment_lose_no_upload";
    if !needs(
        name,
        "tests/setup has not installed SeaweedFS",
        SeaweedFs::available(),
    ) {
        return;
    }
    let rounds = std::env::var("HEPH_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds: u32 = rounds.unwrap_or(6);
    let server = SeaweedFs::shared();
    server.make_bucket("kills");
    let proxy = Proxy::new(Protocol::Http, server.port);
    proxy.set(Fault::Delay(Duration::from_millis(60)));
    let env = machine(proxy.port(), Mode::Fresh);
    let mut waited = 0;
    for revision in 0..rounds {
        set_revision(&env, revision);
        // Every third one has no daemon, and is killed while it waits for its uploads.
        let mode = if revision % 3 == 2 { "off" } else { "require" };
        let running = env.heph(["run", "//..."]).with("HEPH_DAEMON", mode).start();
        let moment = Duration::from_micros(u64::from(revision.wrapping_mul(2_654_435_761) % MOMENTS));
        let began = Instant::now();
        wait_until("it is time", || began.elapsed() >= moment);
        kill_all(&env, running);
        whole(&env, revision);
        let stats = env.heph(["cache", "stats", "--json"]).run().json();
        waited += u32::from(stats["uploads"].as_u64().unwrap() > 0);
    }
    wait_until("everything is uploaded", || {
        env.heph(["cache", "flush"]).run().code == 0
    });
    let requests = proxy.take_requests();

    let second = machine(server.port, Mode::InProcess);
    for revision in 0..rounds {
        set_revision(&second, revision);
        let built = whole(&second, revision);
        assert_eq!(
            built.with_outcome("remote").len(),
            4,
            "revision {revision}: {}",
            built.run
        );
        assert_eq!(built.notices(), [""; 0], "revision {revision}: {}", built.run);
    }
    println!("{rounds} kills; after {waited} of them something waited in the queue; requests: {requests:?}");
    assert!(
        waited > 0,
        "no kill came while something waited: the server is not slow"
    );
}
