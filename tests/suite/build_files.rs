//! What a BUILD file may say.

use std::time::Duration;

use heph_tests::Environment;

fn output(env: &Environment, address: &str, path: &str) -> String {
    env.heph(["run", "--copy-out", "copied", address]).run().success();
    env.read(&format!("copied/{path}"))
}

#[test]
fn target_gives_an_address_that_can_be_used_anywhere() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "a = target(name='a', driver='textfile', text='a\\n', out='a.txt')\n\
         target(name='b', driver='sh', deps={'x': [a]}, run='cat $SRC_X > $OUT', out='b.txt')\n",
    );
    assert_eq!(output(&env, "//:b", "b.txt"), "a\n");
}

#[test]
fn macros_register_in_the_package_that_calls_them() {
    let env = Environment::new();
    env.write("rules/r.star", "load('./s.star', 'suffix')\ndef greet(name):\n    return target(name=name, driver='textfile', text=get_pkg() + suffix + '\\n', out=name)\n");
    env.write("rules/s.star", "suffix = '!'\n");
    env.write("a/BUILD", "load('//rules:r.star', 'greet')\ngreet('one')\n");
    env.write(
        "b/BUILD",
        "load('../rules/r.star', hello='greet')\nhello('two')\n",
    );
    let mut found = env.heph(["query", "//..."]).run().success().lines();
    found.sort();
    assert_eq!(found, ["//a:one", "//b:two"]);
    assert!(output(&env, "//a:one", "a/one").contains("a!"));
    env.write("rules/s.star", "suffix = '?'\n");
    assert!(output(&env, "//a:one", "a/one").contains("a?"));
}

#[test]
fn globs_are_sorted_and_skip_git_generated_files_and_excludes() {
    let env = Environment::new();
    for file in ["b.txt", "a.txt", "sub/c.txt", "sub/x.txt", ".git/d.txt"] {
        env.write(file, "x");
    }
    env.write("BUILD", "target(name='t', driver='sh', deps=glob('**/*.txt', exclude=['sub/x.txt']), run='echo $SRC > $OUT', out='out')\n");
    assert_eq!(output(&env, "//:t", "out"), "a.txt b.txt sub/c.txt\n");
    env.write("aa.txt", "new");
    assert_eq!(output(&env, "//:t", "out"), "a.txt aa.txt b.txt sub/c.txt\n");
    env.remove("b.txt");
    assert_eq!(output(&env, "//:t", "out"), "a.txt aa.txt sub/c.txt\n");
}

#[test]
fn core_and_fs_functions() {
    let env = Environment::new();
    env.write("p/x.md", "x");
    env.write(
        "p/BUILD",
        "lines = [heph.core.os, heph.core.arch, str(heph.core.pkg) if type(heph.core.pkg) == 'string' else heph.core.pkg(),\n\
         \x20   heph.fs.join('a', 'b'), heph.fs.base('a/b.c'), heph.fs.dir('a/b.c'), heph.fs.parent('a/b')]\n\
         print('seen', len(lines))\n\
         s = struct(x=1)\n\
         target(name='t', driver='textfile', text=' '.join(lines) + ' ' + str(s.x) + ' ' + ','.join(heph.fs.glob('*.md')), out='t')\n",
    );
    let text = output(&env, "//p:t", "p/t");
    assert!(text.contains("a/b b.c a a 1"), "{text}");
    assert!(text.contains("x.md"), "{text}");
}

#[test]
fn fail_and_type_errors_name_file_and_line() {
    let env = Environment::new();
    env.write("BUILD", "x = 1\nfail('not today')\n");
    env.heph(["run", "//..."])
        .run()
        .exits(2)
        .says("BUILD:2")
        .says("not today");
}

#[test]
fn an_endless_loop_is_an_error_with_its_line() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "def f():\n    for i in range(1000000000):\n        pass\nf()\n",
    );
    let run = env.heph(["run", "//..."]).limit(Duration::from_secs(60)).run();
    assert_ne!(run.code, 0);
    run.says("BUILD:");
    env.write("BUILD", "def f(x):\n    return f(x + 1)\nf(0)\n");
    assert_ne!(env.heph(["run", "//..."]).run().code, 0);
    env.write(
        "BUILD",
        "x = 'a'\ndef g():\n    y = 'a'\n    for i in range(60):\n        y = y + y\n    return y\ng()\n",
    );
    let run = env.heph(["run", "//..."]).limit(Duration::from_secs(60)).run();
    assert_ne!(run.code, 0);
    assert!(run.code != 137 && run.code != 134, "{run}");
}

#[test]
fn provider_state_reaches_the_packages_below() {
    let env = Environment::new();
    env.write("BUILD", "provider_state('go', a=1)\n");
    env.write(
        "p/q/BUILD",
        "provider_state(provider='go', b=[2])\ntarget(name='t', driver='sh', run='true')\n",
    );
    let states = env
        .heph(["inspect", "states", "--json", "//p/q:t"])
        .run()
        .success()
        .json();
    let states = states["targets"][0]["states"].as_array().unwrap().clone();
    assert_eq!(states.len(), 2);
    assert_eq!(states[0]["values"]["a"], 1);
}
