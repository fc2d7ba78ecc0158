//! What an earlier run knew is not used when the workspace is another by now.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail by panicking"
)]

mod support;

use std::process::Command;
use std::time::Duration;

use heph_proto::Start;
use support::{Bench, Ran};

fn with_outputs(bench: &Bench, query: &str) -> Start {
    Start {
        want_outputs: true,
        ..bench.start(query)
    }
}

/// What a home without any history makes of the same tree.
fn clean(bench: &Bench, query: &str) -> Ran {
    let config = bench.engine_at(&bench.root().parent().unwrap().join("clean-home"));
    bench.run_in(&config, &with_outputs(bench, query))
}

fn git(bench: &Bench, arguments: &[&str]) {
    assert!(
        Command::new("git")
            .arg("-C")
            .arg(bench.root())
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
}

/// A directory that did not exist when a glob was expanded, below one that was never listed.
#[test]
fn a_directory_that_appears_below_one_that_was_not_listed_is_seen_by_globs() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"n\", driver = \"sh\", deps = [glob(\"a/b/*.c\"), file(\"in.txt\")], run = \"echo $SRC > $OUT\", out = \"n\")\n",
        ),
        ("in.txt", ""),
        ("a/keep", ""),
    ]);
    let first = bench.run_start(&with_outputs(&bench, "//:n"));
    assert_eq!(first.outputs["n"], b"in.txt\n", "{first:?}");
    bench.write("a/b/x.c", "");
    let second = bench.run_start(&with_outputs(&bench, "//:n"));
    assert_eq!(second.outputs["n"], b"a/b/x.c in.txt\n", "{second:?}");
}

/// The same: a directory that goes and comes back.
#[test]
fn a_directory_that_goes_and_comes_back_is_seen_by_globs() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"n\", driver = \"sh\", deps = [glob(\"a/b/*.c\"), file(\"in.txt\")], run = \"echo $SRC > $OUT\", out = \"n\")\n",
        ),
        ("in.txt", ""),
        ("a/keep", ""),
        ("a/b/x.c", ""),
    ]);
    let run = || bench.run_start(&with_outputs(&bench, "//:n")).outputs["n"].clone();
    assert_eq!(run(), b"a/b/x.c in.txt\n");
    std::fs::remove_dir_all(bench.root().join("a/b")).unwrap();
    assert_eq!(run(), b"in.txt\n");
    bench.write("a/b/x.c", "");
    assert_eq!(run(), b"a/b/x.c in.txt\n");
}

/// The same for what a BUILD file asks.
#[test]
fn a_directory_that_appears_is_seen_by_heph_fs_glob() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"n\", driver = \"sh\", run = \"echo %d > $OUT\" % len(heph.fs.glob(\"a/b/*.c\")), out = \"n\")\n",
        ),
        ("a/keep", ""),
    ]);
    assert_eq!(
        bench.run_start(&with_outputs(&bench, "//:n")).outputs["n"],
        b"0\n"
    );
    bench.write("a/b/x.c", "");
    assert_eq!(
        bench.run_start(&with_outputs(&bench, "//:n")).outputs["n"],
        b"1\n"
    );
}

/// Another directory at the root's path.
#[test]
fn a_root_that_was_replaced_is_looked_at_anew_by_a_warm_engine() {
    let build = "target(name = \"c\", driver = \"sh\", deps = [file(\"in.txt\")], run = \"cat $SRC > $OUT\", out = \"c\")\n";
    let bench = Bench::new(&[("BUILD", build), ("in.txt", "old\n")]);
    let engine = bench.engine();
    let start = with_outputs(&bench, "//:c");
    assert_eq!(bench.run_in(&engine, &start).outputs["c"], b"old\n");
    let config = std::fs::read_to_string(bench.root().join(".hephconfig")).unwrap();
    std::fs::rename(bench.root(), bench.root().with_extension("moved")).unwrap();
    for (path, text) in [(".hephconfig", &*config), ("BUILD", build), ("in.txt", "new\n")] {
        bench.write(path, text);
    }
    assert_eq!(bench.run_in(&engine, &start).outputs["c"], b"new\n");
}

/// A loaded file of a package that could not be evaluated stays what it was.
#[test]
fn a_star_file_that_was_mended_is_read_anew_by_a_warm_engine() {
    let bench = Bench::new(&[
        ("x.star", "VALUE = \"old\"\n"),
        (
            "BUILD",
            "load(\"./x.star\", \"VALUE\", \"OTHER\")\ntarget(name = \"t\", driver = \"sh\", run = \"echo \" + VALUE + OTHER + \" > $OUT\", out = \"t\")\n",
        ),
    ]);
    let engine = bench.engine();
    let start = with_outputs(&bench, "//:t");
    assert_ne!(bench.run_in(&engine, &start).finished.exit_code, 0);
    bench.write("x.star", "VALUE = \"new\"\nOTHER = \"er\"\n");
    let ran = bench.run_in(&engine, &start);
    assert_eq!(
        ran.outputs.get("t").map(Vec::as_slice),
        Some(b"newer\n".as_slice()),
        "{ran:?}"
    );
}

/// The same with a result that is wrong instead of an error.
#[test]
fn a_star_file_that_changed_is_read_anew_by_a_warm_engine() {
    let bench = Bench::new(&[
        ("x.star", "VALUE = \"old\"\n"),
        ("BUILD", "load(\"./x.star\", \"VALUE\")\nfail(\"not yet\")\n"),
    ]);
    let engine = bench.engine();
    let start = with_outputs(&bench, "//:t");
    assert_ne!(bench.run_in(&engine, &start).finished.exit_code, 0);
    bench.write("x.star", "VALUE = \"new\"\n");
    bench.write("BUILD", "load(\"./x.star\", \"VALUE\")\ntarget(name = \"t\", driver = \"sh\", run = \"echo \" + VALUE + \" > $OUT\", out = \"t\")\n");
    let ran = bench.run_in(&engine, &start);
    assert_eq!(
        ran.outputs.get("t").map(Vec::as_slice),
        Some(b"new\n".as_slice()),
        "{ran:?}"
    );
}

/// A generated file that is in the tree already, in a directory that is no package.
#[test]
fn a_generated_file_below_its_package_is_in_no_glob() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"gen\", driver = \"sh\", run = \"echo new > $OUT\", out = \"src/gen.c\", codegen = \"copy\")\n\
             target(name = \"use\", driver = \"sh\", deps = [glob(\"src/*.c\")], run = \"echo $SRC > $OUT\", out = \"use\")\n",
        ),
        ("src/a.c", ""),
        ("src/gen.c", "checked in\n"),
    ]);
    let ran = bench.run_start(&with_outputs(&bench, "//:use"));
    assert_eq!(ran.outputs["use"], b"src/a.c\n", "{ran:?}");
}

/// The same for a declared directory.
#[test]
fn a_generated_directory_is_in_no_glob() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"gen\", driver = \"sh\", run = \"echo new > dist/gen.c\", out = \"dist/\", codegen = \"copy\")\n\
             target(name = \"use\", driver = \"sh\", deps = [glob(\"**/*.c\")], run = \"echo $SRC > $OUT\", out = \"use\")\n",
        ),
        ("a.c", ""),
        ("dist/gen.c", "checked in\n"),
    ]);
    let ran = bench.run_start(&with_outputs(&bench, "//:use"));
    assert_eq!(ran.outputs["use"], b"a.c\n", "{ran:?}");
}

/// A directory above a package that becomes a link.
#[test]
fn a_package_behind_a_link_is_no_package_any_more() {
    let build = "target(name = \"t\", driver = \"sh\", run = \"echo t > $OUT\", out = \"t\")\n";
    let bench = Bench::new(&[("a/x/BUILD", build)]);
    // Until the times of the directories prove something.
    std::thread::sleep(Duration::from_millis(100));
    let start = bench.start("//a/x:t");
    assert_eq!(bench.run_start(&start).finished.exit_code, 0);
    std::fs::rename(bench.root().join("a"), bench.root().join("b")).unwrap();
    std::os::unix::fs::symlink("b", bench.root().join("a")).unwrap();
    let incremental = bench.run_start(&start).finished.exit_code;
    assert_eq!(incremental, clean(&bench, "//a/x:t").finished.exit_code);
}

/// `--since` misses: what a BUILD file asked of the file system.
#[test]
fn since_sees_what_a_build_file_asked() {
    let bench = Bench::new(&[
        (
            "BUILD",
            "target(name = \"n\", driver = \"sh\", run = \"echo %d > $OUT\" % len(heph.fs.glob(\"*.c\")), out = \"n\")\n",
        ),
        ("a.c", ""),
    ]);
    git(&bench, &["init", "-q"]);
    git(&bench, &["add", "."]);
    git(
        &bench,
        &[
            "-c",
            "user.name=n",
            "-c",
            "user.email=e",
            "commit",
            "-qm",
            "first",
        ],
    );
    bench.write("b.c", "");
    let ran = bench.run_start(&Start {
        since: "HEAD".to_owned(),
        ..bench.start("//...")
    });
    assert_eq!(ran.executed, ["//:n"], "{ran:?}");
}

/// `--since` misses: the configuration.
#[test]
fn since_sees_the_configuration() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"n\", driver = \"sh\", run = \"echo > $OUT\", out = \"n\")\n",
    )]);
    git(&bench, &["init", "-q"]);
    git(&bench, &["add", "."]);
    git(
        &bench,
        &[
            "-c",
            "user.name=n",
            "-c",
            "user.email=e",
            "commit",
            "-qm",
            "first",
        ],
    );
    let config = std::fs::read_to_string(bench.root().join(".hephconfig")).unwrap();
    bench.write(".hephconfig", &format!("{config}cacheEpoch: two\n"));
    let ran = bench.run_start(&Start {
        since: "HEAD".to_owned(),
        ..bench.start("//...")
    });
    assert_eq!(ran.executed, ["//:n"], "{ran:?}");
}

/// An up-to-date build does not evaluate anything again: here because the BUILD file is a link.
#[test]
fn a_build_file_that_is_a_link_is_noticed() {
    let build = |text: &str| {
        format!("target(name = \"t\", driver = \"sh\", run = \"echo {text} > $OUT\", out = \"t\")\n")
    };
    let bench = Bench::new(&[("real", &build("one"))]);
    std::os::unix::fs::symlink("real", bench.root().join("BUILD")).unwrap();
    assert_eq!(bench.run("//:t").executed, ["//:t"]);
    assert!(bench.run("//:t").executed.is_empty());
    bench.write("real", &build("two"));
    assert_eq!(bench.run("//:t").executed, ["//:t"]);
}

/// A nested workspace is none of ours, also below its root.
#[test]
fn a_package_of_a_nested_workspace_is_no_package() {
    let build = "target(name = \"t\", driver = \"sh\", run = \"echo t > $OUT\", out = \"t\")\n";
    let bench = Bench::new(&[("n/.hephconfig", ""), ("n/sub/BUILD", build)]);
    assert_eq!(
        bench.run("//n/sub:t").finished.exit_code,
        bench.run("//...").finished.exit_code
    );
}

/// A directory above a package that becomes another workspace.
#[test]
fn packages_below_a_new_nested_workspace_are_forgotten() {
    let target = |name: &str, more: &str| {
        format!(
            "target(name = \"{name}\", driver = \"sh\", {more}, run = \"echo ${{SRC-}} > $OUT\", out = \"{name}\")\n"
        )
    };
    let bench = Bench::new(&[
        ("BUILD", &target("all", "deps = [query(\"label(x)\")]")),
        ("p/q/BUILD", &target("t", "labels = [\"x\"]")),
    ]);
    assert_eq!(
        bench.run_start(&with_outputs(&bench, "//:all")).outputs["all"],
        b"p/q/t\n"
    );
    bench.write("p/.hephconfig", "");
    let incremental = bench.run_start(&with_outputs(&bench, "//:all")).outputs;
    assert_eq!(incremental, clean(&bench, "//:all").outputs);
}

/// The result that `--force` made is forgotten by the next process.
#[test]
fn what_force_made_is_what_the_next_process_uses() {
    let bench = Bench::new(&[(
        "BUILD",
        "target(name = \"r\", driver = \"sh\", run = \"head -c 16 /dev/urandom | cksum > $OUT\", out = \"r\")\n",
    )]);
    let first = bench.run_start(&with_outputs(&bench, "//:r")).outputs["r"].clone();
    let forced = bench
        .run_start(&Start {
            force: true,
            ..with_outputs(&bench, "//:r")
        })
        .outputs["r"]
        .clone();
    assert_ne!(first, forced);
    assert_eq!(
        bench.run_start(&with_outputs(&bench, "//:r")).outputs["r"],
        forced
    );
}
