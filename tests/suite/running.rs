//! How a run goes: what it does after failures, what it shows, what it writes.

use std::path::PathBuf;
use std::time::Duration;

use heph_tests::{Environment, Mode, files_below, needs, strict_available, wait_until};

/// One target with two output groups.
pub(crate) fn output_targets() -> Environment {
    let env = Environment::new();
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', run=['echo main > $OUT', 'echo side > $OUT_SIDE'], out={'': 'd/main.txt', 'side': 'side.txt'})\n",
    );
    env
}

#[test]
fn everything_that_can_be_built_is_and_failures_come_at_the_end() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='bad', driver='bash', run='for i in {1..15}; do echo line $i; done; exit 7')\n\
         target(name='after', driver='sh', deps=':bad', run='true')\n\
         target(name='good', driver='sh', run='true')\n",
    );
    let build = env.try_build("//...");
    build.run.exits(1);
    assert_eq!(build.failed(), ["//:bad"]);
    assert_eq!(build.with_outcome("skipped"), ["//:after"]);
    assert_eq!(build.executed(), ["//:good"]);
    let run = env.heph(["run", "-j1", "//..."]).run();
    insta::assert_snapshot!(run.report(), @r#"
        exit 1
        --- stderr
        [2/3] //:bad FAILED: exit code 7

        error: //:bad failed: exit code 7
          command: for i in {1..15}; do echo line $i; done; exit 7
          | line 6
          | line 7
          | line 8
          | line 9
          | line 10
          | line 11
          | line 12
          | line 13
          | line 14
          | line 15
          log: <home>/sandbox/<digest>/log
          sandbox: <home>/sandbox/<digest>

        1 of 3 targets failed in <time>: 1 up to date, 1 skipped
    "#);
    env.heph(["run", "--log-lines", "3", "//:bad"])
        .run()
        .exits(1)
        .says("line 13")
        .never_says("line 12");
    assert_eq!(build.target("//:bad")["failure"]["exit_code"], 7);
}

#[test]
fn a_command_that_dies_of_a_signal_says_which() {
    let env = Environment::new();
    env.write("BUILD", "target(name='t', driver='bash', run='kill -SEGV $$')\n");
    let run = env.heph(["run", "//:t"]).run();
    run.exits(1).says("SIGSEGV");
}

#[test]
fn fail_fast_stops_at_the_first_failure() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='bad', driver='sh', run='false')\ntarget(name='long', driver='sh', run='sleep 1000')\n",
    );
    let run = env
        .heph(["run", "-j2", "--fail-fast", "//..."])
        .limit(Duration::from_secs(30))
        .run();
    run.exits(1).says("//:bad");
}

#[test]
fn jobs_limits_how_many_commands_run_at_once() {
    let env = Environment::new();
    let place = env.beside("running");
    std::fs::create_dir(&place).unwrap();
    let at = place.display();
    let target = |name: &str| {
        format!(
            "target(name='{name}', driver='bash', sandbox='standard', run=['touch {at}/{name}', 'ls {at} | grep -v max | wc -l >> {at}/max', 'sleep 0.1', 'rm {at}/{name}'])\n"
        )
    };
    env.write("BUILD", ["a", "b", "c", "d"].map(target).concat());
    env.heph(["run", "--jobs", "1", "//..."]).run().success();
    assert_eq!(
        std::fs::read_to_string(place.join("max")).unwrap(),
        "1\n".repeat(4)
    );
    env.heph(["run", "--jobs", "0", "//..."]).run();
    env.heph(["run", "--jobs", "x", "//..."]).run().exits(2);
}

#[test]
fn force_ignores_results_but_stores_them() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='date +%N > $OUT', out='out')\n",
    );
    env.build("//:t");
    let forced = env.heph(["run", "--json", "--force", "//:t"]).build();
    assert_eq!(forced.executed(), ["//:t"]);
    assert!(env.build("//:t").executed().is_empty());
}

#[test]
fn outputs_can_be_shown_listed_and_copied() {
    let env = output_targets();
    let run = env.heph(["run", "--cat-out", "//p:t"]).run();
    run.success();
    assert!(run.out().contains("main\n"), "{run}");
    let listed = env.heph(["run", "--list-out", "//p:t"]).run().success().out();
    assert!(
        listed.contains("d/main.txt") && listed.contains("side.txt"),
        "{listed}"
    );
    env.heph(["run", "--copy-out", "copied", "//p:t"]).run().success();
    assert_eq!(env.read("copied/p/d/main.txt"), "main\n");
    assert_eq!(env.read("copied/p/side.txt"), "side\n");
    env.heph(["run", "--output", "side", "--copy-out", "one", "//p:t"])
        .run()
        .success();
    assert!(env.exists("one/p/side.txt") && !env.exists("one/p/d"));
}

#[test]
fn a_changed_copy_of_an_output_does_not_reach_the_store() {
    let env = output_targets();
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', run='head -c 200000 /dev/zero > $OUT', out='big')\n",
    );
    env.heph(["run", "--copy-out", "one", "//p:t"]).run().success();
    env.write("one/p/big", "spoiled");
    let build = env.heph(["run", "--json", "--copy-out", "two", "//p:t"]).build();
    build.run.success();
    assert_eq!(env.read("two/p/big").len(), 200_000);
}

#[test]
fn approval_is_asked_for_on_a_terminal_and_refused_elsewhere() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='deploy', driver='sh', approval=True, run='echo > $OUT', out='out')\n",
    );
    let run = env.heph(["run", "//:deploy"]).run();
    run.exits(1).says("--auto-approve");
    insta::assert_snapshot!(run.report(), @r#"
        exit 1
        --- stderr
        [1/1] //:deploy FAILED: it needs approval, and there is no terminal to ask at

        error: //:deploy failed: it needs approval, and there is no terminal to ask at
        hint: heph run --auto-approve runs it without asking

        1 of 1 target failed in <time>
    "#);
    let mut terminal = env.terminal(["run", "//:deploy"]);
    terminal.wait_for("//:deploy");
    terminal.type_in("n\n");
    let (code, shown) = terminal.wait();
    assert_eq!(code, 1, "{shown}");
    let mut terminal = env.terminal(["run", "//:deploy"]);
    terminal.wait_for("//:deploy");
    terminal.type_in("y\n");
    let (code, shown) = terminal.wait();
    assert_eq!(code, 0, "{shown}");
}

#[test]
fn the_question_for_approval_says_what_would_run_and_whom_it_concerns() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='deploy', driver='sh', approval={'required': True, 'notice': ['admins', 'team']}, run='echo out > $OUT', out='out')\n\
         target(name='free', driver='sh', approval={'required': False, 'notice': ['admins']}, run='true')\n",
    );
    let mut terminal = env.terminal(["run", "//:deploy"]);
    terminal.wait_for("run it? [y/N]");
    terminal.type_in("n\n");
    let (code, shown) = terminal.wait();
    assert_eq!(code, 1, "{shown}");
    assert!(
        shown.contains("needs your approval (concerns admins, team)"),
        "{shown}"
    );
    assert!(shown.contains("  echo out > $OUT"), "{shown}");
    assert!(shown.contains("approval was refused"), "{shown}");
    let build = env.heph(["run", "--json", "--auto-approve", "//:deploy"]).build();
    assert_eq!(build.executed(), ["//:deploy"]);
    assert_eq!(env.build("//:free").executed(), ["//:free"], "it is not required");
    assert!(
        env.build("//:deploy").executed().is_empty(),
        "a result needs no approval"
    );
}

#[test]
fn watch_runs_again_when_an_input_changes() {
    let env = Environment::new();
    env.write("a.txt", "one\n");
    env.write("BUILD", "target(name='t', driver='sh', deps=file('a.txt'), run='cp $SRC $OUT', out='gen.txt', codegen='copy')\n");
    let running = env.heph(["run", "--watch", "//:t"]).start();
    wait_until("the first round is over", || env.exists("gen.txt"));
    env.write("a.txt", "two\n");
    wait_until("the second round is over", || {
        env.exists("gen.txt") && env.read("gen.txt") == "two\n"
    });
    env.write(
        "BUILD",
        env.read("BUILD").replace("cp $SRC $OUT", "echo three > $OUT"),
    );
    wait_until("the third round is over", || {
        env.exists("gen.txt") && env.read("gen.txt") == "three\n"
    });
    running.signal(rustix::process::Signal::INT);
    running.wait().exits(130);
}

#[test]
fn shell_opens_in_the_sandbox_with_the_command_as_a_function() {
    let env = Environment::new();
    env.write("p/a.txt", "a\n");
    env.write("p/BUILD", "target(name='t', driver='bash', deps=file('a.txt'), env={'X': 'y'}, run='echo ran $X $SRC', out='out')\n");
    let mut terminal = env.terminal(["run", "--shell", "//p:t"]);
    terminal.type_in("run; pwd; exit\n");
    terminal.wait_for("ran y a.txt");
    let (_, shown) = terminal.wait();
    assert!(shown.contains("/p\r\n") || shown.contains("/p\n"), "{shown}");
}

#[test]
fn an_unchanged_output_stops_the_change_there() {
    let env = Environment::new();
    env.write("a.txt", "a # comment\n");
    env.write(
        "BUILD",
        "target(name='strip', driver='sh', deps=file('a.txt'), run='sed s/#.*// $SRC > $OUT', out='stripped')\n\
         target(name='use', driver='sh', deps=':strip', run='cp $SRC $OUT', out='used')\n",
    );
    assert_eq!(env.build("//...").executed(), ["//:strip", "//:use"]);
    env.write("a.txt", "a # another comment\n");
    assert_eq!(env.build("//...").executed(), ["//:strip"]);
}

#[test]
fn touching_a_file_changes_nothing_and_same_size_same_time_edits_are_seen() {
    let env = Environment::new();
    env.write("a.txt", "one\n");
    env.write(
        "BUILD",
        "target(name='t', driver='sh', deps=file('a.txt'), run='cp $SRC $OUT', out='out')\n",
    );
    env.build("//:t");
    let before = std::fs::metadata(env.path("a.txt")).unwrap().modified().unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(env.path("a.txt"))
        .unwrap();
    file.set_modified(before + Duration::from_secs(5)).unwrap();
    assert!(env.build("//:t").executed().is_empty());
    env.write("a.txt", "two\n");
    file.set_modified(before).unwrap();
    assert_eq!(env.build("//:t").executed(), ["//:t"]);
}

#[test]
fn edits_in_quick_succession_are_never_missed() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', deps=file('a.txt'), run='cp $SRC $OUT', out='out')\n",
    );
    for round in 0..8 {
        env.write("a.txt", format!("{round}\n"));
        let run = env.heph(["run", "--cat-out", "//:t"]).run();
        run.success().says(&format!("{round}\n"));
    }
}

#[test]
fn a_blob_that_disappears_makes_its_producer_run_again() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='big', driver='sh', run='head -c 300000 /dev/zero > $OUT', out='big')\n\
         target(name='use', driver='sh', deps=[':big', file('a.txt')], run='wc -c < big > $OUT', out='out')\n",
    );
    env.write("a.txt", "a");
    env.build("//...");
    for damage in ["removed", "cut", "flipped"] {
        for blob in blobs(&env) {
            match damage {
                "removed" => std::fs::remove_file(&blob).unwrap(),
                "cut" => spoil(&blob, |bytes| bytes.truncate(1000)),
                _ => spoil(&blob, |bytes| bytes[77] ^= 1),
            }
        }
        env.write("a.txt", damage);
        let build = env.build("//:use");
        assert_eq!(build.executed(), ["//:big", "//:use"], "{damage}");
        env.heph(["run", "--cat-out", "//:use"])
            .run()
            .success()
            .says("300000");
    }
}

/// Blobs that are files.
fn blobs(env: &Environment) -> Vec<PathBuf> {
    let found = files_below(&env.home().join("cache/blobs"));
    assert!(!found.is_empty());
    found
}

fn spoil(path: &std::path::Path, how: impl FnOnce(&mut Vec<u8>)) {
    use std::os::unix::fs::PermissionsExt;
    let mut bytes = std::fs::read(path).unwrap();
    how(&mut bytes);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_index_is_set_aside_and_the_run_goes_on() {
    let env = output_targets();
    env.build("//p:t");
    let mut damaged = 0;
    for entry in std::fs::read_dir(env.home().join("cache/db")).unwrap().flatten() {
        for file in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if file.metadata().unwrap().len() > 8192 {
                spoil(&file.path(), |bytes| bytes[..8192].fill(0));
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0);
    let build = env.build("//p:t");
    if env.mode() == Mode::InProcess {
        assert_eq!(build.executed(), ["//p:t"]);
    }
    assert!(env.build("//p:t").executed().is_empty());
}

#[test]
fn a_home_that_cannot_be_written_costs_a_warning_and_no_result() {
    let mut env = output_targets();
    env.set("HEPH_HOME", "/proc/heph-home");
    if env.mode() != Mode::InProcess {
        // There can be no daemon here.
        env.set("HEPH_DAEMON", "auto");
    }
    let build = env.build("//p:t");
    assert_eq!(build.executed(), ["//p:t"]);
    build.run.says("results are not kept");
}

#[test]
fn runs_in_other_pid_namespaces_share_a_home() {
    let test = "runs_in_other_pid_namespaces_share_a_home";
    if !needs(test, "namespaces", strict_available()) {
        return;
    }
    let env = Environment::new();
    env.write(
        ".hephconfig",
        format!("{}sandbox:\n  mode: standard\n", heph_tests::CONFIG),
    );
    let log = env.beside("log");
    let target = |number: usize| {
        let at = log.display();
        format!(
            "target(name='t{number}', driver='sh', run='echo {number} >> {at}; echo {number} > $OUT', out='{number}')\n"
        )
    };
    env.write("BUILD", (0..60).map(target).collect::<String>());
    let elsewhere = [
        "/usr/bin/unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    let calls = (0..4).map(|number| {
        let call = env.heph(["run", "-j2", "//..."]);
        if number % 2 == 0 {
            call.within(&elsewhere).start()
        } else {
            call.start()
        }
    });
    let calls: Vec<_> = calls.collect();
    for call in calls {
        call.wait().success();
    }
    assert!(env.build("//...").executed().is_empty());
    let mut ran: Vec<_> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    let all = ran.len();
    ran.sort();
    ran.dedup();
    assert_eq!((ran.len(), all), (60, 60), "equal work was done more than once");
}
