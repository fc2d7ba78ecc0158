//! What a daemon keeps in memory, and when it lets go of it.

use std::fs;
use std::time::{Duration, Instant};

use heph_tests::{Environment, Mode, wait_until};
use rustix::process::Pid;

use crate::daemon::daemon;
use crate::daemon_life::{Waiting, log, work};

/// Resident memory of a process in bytes.
fn resident(pid: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.as_raw_nonzero())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A workspace of many targets that need no command.
fn large(env: &Environment, targets: usize) {
    let packages = targets / 100;
    for package in 0..packages {
        let target = |number: usize| {
            let below = package.checked_sub(1);
            let deps = below
                .map(|below| format!("deps='//p{below}:t{number}', "))
                .unwrap_or_default();
            format!(
                "target(name='t{number}', driver='group', {deps})\ntarget(name='f{number}', driver='textfile', text='{package} {number}', out='f{number}')\n"
            )
        };
        env.write(
            &format!("p{package}/BUILD"),
            (0..100).map(target).collect::<String>(),
        );
    }
}

#[test]
fn after_a_while_without_work_what_is_warm_is_dropped_and_memory_given_back() {
    let env = Environment::new().with_mode(Mode::Fresh);
    let layer = env.user_home().join(".config/heph/hephconfig");
    fs::write(layer, "daemon:\n  idleTimeout: 60s\n  warmTimeout: 1s\n").unwrap();
    large(&env, 6000);
    env.heph(["daemon", "start"]).run().success();
    let pid = daemon(&env);
    let fresh = resident(pid);
    let built = env.build("//...");
    assert_eq!(built.executed().len(), 6000);
    let warm = resident(pid);
    wait_until("it has dropped what was warm", || {
        log(&env).contains("nothing to do")
    });
    let mut after = resident(pid);
    wait_until("it has given the memory back", || {
        after = resident(pid);
        after < fresh + (30 << 20)
    });
    eprintln!(
        "fresh {} KiB, warm {} KiB, after {} KiB",
        fresh >> 10,
        warm >> 10,
        after >> 10
    );
    assert!(warm > after);
    let mut before = work(pid);
    let mut since = Instant::now();
    wait_until("three seconds have gone by without an instruction", || {
        let now = work(pid);
        if now != before {
            (before, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_secs(3)
    });
    let status = env.heph(["daemon", "status", "--json"]).run().success().json();
    let daemon_status = &status["daemons"][0];
    assert_eq!(
        daemon_status["workspaces"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );
    assert_eq!(
        daemon_status["warm"].as_array().map(Vec::len),
        Some(0),
        "{status}"
    );
    // What it knew is on the disk.
    assert!(env.build("//...").executed().is_empty());
    assert_eq!(daemon(&env), pid);
}

#[test]
fn above_the_ceiling_what_is_warm_is_dropped_but_not_where_a_run_goes_on() {
    let waiting = Waiting::new();
    let env = &waiting.env;
    let layer = env.user_home().join(".config/heph/hephconfig");
    fs::write(layer, "daemon:\n  idleTimeout: 60s\n  maxMemoryBytes: 1\n").unwrap();
    let running = waiting.run("//:slow");
    let elsewhere = Environment::new().with_mode(Mode::Fresh);
    elsewhere.write(
        "BUILD",
        "target(name='t', driver='textfile', text='t', out='t')\n",
    );
    let dropped = |of: &Environment| {
        let root = of.root().display().to_string();
        log(env)
            .matches(&format!("dropped what was known of {root}:"))
            .count()
    };
    for round in 1..3 {
        let run = elsewhere
            .heph(["run", "//:t"])
            .with("HEPH_HOME", env.home().to_str().unwrap());
        run.with("HEPH_DAEMON", "require").run().success();
        wait_until("it is above the ceiling", || dropped(&elsewhere) == round);
    }
    assert_eq!(dropped(env), 0, "a run uses it");
    waiting.end();
    running.wait().success();
    wait_until("nothing uses it any more", || dropped(env) == 1);
    assert!(env.build("//:slow").executed().is_empty());
}
