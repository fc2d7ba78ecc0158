//! Inputs on all kinds of file systems, and those that changed.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use heph_proto::input::Source;
use heph_proto::report::Outcome;
use heph_proto::{EntryKind, FailureKind, Input, Report, SandboxMode};

use crate::support::{Bench, completed, failed, inline, log, modes, output, outputs};

fn blob(path: &Path, text: &str) -> Input {
    std::fs::write(path, text).unwrap();
    Input {
        source: Some(Source::BlobFile(path.to_str().unwrap().to_owned())),
        read_only: true,
        ..inline("pkg/large", text)
    }
}

#[track_caller]
fn assert_stale(report: &Report, path: &str) {
    match &report.outcome {
        Some(Outcome::Stale(stale)) => assert!(stale.path.ends_with(path), "{}", stale.path),
        other => panic!("not stale: {other:?}"),
    }
}

#[test]
fn every_kind_of_input_is_there() {
    let bench = Bench::new();
    let large = "y".repeat(300_000);
    for mode in modes(&bench, "every_kind_of_input_is_there") {
        let script = "cat inline source link blob | cksum; test -d dir/deep; test -x tool; ./tool; readlink link; stat -c %a inline tool";
        let mut plan = bench.plan(mode, script);
        let link = Input {
            path: "pkg/link".to_owned(),
            kind: EntryKind::Symlink.into(),
            source: Some(Source::LinkTarget("../lib/target".to_owned())),
            ..Input::default()
        };
        let directory = Input {
            path: "pkg/dir/deep".to_owned(),
            kind: EntryKind::Directory.into(),
            ..Input::default()
        };
        let tool = Input {
            kind: EntryKind::Executable.into(),
            ..inline("pkg/tool", "#!/bin/sh\necho tool\n")
        };
        let blob = Input {
            path: "pkg/blob".to_owned(),
            read_only: false,
            ..blob(&bench.root.join("blob"), &large)
        };
        plan.inputs = vec![
            link,
            inline("pkg/inline", "1"),
            bench.source("pkg/source", &large),
            blob,
            directory,
            tool,
            inline("lib/target", "2"),
        ];
        let report = bench.run(plan);
        completed(&report);
        let text = log(&report);
        assert_eq!(
            text.split_once('\n').unwrap().1,
            "tool\n../lib/target\n644\n755\n",
            "{mode:?}"
        );
    }
}

#[test]
fn a_source_that_changed_makes_the_plan_stale() {
    let bench = Bench::new();
    for size in [10, 300_000] {
        let text = "x".repeat(size);
        for (change, why) in [
            (Some("y".repeat(size)), "other content"),
            (Some("x".repeat(size + 1)), "longer"),
            (None, "removed"),
        ] {
            let mut plan = bench.plan(SandboxMode::Standard, "true");
            plan.inputs = vec![bench.source("pkg/in", &text)];
            completed(&bench.run(plan.clone()));
            let path = bench.root.join("pkg/in");
            match change {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
            assert_stale(&bench.run(plan), "workspace/pkg/in");
            eprintln!("{why}: stale");
        }
        let mut plan = bench.plan(SandboxMode::Standard, "true");
        plan.inputs = vec![bench.source("pkg/in", &text)];
        std::fs::rename(bench.root.join("pkg/in"), bench.root.join("moved")).unwrap();
        std::os::unix::fs::symlink("../moved", bench.root.join("pkg/in")).unwrap();
        assert_stale(&bench.run(plan), "workspace/pkg/in");
        std::fs::remove_file(bench.root.join("pkg/in")).unwrap();
    }
}

#[test]
fn sources_and_blobs_are_never_written_through_their_copies() {
    let bench = Bench::new();
    for mode in modes(&bench, "sources_and_blobs_are_never_written_through_their_copies") {
        let text = "z".repeat(300_000);
        let path = bench.root.join("blob");
        let mut plan = bench.plan(mode, "for f in source large; do echo more >> $f; done");
        plan.inputs = vec![
            bench.source("pkg/source", &text),
            Input {
                read_only: false,
                ..blob(&path, &text)
            },
        ];
        completed(&bench.run(plan));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(
            std::fs::read_to_string(bench.root.join("pkg/source")).unwrap(),
            text
        );
    }
}

#[test]
fn paths_that_leave_the_sandbox_are_refused() {
    let bench = Bench::new();
    for path in ["../x", "/etc/x", "a/../../x", "", "a//b"] {
        let mut plan = bench.plan(SandboxMode::Standard, "true");
        plan.inputs = vec![inline(path, "x")];
        assert_eq!(failed(&bench.run(plan)).kind(), FailureKind::Definition, "{path}");
        let mut plan = bench.plan(SandboxMode::Standard, "true");
        plan.outputs = vec![output(path)];
        assert_eq!(failed(&bench.run(plan)).kind(), FailureKind::Definition, "{path}");
    }
    let mut plan = bench.plan(SandboxMode::Standard, "true");
    plan.sandbox_id = "../escape".to_owned();
    failed(&bench.run(plan));
    assert!(!bench.home.join("escape").exists());
}

#[test]
fn an_input_below_a_link_does_not_go_where_the_link_points() {
    let bench = Bench::new();
    let target = bench.root.join("target");
    std::fs::create_dir(&target).unwrap();
    let link = Input {
        path: "pkg/dir".to_owned(),
        kind: EntryKind::Symlink.into(),
        source: Some(Source::LinkTarget(target.to_str().unwrap().to_owned())),
        ..Input::default()
    };
    let mut plan = bench.plan(SandboxMode::Standard, "true");
    plan.inputs = vec![link, inline("pkg/dir/file", "x")];
    let report = bench.run(plan);
    assert_eq!(failed(&report).kind(), FailureKind::Staging);
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
}

#[test]
fn read_only_inputs_are_linked_in_standard_mode() {
    let bench = Bench::new();
    let path = bench.root.join("blob");
    let mut plan = bench.plan(SandboxMode::Standard, "stat -c %h large");
    plan.inputs = vec![blob(&path, &"x".repeat(100_000))];
    assert_eq!(log(&bench.run(plan)), "2\n");
}

#[test]
fn the_user_s_mask_does_not_matter() {
    use std::os::unix::process::CommandExt as _;
    let bench = Bench::new();
    let home = bench.home.join("masked");
    let script = "stat -c %a /proc/self/cwd .. $HOME; umask";
    let mut command = Command::new("sh");
    command
        .arg0("sh")
        .arg("-c")
        .arg("umask 077; exec \"$0\" \"$@\"")
        .arg(crate::support::sandboxed());
    let run = command
        .args(["standard".as_ref(), home.as_os_str(), script.as_ref()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(text.ends_with("755\n755\n0022\n"), "{text}{run:?}");
}

#[test]
fn two_processes_have_two_sandboxes_for_one_target() {
    let bench = Bench::new();
    let other = Bench::with(&bench.home, &bench.root);
    for mode in modes(&bench, "two_processes_have_two_sandboxes_for_one_target") {
        let plan = |text: &str| {
            let mut plan = bench.plan(mode, "cat in; sleep 0.3; cat in > out; ls");
            plan.inputs = vec![inline("pkg/in", text)];
            plan.outputs = vec![output("pkg/out")];
            plan
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = [(&bench, "first"), (&other, "second")]
                .into_iter()
                .map(|(bench, text)| {
                    let plan = plan(text);
                    scope.spawn(move || (text, futures_free(bench, plan)))
                })
                .collect();
            for thread in all {
                let (text, report) = thread.join().unwrap();
                assert_eq!(outputs(&report)[0].2, text);
                assert_eq!(log(&report), format!("{text}in\nout\n"));
            }
        });
    }
}

/// Runs a plan on a runtime of the calling thread: a bench's own belongs to one thread.
fn futures_free(bench: &Bench, plan: heph_proto::Plan) -> Report {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(bench.executor.execute(plan, Default::default()))
}

/// A file system that is mounted for one test.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// Mounts with these arguments; says why not when that is impossible.
    fn new(test: &str, arguments: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        let run = command.args(arguments).arg(directory.path()).output();
        match run {
            Ok(run) if run.status.success() => Some(Self(directory)),
            Ok(run) => {
                let reason = String::from_utf8_lossy(&run.stderr).trim().to_owned();
                eprintln!("SKIPPED: {test}: {reason}");
                None
            }
            Err(error) => {
                eprintln!("SKIPPED: {test}: mount: {error}");
                None
            }
        }
    }

    fn image(test: &str, make: &[&str], size: u64) -> Option<(Self, tempfile::NamedTempFile)> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let made = Command::new(make[0]).args(&make[1..]).arg(image.path()).output();
        match made {
            Ok(made) if made.status.success() => {}
            other => {
                eprintln!("SKIPPED: {test}: {} does not work: {other:?}", make[0]);
                return None;
            }
        }
        let path = image.path().to_str().unwrap().to_owned();
        Some((Self::new(test, &["-o", "loop", &path])?, image))
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn blobs_of_another_file_system_are_copied() {
    let test = "blobs_of_another_file_system_are_copied";
    let Some(mounted) = Mounted::new(test, &["-t", "tmpfs", "-o", "size=64m", "tmpfs"]) else {
        return;
    };
    let bench = Bench::at(&mounted.path());
    let elsewhere = tempfile::tempdir().unwrap();
    let text = "x".repeat(500_000);
    for mode in modes(&bench, test) {
        let mut plan = bench.plan(mode, "cat large > out; cksum < source; stat -c %h large");
        plan.inputs = vec![
            blob(&elsewhere.path().join("blob"), &text),
            bench.source("pkg/source", &text),
        ];
        plan.outputs = vec![output("pkg/out")];
        let report = bench.run(plan);
        assert_eq!(outputs(&report)[0].2, text, "{mode:?}");
        assert!(log(&report).ends_with("\n1\n"));
    }
    bench.executor.shutdown();
}

#[test]
fn blobs_with_all_the_links_they_can_have_are_copied() {
    let test = "blobs_with_all_the_links_they_can_have_are_copied";
    // ext4 allows 65,000; a small file system makes them quickly.
    let Some((mounted, _image)) = Mounted::image(test, &["mkfs.ext4", "-q", "-F"], 64 << 20) else {
        return;
    };
    let bench = Bench::at(&mounted.path());
    let path = bench.root.join("blob");
    let input = blob(&path, &"x".repeat(100_000));
    let mut number = 0;
    while std::fs::hard_link(&path, bench.root.join(format!("link{number}"))).is_ok() {
        number += 1;
    }
    assert!(number > 1000);
    let mut plan = bench.plan(SandboxMode::Standard, "stat -c %h large; wc -c < large");
    plan.inputs = vec![input];
    assert_eq!(log(&bench.run(plan)), "1\n100000\n");
    assert_eq!(std::fs::metadata(&path).unwrap().nlink(), number + 1);
    bench.executor.shutdown();
}

#[test]
fn large_files_are_cloned_where_that_is_possible() {
    let test = "large_files_are_cloned_where_that_is_possible";
    let Some((mounted, _image)) = Mounted::image(test, &["mkfs.xfs", "-q", "-m", "reflink=1"], 512 << 20)
    else {
        return;
    };
    let bench = Bench::at(&mounted.path());
    let size = 50_000_000;
    let text = "0123456789".repeat(size / 10);
    let used = || {
        let stat = rustix::fs::statvfs(&bench.root).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    };
    for mode in modes(&bench, test) {
        let mut plan = bench.plan(mode, "wc -c < large; cksum < source");
        let blob = Input {
            read_only: false,
            ..blob(&bench.root.join("blob"), &text)
        };
        plan.inputs = vec![blob, bench.source("pkg/source", &text)];
        plan.keep = true;
        rustix::fs::sync();
        let before = used();
        let report = bench.run(plan.clone());
        completed(&report);
        rustix::fs::sync();
        assert!(used() < before + size as u64 / 2, "the copies share their blocks");
        // A clone is checked as a copy is.
        std::fs::write(bench.root.join("pkg/source"), text.replace('5', "6")).unwrap();
        assert_stale(&bench.run(plan), "pkg/source");
    }
    bench.executor.shutdown();
}

#[test]
fn a_full_disk_is_told_with_its_cause() {
    let test = "a_full_disk_is_told_with_its_cause";
    let Some(mounted) = Mounted::new(test, &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) else {
        return;
    };
    let bench = Bench::at(&mounted.path());
    let mut plan = bench.plan(SandboxMode::Standard, "true");
    plan.inputs = vec![inline("pkg/a", &"x".repeat(3_000_000))];
    let report = bench.run(plan);
    let failed_report = failed(&report);
    assert_eq!(failed_report.kind(), FailureKind::Staging);
    assert!(
        failed_report
            .message
            .ends_with("ws/pkg/a: no space left on device"),
        "{}",
        failed_report.message
    );
    assert!(failed_report.hint.contains("HEPH_HOME"));
    // The next one has the space again.
    completed(&bench.run(bench.plan(SandboxMode::Standard, "true")));
    let report = bench.run(bench.plan(SandboxMode::Standard, "head -c 3000000 /dev/zero"));
    assert_eq!(failed(&report).kind(), FailureKind::Staging, "{report:?}");
    assert!(
        failed(&report).message.ends_with("log: no space left on device"),
        "{report:?}"
    );
    bench.executor.shutdown();
}

#[test]
fn a_lack_of_inodes_is_told_apart_from_a_full_disk() {
    let test = "a_lack_of_inodes_is_told_apart_from_a_full_disk";
    let Some((mounted, _image)) = Mounted::image(test, &["mkfs.ext4", "-q", "-F", "-N", "64"], 32 << 20)
    else {
        return;
    };
    let bench = Bench::at(&mounted.path());
    let mut plan = bench.plan(SandboxMode::Standard, "true");
    plan.base.clear();
    plan.base_digest.clear();
    plan.inputs = (0..100)
        .map(|number| inline(&format!("pkg/{number}"), ""))
        .collect();
    let report = bench.run(plan);
    assert_eq!(failed(&report).kind(), FailureKind::Staging);
    assert!(
        failed(&report).message.ends_with("no inodes left on device"),
        "{}",
        failed(&report).message
    );
    bench.executor.shutdown();
}

#[test]
fn a_read_only_home_is_told_with_its_cause() {
    let test = "a_read_only_home_is_told_with_its_cause";
    let Some(mounted) = Mounted::new(test, &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) else {
        return;
    };
    let bench = Bench::at(&mounted.path());
    let path = mounted.path();
    let remount = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(remount.success());
    let report = bench.run(bench.plan(SandboxMode::Standard, "true"));
    assert_eq!(failed(&report).kind(), FailureKind::Staging);
    assert!(
        failed(&report).message.ends_with("read-only file system"),
        "{}",
        failed(&report).message
    );
    assert_eq!(
        failed(&report).hint,
        "set HEPH_HOME to a directory that can be written"
    );
    bench.executor.shutdown();
}
