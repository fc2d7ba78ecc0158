//! What is typed wrongly.

use crate::surroundings::Surroundings;

#[test]
fn unknown_words_name_the_nearest() {
    let here = Surroundings::new();
    insta::assert_snapshot!(here.heph(&["qurey", "//..."]), @"
    exit 2
    --- err
    error: unrecognized subcommand 'qurey'

      tip: some similar subcommands exist: 'q', 'query'

    Usage: heph [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(here.heph(&["run", "--fial-fast", "//..."]), @"
    exit 2
    --- err
    error: unexpected argument '--fial-fast' found

      tip: a similar argument exists: '--fail-fast'

    Usage: heph run --fail-fast [SELECTOR]...

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(here.heph(&["inspect", "dpes"]), @"
    exit 2
    --- err
    error: unrecognized subcommand 'dpes'

      tip: some similar subcommands exist: 'def', 'deps'

    Usage: heph inspect [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
}

#[test]
fn wrong_values_are_refused() {
    let here = Surroundings::with_config("");
    insta::assert_snapshot!(here.heph(&["run", "-j", "0", "//..."]), @"
    exit 2
    --- err
    error: invalid value '0' for '--jobs <N>': 0 is not in 1..=4294967295

    For more information, try '--help'.
    ");
    insta::assert_snapshot!(here.heph(&["run", "--report", "report.txt", "//..."]), @"
    exit 2
    --- err
    error: failed to choose the form of the report 'report.txt': its name ends in neither .json nor .xml
    hint: report.json is JSON, report.xml is JUnit
    ");
    insta::assert_snapshot!(here.heph(&["run", "cmd/server:bin"]), @"
    exit 2
    --- err
    error: 'cmd/server:bin' is not a pattern, at column 1: expected '//', ':', './' or '../', found 'c'
    hint: write './cmd/server:bin' or '//cmd/server:bin'
    ");
    insta::assert_snapshot!(here.heph(&["run", "-e", "//... && labl(x)"]), @"
    exit 2
    --- err
    error: '//... && labl(x)' is not a query, at column 10: there is no function 'labl'
    hint: did you mean 'label'?
    ");
    insta::assert_snapshot!(here.heph(&["run", "--shell", "//..."]), @"
    exit 2
    --- err
    error: '//...' is not one target
    hint: heph run --shell //pkg:name opens a shell in the sandbox of one target
    ");
    insta::assert_snapshot!(here.heph(&["tool", "cache", "inspect", "abc"]), @"
    exit 2
    --- err
    error: 'abc' is not a key: expected 64 hex digits
    hint: heph inspect hashin ADDRESS shows the key of a target
    ");
    insta::assert_snapshot!(here.say(here.command(&["query", "//..."]).env("HEPH_LOG", "=;=")), @"
    exit 2
    --- err
    error: failed to read HEPH_LOG '=;=': invalid filter directive
    hint: a level: error, warn, info, debug, trace; or filters: heph_engine=debug,warn
    ");
}

#[test]
fn a_run_within_a_target_is_refused() {
    let here = Surroundings::with_config("");
    insta::assert_snapshot!(here.say(here.command(&["run", "//a:b"]).env("HEPH_TARGET", "//outer:target")), @"
    exit 2
    --- err
    error: heph run was called by the target //outer:target, inside its sandbox
    hint: a target names what it needs in deps or tools; heph builds that first
    ");
}

#[test]
fn without_a_workspace_there_is_a_cure() {
    let here = Surroundings::new();
    insta::assert_snapshot!(here.heph(&["run", "//..."]), @"
    exit 2
    --- err
    error: failed to find a workspace: there is no .hephconfig in [TOP]/work or above it
    hint: heph init makes this directory a workspace
    ");
    insta::assert_snapshot!(here.heph(&["-C", "nowhere", "query", "//..."]), @"
    exit 2
    --- err
    error: failed to enter '[TOP]/work/nowhere': No such file or directory (os error 2)
    ");
}

#[test]
fn help_and_version_are_no_errors() {
    let here = Surroundings::new();
    assert!(
        here.heph(&["--help"])
            .starts_with("exit 0\n--- out\nheph builds targets")
    );
    assert!(here.heph(&["run", "-h"]).contains("--fail-fast"));
    assert!(here.heph(&[]).starts_with("exit 2\n"));
    let version = here.heph(&["version"]);
    assert!(
        version.starts_with("exit 0\n--- out\nheph [VERSION] ("),
        "{version}"
    );
    let document = here.heph(&["version", "--json"]);
    assert!(document.contains(r#""heph":"[VERSION]""#), "{document}");
}
