//! What is kept of what a command writes, and what is refused.

use std::os::unix::fs::PermissionsExt as _;

use heph_proto::EntryKind::{Directory, Executable, File, Symlink};
use heph_proto::content::Content as Held;
use heph_proto::{FailureKind, OutputSpec, Plan, SandboxMode};

use crate::support::{Bench, completed, digest, failed, inline, log, modes, output, outputs};

fn plan(bench: &Bench, mode: SandboxMode, script: &str, paths: &[&str]) -> Plan {
    let mut plan = bench.plan(mode, script);
    plan.outputs = paths.iter().map(|path| output(&format!("pkg/{path}"))).collect();
    plan
}

#[test]
fn files_links_directories_and_globs_are_kept() {
    let bench = Bench::new();
    let script = "echo a > a; echo '#!/bin/sh' > run; chmod 755 run; ln -s a link\n\
        mkdir -p dist/empty dist/full/deeper; echo b > dist/full/b; ln -s ../full/b dist/deep; echo c > dist/full/deeper/c\n\
        echo 1 > 1.o; echo 2 > 2.o; mkdir sub; echo 3 > sub/3.o; echo n > none.txt";
    for mode in modes(&bench, "files_links_directories_and_globs_are_kept") {
        let report = bench.run(plan(&bench, mode, script, &["run", "a", "link", "dist/", "*.o"]));
        let found = outputs(&report);
        let found: Vec<_> = found
            .iter()
            .map(|(path, kind, text)| (path.as_str(), *kind, text.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("pkg/1.o", File, "1\n"),
                ("pkg/2.o", File, "2\n"),
                ("pkg/a", File, "a\n"),
                ("pkg/dist/deep", Symlink, "../full/b"),
                ("pkg/dist/empty", Directory, ""),
                ("pkg/dist/full/b", File, "b\n"),
                ("pkg/dist/full/deeper/c", File, "c\n"),
                ("pkg/link", Symlink, "a"),
                ("pkg/run", Executable, "#!/bin/sh\n"),
            ],
            "{mode:?}"
        );
        for produced in &completed(&report).outputs {
            let entry = produced.entry.as_ref().unwrap();
            if let Some(Held::Inline(bytes)) = produced.content.as_ref().and_then(|c| c.content.as_ref()) {
                assert_eq!(entry.digest, digest(bytes));
                assert_eq!(entry.size, bytes.len() as u64);
            }
        }
    }
}

#[test]
fn an_empty_directory_is_an_output_too_and_globs_may_go_deep() {
    let bench = Bench::new();
    let script = "mkdir dist x x/y; echo 1 > x/y/z.o";
    let report = bench.run(plan(&bench, SandboxMode::Standard, script, &["dist/", "**/*.o"]));
    let found: Vec<_> = outputs(&report)
        .into_iter()
        .map(|(path, kind, _)| (path, kind))
        .collect();
    assert_eq!(
        found,
        [
            ("pkg/dist".to_owned(), Directory),
            ("pkg/x/y/z.o".to_owned(), File)
        ]
    );
}

#[test]
fn large_outputs_are_handed_over_as_files() {
    let bench = Bench::new();
    for mode in modes(&bench, "large_outputs_are_handed_over_as_files") {
        let script = "head -c 200000 /dev/zero | tr '\\0' x > large; chmod 4755 large; ln large second";
        let mut plan = plan(&bench, mode, script, &["large"]);
        plan.outputs.push(OutputSpec {
            group: "again".to_owned(),
            ..output("pkg/large")
        });
        let report = bench.run(plan);
        let mut files = Vec::new();
        for produced in &completed(&report).outputs {
            let entry = produced.entry.as_ref().unwrap();
            assert_eq!((entry.kind(), entry.size), (Executable, 200_000));
            assert_eq!(entry.digest, digest("x".repeat(200_000).as_bytes()));
            let Some(Held::File(path)) = &produced.content.as_ref().unwrap().content else {
                panic!("a large output is a file");
            };
            assert!(path.starts_with(bench.home.join("stage").to_str().unwrap()));
            assert_eq!(std::fs::read(path).unwrap().len(), 200_000);
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o755, "no set-user-ID");
            files.push(path.clone());
        }
        assert_eq!(files.len(), 2);
        assert_ne!(files[0], files[1]);
    }
}

#[test]
fn files_that_nobody_may_read_are_kept() {
    let bench = Bench::new();
    for mode in modes(&bench, "files_that_nobody_may_read_are_kept") {
        let script = "echo x > a; chmod 0 a; mkdir d; echo y > d/b; chmod 0 d/b";
        let report = bench.run(plan(&bench, mode, script, &["a", "d/"]));
        let text: Vec<_> = outputs(&report).into_iter().map(|(_, _, text)| text).collect();
        assert_eq!(text, ["x\n", "y\n"]);
    }
}

#[test]
fn missing_outputs_are_named_with_what_was_written_instead() {
    let bench = Bench::new();
    for mode in modes(&bench, "missing_outputs_are_named_with_what_was_written_instead") {
        let script = "echo working; echo > otu.txt; mkdir build; echo > build/b";
        let mut plan = plan(&bench, mode, script, &["out.txt"]);
        plan.inputs = vec![inline("pkg/in.txt", "")];
        let report = bench.run(plan);
        let failed = failed(&report);
        assert_eq!(failed.kind(), FailureKind::Output);
        assert_eq!(failed.message, "the output pkg/out.txt was not written");
        assert_eq!(failed.hint, "it wrote instead: pkg/build/b, pkg/otu.txt");
        assert_eq!(failed.log_tail, ["working"]);
        assert_eq!(std::fs::read_to_string(&failed.log_file).unwrap(), "working\n");
        assert!(
            std::path::Path::new(&failed.sandbox)
                .join("ws/pkg/otu.txt")
                .exists()
        );
    }
    let report = bench.run(plan(&bench, SandboxMode::Standard, "true", &["a", "*.b"]));
    assert_eq!(
        failed(&report).message,
        "the outputs pkg/a, pkg/*.b were not written"
    );
    let mut plan = plan(&bench, SandboxMode::Standard, "true", &["a", "*.b"]);
    plan.outputs.iter_mut().for_each(|output| output.optional = true);
    assert_eq!(outputs(&bench.run(plan)), []);
}

#[test]
fn inputs_are_no_outputs_unless_they_are_rewritten_in_place() {
    let bench = Bench::new();
    let mut plan = plan(&bench, SandboxMode::Standard, "echo b > b.txt", &["*.txt"]);
    plan.inputs = vec![inline("pkg/a.txt", "a\n")];
    let names = |plan: Plan| -> Vec<String> {
        outputs(&bench.run(plan))
            .into_iter()
            .map(|(path, ..)| path)
            .collect()
    };
    assert_eq!(names(plan.clone()), ["pkg/b.txt"]);
    plan.in_place = true;
    assert_eq!(names(plan), ["pkg/a.txt", "pkg/b.txt"]);
}

#[test]
fn what_cannot_be_kept_is_refused_by_name() {
    let bench = Bench::new();
    let cases = [
        (
            "ln -s /etc/passwd out",
            "the output pkg/out is a link out of the sandbox, to /etc/passwd",
        ),
        (
            "ln -s ../../x out",
            "the output pkg/out is a link out of the sandbox, to ../../x",
        ),
        (
            "mkfifo out",
            "the output pkg/out is a pipe; only files, directories and links are kept",
        ),
        (
            "mkdir out",
            "the output pkg/out is a directory, but a file is declared",
        ),
    ];
    for mode in modes(&bench, "what_cannot_be_kept_is_refused_by_name") {
        for (script, message) in cases {
            let report = bench.run(plan(&bench, mode, script, &["out"]));
            let failed = failed(&report);
            assert_eq!(failed.kind(), FailureKind::Output, "{script}");
            assert_eq!(failed.message, message, "{mode:?}");
        }
        let script = "cd ..; rm -r pkg; ln -s /etc pkg";
        let report = bench.run(plan(&bench, mode, script, &["passwd"]));
        assert_eq!(
            failed(&report).message,
            "the output pkg/passwd lies behind a link out of the sandbox"
        );

        let report = bench.run(plan(&bench, mode, "echo > dist", &["dist/"]));
        assert_eq!(
            failed(&report).message,
            "the output pkg/dist/ is a file, but a directory is declared"
        );

        let script = "mkdir dist; ln -s /etc dist/etc";
        let report = bench.run(plan(&bench, mode, script, &["dist/"]));
        assert_eq!(
            failed(&report).message,
            "the output pkg/dist/etc is a link out of the sandbox, to /etc"
        );

        let script = "mkdir dist; printf x > \"$(printf 'dist/a\\377b')\"";
        let report = bench.run(plan(&bench, mode, script, &["dist/"]));
        assert_eq!(
            failed(&report).message,
            "the name of the output pkg/dist/a\\xffb is not UTF-8"
        );
    }
}

#[test]
fn a_socket_is_refused() {
    let bench = Bench::new();
    if !std::path::Path::new("/usr/bin/python3").exists() {
        eprintln!("SKIPPED: a_socket_is_refused: no python3");
        return;
    }
    for mode in modes(&bench, "a_socket_is_refused") {
        let script = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"out\")'";
        let mut plan = plan(&bench, mode, script, &["out"]);
        plan.extra_path = vec!["/usr/bin".to_owned()];
        let report = bench.run(plan);
        assert_eq!(
            failed(&report).message,
            "the output pkg/out is a socket; only files, directories and links are kept",
            "{}",
            log(&report)
        );
    }
}

#[test]
fn logs_of_any_size_are_reported() {
    let bench = Bench::new();
    for mode in modes(&bench, "logs_of_any_size_are_reported") {
        let report = bench.run(bench.plan(mode, "true"));
        assert!(report.log.is_none());
        let report = bench.run(bench.plan(mode, "echo one; echo two >&2; echo three > /dev/stderr"));
        assert_eq!(log(&report), "one\ntwo\nthree\n");
        let script = "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done";
        let report = bench.run(bench.plan(mode, script));
        let text = log(&report);
        assert_eq!(text.lines().count(), 30_000);
        assert_eq!(report.log.as_ref().unwrap().digest, digest(text.as_bytes()));
        let report = bench.run(bench.plan(mode, &format!("{script}; exit 5")));
        let failed = failed(&report);
        assert_eq!(failed.log_tail.len(), 10);
        assert_eq!(failed.log_tail[9], "line 29999");
        assert_eq!(std::fs::read_to_string(&failed.log_file).unwrap(), text);
    }
}

#[test]
fn a_sandbox_is_removed_after_success_and_kept_after_failure_until_the_next_run() {
    for mode in modes(&Bench::new(), "a_sandbox_is_removed_after_success") {
        let bench = Bench::new();
        let sandbox = bench.home.join("sandbox/0123456789abcdef");
        failed(&bench.run(bench.plan(mode, "echo left > left; exit 1")));
        assert_eq!(
            std::fs::read_to_string(sandbox.join("ws/pkg/left")).unwrap(),
            "left\n"
        );
        let mut plan = bench.plan(mode, "ls -A");
        plan.keep = true;
        assert_eq!(log(&bench.run(plan)), "");
        assert!(sandbox.join("ws/pkg").exists());
        completed(&bench.run(bench.plan(mode, "echo > left")));
        // The report comes before the broom.
        crate::support::eventually("the sandbox is empty", || !sandbox.join("ws/pkg/left").exists());
        bench.executor.shutdown();
        let left: Vec<_> = std::fs::read_dir(bench.home.join("sandbox"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with("base-") && name != "trial")
            .collect();
        assert_eq!(left, [""; 0]);
    }
}
