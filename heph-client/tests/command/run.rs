//! `heph run` on small workspaces, as a terminal, a script and a program see it.

use std::io::Read as _;
use std::process::Stdio;

use crate::surroundings::{Surroundings, names};

const BUILD: &str = r#"
target(name = "one", driver = "bash", run = "echo one > $OUT", out = "one.txt")
target(name = "two", driver = "bash", labels = ["test"], deps = [":one"], run = "cat $SRC > $OUT_TEXT", out = {"text": "two.txt"})
target(name = "bad", driver = "bash", run = ["echo trying", "exit 3"])
target(name = "after", driver = "bash", deps = [":bad"], run = "true")
"#;

fn workspace() -> Surroundings {
    let here = Surroundings::with_config(
        "plugins: [{builtin: buildfile}, {builtin: bash}]\nsandbox: {mode: 'off'}\n",
    );
    here.write("BUILD", BUILD);
    here
}

/// The text with durations and sandbox names masked.
fn masked(text: &str) -> String {
    let words = text.split_inclusive([' ', '\n', ',']).map(|word| {
        let bare = word.trim_end_matches([' ', '\n', ',', ':']);
        let digits = bare.trim_end_matches(['m', 's', 'u']);
        let is_duration = digits.len() < bare.len() && digits.parse::<f64>().is_ok();
        match is_duration {
            true => word.replace(bare, "[TIME]"),
            false => word.to_owned(),
        }
    });
    let text: String = words.collect();
    let sandbox = |line: &str| match line.split_once("/.heph/sandbox/") {
        Some((head, tail)) => format!("{head}/.heph/sandbox/[ID]{}", tail.get(16..).unwrap_or_default()),
        None => line.to_owned(),
    };
    text.lines().map(sandbox).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_init_writes_runs() {
    let here = Surroundings::new();
    here.heph(&["init"]);
    insta::assert_snapshot!(masked(&here.heph(&["run", "--sandbox", "off", "//..."])), @"
    exit 0
    --- err
    [1/2] //:hello [TIME]
    [2/2] //:shout [TIME]
    2 targets in [TIME]: 2 executed
    ");
    let again = here.heph(&["run", ":shout", "--cat-out", "-q", "--sandbox", "off"]);
    insta::assert_snapshot!(again, @"
    exit 0
    --- out
    HELLO FROM HEPH
    ");
}

#[test]
fn a_run_tells_what_ran_and_what_failed() {
    let here = workspace();
    insta::assert_snapshot!(masked(&here.heph(&["run", "-j", "1", "//..."])), @"
    exit 1
    --- err
    [1/4] //:bad FAILED: exit code 3
    [3/4] //:one [TIME]
    [4/4] //:two [TIME]

    error: //:bad failed: exit code 3
      command: echo trying
               exit 3
      | trying
      log: [TOP]/user/.heph/sandbox/[ID]/log
      sandbox: [TOP]/user/.heph/sandbox/[ID]

    1 of 4 targets failed in [TIME]: 2 executed, 1 skipped
    ");
    insta::assert_snapshot!(masked(&here.heph(&["run", ":two"])), @"
    exit 0
    --- err
    2 targets up to date in [TIME]
    ");
    insta::assert_snapshot!(masked(&here.heph(&["run", ":bad", "-q", "--log-lines", "0"])), @"
    exit 1
    --- err
    error: //:bad failed: exit code 3
      command: echo trying
               exit 3
      log: [TOP]/user/.heph/sandbox/[ID]/log
      sandbox: [TOP]/user/.heph/sandbox/[ID]
    ");
}

#[test]
fn a_dry_run_says_what_would_run_and_why() {
    let here = workspace();
    insta::assert_snapshot!(here.heph(&["run", "-n", ":two"]), @"
    exit 0
    --- err
    //:one  it was never built here
    //:two  a target that it needs would run
    2 of 2 targets would run
    ");
    assert!(
        !here
            .top()
            .join("user/.heph/sandbox")
            .read_dir()
            .unwrap()
            .any(|_| true)
    );
}

#[test]
fn events_are_json_lines_and_targets_are_told_once_each() {
    let here = workspace();
    let output = here.command(&["run", "--json", "//..."]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let events: Vec<serde_json::Value> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(events.first().unwrap()["event"], "start");
    let last = events.last().unwrap();
    assert_eq!(
        (&last["event"], &last["exit_code"]),
        (&"finished".into(), &1.into())
    );
    let mut outcomes: Vec<(&str, &str)> = events
        .iter()
        .filter(|event| event["event"] == "target")
        .map(|event| {
            (
                event["address"].as_str().unwrap(),
                event["outcome"].as_str().unwrap(),
            )
        })
        .collect();
    outcomes.sort_unstable();
    assert_eq!(
        outcomes,
        [
            ("//:after", "skipped"),
            ("//:bad", "failed"),
            ("//:one", "executed"),
            ("//:two", "executed")
        ]
    );
    // Nothing changed: there are as many events of targets.
    let again = here.heph(&["run", "--json", ":two"]);
    assert_eq!(again.matches(r#""outcome":"up-to-date""#).count(), 2, "{again}");
}

#[test]
fn outputs_are_listed_copied_and_chosen_by_group() {
    let here = workspace();
    insta::assert_snapshot!(here.heph(&["run", "-q", ":one", ":two", "--list-out"]), @"
    exit 0
    --- out
    one.txt
    two.txt
    ");
    insta::assert_snapshot!(here.heph(&["run", "-q", "//:two", "--output", "text", "--copy-out", "to"]), @"exit 0");
    assert_eq!(here.read("to/two.txt"), "one\n");
    assert_eq!(names(&here.work().join("to")), ["two.txt"]);
    insta::assert_snapshot!(here.heph(&["run", "-q", ":two", "--output", "nope", "--list-out"]), @"
    exit 1
    --- err
    error: no target of :two has outputs in the group 'nope'
    hint: heph inspect outputs :two lists them
    ");
}

#[test]
fn reports_and_profiles_are_written_also_when_a_target_fails() {
    let here = workspace();
    here.heph(&[
        "run",
        "//...",
        "--report",
        "report.xml",
        "--profile",
        "profile.json",
    ]);
    let report = here.read("report.xml");
    assert!(
        report.contains(r#"tests="4" failures="1" errors="0" skipped="1""#),
        "{report}"
    );
    let profile: serde_json::Value = serde_json::from_str(&here.read("profile.json")).unwrap();
    let path = profile["otherData"]["critical_path"].as_array().unwrap();
    // Which of them took longer varies.
    assert!(path == &["//:one", "//:two"] || path == &["//:bad"], "{path:?}");
    let events = profile["traceEvents"].as_array().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["name"] == "//:bad" && event["ph"] == "X")
    );
}

#[test]
fn words_that_match_nothing_name_the_nearest() {
    let here = workspace();
    let said: String = [":onee", "tets", "one", "//..."]
        .map(|word| here.heph(&["run", "-n", "-q", word]))
        .concat();
    insta::assert_snapshot!(said, @"
    exit 1
    --- err
    error: no targets matched :onee
    hint: did you mean //:one?
    exit 1
    --- err
    error: no targets matched tets
    hint: did you mean test?
    exit 1
    --- err
    error: no targets matched one
    hint: did you mean //:one?
    exit 0
    --- err
    //:bad  it was never built here
    //:after  a target that it needs would run
    //:one  it was never built here
    //:two  a target that it needs would run
    ");
}

#[test]
fn a_bare_run_lists_the_package_and_what_is_not_used_is_said() {
    let here = Surroundings::with_config(
        "plugins: [{builtin: buildfile}, {builtin: bash}]\nfuse: {enabled: auto}\n",
    );
    here.write("BUILD", BUILD);
    insta::assert_snapshot!(here.heph(&["run"]), @"
    exit 0
    --- out
    //:after
    //:bad
    //:one
    //:two
    --- err
    targets of //:
    ");
    insta::assert_snapshot!(masked(&here.heph(&["run", ":one", "--sandbox", "off"])), @"
    exit 0
    --- err
    note: fuse.enabled has no effect in this release: inputs are staged as files
    [1/1] //:one [TIME]
    1 target in [TIME]: 1 executed
    ");
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let here = workspace();
    let mut child = here
        .command(&["query", "//..."])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn addresses_are_completed() {
    let here = workspace();
    here.write(
        "lib/BUILD",
        "target(name = \"lib\", driver = \"bash\", run = \"true\")\n",
    );
    let complete = |word: &str| here.heph(&["__complete", "2", "--", "heph", "run", word]);
    insta::assert_snapshot!([complete("//"), complete(":t"), complete("./lib:")].concat(), @"
    exit 0
    --- out
    //:
    //lib:
    exit 0
    --- out
    :two
    exit 0
    --- out
    ./lib:lib
    ");
}
