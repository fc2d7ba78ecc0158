//! Tools are known by what they are, not by their names.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use heph_tests::{Environment, needs, program, strict_available};

fn executed(env: &Environment) -> bool {
    let ran = !env.build("//:t").executed().is_empty();
    assert!(env.build("//:t").executed().is_empty(), "never a hit");
    ran
}

/// A directory in front of PATH, and a target that uses the program `tool` there.
fn with_tools() -> (Environment, PathBuf) {
    let mut env = Environment::new();
    let tools = env.beside("tools");
    std::fs::create_dir(&tools).unwrap();
    env.prepend_path(tools.clone());
    env.write(
        "BUILD",
        "target(name='t', driver='sh', tools='//@heph/bin:tool', run='tool > $OUT', out='out')\n",
    );
    (env, tools)
}

fn compile(source: &str, arguments: &[&str], out: &std::path::Path) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.c");
    std::fs::write(&file, source).unwrap();
    let status = std::process::Command::new("gcc")
        .arg(&file)
        .args(arguments)
        .arg("-o")
        .arg(out)
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn an_upgraded_tool_behind_the_same_name_is_a_miss() {
    let (env, _) = with_tools();
    env.write_outside("tools/tool", "#!/bin/sh\necho one\n");
    assert!(executed(&env));
    env.write_outside("tools/tool", "#!/bin/sh\necho two\n");
    assert!(executed(&env));
    env.heph(["run", "--cat-out", "//:t"]).run().says("two");
}

#[test]
fn a_tool_that_links_to_another_file_is_a_miss() {
    let (env, tools) = with_tools();
    env.write_outside("tools/tool-1", "#!/bin/sh\necho one\n");
    env.write_outside("tools/tool-2", "#!/bin/sh\necho two\n");
    std::os::unix::fs::symlink("tool-1", tools.join("tool")).unwrap();
    assert!(executed(&env));
    std::fs::remove_file(tools.join("tool")).unwrap();
    std::os::unix::fs::symlink("tool-2", tools.join("tool")).unwrap();
    assert!(executed(&env));
}

#[test]
fn another_tool_earlier_on_path_is_a_miss() {
    let (mut env, _) = with_tools();
    env.write_outside("tools/tool", "#!/bin/sh\necho one\n");
    assert!(executed(&env));
    env.write_outside("earlier/tool", "#!/bin/sh\necho earlier\n");
    let earlier = env.beside("earlier");
    env.prepend_path(earlier);
    assert!(executed(&env));
}

#[test]
fn a_changed_shared_library_of_a_tool_is_a_miss() {
    if !needs(
        "a_changed_shared_library_of_a_tool_is_a_miss",
        "gcc",
        program("gcc").is_some(),
    ) {
        return;
    }
    let (env, tools) = with_tools();
    let library = tools.join("libword.so");
    compile("int word(void) { return 1; }", &["-shared", "-fPIC"], &library);
    let source = "#include <stdio.h>\nint word(void);\nint main(void) { printf(\"%d\\n\", word()); }";
    let directory = tools.to_str().unwrap();
    compile(
        source,
        &["-L", directory, "-lword", &format!("-Wl,-rpath,{directory}")],
        &tools.join("tool"),
    );
    assert!(executed(&env));
    compile("int word(void) { return 2; }", &["-shared", "-fPIC"], &library);
    assert!(executed(&env));
    env.heph(["run", "--cat-out", "//:t"]).run().says("2");
}

#[test]
fn a_changed_interpreter_of_a_script_is_a_miss() {
    let (env, tools) = with_tools();
    env.write_outside("tools/interpreter", "#!/bin/sh\necho one\n");
    env.write_outside("tools/tool", &format!("#!{}/interpreter\n", tools.display()));
    env.write(
        ".hephconfig",
        format!("{}sandbox:\n  mode: standard\n", heph_tests::CONFIG),
    );
    assert!(executed(&env));
    env.write_outside("tools/interpreter", "#!/bin/sh\necho two\n");
    assert!(executed(&env));
}

#[test]
fn march_native_on_another_processor_is_a_miss() {
    let test = "march_native_on_another_processor_is_a_miss";
    if !needs(
        test,
        "gcc and namespaces",
        program("gcc").is_some() && strict_available(),
    ) {
        return;
    }
    let env = Environment::new();
    // Below a faked /proc the kernel gives no further /proc, so there is no strict sandbox here.
    env.write(
        ".hephconfig",
        format!("{}sandbox:\n  mode: standard\n", heph_tests::CONFIG),
    );
    env.write("a.c", "int x;\n");
    let target = |flag: &str| {
        format!(
            "target(name='t', driver='sh', deps=file('a.c'), tools='//@heph/bin:gcc', run='gcc {flag} -c a.c -o $OUT', out='a.o')\n"
        )
    };
    let real = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    std::fs::write(env.beside("one"), &real).unwrap();
    std::fs::write(
        env.beside("two"),
        real.replace("sse2", "sse9")
            .replace("model name\t: ", "model name\t: Other "),
    )
    .unwrap();
    let runs_on = |cpu: &str| {
        let mount = format!(
            "mount --bind {} /proc/cpuinfo && exec \"$@\"",
            env.beside(cpu).display()
        );
        let build = env
            .heph(["run", "--json", "//:t"])
            .within(&[
                "/usr/bin/unshare",
                "--user",
                "--map-root-user",
                "--mount",
                "/bin/sh",
                "-c",
                &mount,
                "sh",
            ])
            .build();
        build.run.success();
        !build.executed().is_empty()
    };
    for flag in ["-march=native", "-mtune=native"] {
        env.write("BUILD", target(flag));
        assert!(runs_on("one"));
        assert!(!runs_on("one"));
        assert!(runs_on("two"), "{flag}");
        assert!(!runs_on("one"));
    }
    env.write("BUILD", target("-O2"));
    assert!(runs_on("one"));
    assert!(!runs_on("two"));
}

#[test]
fn a_tool_in_a_temporary_or_home_directory_is_seen_in_strict_mode_and_nothing_beside_it() {
    let test = "a_tool_in_a_temporary_or_home_directory_is_seen_in_strict_mode_and_nothing_beside_it";
    if !needs(test, "namespaces", strict_available()) {
        return;
    }
    // Below /tmp, and where no directory of the sandbox's own covers it.
    for parent in [std::env::temp_dir(), env!("CARGO_TARGET_TMPDIR").into()] {
        let mut env = Environment::within(&parent).with_config();
        let home = env.user_home();
        let directories = [
            env.beside("tools"),
            home.join("bin"),
            home.join(".local/bin"),
            home.clone(),
        ];
        let mut targets = String::new();
        for (number, directory) in directories.into_iter().enumerate() {
            std::fs::create_dir_all(&directory).unwrap();
            let tool = directory.join(format!("tool{number}"));
            std::fs::write(&tool, format!("#!/bin/sh\necho {number}\n")).unwrap();
            std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
            env.prepend_path(directory);
            targets.push_str(&format!(
                "target(name='t{number}', driver='sh', sandbox='strict', tools='//@heph/bin:tool{number}', out='out{number}',\n\
                 \x20   run='tool{number} > $OUT; ! cat {}/secret')\n",
                home.display()
            ));
        }
        std::fs::write(home.join("secret"), "secret\n").unwrap();
        env.write("BUILD", targets);
        let build = env.build("//...");
        assert_eq!(build.executed().len(), 4, "{}", build.run);
        assert!((0..4).all(|number| build.target(&format!("//:t{number}"))["sandbox"] == "strict"));
        let shown = env.heph(["run", "--cat-out", "//..."]).run().success().out();
        assert_eq!(shown, "0\n1\n2\n3\n");
    }
}

#[test]
fn tools_of_these_tests_do_not_cost_the_isolation() {
    if !needs(
        "tools_of_these_tests_do_not_cost_the_isolation",
        "namespaces",
        strict_available(),
    ) {
        return;
    }
    let (env, _) = with_tools();
    env.write_outside("tools/tool", "#!/bin/sh\necho one\n");
    let build = env.build("//:t");
    assert_eq!(build.target("//:t")["sandbox"], "strict");
    assert!(build.notices().is_empty(), "{}", build.run);
}
