//! Nothing that a command starts outlives it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heph_engine::executor::{Cancel, Control, GRACE};
use heph_proto::report::Outcome;
use heph_proto::{FailureKind, SandboxMode};

use crate::support::{
    Bench, completed, eventually, failed, modes, output, processes_of, sandboxed, variable,
};

/// Starts processes that are hard to get rid of: a plain child, one that ignores signals in a session of its own, and
/// a daemon whose parents are gone. Each says when it is there. `$MARK` is in the environment of all.
const STUBBORN: &str = r#"
    stubborn='trap "" TERM INT HUP; echo > "$0"; while :; do sleep 1; done'
    sh -c "$stubborn" one &
    setsid sh -c "$stubborn" two &
    (setsid sh -c '(setsid sh -c "$1" three &)' sh "$stubborn" &)
    while ! { test -e one && test -e two && test -e three; }; do sleep 0.01; done
"#;

fn mark(test: &str) -> String {
    format!("heph-test-{test}-{}", std::process::id())
}

#[track_caller]
fn assert_gone(mark: &str) {
    assert_eq!(processes_of(mark), Vec::<String>::new());
}

#[test]
fn leftovers_of_a_command_are_ended_before_its_report() {
    let bench = Bench::new();
    for mode in modes(&bench, "leftovers_of_a_command_are_ended_before_its_report") {
        for (end, code) in [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 9)] {
            let mark = mark(&format!("leftovers-{mode:?}-{code}"));
            let mut plan = bench.plan(mode, &format!("{STUBBORN}\n{end}"));
            plan.environment = vec![variable("MARK", &mark)];
            let report = bench.run(plan);
            assert_gone(&mark);
            match code {
                0 => {
                    completed(&report);
                }
                3 => assert_eq!(failed(&report).exit_code, Some(3)),
                _ => {
                    assert_eq!(failed(&report).signal, Some(9));
                    assert_eq!(failed(&report).message, "was ended by signal 9 (SIGKILL)");
                }
            }
        }
    }
}

#[test]
fn commands_side_by_side_do_not_end_each_other_s_processes() {
    let bench = Bench::new();
    for mode in modes(&bench, "commands_side_by_side_do_not_end_each_other_s_processes") {
        // The daemon of the long one is an orphan while short ones end.
        let script = "(setsid sh -c 'echo > started; while ! test -e stop; do sleep 0.01; done; echo yes > alive' &)\n\
            while ! test -e started; do sleep 0.01; done; sleep 0.5; echo > stop\n\
            while ! test -e alive; do sleep 0.01; done";
        let mut long = bench.plan(mode, script);
        long.sandbox_id = "long".to_owned();
        long.timeout_ms = 30_000;
        long.outputs = vec![output("pkg/alive")];
        let long = bench.executor.execute(long, Control::default());
        let short = async {
            for number in 0..20 {
                let mut plan = bench.plan(mode, "(setsid sleep 100 &); true");
                plan.sandbox_id = format!("short{number}");
                completed(&bench.executor.execute(plan, Control::default()).await);
            }
        };
        let (long, ()) = bench.block_on(async { tokio::join!(long, short) });
        completed(&long);
    }
}

#[test]
fn cancelling_ends_the_whole_tree() {
    for mode in modes(&Bench::new(), "cancelling_ends_the_whole_tree") {
        // One of its own: the log of an earlier command may still be there while its sandbox is swept.
        let bench = Bench::new();
        let mark = mark(&format!("cancel-{mode:?}"));
        let mut plan = bench.plan(mode, &format!("{STUBBORN}\necho ready; sleep 100"));
        plan.environment = vec![variable("MARK", &mark)];
        let cancel = Cancel::new();
        let control = Control {
            cancel: cancel.clone(),
            spawned: None,
        };
        let ready = bench.home.join("sandbox/0123456789abcdef/log");
        let (mark_seen, start) = (mark.clone(), Instant::now());
        let canceller = std::thread::spawn(move || {
            let is_ready = || std::fs::read_to_string(&ready).is_ok_and(|log| log.contains("ready"));
            eventually("the command is ready", is_ready);
            assert!(processes_of(&mark_seen).len() >= 4);
            cancel.cancel();
            Instant::now()
        });
        let report = bench.run_with(plan, control);
        let cancelled_at = canceller.join().unwrap();
        assert!(
            matches!(report.outcome, Some(Outcome::Cancelled(_))),
            "{report:?}"
        );
        assert_gone(&mark);
        // Those that ignore SIGTERM had the grace and no more.
        assert!(
            cancelled_at.elapsed() < GRACE + Duration::from_secs(20),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_command_may_clean_up_when_it_is_cancelled() {
    let bench = Bench::new();
    let clean = bench.root.join("clean");
    for mode in modes(&bench, "a_command_may_clean_up_when_it_is_cancelled") {
        let cancel = Cancel::new();
        let asked = cancel.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        let control = Control {
            cancel,
            spawned: Some(Box::new(move || sender.send(()).unwrap())),
        };
        let script = "trap 'echo cleaned; exit 1' TERM; echo ready; while :; do sleep 0.01; done";
        let log = bench.home.join("sandbox/0123456789abcdef/log");
        let canceller = std::thread::spawn(move || {
            receiver.recv().unwrap();
            eventually("the command is ready", || log.exists());
            asked.cancel();
        });
        let start = Instant::now();
        let mut plan = bench.plan(mode, script);
        plan.keep = true;
        let report = bench.run_with(plan, control);
        canceller.join().unwrap();
        assert!(
            matches!(report.outcome, Some(Outcome::Cancelled(_))),
            "{report:?}"
        );
        assert!(start.elapsed() < Duration::from_secs(30));
        assert!(!clean.exists());
    }
}

#[test]
fn a_cancelled_plan_does_not_start() {
    let bench = Bench::new();
    let cancel = Cancel::new();
    cancel.cancel();
    let started = Box::new(|| panic!("it was started"));
    let control = Control {
        cancel,
        spawned: Some(started),
    };
    let report = bench.run_with(bench.plan(SandboxMode::Standard, "true"), control);
    assert!(
        matches!(report.outcome, Some(Outcome::Cancelled(_))),
        "{report:?}"
    );
}

#[test]
fn a_timeout_ends_the_whole_tree() {
    let bench = Bench::new();
    for mode in modes(&bench, "a_timeout_ends_the_whole_tree") {
        let mark = mark(&format!("timeout-{mode:?}"));
        let mut plan = bench.plan(mode, &format!("{STUBBORN}\necho last words; sleep 100"));
        plan.environment = vec![variable("MARK", &mark)];
        plan.timeout_ms = 1500;
        let report = bench.run(plan);
        assert_eq!(failed(&report).kind(), FailureKind::Timeout);
        assert_eq!(failed(&report).message, "took longer than its timeout of 1.5s");
        assert_gone(&mark);
    }
}

/// A client process that runs a stubborn command, and the mark of all that it started.
fn client(mode: SandboxMode, home: &Path, mark: &str) -> Child {
    let mode = if mode == SandboxMode::Strict {
        "strict"
    } else {
        "standard"
    };
    let script = format!("export MARK={mark}; {STUBBORN}\nsh -c 'sleep 1000; true' {mark}");
    Command::new(sandboxed())
        .args([mode.as_ref(), home.as_os_str(), script.as_ref()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The process ids of the supervisor's processes of a client: guard, spawner, keeper.
fn supervisors(client: u32) -> Vec<u32> {
    let children = |pid: u32| -> Vec<u32> {
        std::fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
            .flat_map(|task| {
                let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                text.split_whitespace()
                    .map(|pid| pid.parse().unwrap())
                    .collect::<Vec<_>>()
            })
            .collect()
    };
    let mut all = Vec::new();
    let mut at = client;
    while let [next, ..] = children(at)[..] {
        let line = std::fs::read(format!("/proc/{next}/cmdline")).unwrap_or_default();
        if !line.starts_with(b"heph\0") {
            break;
        }
        all.push(next);
        at = next;
    }
    all
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn nothing_survives_whoever_is_killed() {
    let bench = Bench::new();
    for mode in modes(&bench, "nothing_survives_whoever_is_killed") {
        // The client, then each process between it and the command.
        for victim in 0..4 {
            let mark = mark(&format!("killed-{mode:?}-{victim}"));
            let home = bench.root.join(&mark);
            let mut client = client(mode, &home, &mark);
            // The last one is `sleep` after all others said that they are there.
            eventually("the command runs", || {
                processes_of(&mark)
                    .iter()
                    .any(|line| line.ends_with("sleep 1000 "))
            });
            let supervisors = supervisors(client.id());
            assert_eq!(supervisors.len(), 3, "guard, spawner, keeper");
            match victim {
                0 => client.kill().unwrap(),
                number => kill(supervisors[number - 1]),
            }
            let _ = client.wait();
            eventually(
                &format!("{mode:?}: nothing is left when process {victim} is killed"),
                || processes_of(&mark).is_empty(),
            );
            for pid in supervisors {
                let line = format!("/proc/{pid}/cmdline");
                eventually("the supervisor is gone", || {
                    std::fs::read(&line).unwrap_or_default().is_empty()
                });
            }
        }
    }
}

#[test]
fn a_killed_supervisor_costs_its_commands_and_no_others() {
    let bench = Bench::new();
    for mode in modes(&bench, "a_killed_supervisor_costs_its_commands_and_no_others") {
        let own = std::process::id();
        let script = "echo ready; sleep 1000";
        let mark = mark(&format!("restart-{mode:?}"));
        let mut plan = bench.plan(mode, script);
        plan.environment = vec![variable("MARK", &mark)];
        let marked = mark.clone();
        let killer = std::thread::spawn(move || {
            eventually("the command runs", || !processes_of(&marked).is_empty());
            let parent = |pid: u32| -> u32 {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix("PPid:"))
                    .unwrap();
                line.trim().parse().unwrap()
            };
            let line = processes_of(&marked).swap_remove(0);
            let mut at: u32 = line.split(':').next().unwrap().parse().unwrap();
            while parent(at) != own {
                at = parent(at);
            }
            kill(at);
        });
        let report = bench.run(plan);
        killer.join().unwrap();
        assert_eq!(failed(&report).kind(), FailureKind::Internal, "{report:?}");
        eventually("nothing is left", || processes_of(&mark).is_empty());
        completed(&bench.run(bench.plan(mode, "true")));
    }
}

#[test]
fn shutting_down_ends_what_runs() {
    for mode in modes(&Bench::new(), "shutting_down_ends_what_runs") {
        let bench = Bench::new();
        let mark = mark(&format!("shutdown-{mode:?}"));
        let mut plan = bench.plan(mode, STUBBORN);
        plan.environment = vec![variable("MARK", &mark)];
        let plan = heph_proto::Plan {
            action: Some(heph_proto::plan::Action::Command(heph_proto::Command {
                argv: ["sh", "-c", "sleep 1000; true"].map(str::to_owned).to_vec(),
                script: None,
            })),
            ..plan
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                eventually("the command runs", || !processes_of(&mark).is_empty());
                bench.executor.shutdown();
                assert_gone(&mark);
            });
            let report = bench.run(plan);
            failed(&report);
        });
        let report = bench.run(bench.plan(mode, "true"));
        assert!(failed(&report).message.contains("shut down"), "{report:?}");
    }
}

#[test]
fn usage_covers_all_that_the_command_started() {
    let bench = Bench::new();
    for mode in modes(&bench, "usage_covers_all_that_the_command_started") {
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let report = bench.run(bench.plan(mode, &format!("sh -c '{script}'; sleep 0.2")));
        completed(&report);
        assert!(report.wall_us >= 200_000, "{report:?}");
        assert!(report.cpu_us >= 1_000, "{report:?}");
        assert!(report.memory_bytes > 100_000, "{report:?}");
    }
}
