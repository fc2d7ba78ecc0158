//! Environment, working directory, descriptors, inputs.

use heph_proto::plan::Action;
use heph_proto::tool::Program;
use heph_proto::variable_part::Part;
use heph_proto::{EntryKind, ListFile, SandboxMode, Tool, Variable, VariablePart};

use crate::support::{Bench, completed, failed, host_tool, inline, log, modes, output, outputs, variable};

#[test]
fn the_environment_is_complete_and_nothing_else() {
    let bench = Bench::new();
    for mode in modes(&bench, "the_environment_is_complete_and_nothing_else") {
        let mut plan = bench.plan(mode, "");
        if let Some(Action::Command(command)) = &mut plan.action {
            command.argv = vec!["env".to_owned()];
        }
        plan.environment = vec![variable("GREETING", "hello")];
        let report = bench.run(plan);
        let text = log(&report);
        completed(&report);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let (top, base) = match mode {
            SandboxMode::Strict => ("/heph".to_owned(), "/heph-base".to_owned()),
            _ => {
                let sandboxes = bench.home.join("sandbox");
                let base = sandboxes.join(format!("base-{}", "b".repeat(64)));
                let top = sandboxes.join("0123456789abcdef");
                (top.display().to_string(), base.display().to_string())
            }
        };
        let expected = [
            "GREETING=hello".to_owned(),
            "HEPH_TARGET=//pkg:target".to_owned(),
            format!("HOME={top}/home"),
            "LANG=C.UTF-8".to_owned(),
            format!("PATH={top}/bin:{base}"),
            "SHELL=/bin/sh".to_owned(),
            format!("TMPDIR={top}/tmp"),
            "TZ=UTC".to_owned(),
            "USER=heph".to_owned(),
            format!("WORKSPACE_ROOT={top}/ws"),
        ];
        assert_eq!(lines, expected, "{mode:?}");
    }
}

#[test]
fn inputs_become_outputs() {
    let bench = Bench::new();
    for mode in modes(&bench, "inputs_become_outputs") {
        let mut plan = bench.plan(mode, "cat a.txt ../lib/b.txt > out.txt; echo done");
        plan.inputs = vec![bench.source("pkg/a.txt", "a\n"), bench.source("lib/b.txt", "b\n")];
        plan.outputs = vec![output("pkg/out.txt")];
        let report = bench.run(plan);
        let expected = ("pkg/out.txt".to_owned(), EntryKind::File, "a\nb\n".to_owned());
        assert_eq!(outputs(&report), [expected], "{mode:?}");
        assert_eq!(log(&report), "done\n");
        assert_eq!(report.sandbox(), mode);
    }
}

/// Runs a script in every mode and gives what it prints.
fn prints(test: &str, script: &str) -> Vec<(SandboxMode, String)> {
    let bench = Bench::new();
    modes(&bench, test)
        .into_iter()
        .map(|mode| {
            let report = bench.run(bench.plan(mode, script));
            completed(&report);
            (mode, log(&report))
        })
        .collect()
}

#[test]
fn a_command_starts_in_its_package_with_a_fixed_umask_and_empty_input() {
    let script = "pwd; umask; wc -c; touch f; mkdir d; stat -c %a f d .";
    for (mode, text) in prints("a_command_starts_in_its_package", script) {
        let (directory, rest) = text.split_once('\n').unwrap();
        assert!(directory.ends_with("/ws/pkg"), "{mode:?}: {directory}");
        assert_eq!(rest, "0022\n0\n644\n755\n755\n", "{mode:?}");
        if mode == SandboxMode::Strict {
            assert_eq!(directory, "/heph/ws/pkg");
        }
    }
}

#[test]
fn no_descriptor_leaks_in() {
    // A descriptor of this process that is inherited by whatever is executed without care.
    let leak = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    // 3 is the directory that `ls` reads.
    for (mode, text) in prints("no_descriptor_leaks_in", "ls /proc/self/fd") {
        assert_eq!(text, "0\n1\n2\n3\n", "{mode:?}");
    }
}

#[test]
fn signals_have_their_default_actions() {
    let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status";
    for (mode, text) in prints("signals_have_their_default_actions", script) {
        for line in text.lines() {
            assert!(line.ends_with(&"0".repeat(16)), "{mode:?}: {line}");
        }
    }
}

#[test]
fn lists_tools_and_scripts_are_where_variables_say() {
    let bench = Bench::new();
    for mode in modes(&bench, "lists_tools_and_scripts_are_where_variables_say") {
        let mut plan = bench.plan(mode, "");
        plan.action = Some(Action::Command(heph_proto::Command {
            argv: ["bash", "--noprofile", "--norc", "-eu"]
                .map(str::to_owned)
                .to_vec(),
            script: Some("cat $LIST_SRC; greet; hello; echo $0".to_owned()),
        }));
        let mut greet = inline("tools/greet.sh", "#!/bin/sh\necho greetings\n");
        greet.kind = EntryKind::Executable.into();
        plan.inputs = vec![greet];
        plan.lists = vec![ListFile {
            name: "src".to_owned(),
            lines: vec!["a.c".to_owned(), "b.c".to_owned()],
        }];
        let of_input = Some(Program::Input("tools/greet.sh".to_owned()));
        plan.tools = vec![
            Tool {
                name: "greet".to_owned(),
                program: of_input,
            },
            host_tool("hello", "/usr/bin/env".as_ref()),
        ];
        let part = Some(Part::SandboxPath("list/src".to_owned()));
        plan.environment = vec![Variable {
            name: "LIST_SRC".to_owned(),
            parts: vec![VariablePart { part }],
        }];
        let report = bench.run(plan);
        completed(&report);
        let text = log(&report);
        assert!(text.starts_with("a.c\nb.c\ngreetings\n"), "{mode:?}: {text}");
        assert!(text.contains("\nHEPH_TARGET=//pkg:target\n"), "{mode:?}: {text}");
        assert!(text.trim_end().ends_with("/script"), "{mode:?}: {text}");
    }
}

#[test]
fn a_variable_replaces_a_constant() {
    let bench = Bench::new();
    for mode in modes(&bench, "a_variable_replaces_a_constant") {
        let mut plan = bench.plan(mode, "echo $TZ; env | grep -c ^TZ=");
        plan.environment = vec![variable("TZ", "Europe/Berlin")];
        assert_eq!(log(&bench.run(plan)), "Europe/Berlin\n1\n", "{mode:?}");
    }
}

#[test]
fn programs_that_are_not_there_are_named_with_the_key_that_adds_them() {
    let bench = Bench::new();
    for mode in modes(&bench, "programs_that_are_not_there_are_named") {
        let mut plan = bench.plan(mode, "");
        plan.action = Some(Action::Command(heph_proto::Command {
            argv: vec!["frobnicate".to_owned()],
            script: None,
        }));
        let report = bench.run(plan);
        assert_eq!(failed(&report).kind(), heph_proto::FailureKind::Program);
        assert_eq!(
            failed(&report).message,
            "the program frobnicate is not on the sandbox's PATH"
        );
        assert_eq!(
            failed(&report).hint,
            "declare it: tools = [\"//@heph/bin:frobnicate\"]"
        );

        let report = bench.run(bench.plan(mode, "frobnicate --help"));
        assert_eq!(failed(&report).kind(), heph_proto::FailureKind::Command);
        assert_eq!(failed(&report).exit_code, Some(127));
        assert_eq!(
            failed(&report).hint,
            "declare it: tools = [\"//@heph/bin:frobnicate\"]"
        );

        let mut plan = bench.plan(mode, "");
        plan.inputs = vec![inline("pkg/data", "no program")];
        plan.action = Some(Action::Command(heph_proto::Command {
            argv: vec!["./data".to_owned()],
            script: None,
        }));
        let report = bench.run(plan);
        assert_eq!(failed(&report).kind(), heph_proto::FailureKind::Program);
        assert_eq!(
            failed(&report).message,
            "the program ./data cannot be executed: permission denied"
        );
    }
}

#[test]
fn directories_of_the_exec_plugin_come_last_on_path() {
    let bench = Bench::new();
    let directory = bench.root.join("host-programs");
    std::fs::create_dir(&directory).unwrap();
    for name in ["cat", "extra"] {
        let path = directory.join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho extra {name}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
    }
    for mode in modes(&bench, "directories_of_the_exec_plugin_come_last_on_path") {
        let mut plan = bench.plan(mode, "cat </dev/null; extra");
        plan.extra_path = vec![directory.to_str().unwrap().to_owned(), "/nowhere".to_owned()];
        assert_eq!(log(&bench.run(plan)), "extra extra\n", "{mode:?}");
        let mut plan = bench.plan(mode, "");
        plan.extra_path = vec![directory.to_str().unwrap().to_owned()];
        plan.action = Some(Action::Command(heph_proto::Command {
            argv: vec!["extra".to_owned()],
            script: None,
        }));
        assert_eq!(log(&bench.run(plan)), "extra extra\n", "{mode:?}");
    }
}

#[test]
fn a_jobserver_gives_as_many_tokens_as_jobs() {
    let bench = Bench::new();
    for mode in modes(&bench, "a_jobserver_gives_as_many_tokens_as_jobs") {
        let script = "echo \"$MAKEFLAGS\"; dd bs=1 count=3 <&3 2>/dev/null | wc -c; ls /proc/self/fd";
        let mut plan = bench.plan(mode, script);
        plan.jobserver = true;
        // Tokens that a command kept are there again for the next one.
        for _ in 0..2 {
            let text = log(&bench.run(plan.clone()));
            assert_eq!(
                text, " -j3 --jobserver-auth=3,4\n3\n0\n1\n2\n3\n4\n5\n",
                "{mode:?}"
            );
        }
    }
}
