//! A daemon that stops answering while it is waited for.

use std::time::{Duration, Instant};

use heph_tests::{Environment, Mode, Terminal, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{daemon, stop};
use crate::daemon_life::Waiting;

/// Whoever asks to leave a run is not kept for longer, also on a loaded machine.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A run in a terminal, in the middle of a command, whose daemon was stopped.
fn stopped(waiting: &Waiting) -> (Terminal, Pid) {
    let terminal = waiting.env.terminal(["run", "//:slow"]);
    wait_until("its command runs", || waiting.begun() == 1);
    let pid = daemon(&waiting.env);
    stop(pid);
    (terminal, pid)
}

#[test]
fn a_run_says_once_that_its_daemon_does_not_answer_and_goes_on_with_it() {
    let waiting = Waiting::new();
    let (terminal, pid) = stopped(&waiting);
    terminal.wait_for("does not answer");
    terminal.wait_for(&format!("kill -CONT {}", pid.as_raw_nonzero()));
    // The command ends meanwhile, and nobody hears of it.
    waiting.end();
    kill_process(pid, Signal::CONT).unwrap();
    let (code, shown) = terminal.wait();
    assert_eq!(code, 0, "{shown}");
    assert_eq!(shown.matches("does not answer").count(), 1, "{shown}");
    assert_eq!(waiting.begun(), 1, "{shown}");
    assert!(
        shown.contains("1 executed") || shown.contains("2 executed"),
        "{shown}"
    );
    assert_eq!(daemon(&waiting.env), pid);
}

#[test]
fn a_run_whose_daemon_does_not_answer_can_be_left_at_once() {
    for is_known in [true, false] {
        let waiting = Waiting::new();
        let (mut terminal, pid) = stopped(&waiting);
        if is_known {
            terminal.wait_for("does not answer");
        }
        let asked = Instant::now();
        terminal.type_in("\x03");
        let (code, shown) = terminal.wait();
        assert_eq!(code, 130, "{shown}");
        assert!(asked.elapsed() < AT_ONCE, "after {:?}\n{shown}", asked.elapsed());
        kill_process(pid, Signal::CONT).unwrap();
        waiting.end();
        waiting.env.build("//:slow");
    }
}

/// Processor time of a process, in clock ticks.
fn ticks(pid: Pid) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(11).unwrap().parse().unwrap()
}

#[test]
fn a_query_whose_daemon_does_not_answer_goes_on_without_it() {
    let env = Environment::new().with_mode(Mode::Fresh);
    // There is time to stop the daemon in the middle of it.
    let slow = "def f(n):\n    for i in range(n):\n        pass\nf(2000000)\n";
    env.heph(["daemon", "start"]).run().success();
    let pid = daemon(&env);
    let before = ticks(pid);
    env.write(
        "BUILD",
        format!("{slow}target(name='t', driver='textfile', text='t', out='t')\n"),
    );
    let asking = env.heph(["query", "//..."]).with("HEPH_DAEMON", "auto").start();
    wait_until("it evaluates", || ticks(pid) >= before + 2);
    stop(pid);
    let run = asking.wait();
    kill_process(pid, Signal::CONT).unwrap();
    run.success()
        .says("working without the daemon: process")
        .says("does not answer");
    assert_eq!(run.out(), "//:t\n");
}
