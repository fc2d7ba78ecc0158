//! `version:` asks for another release.

use std::os::unix::fs::PermissionsExt as _;

use std::path::Path;
use std::process::Command;

use crate::surroundings::Surroundings;

#[test]
fn another_release_is_an_error_with_a_cure_unless_it_is_told_to_go_on() {
    let here = Surroundings::with_config("version: v9.8.7\nnewer: true\n");
    insta::assert_snapshot!(here.heph(&["inspect", "config"]), @"
    exit 2
    --- err
    error: this workspace is pinned to heph 9.8.7, this is [VERSION], and there is no [TOP]/user/.heph/versions/v9.8.7/heph
    hint: install heph 9.8.7, or set HEPH_NO_SELF_UPDATE=1 to go on with [VERSION]
    ");
    let here = Surroundings::with_config("version: v9.8.7\n");
    let shown = here.say(
        here.command(&["inspect", "config"])
            .env("HEPH_NO_SELF_UPDATE", "1"),
    );
    assert!(shown.starts_with("exit 0\n"), "{shown}");
    let here = Surroundings::with_config(&format!("version: v{}\n", env!("CARGO_PKG_VERSION")));
    assert!(here.heph(&["inspect", "config"]).starts_with("exit 0\n"));
}

#[test]
fn a_release_that_is_there_runs_in_our_place() {
    let here = Surroundings::with_config("version: 9.8.7\n");
    let program = here.top().join("user/.heph/versions/v9.8.7/heph");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    here.write("other", "#!/bin/sh\necho \"other: $*\"\nexit 7\n");
    copy(&here.work().join("other"), &program);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    insta::assert_snapshot!(here.heph(&["query", "//..."]), @"
    exit 7
    --- out
    other: query //...
    ");

    // A release that is none of its version does not start itself forever.
    copy(Path::new(env!("CARGO_BIN_EXE_heph")), &program);
    insta::assert_snapshot!(here.heph(&["query", "//..."]), @"
    exit 2
    --- err
    error: this workspace is pinned to heph 9.8.7, but [TOP]/user/.heph/versions/v9.8.7/heph is heph [VERSION]
    hint: remove [TOP]/user/.heph/versions/v9.8.7; install heph 9.8.7, or set HEPH_NO_SELF_UPDATE=1 to go on with [VERSION]
    ");
}

/// Copies a program in a process of its own: a descriptor that is open for writing here could be inherited by a child
/// of another test, and the program could not be executed meanwhile.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}
