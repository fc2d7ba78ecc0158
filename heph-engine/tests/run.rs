//! Runs of an engine with a real store, and a client that runs plans in the simplest way.

mod support;

use std::cell::RefCell;

use heph_proto::TargetOutcome;
use support::{Bench, bytes_of, stale};

const CHAIN: &[(&str, &str)] = &[
    (
        "BUILD",
        "target(name = \"upper\", driver = \"sh\", deps = [file(\"in.txt\")], run = \"grep -v '^#' $SRC | tr a-z A-Z > $OUT\", out = \"upper.txt\")\n\
         target(name = \"twice\", driver = \"sh\", deps = [\":upper\"], run = \"cat $SRC $SRC > $OUT\", out = \"twice.txt\")\n\
         target(name = \"other\", driver = \"sh\", deps = [file(\"other.txt\")], run = \"cp $SRC $OUT\", out = \"copy.txt\")\n\
         target(name = \"all\", driver = \"group\", deps = [\":twice\", \":other\"])\n",
    ),
    ("in.txt", "# note\nabc\n"),
    ("other.txt", "other\n"),
];

#[test]
fn only_what_changed_runs_again() {
    let bench = Bench::new(CHAIN);
    let first = bench.run("//...");
    assert_eq!(first.executed, ["//:other", "//:twice", "//:upper"], "{first:?}");
    assert_eq!(first.finished.exit_code, 0);
    let second = bench.run("//...");
    assert!(second.executed.is_empty());
    assert_eq!(second.finished.summary.unwrap().up_to_date, 3);
    bench.write("in.txt", "# note\nabcd\n");
    assert_eq!(bench.run("//...").executed, ["//:twice", "//:upper"]);
    bench.write("in.txt", "# another note\nabcd\n");
    assert_eq!(
        bench.run("//...").executed,
        ["//:upper"],
        "equal outputs stop the rebuild"
    );
    bench.write("in.txt", "# note\nabc\n");
    let back = bench.run("//...");
    assert!(back.executed.is_empty(), "what was built before is in the store");
    assert_eq!(back.outcomes["//:upper"], TargetOutcome::Local);
}

#[test]
fn outputs_are_those_of_the_command() {
    let bench = Bench::new(CHAIN);
    let start = heph_proto::Start {
        want_outputs: true,
        ..bench.start("//:all")
    };
    for _ in 0..2 {
        let ran = bench.run_start(&start);
        assert_eq!(ran.outputs["twice.txt"], b"ABC\nABC\n");
        assert_eq!(ran.outputs["copy.txt"], b"other\n");
    }
}

#[test]
fn a_failure_stops_its_dependants_and_nothing_else() {
    let bench = Bench::new(CHAIN);
    bench.write(
        "BUILD",
        &CHAIN[0]
            .1
            .replace("grep -v '^#' $SRC | tr a-z A-Z > $OUT", "echo broken >&2; exit 3"),
    );
    let ran = bench.run("//...");
    assert_eq!(ran.finished.exit_code, 1);
    assert_eq!(ran.failures["//:upper"].exit_code, Some(3));
    assert_eq!(ran.outcomes["//:twice"], TargetOutcome::Skipped);
    assert_eq!(bench.run("//:other").finished.exit_code, 0);
}

#[test]
fn content_that_is_gone_makes_its_producer_run_again() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"big\", driver = \"sh\", run = \"head -c 200000 /dev/zero > $OUT\", out = \"big.bin\")\n\
             target(name = \"size\", driver = \"sh\", deps = [\":big\", file(\"in.txt\")], run = \"cat $SRC | wc -c > $OUT\", out = \"size.txt\")\n",
        ),
        ("in.txt", "a"),
    ]);
    assert_eq!(bench.run("//...").executed, ["//:big", "//:size"]);
    let blobs = bench.home().join("cache/blobs");
    for file in support::files_below(&blobs) {
        std::fs::remove_file(blobs.join(file)).unwrap();
    }
    assert!(bench.run("//...").executed.is_empty(), "nobody needs the content");
    bench.write("in.txt", "ab");
    let ran = bench.run("//...");
    assert_eq!(ran.executed, ["//:big", "//:size"]);
    assert_eq!(ran.finished.exit_code, 0);
}

#[test]
fn an_input_that_changes_while_it_is_read_is_read_anew() {
    let bench = Bench::new(CHAIN);
    let engine = bench.engine();
    let changed = RefCell::new(false);
    let start = heph_proto::Start {
        want_outputs: true,
        ..bench.start("//:other")
    };
    let ran = bench.run_with(&engine, &start, &|plan| {
        if !changed.replace(true) {
            bench.write("other.txt", "changed meanwhile\n");
        }
        let input = &plan.inputs[0];
        match heph_common::Digest::of(&bytes_of(input)).as_bytes() == &*input.digest {
            false => stale(input),
            true => bench.execute(plan),
        }
    });
    assert_eq!(ran.finished.exit_code, 0);
    assert_eq!(ran.outputs["copy.txt"], b"changed meanwhile\n");
}

#[test]
fn a_dry_run_says_why() {
    let bench = Bench::new(CHAIN);
    let dry = heph_proto::Start {
        dry_run: true,
        ..bench.start("//...")
    };
    let ran = bench.run_start(&dry);
    assert!(ran.executed.is_empty());
    assert_eq!(ran.would_run["//:upper"], "it was never built here");
    assert_eq!(ran.would_run["//:twice"], "a target that it needs would run");
    bench.run("//...");
    assert!(bench.run_start(&dry).would_run.is_empty());
    bench.write("in.txt", "x");
    assert_eq!(
        bench.run_start(&dry).would_run["//:upper"],
        "changed: input in.txt"
    );
}

#[test]
fn passed_variables_are_in_the_key_and_runtime_ones_are_not() {
    let mut bench = Bench::new(&[(
        "BUILD",
        "target(name = \"x\", driver = \"sh\", run = \"echo $A ${B-} > $OUT\", out = \"x\", pass_env = [\"A\"], runtime_pass_env = [\"B\"])\n",
    )]);
    let mut set = |name: &str, value: &str| {
        bench.environment.insert(name.to_owned(), value.to_owned());
        !bench.run("//...").executed.is_empty()
    };
    assert!(set("A", "1"));
    assert!(!set("B", "1"));
    assert!(!set("C", "1"));
    assert!(set("A", "2"));
    assert!(!set("A", "1"));
}

#[test]
fn an_uncached_target_runs_every_time_and_feeds_its_dependants() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"now\", driver = \"sh\", run = \"echo same > $OUT\", out = \"now\", cache = False)\n\
         target(name = \"use\", driver = \"sh\", deps = [\":now\"], run = \"cp $SRC $OUT\", out = \"use\")\n",
    )]);
    assert_eq!(bench.run("//...").executed, ["//:now", "//:use"]);
    assert_eq!(bench.run("//...").executed, ["//:now"]);
}

#[test]
fn retries_try_again() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"x\", driver = \"sh\", run = \"exit 1\", out = \"x\", retries = 2)\n",
    )]);
    let ran = bench.run("//...");
    assert_eq!(ran.executed.len(), 3);
    assert_eq!(ran.finished.exit_code, 1);
}

#[test]
fn generated_files_go_to_the_tree_and_a_formatter_runs_once() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"gen\", driver = \"sh\", run = \"echo gen > $OUT\", out = \"gen.txt\", codegen = \"copy\")\n\
             target(name = \"fmt\", driver = \"sh\", deps = {\"src\": [\"//@heph/introspect:outputs\"]}, run = \"tr a-z A-Z < $SRC_SRC > t && mv t $OUT\", out = \"f.txt\", codegen = \"in_place\")\n",
        ),
        ("f.txt", "abc\n"),
    ]);
    let ran = bench.run("//...");
    assert_eq!(ran.executed, ["//:fmt", "//:gen"], "{ran:?}");
    assert_eq!(std::fs::read(bench.root().join("f.txt")).unwrap(), b"ABC\n");
    assert_eq!(std::fs::read(bench.root().join("gen.txt")).unwrap(), b"gen\n");
    let ran = bench.run("//...");
    assert!(ran.executed.is_empty() && ran.written.is_empty(), "{ran:?}");
    std::fs::remove_file(bench.root().join("gen.txt")).unwrap();
    assert_eq!(bench.run("//...").written, ["gen.txt"]);
}

#[test]
fn two_engines_share_one_home() {
    let bench = Bench::new(CHAIN);
    let (one, two) = (bench.engine(), bench.engine());
    let start = bench.start("//...");
    let ran = std::thread::scope(|scope| {
        let runs = [&one, &two].map(|engine| scope.spawn(|| bench.run_in(engine, &start)));
        runs.map(|run| run.join().unwrap())
    });
    let executed: usize = ran.iter().map(|ran| ran.executed.len()).sum();
    assert!(ran.iter().all(|ran| ran.finished.exit_code == 0));
    assert_eq!(executed, 3, "equal work is done once: {ran:?}");
}

#[test]
fn a_missing_source_fails_the_targets_that_name_it() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"x\", driver = \"sh\", run = \"true\", deps = [file(\"none.txt\")])\n\
         target(name = \"g\", driver = \"group\", deps = [file(\"none.txt\")])\n\
         target(name = \"y\", driver = \"sh\", run = \"true\", deps = [\":g\"])\n\
         target(name = \"z\", driver = \"sh\", run = \"true\", deps = [\":y\"])\n",
    )]);
    let ran = bench.run("//...");
    assert_eq!(ran.finished.exit_code, 1);
    let failed: std::collections::BTreeMap<_, _> = ran
        .failures
        .iter()
        .map(|(address, failed)| (address.as_str(), failed.message.as_str()))
        .collect();
    let expected = [
        ("//:x", "BUILD:1:1: no such file: none.txt"),
        ("//:y", "BUILD:3:1: no such file: none.txt"),
    ];
    assert_eq!(failed, expected.into());
    assert_eq!(ran.outcomes["//:z"], TargetOutcome::Skipped);
}

#[test]
fn a_target_without_dependencies_has_empty_variables() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"x\", driver = \"sh\", run = \"echo \\\"<$SRC><$SRC_G>\\\" > $OUT; cat $LIST_SRC $LIST_SRC_G >> $OUT\", deps = {\"g\": glob(\"*.none\")}, out = \"x\")\n",
    )]);
    let start = heph_proto::Start {
        want_outputs: true,
        ..bench.start("//:x")
    };
    let ran = bench.run_start(&start);
    assert_eq!(ran.outputs["x"].trim_ascii(), b"<><>", "{ran:?}");
}

#[test]
fn what_was_started_under_a_lost_coordinator_is_not_run_twice_unless_its_result_is_stored() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"stored\", driver = \"sh\", run = \"echo > $OUT\", out = \"stored\")\n\
         target(name = \"uncached\", driver = \"sh\", cache = False, run = \"echo > $OUT\", out = \"uncached\")\n\
         target(name = \"other\", driver = \"sh\", cache = False, run = \"echo > $OUT\", out = \"other\")\n",
    )]);
    let start = heph_proto::Start {
        interrupted: vec!["//:stored".to_owned(), "//:uncached".to_owned()],
        ..bench.start("//...")
    };
    let ran = bench.run_start(&start);
    assert_eq!(ran.executed, ["//:other", "//:stored"]);
    let failed = &ran.failures["//:uncached"];
    assert_eq!(failed.kind(), heph_proto::FailureKind::Interrupted);
    assert_eq!(ran.finished.exit_code, 1);
}
