//! Every way to say which targets are meant.

use heph_tests::Environment;

/// Targets in four packages; `slow` and `test` are labels.
fn workspace() -> Environment {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='top', driver='textfile', text='t', out='top.txt')\n",
    );
    env.write(
        "cmd/server/BUILD",
        "target(name='bin', driver='sh', deps='//lib:lib', run='cp $SRC $OUT', out='bin.txt')\n\
         target(name='test', driver='sh', labels=['test', 'slow'], deps=':bin', run='cat $SRC')\n",
    );
    env.write(
        "cmd/client/BUILD",
        "target(name='bin', driver='textfile', text='c', out='bin.txt')\n\
         target(name='quick', driver='sh', labels='test', run='true')\n",
    );
    env.write(
        "lib/BUILD",
        "target(name='lib', driver='sh', deps=file('lib.txt'), run='cp $SRC $OUT', out='out.txt')\n",
    );
    env.write("lib/lib.txt", "library\n");
    env
}

fn select(env: &Environment, directory: &str, selectors: &[&str]) -> Vec<String> {
    let run = env.heph([&["query"], selectors].concat()).from(directory).run();
    run.success().lines()
}

const SERVER: [&str; 2] = ["//cmd/server:bin", "//cmd/server:test"];
const CLIENT: [&str; 2] = ["//cmd/client:bin", "//cmd/client:quick"];

#[test]
fn an_address_selects_one_target() {
    let env = workspace();
    assert_eq!(select(&env, "", &["//cmd/server:bin"]), ["//cmd/server:bin"]);
    assert_eq!(
        env.build("//cmd/server:bin").executed(),
        ["//cmd/server:bin", "//lib:lib"]
    );
}

#[test]
fn relative_addresses_start_from_the_package_of_the_current_directory() {
    let env = workspace();
    assert_eq!(select(&env, "cmd/server", &[":bin"]), ["//cmd/server:bin"]);
    assert_eq!(select(&env, "cmd", &["./server:bin"]), ["//cmd/server:bin"]);
    assert_eq!(
        select(&env, "cmd/server", &["../client:bin"]),
        ["//cmd/client:bin"]
    );
    let run = env
        .heph(["run", "--json", "../client:bin"])
        .from("cmd/server")
        .build();
    assert!(run.has_result("//cmd/client:bin"), "{}", run.run);
}

#[test]
fn two_dots_never_leave_the_workspace() {
    let env = workspace();
    env.heph(["query", "../../../x:y"])
        .from("cmd/server")
        .run()
        .exits(2)
        .says("../../../x:y");
}

#[test]
fn three_dots_select_everything_below_a_package() {
    let env = workspace();
    let all = [&CLIENT[..], &SERVER, &["//lib:lib", "//:top"]].concat();
    let sorted = |mut addresses: Vec<String>| {
        addresses.sort();
        addresses
    };
    assert_eq!(
        sorted(select(&env, "", &["//..."])),
        sorted(all.iter().map(|a| (*a).to_owned()).collect())
    );
    assert_eq!(select(&env, "", &["//cmd/..."]), [CLIENT, SERVER].concat());
    assert_eq!(select(&env, "cmd", &["./..."]), [CLIENT, SERVER].concat());
    assert_eq!(select(&env, "cmd", &["..."]), [CLIENT, SERVER].concat());
    assert_eq!(select(&env, "cmd/server", &["./..."]), SERVER);
    assert_eq!(select(&env, "cmd/server", &["../client/..."]), CLIENT);
}

#[test]
fn a_first_word_that_is_no_address_is_a_label() {
    let env = workspace();
    let build = env.heph(["run", "--json", "test", "//..."]).build();
    build.run.success();
    assert_eq!(
        build.executed(),
        [
            "//cmd/client:quick",
            "//cmd/server:bin",
            "//cmd/server:test",
            "//lib:lib"
        ]
    );
    assert_eq!(select(&env, "", &["slow", "//cmd/..."]), ["//cmd/server:test"]);
    assert_eq!(
        select(&env, "cmd/client", &["test", "./..."]),
        ["//cmd/client:quick"]
    );
}

#[test]
fn several_selectors_are_united() {
    let env = workspace();
    assert_eq!(
        select(&env, "", &["//lib:lib", "//cmd/client/..."]),
        [&CLIENT[..], &["//lib:lib"]].concat()
    );
}

#[test]
fn an_expression_is_the_query_language() {
    let env = workspace();
    let build = env
        .heph(["run", "--json", "-e", "//cmd/... && !label(slow)"])
        .build();
    build.run.success();
    assert_eq!(build.of_kind("planned")[0]["selected"], 3, "{}", build.run);
    assert!(
        !build.outcomes().contains_key("//cmd/server:test"),
        "{}",
        build.run
    );
}

#[test]
fn a_bare_run_lists_the_targets_of_the_current_package() {
    let env = workspace();
    let run = env.heph(["run"]).from("cmd/server").run();
    run.says("//cmd/server:bin")
        .says("//cmd/server:test")
        .never_says("//cmd/client");
    assert!(!env.home().join("sandbox").join("x").exists());
}

#[test]
fn arguments_of_an_address_are_sorted_and_part_of_the_identity() {
    let env = Environment::new();
    env.write("a.txt", "a");
    let canonical = "//@heph/fs:glob@e=\"x,y\",p=\"*.txt\"";
    let shuffled = "//@heph/fs:glob@p=\"*.txt\",e=\"x,y\"";
    let one = select(&env, "", &[canonical]);
    assert_eq!(one, select(&env, "", &[shuffled]));
    assert_eq!(one.len(), 1);
}

#[test]
fn an_output_group_of_an_address_gives_only_that_group() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='two', driver='sh', run='echo one > $OUT_A; echo two > $OUT_B', out={'a': 'a.txt', 'b': 'b.txt'})\n\
         target(name='use', driver='sh', deps=':two|b', run='echo $SRC > $OUT; ls >> $OUT', out='seen')\n",
    );
    env.heph(["run", "--copy-out", "copied", "//:use"])
        .run()
        .success();
    assert_eq!(env.read("copied/seen"), "b.txt\nb.txt\nseen\n");
}

#[test]
fn since_selects_what_differs_from_a_commit_and_what_depends_on_it() {
    let env = workspace();
    env.commit_all();
    assert_eq!(
        select(&env, "", &["--since", "HEAD", "//..."]),
        Vec::<String>::new()
    );
    env.write("lib/lib.txt", "changed\n");
    let affected = ["//cmd/server:bin", "//cmd/server:test", "//lib:lib"];
    assert_eq!(select(&env, "", &["--since", "HEAD", "//..."]), affected);
    let build = env.heph(["run", "--json", "--since", "HEAD", "//..."]).build();
    build.run.success();
    assert_eq!(build.executed(), affected);
}

#[test]
fn since_sees_a_changed_build_file_and_untracked_sources() {
    let env = workspace();
    env.write(
        "lib/BUILD",
        "target(name='lib', driver='sh', deps=glob('*.txt'), run='cat $SRC > $OUT', out='out')\n",
    );
    env.commit_all();
    env.write("lib/new.txt", "untracked\n");
    let affected = ["//cmd/server:bin", "//cmd/server:test", "//lib:lib"];
    assert_eq!(select(&env, "", &["--since", "HEAD", "//..."]), affected);
    env.remove("lib/new.txt");
    env.write(
        "cmd/client/BUILD",
        "target(name='bin', driver='textfile', text='other', out='bin.txt')\n",
    );
    assert_eq!(
        select(&env, "", &["--since", "HEAD", "//..."]),
        ["//cmd/client:bin"]
    );
}

#[test]
fn git_is_the_callers_also_where_a_daemon_asks_it() {
    let env = workspace();
    env.commit_all();
    env.write("lib/lib.txt", "changed\n");
    // Two callers whose git says something else, and one that has none.
    let git = |name: &str, answer: &str| {
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in *diff*) printf '{answer}\\0';; *rev-parse*) test \"$GIT_MARK\" = {name};; esac\n"
        );
        let program = env.write_outside(&format!("{name}/git"), &text);
        program.parent().unwrap().display().to_string()
    };
    let (one, other) = (git("one", "lib/lib.txt"), git("other", "app/main.txt"));
    let ask = |path: &str, mark: &str, arguments: &[&str]| {
        let call = env.heph([&["query"], arguments].concat()).with("GIT_MARK", mark);
        call.with("PATH", path).run()
    };
    for arguments in [&["changed('HEAD')"][..], &["--since", "HEAD", "//lib/..."]] {
        for _ in 0..2 {
            let run = ask(&one, "one", arguments);
            assert_eq!(run.success().lines(), ["//lib:lib"], "{arguments:?}");
            let run = ask(&other, "other", arguments);
            assert!(!run.success().out().contains("//lib:lib"), "{run}");
            ask(&one, "other", arguments).says("git knows no commit");
        }
        ask("/nowhere", "", arguments).says("git could not be run");
    }
    let build = env
        .heph(["run", "--json", "--since", "HEAD", "//lib/..."])
        .with("GIT_MARK", "one");
    assert_eq!(
        build
            .with("PATH", format!("{one}:/usr/bin:/bin"))
            .build()
            .executed(),
        ["//lib:lib"]
    );
}
