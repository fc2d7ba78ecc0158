//! Where the home is, and which homes are refused.

use crate::surroundings::Surroundings;

#[test]
fn what_names_the_home_is_shown() {
    let here = Surroundings::with_config("homeDir: .home\n");
    let shown = here.heph(&["inspect", "config", "--json"]);
    assert!(
        shown.contains(r#""home":"[TOP]/work/.home","home_from":"homeDir""#),
        "{shown}"
    );
    let shown = here.say(
        here.command(&["inspect", "config", "--json"])
            .env("HEPH_HOME", here.top().join("h")),
    );
    assert!(
        shown.contains(r#""home":"[TOP]/h","home_from":"HEPH_HOME""#),
        "{shown}"
    );
}

#[test]
fn a_home_that_cannot_be_is_one_error() {
    let here = Surroundings::with_config("");
    insta::assert_snapshot!(here.say(here.command(&["query", "//..."]).env("HEPH_HOME", "relative")), @"
    exit 2
    --- err
    error: failed to use the home: the home relative is not an absolute path
    hint: set HEPH_HOME to an absolute path
    ");
    insta::assert_snapshot!(here.say(here.command(&["query", "//..."]).env_remove("HOME")), @"
    exit 2
    --- err
    error: failed to use the home: there is no home: HOME is not set
    hint: set HEPH_HOME to a directory of your own
    ");
    here.write("../file", "");
    insta::assert_snapshot!(here.say(here.command(&["query", "//..."]).env("HEPH_HOME", here.top().join("file"))), @"
    exit 2
    --- err
    error: failed to use the home: the home [TOP]/file is not a directory
    hint: set HEPH_HOME to a directory that you can write to
    ");
}

#[test]
fn a_home_that_cannot_be_written_is_replaced_for_once() {
    let here = Surroundings::with_config("");
    let shown = here.say(
        here.command(&["inspect", "config"])
            .env("HEPH_HOME", "/proc/heph"),
    );
    let err = shown.split("--- err\n").nth(1).unwrap_or_default();
    insta::assert_snapshot!(err, @"
    warning: cannot create /proc/heph: No such file or directory (os error 2); results are not kept
    hint: set HEPH_HOME to a directory that you can write to
    ");
    assert!(shown.starts_with("exit 0\n"), "{shown}");
    let left: Vec<_> = crate::surroundings::names(&here.top());
    assert_eq!(left, ["user", "work"]);
    let mut command = here.command(&["inspect", "config"]);
    command.env("HEPH_HOME", "/proc/heph").env("TMPDIR", "/proc");
    insta::assert_snapshot!(here.say(&mut command), @"
    exit 3
    --- err
    error: failed to make a home: cannot create /proc/heph: No such file or directory (os error 2); nor could a temporary one be made in /proc: No such file or directory (os error 2)
    hint: set HEPH_HOME to a directory that you can write to
    ");
}
