//! What a run tells of itself: on a terminal, in plain lines, as events, in files and logs.

use heph_tests::Environment;

use crate::running::output_targets;

#[test]
fn plain_output_has_no_control_sequences_and_terminals_get_a_live_region() {
    let env = output_targets();
    let plain = env.heph(["run", "//p:t"]).run();
    plain.success().never_says("\x1b");
    insta::assert_snapshot!(plain.report(), @r#"
        exit 0
        --- stderr
        [1/1] //p:t <time>
        1 target in <time>: 1 executed
    "#);
    let again = env.heph(["run", "//p:t"]).run();
    insta::assert_snapshot!(again.report(), @r#"
        exit 0
        --- stderr
        1 target up to date in <time>
    "#);
    env.write("q/BUILD", "target(name='slow', driver='sh', run='sleep 0.5')\n");
    let (code, shown) = env.terminal(["run", "//q:slow"]).wait();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\x1b[") && shown.contains("//q:slow"), "{shown:?}");
    let (code, shown) = env.terminal(["run", "--no-tui", "--force", "//q:slow"]).wait();
    assert_eq!(code, 0, "{shown}");
    assert!(
        !shown.contains("\x1b[?25l") && !shown.contains("\x1b[1A") && !shown.contains("\x1b[2K"),
        "{shown:?}"
    );
}

#[test]
fn quiet_shows_only_failures() {
    let env = output_targets();
    let quiet = env.heph(["run", "-q", "//p:t"]).run();
    quiet.success();
    assert_eq!(quiet.report(), "exit 0\n");
    env.write(
        "q/BUILD",
        "target(name='bad', driver='sh', run='echo broken; false')\n",
    );
    env.heph(["run", "-q", "//q:bad"])
        .run()
        .exits(1)
        .says("//q:bad")
        .says("broken");
}

#[test]
fn events_are_one_json_object_a_line() {
    let env = output_targets();
    let build = env.heph(["run", "--json", "--list-out", "//p:t"]).build();
    build.run.success();
    assert_eq!(build.events[0]["event"], "start");
    assert_eq!(build.events[0]["version"], 1);
    let kinds: Vec<_> = build
        .events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.last(), Some(&"finished"));
    assert_eq!(build.of_kind("output").len(), 2);
    let finished = build.of_kind("finished")[0];
    assert_eq!(
        (&finished["exit_code"], &finished["summary"]["executed"]),
        (&0.into(), &1.into())
    );
    let target = build.target("//p:t");
    assert_eq!(target["key"].as_str().unwrap().len(), 64);
    let again = env.build("//p:t");
    assert_eq!(again.target("//p:t")["key"], target["key"]);
}

#[test]
fn a_command_that_fails_says_how_long_it_took() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='bad', driver='sh', run='sleep 0.2; false')\n\
         target(name='late', driver='sh', timeout='200ms', run='sleep 100')\n",
    );
    let build = env.try_build("//...");
    for address in ["//:bad", "//:late"] {
        let took = build.target(address)["wall_us"].as_u64().unwrap();
        assert!((150_000..60_000_000).contains(&took), "{address}: {took} us");
    }
}

#[test]
fn reports_are_json_or_junit_also_of_failures() {
    let env = output_targets();
    env.write(
        "p/BUILD",
        format!(
            "{}target(name='bad', driver='sh', labels='test', run='echo broken; false')\n",
            env.read("p/BUILD")
        ),
    );
    for file in ["r.json", "r.xml"] {
        env.heph(["run", "--report", file, "//p/..."]).run().exits(1);
    }
    let report: serde_json::Value = serde_json::from_str(&env.read("r.json")).unwrap();
    assert_eq!(report["version"], 1);
    assert_eq!(report["exit_code"], 1);
    let targets: Vec<_> = report["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| of["address"].as_str().unwrap())
        .collect();
    assert_eq!(targets, ["//p:bad", "//p:t"]);
    assert_eq!(report["targets"][0]["failure"]["exit_code"], 1);
    let junit = env.read("r.xml");
    assert!(
        junit.starts_with("<?xml") && junit.contains("<failure") && junit.contains("broken"),
        "{junit}"
    );
    assert!(
        junit.contains("tests=\"2\"") && junit.contains("failures=\"1\""),
        "{junit}"
    );
}

#[test]
fn profile_writes_a_chrome_trace() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='first', driver='sh', run='sleep 0.2; echo > $OUT', out='first')\n\
         target(name='second', driver='sh', deps=':first', run='sleep 0.2; echo > $OUT', out='second')\n\
         target(name='beside', driver='sh', run='sleep 0.1; echo > $OUT', out='beside')\n",
    );
    let profile = || {
        env.heph(["run", "-j4", "--profile", "trace.json", "//..."])
            .run()
            .success();
        let trace: serde_json::Value = serde_json::from_str(&env.read("trace.json")).unwrap();
        trace
    };
    let trace = profile();
    let slices = |of: &str| -> Vec<(u64, u64)> {
        let events = trace["traceEvents"].as_array().unwrap().iter();
        let slices = events.filter(|event| event["ph"] == "X" && event["name"] == of);
        slices
            .map(|slice| (slice["ts"].as_u64().unwrap(), slice["dur"].as_u64().unwrap()))
            .collect()
    };
    let of = |address: &str| *slices(address).first().expect("it is in the trace");
    let (first, second, beside) = (of("//:first"), of("//:second"), of("//:beside"));
    assert!(
        first.1 >= 200_000 && second.1 >= 200_000,
        "in microseconds: {trace}"
    );
    assert!(first.0 + first.1 <= second.0, "one after the other: {trace}");
    assert!(beside.0 < first.0 + first.1, "at the same time: {trace}");
    let path = &trace["otherData"]["critical_path"];
    assert_eq!(path, &serde_json::json!(["//:first", "//:second"]));
    assert!(trace["otherData"]["critical_path_us"].as_u64().unwrap() >= 400_000);
    assert_eq!(
        slices("//:first").len(),
        2,
        "once more, on the critical path: {trace}"
    );
    assert_eq!(profile()["otherData"]["critical_path"], serde_json::json!([]));
}

#[test]
fn dry_run_says_what_would_run_and_why_and_runs_nothing() {
    let env = Environment::new();
    env.write("a.txt", "a");
    env.write(
        "BUILD",
        "target(name='t', driver='sh', deps=file('a.txt'), run='cat $SRC > $OUT', out='out')\n",
    );
    env.heph(["run", "--dry-run", "//:t"])
        .run()
        .success()
        .says("//:t");
    assert_eq!(env.build("//:t").executed(), ["//:t"]);
    let build = env.heph(["run", "--json", "--dry-run", "//:t"]).build();
    assert!(build.of_kind("would-run").is_empty(), "{}", build.run);
    env.write("a.txt", "b");
    env.heph(["run", "--dry-run", "//:t"])
        .run()
        .success()
        .says("//:t")
        .says("a.txt");
    assert_eq!(env.build("//:t").executed(), ["//:t"]);
    env.heph(["run", "--dry-run", "--force", "//:t"])
        .run()
        .success()
        .says("//:t  forced");
    env.write(
        "BUILD",
        "target(name='t', driver='sh', cache=False, run='true')\n",
    );
    env.build("//:t");
    env.heph(["run", "--dry-run", "//:t"])
        .run()
        .success()
        .says("//:t  its results are not kept");
}

#[test]
fn verbose_and_heph_log_raise_the_log_level() {
    let env = output_targets();
    // A daemon has a log of its own.
    let alone = |arguments: &[&str]| env.heph(arguments).with("HEPH_DAEMON", "off");
    let forced = || alone(&["run", "--force", "//p:t"]);
    forced().run().success().never_says("DEBUG").never_says(" INFO ");
    forced()
        .with("HEPH_LOG", "debug")
        .run()
        .success()
        .says("DEBUG heph_engine");
    let filtered = forced().with("HEPH_LOG", "heph_engine::run=debug").run();
    filtered
        .success()
        .says("DEBUG heph_engine::run")
        .never_says("DEBUG heph_cache");
    let twice = alone(&["-vv", "run", "--force", "//p:t"]).run();
    twice.success().says("DEBUG heph_engine");
    let once = alone(&["-v", "run", "--force", "//p:t"]).run();
    once.success().never_says("DEBUG");
    forced()
        .with("HEPH_LOG", "heph_engine=loud")
        .run()
        .exits(2)
        .says("HEPH_LOG");
}
