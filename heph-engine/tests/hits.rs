//! Scenarios in which a hit or a result would be wrong.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail by panicking"
)]

mod support;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use heph_engine::run::Message;
use heph_proto::{Executed, RunRequest, Start, TargetOutcome, run_event, run_request};
use support::{Bench, bytes_of, stale};

fn with_outputs(bench: &Bench, query: &str) -> Start {
    Start {
        want_outputs: true,
        ..bench.start(query)
    }
}

/// Whether a dependency's file is a support file decides about `$SRC`, and is not in the key.
#[test]
fn a_file_that_becomes_a_support_file_is_another_input() {
    let producer = |outs: &str| {
        format!(
            "target(name = \"p\", driver = \"sh\", run = \"echo a > a.txt; echo b > b.txt\", {outs})\n\
             target(name = \"use\", driver = \"sh\", deps = [\":p\"], run = \"echo $SRC > $OUT\", out = \"use\")\n"
        )
    };
    let bench = Bench::new(&[("BUILD", &producer("out = [\"a.txt\", \"b.txt\"]"))]);
    let first = bench.run_start(&with_outputs(&bench, "//:use"));
    assert_eq!(first.outputs["use"], b"a.txt b.txt\n");
    bench.write(
        "BUILD",
        &producer("out = [\"a.txt\"], support_files = [\"b.txt\"]"),
    );
    let second = bench.run_start(&with_outputs(&bench, "//:use"));
    assert_eq!(second.outputs["use"], b"a.txt\n", "{second:?}");
}

/// What a tool hands over is only seen as a runtime dependency when the tool is one too.
#[test]
fn what_a_tool_hands_over_is_in_the_key_also_when_it_is_a_runtime_dependency_too() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"y\", driver = \"sh\", deps = [file(\"y.txt\")], run = \"cp $SRC $OUT\", out = \"y\")\n\
             target(name = \"x\", driver = \"textfile\", text = \"#!/bin/sh\", out = \"x\", executable = True, transitive = {\"deps\": [\":y\"]})\n\
             target(name = \"use\", driver = \"sh\", runtime_deps = [\":x\"], tools = [\":x\"], run = \"cat y > $OUT\", out = \"use\")\n",
        ),
        ("y.txt", "1\n"),
    ]);
    let run = || bench.run_start(&with_outputs(&bench, "//:use"));
    let first = run();
    assert_eq!(
        first.outputs.get("use").map(Vec::as_slice),
        Some(b"1\n".as_slice()),
        "{first:?}"
    );
    bench.write("y.txt", "2\n");
    assert_eq!(run().outputs["use"], b"2\n");
}

/// An input that reaches the target through a group is not looked at anew.
#[test]
fn an_input_of_a_group_that_changes_while_it_is_read_is_read_anew() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"g\", driver = \"group\", deps = [file(\"in.txt\")])\n\
             target(name = \"use\", driver = \"sh\", deps = [\":g\"], run = \"cat $SRC > $OUT\", out = \"use\")\n",
        ),
        ("in.txt", "1\n"),
    ]);
    let engine = bench.engine();
    let changed = RefCell::new(false);
    let ran = bench.run_with(&engine, &with_outputs(&bench, "//:use"), &|plan| {
        if !changed.replace(true) {
            bench.write("in.txt", "changed meanwhile\n");
        }
        let input = &plan.inputs[0];
        match heph_common::Digest::of(&bytes_of(input)).as_bytes() == &*input.digest {
            false => stale(input),
            true => bench.execute(plan),
        }
    });
    assert_eq!(ran.finished.exit_code, 0, "{ran:?}");
    assert_eq!(ran.outputs["use"], b"changed meanwhile\n");
}

/// A file of a glob that is deleted while the run goes on.
#[test]
fn a_file_of_a_glob_that_goes_while_it_is_read_is_left_out() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"use\", driver = \"sh\", deps = [glob(\"*.txt\")], run = \"cat $SRC > $OUT\", out = \"use\")\n",
        ),
        ("a.txt", "a\n"),
        ("b.txt", "b\n"),
    ]);
    let engine = bench.engine();
    let gone = Cell::new(false);
    let ran = bench.run_with(&engine, &with_outputs(&bench, "//:use"), &|plan| {
        if !gone.replace(true) {
            std::fs::remove_file(bench.root().join("b.txt")).unwrap();
            return stale(&plan.inputs[1]);
        }
        bench.execute(plan)
    });
    assert_eq!(ran.finished.exit_code, 0, "{:?}", ran.failures);
}

/// `input a b` is the file `a b`, and the file `b` of the group `a`.
#[test]
fn a_group_and_a_name_with_a_space_do_not_run_into_each_other() {
    let build = |deps: &str| {
        format!(
            "target(name = \"t\", driver = \"sh\", deps = {deps}, run = \"echo ${{SRC:-none}} ${{SRC_A-none}} > $OUT\", out = \"t\")\n"
        )
    };
    let bench = Bench::new(&[("BUILD", &build("[file(\"a b\")]")), ("a b", "x"), ("b", "x")]);
    let first = bench.run_start(&with_outputs(&bench, "//:t"));
    assert_eq!(first.outputs["t"], b"a b none\n");
    bench.write("BUILD", &build("{\"a\": [file(\"b\")]}"));
    let second = bench.run_start(&with_outputs(&bench, "//:t"));
    assert_eq!(second.outputs["t"], b"none b\n");
}

/// Runs again what is up to date: `--shell` concerns the selected target alone.
#[test]
fn a_shell_leaves_dependencies_alone() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"d\", driver = \"sh\", run = \"echo d > $OUT\", out = \"d\")\n\
         target(name = \"t\", driver = \"sh\", deps = [\":d\"], run = \"cp $SRC $OUT\", out = \"t\")\n",
    )]);
    bench.run("//:t");
    let ran = bench.run_start(&Start {
        shell: true,
        ..bench.start("//:t")
    });
    assert_eq!(ran.executed, ["//:t"]);
}

/// In the sandbox though it is for the key only.
#[test]
fn a_program_in_hash_deps_is_not_on_the_path() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"t\", driver = \"sh\", hash_deps = [\"//@heph/bin:perl\"], run = \"echo > $OUT\", out = \"t\")\n",
    )]);
    let engine = bench.engine();
    let tools = Cell::new(0);
    bench.run_with(&engine, &bench.start("//:t"), &|plan| {
        tools.set(plan.tools.len());
        bench.execute(plan)
    });
    assert_eq!(tools.get(), 0);
}

/// A client that goes away keeps its slots for ever.
#[test]
fn a_client_that_goes_away_gives_its_slots_back() {
    let bench = Arc::new(Bench::new(&[(
        "BUILD",
        "target(name = \"a\", driver = \"sh\", run = \"echo a > $OUT\", out = \"a\", slots = 2)\n",
    )]));
    let engine = Arc::new(bench.engine());
    let (own, inbox) = crossbeam_channel::unbounded();
    let answers = own.clone();
    engine.run(&bench.start("//:a"), own, &inbox, &move |event| {
        if let Some(run_event::Event::Execute(_)) = event.event {
            answers.send(Message::Closed).unwrap();
        }
    });
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(bench.run_in(&engine, &bench.start("//:a")).finished.exit_code));
    assert_eq!(ended.recv_timeout(Duration::from_secs(5)), Ok(0));
}

/// Starts commands after Ctrl-C: a report of a changed input is answered by another plan.
#[test]
fn nothing_is_started_after_a_cancellation() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"a\", driver = \"sh\", deps = [file(\"in.txt\")], run = \"cat $SRC > $OUT\", out = \"a\")\n",
        ),
        ("in.txt", "1"),
    ]);
    let engine = bench.engine();
    let (own, inbox) = crossbeam_channel::unbounded();
    let answers = own.clone();
    let started = Cell::new(0);
    let say = |request| {
        answers
            .send(Message::Request(RunRequest {
                request: Some(request),
            }))
            .unwrap()
    };
    engine.run(&bench.start("//:a"), own, &inbox, &|event| {
        if let Some(run_event::Event::Execute(asked)) = event.event {
            started.set(started.get() + 1);
            let plan = asked.plan.unwrap();
            let report = match started.get() {
                1 => {
                    say(run_request::Request::Cancel(Default::default()));
                    stale(&plan.inputs[0])
                }
                _ => bench.execute(&plan),
            };
            say(run_request::Request::Executed(Executed {
                id: asked.id,
                report: Some(report),
            }));
        }
    });
    assert_eq!(started.get(), 1);
}

/// A sandbox mode that was given by an earlier result does not hide a strict demand.
#[test]
fn a_strict_demand_is_not_served_by_a_standard_result() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"t\", driver = \"sh\", run = \"echo t > $OUT\", out = \"t\")\n",
    )]);
    bench.run("//:t");
    let ran = bench.run_start(&Start {
        sandbox: heph_proto::SandboxMode::Strict.into(),
        ..bench.start("//:t")
    });
    assert_eq!(ran.outcomes["//:t"], TargetOutcome::Executed);
}

/// A producer's blob that is gone, of a nondeterministic producer with a diamond above it.
#[test]
fn a_diamond_is_renewed_once_and_consistently() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"p\", driver = \"sh\", run = \"head -c 100000 /dev/urandom > $OUT\", out = \"p\")\n\
             target(name = \"l\", driver = \"sh\", deps = [\":p\"], run = \"cat $SRC > $OUT\", out = \"l\")\n\
             target(name = \"r\", driver = \"sh\", deps = [\":p\", file(\"in.txt\")], run = \"cat p > $OUT\", out = \"r\")\n\
             target(name = \"c\", driver = \"sh\", deps = [\":l\", \":r\"], run = \"cmp l r && echo same > $OUT\", out = \"c\")\n",
        ),
        ("in.txt", "a"),
    ]);
    assert_eq!(bench.run("//...").finished.exit_code, 0);
    let blobs = bench.home().join("cache/blobs");
    for file in support::files_below(&blobs) {
        std::fs::remove_file(blobs.join(file)).unwrap();
    }
    bench.write("in.txt", "b");
    let ran = bench.run("//...");
    assert_eq!(ran.finished.exit_code, 0, "{ran:?}");
    let again = bench.run("//...");
    assert!(again.executed.is_empty(), "{again:?}");
}
