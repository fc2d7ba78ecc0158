//! `heph init`

use crate::surroundings::{Surroundings, names};

#[test]
fn a_workspace_is_made_once() {
    let here = Surroundings::new();
    insta::assert_snapshot!(here.heph(&["init"]), @"
    exit 0
    --- err
    wrote .hephconfig and BUILD

      heph run //...              build everything
      heph run :shout --cat-out   show what a target made
    ");
    assert_eq!(names(&here.work()), [".hephconfig", "BUILD"]);
    insta::assert_snapshot!(here.heph(&["init"]), @"
    exit 2
    --- err
    error: failed to init: [TOP]/work is a workspace already
    hint: heph run //... builds everything in it
    ");
    insta::assert_snapshot!(here.heph(&["init", "below"]), @"
    exit 2
    --- err
    error: failed to init: [TOP]/work/below is part of the workspace [TOP]/work
    hint: a package needs nothing but a BUILD file
    ");
}

#[test]
fn nothing_is_overwritten() {
    let here = Surroundings::new();
    here.write("new/BUILD", "mine\n");
    insta::assert_snapshot!(here.heph(&["init", "new"]), @"
    exit 2
    --- err
    error: failed to init: [TOP]/work/new/BUILD exists already
    hint: heph init overwrites nothing: move it away, or write a .hephconfig by hand
    ");
    assert_eq!(names(&here.work().join("new")), ["BUILD"]);
    assert_eq!(here.read("new/BUILD"), "mine\n");
    insta::assert_snapshot!(here.heph(&["init", "other"]), @"
    exit 0
    --- err
    wrote .hephconfig and BUILD in other

      cd other
      heph run //...              build everything
      heph run :shout --cat-out   show what a target made
    ");
}

#[test]
fn what_is_written_has_the_form_of_the_formatter() {
    let here = Surroundings::new();
    here.heph(&["init"]);
    insta::assert_snapshot!(here.heph(&["tool", "build-fmt", "--check"]), @"
    exit 0
    --- err
    0 of 1 file would change
    ");
}
