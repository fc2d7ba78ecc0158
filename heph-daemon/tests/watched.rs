//! A warm engine whose workspace is watched gives what a cold one gives.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail by panicking"
)]

#[path = "../../heph-engine/tests/support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use heph_daemon::watch::Watchers;
use heph_engine::engine::Engine;
use heph_proto::Start;
use support::random::{Random, edit, workspace};
use support::{Bench, Ran};

const BUILD: &str = r#"
target(name = "a", driver = "sh", deps = [file("a.txt")], run = "cat $SRC > $OUT", out = "a.out")
target(name = "b", driver = "sh", deps = [file("b.txt")], run = "cat $SRC > $OUT", out = "b.out")
target(name = "c", driver = "sh", deps = [":a", ":b"], run = "cat $SRC > $OUT", out = "c.out")
target(name = "all", driver = "sh", deps = [glob("src/**")], run = "cat $SRC > $OUT", out = "all.out")
"#;

/// A workspace whose engine is warm, watched and settled.
struct Warm {
    bench: Bench,
    engine: Engine,
}

impl Warm {
    fn new() -> Self {
        let mut bench = Bench::new(&[
            ("BUILD", BUILD),
            ("a.txt", "a\n"),
            ("b.txt", "b\n"),
            ("src/x.txt", "x\n"),
        ]);
        bench.write("src/deep/y.txt", "y\n");
        watch(&mut bench);
        let engine = bench.engine();
        let warm = Self { bench, engine };
        assert_eq!(warm.run(), ["//:a", "//:all", "//:b", "//:c"]);
        assert_eq!(warm.run(), [""; 0]);
        warm
    }

    /// Addresses that were executed.
    fn run(&self) -> Vec<String> {
        let ran = self.try_run();
        assert_eq!(ran.finished.exit_code, 0, "{ran:?}");
        let summary = ran.finished.summary.unwrap();
        assert_eq!(summary.total, 4);
        assert_eq!(summary.executed + summary.up_to_date + summary.local, 4);
        ran.executed
    }

    fn try_run(&self) -> Ran {
        let start = self.bench.start("//...");
        let ran = self.bench.run_in(&self.engine, &start);
        self.bench.rest(&self.engine, &start);
        ran
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.bench.root().join(path)
    }

    /// What a target gives, as a cold engine sees it; nothing is left for that to execute.
    fn output(&self, path: &str) -> String {
        let start = Start {
            want_outputs: true,
            ..self.bench.start("//...")
        };
        let other = self.bench.engine();
        let ran = self.bench.run_in(&other, &start);
        assert_eq!(ran.executed, [""; 0], "the warm engine has left something out");
        String::from_utf8(ran.outputs[path].clone()).unwrap()
    }
}

fn watch(bench: &mut Bench) {
    bench.watching = Some(Arc::new(Watchers::new(bench.home().join("cookies"))));
}

#[test]
fn a_changed_file_is_seen_at_once_however_it_is_changed() {
    let warm = Warm::new();
    for round in 0..20 {
        let text = format!("round {round}\n");
        match round % 4 {
            0 => fs::write(warm.path("a.txt"), &text).unwrap(),
            1 => {
                fs::write(warm.path("new"), &text).unwrap();
                fs::rename(warm.path("new"), warm.path("a.txt")).unwrap();
            }
            2 => {
                let beside = warm.bench.root().with_extension("beside");
                fs::write(&beside, &text).unwrap();
                fs::rename(beside, warm.path("a.txt")).unwrap();
            }
            _ => {
                fs::remove_file(warm.path("a.txt")).unwrap();
                fs::write(warm.path("a.txt"), &text).unwrap();
            }
        }
        assert_eq!(warm.run(), ["//:a", "//:c"], "round {round}");
        assert_eq!(warm.output("c.out"), format!("{text}b\n"));
    }
}

#[test]
fn a_file_that_gets_a_second_name_elsewhere_is_watched_no_less() {
    let warm = Warm::new();
    let other = warm.bench.root().with_extension("link");
    fs::hard_link(warm.path("a.txt"), &other).unwrap();
    assert_eq!(warm.run(), [""; 0]);
    fs::write(&other, "through the other name\n").unwrap();
    assert_eq!(warm.run(), ["//:a", "//:c"]);
    fs::write(&other, "and again\n").unwrap();
    assert_eq!(warm.run(), ["//:a", "//:c"]);
    assert_eq!(warm.output("a.out"), "and again\n");
}

#[test]
fn modes_and_links_are_seen() {
    let warm = Warm::new();
    fs::set_permissions(warm.path("a.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(warm.run(), ["//:a"], "the executable bit is part of the key");
    fs::remove_file(warm.path("a.txt")).unwrap();
    std::os::unix::fs::symlink("b.txt", warm.path("a.txt")).unwrap();
    warm.try_run();
    fs::remove_file(warm.path("a.txt")).unwrap();
    fs::write(warm.path("a.txt"), "a file again\n").unwrap();
    assert_eq!(warm.run(), ["//:a", "//:c"]);
}

#[test]
fn names_that_come_and_go_change_globs() {
    let warm = Warm::new();
    fs::write(warm.path("src/deep/z.txt"), "z\n").unwrap();
    assert_eq!(warm.run(), ["//:all"]);
    fs::create_dir_all(warm.path("src/more/still")).unwrap();
    fs::write(warm.path("src/more/still/w.txt"), "w\n").unwrap();
    assert_eq!(warm.run(), ["//:all"]);
    fs::write(warm.path("src/more/still/w.txt"), "w, changed\n").unwrap();
    assert_eq!(warm.run(), ["//:all"]);
    fs::rename(warm.path("src/more"), warm.path("src/less")).unwrap();
    assert_eq!(warm.run(), ["//:all"]);
    fs::write(warm.path("src/less/still/w.txt"), "w, moved and changed\n").unwrap();
    assert_eq!(warm.run(), ["//:all"]);
    fs::remove_dir_all(warm.path("src/less")).unwrap();
    assert_eq!(warm.run(), [""; 0], "what is left was built before");
    assert_eq!(warm.output("all.out"), "y\nz\nx\n");
}

#[test]
fn a_directory_in_the_place_of_another_is_another() {
    let warm = Warm::new();
    let other = warm.bench.root().with_extension("other");
    fs::create_dir_all(other.join("deep")).unwrap();
    fs::write(other.join("x.txt"), "another x\n").unwrap();
    fs::write(other.join("deep/y.txt"), "another y\n").unwrap();
    fs::rename(warm.path("src"), warm.bench.root().with_extension("old")).unwrap();
    fs::rename(&other, warm.path("src")).unwrap();
    assert_eq!(warm.run(), ["//:all"]);
    fs::write(
        warm.bench.root().with_extension("old").join("x.txt"),
        "no matter\n",
    )
    .unwrap();
    assert_eq!(warm.run(), [""; 0]);
    fs::write(warm.path("src/deep/y.txt"), "y, changed\n").unwrap();
    assert_eq!(warm.run(), ["//:all"]);
}

#[test]
fn a_root_in_the_place_of_another_is_another() {
    let warm = Warm::new();
    let root = warm.bench.root();
    fs::rename(&root, root.with_extension("old")).unwrap();
    assert!(
        std::process::Command::new("cp")
            .arg("-r")
            .arg(root.with_extension("old"))
            .arg(&root)
            .status()
            .unwrap()
            .success()
    );
    fs::write(warm.path("a.txt"), "in the copy\n").unwrap();
    assert_eq!(warm.run(), ["//:a", "//:c"]);
    fs::write(warm.path("a.txt"), "in the copy, again\n").unwrap();
    assert_eq!(warm.run(), ["//:a", "//:c"]);
    assert_eq!(warm.run(), [""; 0]);
}

#[test]
fn what_is_mounted_over_a_directory_hides_it() {
    let test = "what_is_mounted_over_a_directory_hides_it";
    let warm = Warm::new();
    let call = |program: &str, arguments: &[&str]| {
        let status = std::process::Command::new(program)
            .args(arguments)
            .arg(warm.path("src"))
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !call("mount", &["-t", "tmpfs", "tmpfs"]) {
        eprintln!("SKIPPED: {test}: nothing can be mounted");
        return;
    }
    let hidden = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        fs::write(warm.path("src/x.txt"), "mounted\n").unwrap();
        assert_eq!(warm.run(), ["//:all"]);
        fs::write(warm.path("src/x.txt"), "on another file system\n").unwrap();
        assert_eq!(warm.run(), ["//:all"]);
    }));
    assert!(call("umount", &[]), "unmount");
    if let Err(panic) = hidden {
        std::panic::resume_unwind(panic);
    }
    assert_eq!(warm.run(), [""; 0]);
    assert_eq!(warm.output("all.out"), "y\nx\n");
}

#[test]
fn build_files_and_packages_are_seen() {
    let warm = Warm::new();
    fs::write(
        warm.path("BUILD"),
        BUILD.replace(
            "cat $SRC > $OUT\", out = \"a.out",
            "cat $SRC $SRC > $OUT\", out = \"a.out",
        ),
    )
    .unwrap();
    assert_eq!(warm.run(), ["//:a", "//:c"]);
    fs::create_dir(warm.path("new")).unwrap();
    fs::write(
        warm.path("new/BUILD"),
        "target(name = \"n\", driver = \"textfile\", text = \"n\", out = \"n.out\")",
    )
    .unwrap();
    assert_eq!(warm.try_run().finished.summary.unwrap().total, 5);
    fs::remove_dir_all(warm.path("new")).unwrap();
    assert_eq!(warm.run(), [""; 0]);
    fs::write(warm.path("BUILD"), "broken(").unwrap();
    assert_eq!(warm.try_run().finished.exit_code, 2);
    assert_eq!(warm.try_run().finished.exit_code, 2);
    fs::write(warm.path("BUILD"), BUILD).unwrap();
    assert_eq!(warm.run(), [""; 0]);
}

#[test]
fn more_changes_than_the_system_remembers_are_looked_for() {
    let warm = Warm::new();
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    for number in 0..most + 10 {
        let path = warm.path(if number % 2 == 0 { "src/even" } else { "src/odd" });
        fs::write(&path, "").unwrap();
        fs::remove_file(&path).unwrap();
    }
    fs::write(warm.path("a.txt"), "after all that\n").unwrap();
    assert_eq!(warm.run(), ["//:a", "//:c"]);
    fs::write(warm.path("b.txt"), "and watched again\n").unwrap();
    assert_eq!(warm.run(), ["//:b", "//:c"]);
    assert_eq!(warm.run(), [""; 0]);
}

#[test]
fn a_failed_target_is_tried_again_and_its_success_is_kept() {
    let warm = Warm::new();
    fs::write(
        warm.path("BUILD"),
        BUILD.replace(
            "cat $SRC > $OUT\", out = \"c.out",
            "cat missing $SRC > $OUT\", out = \"c.out",
        ),
    )
    .unwrap();
    assert_eq!(warm.try_run().failures.len(), 1);
    assert_eq!(warm.try_run().failures.len(), 1, "a failure is no result");
    fs::write(warm.path("BUILD"), BUILD).unwrap();
    assert_eq!(warm.run(), [""; 0]);
}

#[test]
fn a_missing_file_is_a_failure_until_it_is_there() {
    let warm = Warm::new();
    fs::remove_file(warm.path("a.txt")).unwrap();
    assert_eq!(warm.try_run().finished.exit_code, 1);
    assert_eq!(warm.try_run().finished.exit_code, 1);
    fs::write(warm.path("a.txt"), "a\n").unwrap();
    assert_eq!(warm.run(), [""; 0]);
}

#[test]
fn what_the_store_lost_is_made_again() {
    let warm = Warm::new();
    let start = warm.bench.start("//...");
    warm.engine.store().collect_garbage(Some(0)).unwrap();
    warm.engine.store().flush().unwrap();
    let ran = warm.bench.run_in(&warm.engine, &start);
    assert_eq!(ran.finished.exit_code, 0);
    // Whatever was really deleted was made again: a cold engine finds all of it.
    warm.output("c.out");
}

#[test]
fn another_environment_is_another_request() {
    let mut warm = Warm::new();
    fs::write(
        warm.path("BUILD"),
        BUILD.replace(
            "driver = \"sh\", deps = [file(\"a.txt\")]",
            "driver = \"sh\", pass_env = [\"WHO\"], deps = [file(\"a.txt\")]",
        ),
    )
    .unwrap();
    assert_eq!(warm.run(), ["//:a"]);
    warm.bench.environment.insert("WHO".to_owned(), "me".to_owned());
    assert_eq!(warm.run(), ["//:a"]);
    assert_eq!(warm.run(), [""; 0]);
    warm.bench.environment.remove("WHO");
    assert_eq!(warm.run(), [""; 0]);
}

#[test]
fn random_edits_leave_nothing_out() {
    let number = |name: &str, default| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (first, seeds) = (number("FIRST", 0u64), number("SEEDS", 4u64));
    for seed in first..first + seeds {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1);
        let mut bench = workspace(&mut random);
        let mut cold = Bench::engine(&bench);
        watch(&mut bench);
        let engine = bench.engine();
        let mut log = Vec::new();
        for step in 0..12 {
            let query = *random.of(&[&"//...", &"//...", &"//:t0", &"//p:t0", &"//p/..."]);
            let start = bench.start(query);
            let hot = bench.run_in(&engine, &start);
            if random.below(4) > 0 {
                bench.rest(&engine, &start);
            }
            engine.store().flush().unwrap();
            // A cold engine finds nothing left to do, and says the same.
            let after = bench.run_in(&cold, &start);
            let said = log.join("\n");
            assert_eq!(
                hot.finished.exit_code, after.finished.exit_code,
                "seed {seed} step {step} {query}\n{said}"
            );
            if hot.failures.is_empty() {
                assert_eq!(after.executed, [""; 0], "seed {seed} step {step} {query}\n{said}");
            }
            let failed = |ran: &Ran| {
                let mut failed: Vec<String> = ran.failures.keys().cloned().collect();
                failed.sort();
                failed
            };
            assert_eq!(
                failed(&hot),
                failed(&after),
                "seed {seed} step {step} {query}\n{said}"
            );
            for _ in 0..=random.below(2) {
                log.push(format!("{step}: {}", edit(&mut random, &bench)));
            }
            if random.below(2) == 0 {
                std::thread::sleep(std::time::Duration::from_millis(30));
            }
            let watching = bench.watching.take();
            cold = bench.engine();
            bench.watching = watching;
        }
    }
}
