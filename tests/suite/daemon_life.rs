//! How a daemon lives with its runs, and how it ends: idle, asked, replaced, killed.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use heph_tests::{Environment, Mode, Running, heph_program, needs, wait_until};
use rustix::process::{Signal, kill_process};

use crate::daemon::{daemon, kill, places, workspace};

/// Targets that say that they run, and wait until they may end: they write to and look at files beside the workspace.
pub(crate) struct Waiting {
    pub env: Environment,
}

impl Waiting {
    pub fn new() -> Self {
        let env = Environment::new().with_mode(Mode::Fresh);
        env.write(
            ".hephconfig",
            format!("{}sandbox:\n  mode: standard\n", heph_tests::CONFIG),
        );
        let waiting = Self { env };
        let (begun, may_end) = (waiting.env.beside("begun"), waiting.env.beside("may-end"));
        let run = format!(
            "echo >> {}; while [ ! -e {} ]; do sleep 0.02; done; echo > $OUT",
            begun.display(),
            may_end.display()
        );
        waiting.env.write(
            "BUILD",
            format!(
                "target(name='first', driver='sh', run='echo > $OUT', out='first')\n\
                 target(name='slow', driver='sh', deps=':first', run='{run}', out='slow')\n\
                 target(name='uncached', driver='sh', deps=':first', run='{run}', out='uncached', cache=False)\n\
                 target(name='quick', driver='sh', run='echo > $OUT', out='quick')\n"
            ),
        );
        waiting
    }

    /// How often one of the commands was started.
    pub fn begun(&self) -> usize {
        let text = fs::read_to_string(self.env.beside("begun")).unwrap_or_default();
        text.lines().count()
    }

    /// A run of a target that is in the middle of it.
    pub fn run(&self, target: &str) -> Running {
        let before = self.begun();
        let running = self.env.heph(["run", "--json", target]).start();
        wait_until("its command runs", || self.begun() > before);
        running
    }

    pub fn end(&self) {
        fs::write(self.env.beside("may-end"), "").unwrap();
    }
}

pub(crate) fn log(env: &Environment) -> String {
    let logs: Vec<_> = places(env)
        .iter()
        .map(|place| fs::read_to_string(place.join("log")).unwrap())
        .collect();
    logs.concat()
}

fn status(env: &Environment) -> serde_json::Value {
    env.heph(["daemon", "status", "--json"]).run().json()
}

/// A program that is this one, and another build.
fn newer_build(env: &Environment, at: &str) -> PathBuf {
    let program = env.beside(at);
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy(heph_program(), &program).unwrap();
    program
}

#[test]
fn a_daemon_that_nobody_uses_goes_by_itself() {
    let env = workspace();
    let layer = env.user_home().join(".config/heph/hephconfig");
    fs::write(layer, "daemon:\n  idleTimeout: 1s\n").unwrap();
    env.build("//...");
    daemon(&env);
    wait_until("it has gone", || env.daemons().is_empty());
    assert!(log(&env).contains("going: not used for 1s"), "{}", log(&env));
    env.heph(["daemon", "status"]).run().exits(1);
    // What it knew is there for the next one.
    assert!(env.build("//...").executed().is_empty());
}

#[test]
fn a_daemon_that_is_used_stays() {
    let waiting = Waiting::new();
    let env = &waiting.env;
    let layer = env.user_home().join(".config/heph/hephconfig");
    fs::write(layer, "daemon:\n  idleTimeout: 1s\n").unwrap();
    let running = waiting.run("//:slow");
    let began = Instant::now();
    wait_until("it would have gone", || {
        began.elapsed() > Duration::from_millis(2500)
    });
    daemon(env);
    waiting.end();
    running.wait().success();
}

#[test]
fn stop_finishes_what_runs_and_the_next_command_has_a_new_daemon() {
    let waiting = Waiting::new();
    let env = &waiting.env;
    let running = waiting.run("//:slow");
    let first = daemon(env);
    let stopping = env.heph(["daemon", "stop"]).start();
    wait_until("it takes nothing new", || log(env).contains("going: "));
    assert!(env.build("//:quick").executed() == ["//:quick"]);
    let daemons = env.daemons();
    assert!(daemons.len() == 2 && daemons.contains(&first), "{daemons:?}");
    waiting.end();
    running.wait().success();
    let stopped = stopping.wait();
    stopped
        .success()
        .says("it finishes 1 request; heph daemon stop --now cancels them");
    stopped.says(&format!("process {}", first.as_raw_nonzero()));
    assert_ne!(daemon(env), first);
}

#[test]
fn stop_now_and_a_second_signal_cancel_what_runs() {
    for by_signal in [false, true] {
        let waiting = Waiting::new();
        let env = &waiting.env;
        let running = waiting.run("//:slow");
        let pid = daemon(env);
        if by_signal {
            kill_process(pid, Signal::TERM).unwrap();
            wait_until("it takes nothing new", || log(env).contains("going: SIGTERM"));
            kill_process(pid, Signal::TERM).unwrap();
        } else {
            env.heph(["daemon", "stop", "--now"]).run().success();
        }
        let run = running.wait();
        run.exits(130).says("daemon-stopped");
        wait_until("it has gone", || env.daemons().is_empty());
        assert_eq!(waiting.begun(), 1, "it does not start over");
    }
}

#[test]
fn restart_does_not_wait_for_what_runs() {
    let waiting = Waiting::new();
    let env = &waiting.env;
    let running = waiting.run("//:slow");
    let first = daemon(env);
    env.heph(["daemon", "restart"]).run().success();
    assert_eq!(env.daemons().len(), 2);
    waiting.end();
    running.wait().success();
    wait_until("the first one has gone", || !env.daemons().contains(&first));
    daemon(env);
}

#[test]
fn a_run_whose_daemon_is_killed_starts_over_and_keeps_what_was_finished() {
    let waiting = Waiting::new();
    let env = &waiting.env;
    let running = waiting.run("//:slow");
    wait_until("what is finished is on disk", || {
        let look = env
            .heph(["inspect", "hashout", "--json", "//:first"])
            .with("HEPH_DAEMON", "off");
        !look.run().json()["targets"][0]["digest"].is_null()
    });
    let first = kill(env);
    wait_until("its command runs again", || waiting.begun() > 1);
    waiting.end();
    let run = running.wait();
    run.success();
    assert_ne!(daemon(env), first);
    let out = run.out();
    assert_eq!(out.matches(r#""code":"daemon-lost""#).count(), 1, "{run}");
    assert_eq!(out.matches(r#""event":"start""#).count(), 2, "{run}");
    let executed: Vec<_> = out
        .lines()
        .filter(|line| line.contains(r#""outcome":"executed""#) && line.contains("//:first"))
        .collect();
    assert_eq!(executed.len(), 1, "{run}");
    assert_eq!(waiting.begun(), 2, "the first command was ended, not left");
}

#[test]
fn without_a_new_daemon_a_run_starts_over_in_its_own_process() {
    let waiting = Waiting::new();
    let env = &waiting.env;
    let running = env.heph(["run", "//:slow"]).with("HEPH_DAEMON", "auto").start();
    wait_until("its command runs", || waiting.begun() > 0);
    // Nobody can start another one here.
    let place = places(env).remove(0);
    fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    kill(env);
    wait_until("its command runs again", || waiting.begun() > 1);
    waiting.end();
    let run = running.wait();
    run.success()
        .says("the daemon went away in the middle of the run, which starts over without one");
    run.says("working without the daemon");
    fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn what_must_not_run_twice_fails_as_interrupted() {
    let waiting = Waiting::new();
    let env = &waiting.env;
    let running = waiting.run("//:uncached");
    kill(env);
    let run = running.wait();
    run.exits(1).says(r#""kind":"interrupted""#);
    assert_eq!(waiting.begun(), 1, "it was not run a second time");
    waiting.end();
    env.build("//:uncached");
}

#[test]
fn daemons_killed_at_any_moment_fail_no_build() {
    let rounds = std::env::var("HEPH_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(30);
    let env = Environment::new().with_mode(Mode::Fresh);
    let target = |number: usize| {
        let above = if number < 4 {
            String::new()
        } else {
            format!(", deps=':t{}'", number - 4)
        };
        format!(
            "target(name='t{number}', driver='sh'{above}, hash_deps=file('in'), run='echo {number} > $OUT', out='{number}')\n"
        )
    };
    env.write("BUILD", (0..12).map(target).collect::<String>());
    for round in 0u32..rounds {
        env.write("in", round.to_string());
        let running = env.heph(["run", "--json", "//..."]).start();
        // Spread over the life of a build, without a clock that repeats.
        let moment = Duration::from_micros(u64::from(round.wrapping_mul(2_654_435_761) % 250_000));
        let began = Instant::now();
        wait_until("it is time", || began.elapsed() >= moment);
        for pid in env.daemons() {
            // It may have gone by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        let run = running.wait();
        run.success();
        let again = env
            .heph(["run", "--json", "--copy-out", "copied", "//..."])
            .build();
        again.run.success();
        assert!(again.executed().is_empty(), "{}", again.run);
        for number in 0..12 {
            assert_eq!(env.read(&format!("copied/{number}")), format!("{number}\n"));
        }
        fs::remove_dir_all(env.path("copied")).unwrap();
    }
}

#[test]
fn an_older_build_retires_after_its_run() {
    let waiting = Waiting::new();
    let env = &waiting.env;
    let running = waiting.run("//:slow");
    let first = daemon(env);
    let newer = newer_build(env, "newer/heph");
    env.heph(["run", "//:quick"]).by(newer.clone()).run().success();
    wait_until("the older one takes nothing new", || {
        log(env).contains("takes its place")
    });
    assert!(env.daemons().contains(&first), "it finishes its run");
    waiting.end();
    running.wait().success();
    wait_until("the older one has gone", || !env.daemons().contains(&first));
    // The older program goes on to work, with a daemon of its own, which leaves the newer one alone.
    let second = daemon(env);
    env.build("//...");
    assert_eq!(env.daemons().len(), 2);
    env.heph(["query", "//..."]).by(newer).run().success();
    assert!(env.daemons().contains(&second));
    let all = env.heph(["daemon", "status", "--all", "--json"]).run().json();
    assert_eq!(all["daemons"].as_array().unwrap().len(), 2, "{all}");
    env.heph(["daemon", "stop", "--all"]).run().success();
    assert!(env.daemons().is_empty());
}

#[test]
fn pinned_releases_stay_beside_each_other() {
    let env = workspace();
    let releases = ["home/versions/v1.0.0/heph", "home/versions/v1.1.0/heph"].map(|at| newer_build(&env, at));
    for _ in 0..2 {
        for release in &releases {
            env.heph(["query", "//..."]).by(release.clone()).run().success();
        }
    }
    env.build("//...");
    assert_eq!(log(&env).matches(" ready: ").count(), 3, "{}", log(&env));
    assert_eq!(env.daemons().len(), 3);
}

#[test]
fn status_tells_what_runs_in_all_workspaces() {
    let waiting = Waiting::new();
    let env = &waiting.env;
    let running = waiting.run("//:slow");
    let document = status(env);
    let shown = &document["daemons"][0];
    assert_eq!(shown["pid"], daemon(env).as_raw_nonzero().get());
    assert_eq!(shown["own"], true);
    assert_eq!(shown["clients"], 1);
    assert_eq!(shown["workspaces"][0], env.root().to_str().unwrap());
    assert!(shown["memory_bytes"].as_u64().unwrap() > 1 << 20, "{shown}");
    let run = &shown["runs"][0];
    assert_eq!(run["selector"], "//:slow");
    assert_eq!((&run["done"], &run["total"]), (&1.into(), &2.into()));
    assert_eq!(run["client_pid"], running.pid().as_raw_nonzero().get());
    // Also from another workspace.
    fs::create_dir(env.beside("other")).unwrap();
    fs::write(env.beside("other/.hephconfig"), heph_tests::CONFIG).unwrap();
    let elsewhere = env
        .heph(["-C", env.beside("other").to_str().unwrap(), "status", "--json"])
        .run()
        .json();
    assert_eq!(elsewhere["runs"], shown["runs"]);
    for field in ["pid", "heph", "build", "workspaces", "warm", "started_unix_ms"] {
        assert_eq!(elsewhere["daemon"][field], shown[field], "{field}");
    }
    assert!(shown["uptime_ms"].as_u64() > Some(0), "{shown}");
    env.heph(["status"]).run().success().says("//:slow in ");
    env.heph(["daemon", "status"])
        .run()
        .success()
        .says("1 of 2 targets");
    waiting.end();
    running.wait().success();
    wait_until("it is no longer listed", || {
        status(env)["daemons"][0]["runs"].as_array().unwrap().is_empty()
    });
}

#[test]
fn a_daemon_in_a_terminal_shows_what_it_does() {
    let env = workspace();
    let mut terminal = env.terminal(["daemon", "run"]);
    terminal.wait_for("ready: process");
    env.heph(["run", "//:t"]).run().success();
    terminal.wait_for("run 1 of //:t began in");
    terminal.wait_for("1 target, 1 executed");
    assert!(env.daemons().is_empty(), "no other one was started");
    terminal.type_in("\x03");
    let (code, shown) = terminal.wait();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("going: SIGINT"), "{shown}");
    let log = env.heph(["daemon", "log"]).run();
    log.success().says("run 1 of //:t began in");
}

/// How often the threads of a process have gone to sleep or were stopped, and how long they ran in nanoseconds.
pub(crate) fn work(pid: rustix::process::Pid) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    let mut work: Vec<_> = tasks
        .flatten()
        .map(|task| fs::read_to_string(task.path().join("schedstat")).unwrap_or_default())
        .collect();
    work.sort_unstable();
    work.concat()
}

#[test]
fn an_idle_daemon_does_nothing() {
    let env = workspace();
    env.build("//...");
    let pid = daemon(&env);
    let mut before = work(pid);
    if !needs("an_idle_daemon_does_nothing", "schedstat", !before.is_empty()) {
        return;
    }
    let mut since = Instant::now();
    // What it has to tidy up takes some seconds; after that comes no timer within a minute.
    wait_until("five seconds have gone by without an instruction", || {
        let now = work(pid);
        if now != before {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(5)
    });
}

#[test]
fn sixty_clients_of_one_workspace_are_served_at_once() {
    let env = Environment::new().with_mode(Mode::Fresh);
    let target = |number: usize| {
        format!(
            "target(name='t{number}', driver='sh', deps=':base', run='echo {number} > $OUT', out='{number}')\n"
        )
    };
    env.write(
        "BUILD",
        format!(
            "target(name='base', driver='sh', run='echo >> {}; sleep 0.2; echo > $OUT', out='base', sandbox='standard')\n{}",
            env.beside("base").display(),
            (0..60).map(target).collect::<String>()
        ),
    );
    let clients: Vec<_> = (0..60)
        .map(|number| {
            env.heph(["run", "-q", "--cat-out", &format!("//:t{number}")])
                .start()
        })
        .collect();
    for (number, client) in clients.into_iter().enumerate() {
        assert_eq!(client.wait().success().out(), format!("{number}\n"));
    }
    let base = fs::read_to_string(env.beside("base")).unwrap();
    assert_eq!(base.lines().count(), 1, "what all need was made once");
    daemon(&env);
}

#[test]
fn only_one_process_is_the_daemon() {
    let env = workspace();
    env.heph(["daemon", "start"]).run().success();
    let run = env.heph(["daemon", "run"]).run();
    run.exits(3).says("another process is the daemon of");
    env.heph(["daemon", "run", "--background"]).run().exits(2);
}

#[test]
fn a_log_that_has_grown_begins_anew() {
    let env = workspace();
    env.heph(["daemon", "start"]).run().success();
    env.stop_daemons();
    let log = places(&env).remove(0).join("log");
    fs::write(&log, vec![b'x'; 5 << 20]).unwrap();
    env.build("//...");
    assert!(fs::metadata(&log).unwrap().len() < 1 << 20);
    assert_eq!(fs::metadata(log.with_extension("1")).unwrap().len(), 5 << 20);
}

#[test]
fn a_home_that_is_removed_is_no_harm() {
    let env = workspace();
    env.build("//...");
    fs::remove_dir_all(env.home()).unwrap();
    assert_eq!(env.build("//...").executed(), ["//:t"]);
    assert!(env.build("//...").executed().is_empty());
}

#[test]
fn a_watch_goes_on_with_the_next_daemon() {
    let env = workspace();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', deps=file('in'), run='cat in > $OUT', out='t')\n",
    );
    env.write("in", "1\n");
    let mut terminal = env.terminal(["run", "--watch", "--no-tui", "//:t"]);
    terminal.wait_for("1 executed");
    kill(&env);
    env.write("in", "2\n");
    terminal.wait_for("in changed");
    wait_until("it is built again", || {
        terminal.shown().matches("1 executed").count() == 2
    });
    daemon(&env);
    terminal.type_in("\x03");
    let (code, shown) = terminal.wait();
    assert_eq!(code, 130, "{shown}");
}
