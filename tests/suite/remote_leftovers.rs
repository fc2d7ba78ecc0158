//! Uploads that somebody left behind: whoever uses the home next goes on with them, and nothing is lost or wrong.

use std::fs;
use std::path::{Path, PathBuf};

use heph_tests::faults::{Fault, Protocol, Proxy};
use heph_tests::servers::Nginx;
use heph_tests::{Environment, Mode, files_below, heph_program, needs, wait_until};
use rustix::process::{Signal, kill_process};

use crate::daemon::kill;

/// `middle` is a content of its own, larger than what is sent in memory.
const BUILD: &str = r#"
target(name = "first", driver = "sh", deps = file("text"), run = "cat $SRC > $OUT", out = "first.out")
target(name = "middle", driver = "sh", deps = ":first", run = "cat $SRC > $OUT; seq 1 90000 >> $OUT", out = "middle.out")
target(name = "last", driver = "sh", deps = ":middle", run = "cksum < $SRC > $OUT", out = "last.out")
"#;

const TARGETS: u64 = 3;

/// A server, and the proxy before it.
struct Place {
    server: Nginx,
    proxy: Proxy,
}

impl Place {
    fn new(test: &str) -> Option<Self> {
        let name = format!("remote_leftovers::{test}");
        if !needs(&name, "nginx or openssl is missing", Nginx::available()) {
            return None;
        }
        let server = Nginx::new();
        let proxy = Proxy::new(Protocol::Http, server.plain);
        proxy.set(Fault::Hang);
        Some(Self { server, proxy })
    }

    fn machine(&self, port: u16, mode: Mode, settings: &str) -> Environment {
        let env = Environment::new().with_mode(mode);
        let uri = format!("http://127.0.0.1:{port}/open/cache");
        env.write(".hephconfig", config(&uri, settings));
        env.write("BUILD", BUILD);
        env.write("text", "some text\n");
        env
    }

    /// A machine that sends to a server that does not answer.
    fn stuck(&self, mode: Mode) -> Environment {
        self.machine(self.proxy.port(), mode, "    read: false\n")
    }

    /// The server works again, and has everything: another machine executes nothing, and its outputs are right.
    #[track_caller]
    fn has_everything(&self, how: &str) {
        let other = self.machine(self.server.plain, Mode::InProcess, "");
        let built = other.build("//...");
        assert_eq!(built.with_outcome("remote").len(), 3, "{how}: {}", built.run);
        assert_eq!(built.notices(), [""; 0], "{how}");
        let read = other.heph(["run", "-q", "--cat-out", "//:middle"]).run();
        let lines = read.success().lines();
        assert_eq!(
            (lines.len(), lines[0].as_str(), lines[90_000].as_str()),
            (90_001, "some text", "90000"),
            "{how}"
        );
    }
}

fn config(uri: &str, more: &str) -> String {
    let plugins = heph_tests::CONFIG;
    format!(
        "{plugins}sandbox:\n  mode: \"off\"\ncaches:\n  shared:\n    uri: {uri}\n    readTimeout: 20s\n    retries: 0\n    pause: 100ms\n{more}"
    )
}

fn left(env: &Environment) -> u64 {
    let stats = env.heph(["cache", "stats", "--json"]).run();
    stats.success().json()["uploads"].as_u64().unwrap()
}

#[track_caller]
fn finished_by_the_next(env: &Environment) {
    // Also what is only made again because somebody needs it, where its bytes were lost.
    env.heph(["run", "-q", "--cat-out", "//..."]).run().success();
    wait_until("everything is uploaded", || {
        env.heph(["cache", "flush"]).run().code == 0
    });
    assert_eq!(left(env), 0);
}

/// This program, as another build.
fn another_build(env: &Environment) -> PathBuf {
    let program = env.beside("another/heph");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(heph_program(), &program).unwrap();
    program
}

#[test]
fn what_a_daemon_of_another_build_left_is_finished() {
    for is_killed in [true, false] {
        let Some(place) = Place::new("what_a_daemon_of_another_build_left_is_finished") else {
            return;
        };
        let env = place.stuck(Mode::Fresh);
        let other = another_build(&env);
        env.heph(["run", "//..."]).by(other).run().success();
        assert_eq!(left(&env), TARGETS);
        if is_killed {
            // Both: that of the other build, and the one that has just looked.
            env.daemons()
                .into_iter()
                .for_each(|pid| kill_process(pid, Signal::KILL).unwrap());
            wait_until("the daemons are dead", || env.daemons().is_empty());
        }
        place.proxy.set(Fault::None);
        assert!(env.build("//...").executed().is_empty());
        finished_by_the_next(&env);
        place.has_everything(if is_killed { "killed" } else { "retired" });
    }
}

#[test]
fn what_a_killed_run_without_a_daemon_left_is_finished() {
    let Some(place) = Place::new("what_a_killed_run_without_a_daemon_left_is_finished") else {
        return;
    };
    let env = place.stuck(Mode::InProcess);
    let running = env.heph(["run", "//..."]).start();
    wait_until("everything is built and waits", || left(&env) == TARGETS);
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code, 128 + 9);
    assert_eq!(left(&env), TARGETS);
    place.proxy.set(Fault::None);
    assert!(env.build("//...").executed().is_empty());
    finished_by_the_next(&env);
    place.has_everything("killed");
}

#[test]
fn what_failed_beside_what_was_sent_is_sent_by_the_same_daemon() {
    let Some(place) = Place::new("what_failed_beside_what_was_sent_is_sent_by_the_same_daemon") else {
        return;
    };
    let env = place.stuck(Mode::Fresh);
    env.build("//...");
    kill(&env);
    // Its successor finds all of it at once.
    place.proxy.set(Fault::NoContents);
    env.build("//...");
    wait_until("all but one is sent", || left(&env) == 1);
    // Nobody asks for anything any more.
    place.proxy.set(Fault::None);
    wait_until("that one, too", || left(&env) == 0);
    place.has_everything("one by one");
}

/// What is left of a home when the power goes: files as they are at that moment, but perhaps without what was written last.
fn copy_home(env: &Environment, name: &str) -> PathBuf {
    let copy = env.beside(name);
    let status = std::process::Command::new("cp")
        .args(["-a", env.home().to_str().unwrap(), copy.to_str().unwrap()])
        .status()
        .unwrap();
    assert!(status.success());
    copy
}

/// What the power took with it.
type Loss = (&'static str, fn(&Path));

/// The write-ahead log of the index.
fn log_of(home: &Path) -> PathBuf {
    let files = files_below(&home.join("cache/db")).into_iter();
    let mut logs = files.filter(|path| path.to_str().unwrap().ends_with("-wal"));
    logs.next().expect("an index that is open has a log")
}

fn cut(path: &Path, share: f64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len((length as f64 * share) as u64).unwrap();
}

#[test]
fn what_a_machine_without_power_left_is_finished() {
    let losses: [Loss; 6] = [
        ("nothing is lost", |_| {}),
        ("a tenth of the log is lost", |home| cut(&log_of(home), 0.9)),
        ("a half of the log is lost", |home| cut(&log_of(home), 0.5)),
        ("the log is lost", |home| cut(&log_of(home), 0.0)),
        ("blobs are zeros", |home| {
            for blob in files_below(&home.join("cache/blobs")) {
                let length = fs::metadata(&blob).unwrap().len() as usize;
                fs::remove_file(&blob).unwrap();
                fs::write(&blob, vec![0; length]).unwrap();
            }
        }),
        ("blobs are empty", |home| {
            for blob in files_below(&home.join("cache/blobs")) {
                fs::remove_file(&blob).unwrap();
                fs::write(&blob, "").unwrap();
            }
        }),
    ];
    for (name, lose) in losses {
        let Some(place) = Place::new("what_a_machine_without_power_left_is_finished") else {
            return;
        };
        let mut env = place.stuck(Mode::Fresh);
        env.build("//...");
        assert_eq!(left(&env), TARGETS);
        // The daemon is in the middle of it, and synced nothing for this.
        let home = copy_home(&env, "after");
        kill(&env);
        lose(&home);
        env.set("HEPH_HOME", home.to_str().unwrap());
        place.proxy.set(Fault::None);
        finished_by_the_next(&env);
        place.has_everything(name);
    }
}
