//! Nothing that a command starts outlives it. (Every call of these tests runs below a reaper that fails the test when something
//! is left behind; see `tests/src/bin/reaper.rs`.)

use heph_tests::{Environment, files_below, needs, strict_available, wait_until};
use rustix::process::Signal;

/// Modes that this machine has.
fn modes(test: &str) -> Vec<&'static str> {
    let mut modes = vec!["standard"];
    if needs(test, "namespaces", strict_available()) {
        modes.push("strict");
    }
    modes
}

/// A process that cannot be stopped politely: it ignores signals, has a session of its own and children that do the same.
const STUBBORN: &str = "trap '' INT TERM HUP QUIT; (trap '' INT TERM HUP; setsid sh -c 'trap \"\" INT TERM HUP; sleep 1001 & sleep 1002' &) ; (setsid sleep 1003 &) ; echo > $OUT; sleep 1004";

fn sleepers(mode: &str) -> Environment {
    let env = Environment::bare();
    env.write(
        ".hephconfig",
        format!("{}sandbox:\n  mode: {mode}\n", heph_tests::CONFIG),
    );
    env.write(
        "BUILD",
        format!(
            "target(name='plain', driver='sh', run='echo started > started; sleep 1000')\n\
             target(name='stubborn', driver='bash', tools='//@heph/bin:setsid', run='''{STUBBORN}''', out='out')\n"
        ),
    );
    env
}

/// Waits until both commands run: their sandboxes hold what they write first.
fn wait_for_start(env: &Environment) {
    let sandbox = env.home().join("sandbox");
    let found = |name: &str| files_below(&sandbox).iter().any(|path| path.ends_with(name));
    wait_until("both commands run", || found("ws/started") && found("ws/out"));
}

#[test]
fn interrupt_exits_130_and_leaves_no_process() {
    for mode in modes("interrupt_exits_130_and_leaves_no_process") {
        let env = sleepers(mode);
        let running = env.heph(["run", "-j4", "//..."]).start();
        wait_for_start(&env);
        running.signal(Signal::INT);
        running.wait().exits(130);
    }
}

#[test]
fn a_second_interrupt_leaves_at_once() {
    let env = sleepers("standard");
    let running = env.heph(["run", "-j4", "//..."]).start();
    wait_for_start(&env);
    running.signal(Signal::INT);
    running.signal(Signal::INT);
    running.wait().exits(130);
}

#[test]
fn ctrl_c_on_a_terminal_exits_130_and_restores_it() {
    for mode in modes("ctrl_c_on_a_terminal_exits_130_and_restores_it") {
        let env = sleepers(mode);
        let mut terminal = env.terminal(["run", "-j4", "//..."]);
        wait_for_start(&env);
        terminal.type_in("\x03");
        let (code, shown) = terminal.wait();
        assert_eq!(code, 130, "{shown}");
        let hidden = shown.rfind("\x1b[?25l");
        assert!(
            hidden.is_none() || hidden < shown.rfind("\x1b[?25h"),
            "the cursor stays hidden: {shown:?}"
        );
    }
}

/// Whether whoever started the tests has hang-ups ignored, which programs inherit.
fn hang_up_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 == 1)
}

#[test]
fn termination_and_hang_up_leave_no_process() {
    let test = "termination_and_hang_up_leave_no_process";
    for signal in [Signal::TERM, Signal::HUP] {
        if signal == Signal::HUP && hang_up_is_ignored() {
            eprintln!("SKIPPED: {test}: below nohup a hang-up is no signal");
            continue;
        }
        for mode in modes(test) {
            let env = sleepers(mode);
            let running = env.heph(["run", "-j4", "//..."]).start();
            wait_for_start(&env);
            running.signal(signal);
            assert_ne!(running.wait().code, 0);
        }
    }
}

#[test]
fn a_killed_heph_leaves_no_process() {
    for mode in modes("a_killed_heph_leaves_no_process") {
        let env = sleepers(mode);
        let running = env.heph(["run", "-j4", "//..."]).start();
        wait_for_start(&env);
        running.signal(Signal::KILL);
        running.wait().exits(137);
    }
}

#[test]
fn nothing_outlives_a_command_that_succeeds_or_fails() {
    for mode in modes("nothing_outlives_a_command_that_succeeds_or_fails") {
        let env = Environment::bare();
        env.write(
            ".hephconfig",
            format!("{}sandbox:\n  mode: {mode}\n", heph_tests::CONFIG),
        );
        let start = "(trap '' INT TERM HUP; setsid sleep 1005 > /dev/null 2>&1 &); sleep 1006 &";
        env.write(
            "BUILD",
            format!(
                "target(name='good', driver='bash', tools='//@heph/bin:setsid', run='''{start} echo > $OUT''', out='out')\n\
                 target(name='bad', driver='bash', tools='//@heph/bin:setsid', run='''{start} exit 3''')\n"
            ),
        );
        let build = env.try_build("//...");
        assert_eq!(build.failed(), ["//:bad"], "{}", build.run);
        assert_eq!(build.executed(), ["//:good"], "{}", build.run);
    }
}

#[test]
fn after_a_kill_the_next_run_goes_on() {
    let env = sleepers("standard");
    env.write(
        "q/BUILD",
        "target(name='q', driver='sh', run='echo q > $OUT', out='q')\n",
    );
    env.build("//q:q");
    let running = env.heph(["run", "-j4", "//..."]).start();
    wait_for_start(&env);
    running.signal(Signal::KILL);
    running.wait().exits(137);
    assert!(env.build("//q:q").executed().is_empty());
    env.write("BUILD", "target(name='plain', driver='sh', run='true')\n");
    env.build("//...");
}

#[test]
fn a_shell_that_waits_for_nothing_ends_with_its_background_jobs() {
    let env = Environment::new();
    // The background job holds the log open: heph must not wait for it.
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='sleep 1007 & echo done')\n",
    );
    let run = env
        .heph(["run", "//:t"])
        .limit(std::time::Duration::from_secs(20))
        .run();
    run.success();
}
