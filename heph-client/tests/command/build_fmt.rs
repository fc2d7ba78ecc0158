//! `heph tool build-fmt`

use std::io::Write as _;
use std::process::Stdio;

use crate::surroundings::Surroundings;

#[test]
fn files_are_found_formatted_and_checked() {
    let here = Surroundings::with_config("fs: {skip: [vendor]}\n");
    here.write("BUILD", "target( name='a' )\n");
    here.write("b/x.BUILD", "x = 1\n");
    here.write("b/macros.star", "y=[1,2]\n");
    here.write("vendor/BUILD", "z=1\n");
    here.write("b/other.txt", "not ours");
    insta::assert_snapshot!(here.heph(&["tool", "build-fmt", "--check"]), @"
    exit 1
    --- out
    BUILD
    b/macros.star
    --- err
    2 of 3 files would change
    ");
    assert_eq!(here.read("BUILD"), "target( name='a' )\n");
    insta::assert_snapshot!(here.heph(&["tool", "build-fmt"]), @"
    exit 0
    --- out
    BUILD
    b/macros.star
    --- err
    2 of 3 files changed
    ");
    assert_eq!(here.read("BUILD"), "target(name = \"a\")\n");
    assert_eq!(here.read("vendor/BUILD"), "z=1\n");
    insta::assert_snapshot!(here.heph(&["tool", "build-fmt", "--check", "b"]), @"
    exit 0
    --- err
    0 of 2 files would change
    ");
}

#[test]
fn a_file_that_is_no_starlark_is_left_alone() {
    let here = Surroundings::with_config("");
    here.write("BUILD", "target(name=\n");
    here.write("a/BUILD", "x=1\n");
    insta::assert_snapshot!(here.heph(&["tool", "build-fmt"]), @"
    exit 2
    --- out
    a/BUILD
    --- err
    error: failed to format BUILD: unexpected new line, expected expression
      --> BUILD:2:1
    ");
    assert_eq!(here.read("a/BUILD"), "x = 1\n");
}

#[test]
fn standard_input_needs_no_workspace() {
    let here = Surroundings::new();
    let mut child = here
        .command(&["tool", "build-fmt", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"x=1\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "x = 1\n");
}
