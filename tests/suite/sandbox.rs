//! What a command can see and do, in both kinds of sandbox.

use std::path::Path;

use heph_tests::{Environment, files_below, needs, strict_available};

/// A workspace whose sandboxes are of one kind.
fn with_mode(mode: &str) -> Environment {
    let env = Environment::bare();
    env.write(
        ".hephconfig",
        format!("{}sandbox:\n  mode: {mode}\n", heph_tests::CONFIG),
    );
    env
}

fn strict(test: &str) -> Option<Environment> {
    needs(test, "namespaces", strict_available()).then(|| with_mode("strict"))
}

/// Runs a script as the target `//p:t` and gives what it wrote to `$OUT`.
fn script(env: &Environment, lines: &str) -> String {
    env.write(
        "p/BUILD",
        format!("target(name='t', driver='bash', run='''{lines}''', out='out')\n"),
    );
    env.heph(["run", "--copy-out", "copied", "//p:t"]).run().success();
    env.read("copied/p/out")
}

#[test]
fn an_undeclared_read_fails_with_a_hint_that_names_file_and_key() {
    let Some(env) = strict("an_undeclared_read_fails_with_a_hint_that_names_file_and_key") else {
        return;
    };
    env.write("p/secret.txt", "s\n");
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', run='cat secret.txt > $OUT', out='out')\n",
    );
    let run = env.heph(["run", "//p:t"]).run();
    run.exits(1).says("p/secret.txt").says("deps");
    insta::assert_snapshot!(run.report(), @r#"
        exit 1
        --- stderr
        [1/1] //p:t FAILED: exit code 1

        error: //p:t failed: exit code 1
          command: cat secret.txt > $OUT
          | cat: secret.txt: No such file or directory
          log: <home>/sandbox/<digest>/log
          sandbox: <home>/sandbox/<digest>
        hint: p/secret.txt exists in the workspace but is not declared: deps = [file("secret.txt")]

        1 of 1 target failed in <time>
    "#);
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', deps=file('secret.txt'), run='cat secret.txt > $OUT', out='out')\n",
    );
    env.build("//p:t");
}

#[test]
fn nothing_of_workspace_home_or_store_can_be_read_by_its_absolute_path() {
    let Some(env) = strict("nothing_of_workspace_home_or_store_can_be_read_by_its_absolute_path") else {
        return;
    };
    env.write("secret.txt", "s\n");
    std::fs::write(env.user_home().join("key"), "k").unwrap();
    for path in [
        env.path("secret.txt"),
        env.user_home().join("key"),
        env.home(),
        env.beside("tests"),
    ] {
        let text = script(
            &env,
            &format!(
                "if test -e {}; then echo seen; else echo hidden; fi > $OUT",
                path.display()
            ),
        );
        assert_eq!(text, "hidden\n", "{}", path.display());
    }
}

#[test]
fn the_network_is_off_unless_it_is_asked_for() {
    let Some(env) = strict("the_network_is_off_unless_it_is_asked_for") else {
        return;
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let connect = format!(
        "if (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null; then echo open; else echo shut; fi > $OUT"
    );
    assert_eq!(script(&env, &connect), "shut\n");
    env.write(
        "p/BUILD",
        env.read("p/BUILD").replace("driver=", "network=True, driver="),
    );
    env.heph(["run", "--copy-out", "copied", "//p:t"]).run().success();
    assert_eq!(env.read("copied/p/out"), "open\n");
}

#[test]
fn loopback_is_up_inside() {
    let Some(env) = strict("loopback_is_up_inside") else {
        return;
    };
    let text = script(
        &env,
        "cat /sys/class/net/lo/flags /proc/net/dev > $OUT 2>/dev/null || cat /proc/net/dev > $OUT",
    );
    assert!(text.contains("lo:") && !text.contains("eth0"), "{text}");
}

#[test]
fn the_place_of_the_sandbox_is_not_in_debug_information() {
    let Some(env) = strict("the_place_of_the_sandbox_is_not_in_debug_information") else {
        return;
    };
    env.write("p/a.c", "const char *file(void) { return __FILE__; }\n");
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', deps=file('a.c'), tools='//@heph/bin:gcc', run='gcc -g -c $PWD/a.c -o $OUT', out='a.o')\n",
    );
    let build = |env: &Environment| {
        env.heph(["run", "--copy-out", "copied", "//p:t"]).run().success();
        std::fs::read(env.path("copied/p/a.o")).unwrap()
    };
    let object = build(&env);
    let text = String::from_utf8_lossy(&object).into_owned();
    assert!(
        !text.contains("heph-test-"),
        "the place of the sandbox is in the object"
    );
    let other = with_mode("strict");
    other.write("p/a.c", env.read("p/a.c"));
    other.write("p/BUILD", env.read("p/BUILD"));
    assert_eq!(build(&other), object, "another place gives another object");
}

#[test]
fn standard_says_once_that_it_was_not_isolated_and_auto_does_not_where_it_was() {
    let env = with_mode("standard");
    env.write(
        "BUILD",
        "target(name='a', driver='sh', run='true')\ntarget(name='b', driver='sh', run='true')\n",
    );
    let build = env.build("//...");
    assert_eq!(build.notices(), ["not-isolated"]);
    assert_eq!(build.target("//:a")["sandbox"], "standard");
    let run = env.heph(["run", "-j1", "--force", "//..."]).run();
    run.success();
    insta::assert_snapshot!(run.report(), @r#"
        exit 0
        --- stderr
        note: commands were not isolated: they can read undeclared files and reach the network
        hint: set sandbox.mode to strict to make that an error, or to off to silence this
        [1/2] //:a <time>
        [2/2] //:b <time>
        2 targets in <time>: 2 executed
    "#);
    if strict_available() {
        let env = with_mode("auto");
        env.write("BUILD", "target(name='a', driver='sh', run='true')\n");
        let build = env.build("//...");
        assert!(build.notices().is_empty(), "{}", build.run);
        assert_eq!(build.target("//:a")["sandbox"], "strict");
    }
}

#[test]
fn a_run_that_demands_strict_accepts_only_strict_results() {
    let Some(env) = strict("a_run_that_demands_strict_accepts_only_strict_results") else {
        return;
    };
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='echo > $OUT', out='out')\n",
    );
    let config = env.read(".hephconfig");
    env.write(".hephconfig", config.replace("strict", "standard"));
    env.build("//:t");
    assert!(env.build("//:t").executed().is_empty());
    env.write(".hephconfig", &config);
    let build = env.build("//:t");
    assert_eq!(build.executed(), ["//:t"]);
    assert_eq!(build.target("//:t")["sandbox"], "strict");
    env.write(".hephconfig", config.replace("strict", "standard"));
    assert!(env.build("//:t").executed().is_empty());
}

#[test]
fn the_environment_is_empty_but_for_what_is_declared_and_constants() {
    for mode in ["strict", "standard"] {
        if mode == "strict" && !needs("the_environment_is_empty", "namespaces", strict_available()) {
            continue;
        }
        let mut env = with_mode(mode);
        env.set("LEAKED", "x");
        let text = script(
            &env,
            "env | sort > $OUT; umask >> $OUT; wc -c < /dev/stdin >> $OUT",
        );
        let names: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name)
            .collect();
        for name in [
            "PATH",
            "HOME",
            "TMPDIR",
            "USER",
            "SHELL",
            "OUT",
            "WORKSPACE_ROOT",
            "HEPH_TARGET",
        ] {
            assert!(names.contains(&name), "{mode}: {name} is not in {text}");
        }
        assert!(
            text.contains("LANG=C.UTF-8\n") && text.contains("TZ=UTC\n"),
            "{mode}: {text}"
        );
        assert!(text.ends_with("0022\n0\n"), "{mode}: {text}");
        assert!(!names.contains(&"LEAKED"), "{mode}: {text}");
        assert!(
            !text.lines().any(|line| line.starts_with("HEPH_HOME=")),
            "{mode}: {text}"
        );
    }
}

#[test]
fn home_and_temporary_directory_are_inside_and_writable() {
    for mode in ["strict", "standard"] {
        if mode == "strict"
            && !needs(
                "home_and_temporary_directory_are_inside",
                "namespaces",
                strict_available(),
            )
        {
            continue;
        }
        let env = with_mode(mode);
        let text = script(
            &env,
            "echo x > $HOME/x; echo x > $TMPDIR/x; mktemp > /dev/null; echo $HOME > $OUT; ls -A $HOME >> $OUT",
        );
        assert!(!text.starts_with(env.user_home().to_str().unwrap()), "{text}");
        assert!(text.ends_with("\nx\n"), "{mode}: {text}");
    }
}

#[test]
fn devices_processes_and_host_name_are_private() {
    let Some(env) = strict("devices_processes_and_host_name_are_private") else {
        return;
    };
    let text = script(
        &env,
        "hostname > $OUT || cat /proc/sys/kernel/hostname > $OUT; ls /dev >> $OUT; ls -d /proc/[0-9]* | wc -l >> $OUT",
    );
    assert!(text.starts_with("heph\n"), "{text}");
    for device in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "shm"] {
        assert!(
            text.lines().any(|line| line == device),
            "/dev/{device} is missing: {text}"
        );
    }
    assert!(
        !text.contains("vda") && !text.contains("kmsg") && !text.contains("mem\n"),
        "{text}"
    );
    let processes: u32 = text.lines().last().unwrap().trim().parse().unwrap();
    assert!(processes < 10, "{text}");
    assert_eq!(
        script(&env, "echo x > /tmp/mine; echo x > /dev/shm/mine; ls /tmp > $OUT"),
        "mine\n"
    );
    assert!(!Path::new("/tmp/mine").exists() && !Path::new("/dev/shm/mine").exists());
}

#[test]
fn system_directories_are_read_only_and_nobody_gains_privileges() {
    let Some(env) = strict("system_directories_are_read_only_and_nobody_gains_privileges") else {
        return;
    };
    let text = script(
        &env,
        "for d in / /usr /usr/bin /etc; do if touch $d/heph-was-here 2>/dev/null; then echo wrote $d; fi; done > $OUT\n\
         grep -E 'NoNewPrivs|CapEff|CapPrm|CapBnd' /proc/self/status >> $OUT",
    );
    assert!(!text.contains("wrote"), "{text}");
    assert!(text.contains("NoNewPrivs:\t1"), "{text}");
    assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
    for leak in ["/heph-was-here", "/usr/heph-was-here", "/etc/heph-was-here"] {
        assert!(!Path::new(leak).exists());
    }
}

#[test]
fn programs_outside_the_base_set_are_not_found_and_the_hint_says_how_to_declare_them() {
    let Some(env) = strict("programs_outside_the_base_set_are_not_found") else {
        return;
    };
    env.write("BUILD", "target(name='t', driver='sh', run='gcc --version')\n");
    let run = env.heph(["run", "//:t"]).run();
    run.exits(1).says("//@heph/bin:gcc");
    insta::assert_snapshot!(run.report(), @r#"
        exit 1
        --- stderr
        [1/1] //:t FAILED: exit code 127

        error: //:t failed: exit code 127
          command: gcc --version
          | sh: 1: gcc: not found
          log: <home>/sandbox/<digest>/log
          sandbox: <home>/sandbox/<digest>
        hint: declare it: tools = ["//@heph/bin:gcc"]

        1 of 1 target failed in <time>
    "#);
    env.write(
        ".hephconfig",
        env.read(".hephconfig").replace("strict", "standard"),
    );
    env.heph(["run", "//:t"]).run().exits(1).says("//@heph/bin:gcc");
}

#[test]
fn the_base_set_has_what_shell_scripts_use() {
    for mode in ["strict", "standard"] {
        if mode == "strict"
            && !needs(
                "the_base_set_has_what_shell_scripts_use",
                "namespaces",
                strict_available(),
            )
        {
            continue;
        }
        let env = with_mode(mode);
        let text = script(
            &env,
            "for p in sh cat cp mv rm ls mkdir sed grep awk tar gzip sort uniq head tail tr cut wc find xargs env date test expr diff; do command -v $p > /dev/null || echo $p; done > $OUT",
        );
        assert_eq!(text, "", "{mode}: missing");
    }
}

#[test]
fn two_producers_of_a_path_are_an_error_before_anything_runs() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='a', driver='sh', run='echo a > $OUT', out='same')\n\
         target(name='b', driver='sh', run='echo b > $OUT', out='same')\n\
         target(name='use', driver='sh', deps=[':a', ':b'], run='true')\n",
    );
    let build = env.try_build("//:use");
    assert!(build.executed().is_empty(), "{}", build.run);
    let run = env.heph(["run", "//:use"]).run();
    assert_ne!(run.code, 0);
    insta::assert_snapshot!(run.report(), @r#"
        exit 2
        --- stderr
        error: same is produced by both //:b and //:a (BUILD:1:1)
          --> BUILD:2:1
        hint: give one of the outputs another name
    "#);
}

#[test]
fn a_missing_output_is_an_error_that_tells_what_was_written_instead() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='echo compiling; echo > out.text', out='out.txt')\n",
    );
    let run = env.heph(["run", "//:t"]).run();
    run.exits(1).says("out.txt").says("out.text").says("compiling");
    insta::assert_snapshot!(run.report(), @r#"
        exit 1
        --- stderr
        [1/1] //:t FAILED: the output out.txt was not written

        error: //:t failed: the output out.txt was not written
          command: echo compiling; echo > out.text
          | compiling
          log: <home>/sandbox/<digest>/log
          sandbox: <home>/sandbox/<digest>
        hint: it wrote instead: out.text

        1 of 1 target failed in <time>
    "#);
}

#[test]
fn outputs_that_leave_the_sandbox_or_are_no_files_are_errors() {
    let env = Environment::new();
    for (name, run, word) in [
        ("link", "ln -s /etc/passwd out", "/etc/passwd"),
        ("up", "ln -s ../../../../x out", "out"),
        ("fifo", "mkfifo out", "out"),
    ] {
        env.write(
            "BUILD",
            format!("target(name='{name}', driver='sh', run='{run}', out='out')\n"),
        );
        env.heph(["run", &format!("//:{name}")])
            .run()
            .exits(1)
            .says(word)
            .says("out");
    }
}

#[test]
fn a_failed_targets_sandbox_is_kept_until_its_next_run() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='echo clue > left-behind; exit 3')\n",
    );
    let build = env.try_build("//:t");
    let kept = build.target("//:t")["failure"]["sandbox"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(kept.starts_with(env.home().to_str().unwrap()), "{}", build.run);
    let found = || {
        files_below(Path::new(&kept))
            .iter()
            .any(|path| path.ends_with("left-behind"))
    };
    assert!(found(), "{kept}");
    env.write("BUILD", "target(name='t', driver='sh', run='true')\n");
    env.build("//:t");
    assert!(!found(), "{kept}");
}

#[test]
fn heph_run_inside_a_target_refuses() {
    let env = Environment::new();
    env.write("BUILD", "target(name='t', driver='sh', run='true')\n");
    let run = env.heph(["run", "//:t"]).with("HEPH_TARGET", "//outer:one").run();
    run.exits(2).says("//outer:one");
}

#[test]
fn source_links_are_inputs_as_links_and_may_not_leave_the_workspace() {
    let env = Environment::new();
    env.write("p/real.txt", "real\n");
    std::os::unix::fs::symlink("real.txt", env.path("p/link.txt")).unwrap();
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', deps=[file('link.txt'), file('real.txt')], run='readlink link.txt > $OUT; cat link.txt >> $OUT', out='out')\n",
    );
    env.heph(["run", "--cat-out", "//p:t"])
        .run()
        .success()
        .says("real.txt\nreal\n");
    std::os::unix::fs::symlink("/etc/passwd", env.path("p/away.txt")).unwrap();
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', deps=file('away.txt'), run='true')\n",
    );
    env.heph(["run", "//p:t"]).run().exits(1).says("p/away.txt");
}

#[test]
fn a_dangling_link_matched_by_a_glob_is_staged_as_a_link() {
    let env = Environment::new();
    env.write("p/a.txt", "a\n");
    std::os::unix::fs::symlink("nothing", env.path("p/b.txt")).unwrap();
    env.write(
        "p/BUILD",
        "target(name='t', driver='sh', deps=glob('*.txt'), run='readlink b.txt > $OUT', out='out')\n",
    );
    env.heph(["run", "--cat-out", "//p:t"])
        .run()
        .success()
        .says("nothing");
}

#[test]
fn names_that_are_not_utf8_are_an_error_with_the_escaped_name() {
    use std::os::unix::ffi::OsStrExt;
    let env = Environment::new();
    std::fs::write(env.root().join(std::ffi::OsStr::from_bytes(b"b\xffd.txt")), "x").unwrap();
    env.write(
        "BUILD",
        "target(name='t', driver='sh', deps=glob('*.txt'), run='true')\n",
    );
    env.heph(["run", "//:t"]).run().exits(2).says("\\xff");
    env.write(
        "BUILD",
        "target(name='t', driver='sh', deps=glob('*.md'), run='true')\n",
    );
    env.build("//:t");
}

#[test]
fn gitignore_does_not_hide_sources() {
    let env = Environment::new();
    env.write(".gitignore", "*.txt\n");
    env.write("a.txt", "a\n");
    env.write(
        "BUILD",
        "target(name='t', driver='sh', deps=glob('*.txt'), run='cat $SRC > $OUT', out='out')\n",
    );
    env.heph(["run", "--cat-out", "//:t"]).run().success().says("a\n");
}

#[test]
fn inputs_that_a_command_writes_to_stay_as_they_were() {
    for mode in ["strict", "standard"] {
        if mode == "strict"
            && !needs(
                "inputs_that_a_command_writes_to",
                "namespaces",
                strict_available(),
            )
        {
            continue;
        }
        let env = with_mode(mode);
        env.write("src.txt", "source\n");
        let big = "x".repeat(100_000);
        env.write("big.txt", &big);
        env.write(
            "BUILD",
            "target(name='dep', driver='sh', deps=file('big.txt'), run='cp big.txt $OUT', out='dep.txt')\n\
             target(name='bad', driver='sh', deps=[':dep', file('src.txt')], run=['echo x >> dep.txt || true', 'echo x >> src.txt || true', 'echo > $OUT'], out='out')\n\
             target(name='later', driver='sh', deps=':dep', run='wc -c < dep.txt > $OUT', out='count')\n",
        );
        env.build("//:bad");
        assert_eq!(env.read("src.txt"), "source\n");
        env.heph(["run", "--force", "--cat-out", "//:later"])
            .run()
            .success()
            .says("100000");
    }
}
