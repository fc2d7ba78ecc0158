//! What people read when something is wrong: place, cause and cure. The texts are part of the product, so they are compared whole.

use heph_tests::Environment;

fn run(env: &Environment, selector: &str) -> String {
    env.heph(["run", selector]).run().report()
}

fn with_build(text: &str) -> Environment {
    let env = Environment::new();
    env.write("pkg/BUILD", text);
    env
}

#[test]
fn no_workspace() {
    let env = Environment::bare();
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: failed to find a workspace: there is no .hephconfig in <root> or above it
        hint: heph init makes this directory a workspace
    "#);
}

#[test]
fn wrong_configuration() {
    let env = Environment::new();
    env.write(".hephconfig", "plugins:\n  - builtin: buildfil\n  - builtin: exec\n    path: x\nlock:\n  backend: fz\ncache:\n  spillThresholdByte: 1\n  maxSizeBytes: lots\nhomeDir: a\nhomeDir: b\n");
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: .hephconfig:2:14: there is no builtin plugin 'buildfil'
          |
        2 |   - builtin: buildfil
          |              ^^^^^^^^
        hint: did you mean 'buildfile'?

        error: .hephconfig:4:5: a plugin has one of builtin, path and url: 'builtin' is there too
          |
        4 |     path: x
          |     ^^^^

        error: .hephconfig:6:12: expected fs or mem, found 'fz'
          |
        6 |   backend: fz
          |            ^^
        hint: did you mean 'fs'?

        error: .hephconfig:8:3: unknown key 'spillThresholdByte'
          |
        8 |   spillThresholdByte: 1
          |   ^^^^^^^^^^^^^^^^^^
        hint: did you mean 'spillThresholdBytes'?

        error: .hephconfig:9:17: expected a size such as 65536, 512 KiB, 1.5 MB or 20 GiB, found 'lots'
          |
        9 |   maxSizeBytes: lots
          |                 ^^^^

        error: .hephconfig:11:1: key 'homeDir' is given twice, first in line 10
           |
        11 | homeDir: b
           | ^^^^^^^
    "#);
}

#[test]
fn configuration_that_is_no_yaml() {
    let env = Environment::new();
    env.write(".hephconfig", "plugins: [\n");
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: .hephconfig:1:10: this is not YAML: unclosed bracket '['
          |
        1 | plugins: [
          |          ^
    "#);
}

#[test]
fn a_build_file_with_a_syntax_error() {
    let env = with_build("target(\n    name = 'a'\n    driver = 'sh',\n)\n");
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: unexpected identifier 'driver', expected symbol ')'
         3 |     driver = 'sh',
           |     ^^^^^^
          --> pkg/BUILD:3:5
    "#);
}

#[test]
fn a_build_file_with_an_unknown_function() {
    let env = with_build("targt(name = 'a')\n");
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: variable 'targt' not found
         1 | targt(name = 'a')
           | ^^^^^
          --> pkg/BUILD:1:1
        hint: did you mean 'target'?
    "#);
}

#[test]
fn an_error_inside_a_macro_shows_the_calls() {
    let env = with_build("load('//rules:r.star', 'r')\nr('a')\n");
    env.write(
        "rules/r.star",
        "def r(name):\n    target(name = name, driver = 'sh', run = 1 + 'x')\n",
    );
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: operation '+' not supported for types 'int' and 'string'
         2 |     target(name = name, driver = 'sh', run = 1 + 'x')
           |                                              ^^^^^^^
        called from pkg/BUILD:2:1
          --> rules/r.star:2:46
    "#);
}

#[test]
fn an_unknown_driver_key() {
    let env =
        with_build("target(\n    name = 'a',\n    driver = 'sh',\n    dep = ':b',\n    run = 'true',\n)\n");
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: driver 'sh' has no key 'dep'
         4 |     dep = ':b',
           |     ^^^
          --> pkg/BUILD:4:5
        hint: did you mean 'deps'?
    "#);
}

#[test]
fn a_key_of_the_wrong_type() {
    let env = with_build("target(name = 'a', driver = 'sh', run = 'true', out = 7, network = 'yes')\n");
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: 'network' of //pkg:a must be True or False, not "yes"
         1 | target(name = 'a', driver = 'sh', run = 'true', out = 7, network = 'yes')
           |                                                          ^^^^^^^
          --> pkg/BUILD:1:58
    "#);
}

#[test]
fn an_unknown_driver() {
    let env = with_build("target(name = 'a', driver = 'bsh', run = 'true')\n");
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: there is no driver 'bsh'
         1 | target(name = 'a', driver = 'bsh', run = 'true')
           |                    ^^^^^^
          --> pkg/BUILD:1:20
        hint: did you mean 'bash'?
    "#);
}

#[test]
fn a_name_used_twice() {
    let env = with_build(
        "target(name = 'a', driver = 'sh', run = 'true')\ntarget(name = 'a', driver = 'sh', run = 'false')\n",
    );
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: target //pkg:a is defined twice; the first one is at pkg/BUILD:1:1
         2 | target(name = 'a', driver = 'sh', run = 'false')
           | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          --> pkg/BUILD:2:1
        hint: give one of them another name
    "#);
}

#[test]
fn a_cycle() {
    let env = with_build(
        "target(name = 'a', driver = 'sh', deps = ':b', run = 'true')\n\
         target(name = 'b', driver = 'sh', deps = ':c', run = 'true')\n\
         target(name = 'c', driver = 'sh', deps = ':a', run = 'true')\n",
    );
    insta::assert_snapshot!(run(&env, "//pkg:a"), @r#"
        exit 2
        --- stderr
        error: dependency cycle:
          //pkg:a (pkg/BUILD:1:1) needs
          //pkg:b (pkg/BUILD:2:1) needs
          //pkg:c (pkg/BUILD:3:1) needs
          //pkg:a
          --> pkg/BUILD:1:1
        hint: remove one of these dependencies; move what both need into a target of its own
    "#);
}

#[test]
fn a_cycle_of_loads() {
    let env = with_build("load('./a.star', 'a')\n");
    env.write("pkg/a.star", "load('./b.star', 'b')\na = 1\n");
    env.write("pkg/b.star", "load('./a.star', 'a')\nb = 1\n");
    insta::assert_snapshot!(run(&env, "//..."), @r#"
        exit 2
        --- stderr
        error: files load each other in a circle: pkg/a.star -> pkg/b.star -> pkg/a.star
         1 | load('./a.star', 'a')
           |      ^^^^^^^^^^
        loaded from pkg/a.star:1:6
        loaded from pkg/BUILD:1:6
          --> pkg/b.star:1:6
    "#);
}

#[test]
fn a_dependency_that_does_not_exist() {
    let env = with_build(
        "target(name = 'lib', driver = 'sh', run = 'true')\ntarget(name = 'a', driver = 'sh', deps = ':lbi', run = 'true')\n",
    );
    insta::assert_snapshot!(run(&env, "//pkg:a"), @r#"
        exit 2
        --- stderr
        error: //pkg:a depends on //pkg:lbi, which does not exist
          --> pkg/BUILD:2:1
        hint: did you mean //pkg:lib?
    "#);
}

#[test]
fn a_source_file_that_does_not_exist() {
    let env = with_build("target(name = 'a', driver = 'sh', deps = file('main.c'), run = 'true')\n");
    env.write("pkg/main.cc", "");
    insta::assert_snapshot!(run(&env, "//pkg:a"), @r#"
        exit 1
        --- stderr
        [1/1] //pkg:a FAILED: pkg/BUILD:1:1: no such file: pkg/main.c

        error: //pkg:a failed: pkg/BUILD:1:1: no such file: pkg/main.c
        hint: did you mean pkg/main.cc?

        1 of 1 target failed in <time>
    "#);
}

#[test]
fn a_failing_command() {
    let env =
        with_build("target(name = 'a', driver = 'bash', run = ['echo one', 'echo two >&2', 'ls missing'])\n");
    insta::assert_snapshot!(run(&env, "//pkg:a"), @r#"
        exit 1
        --- stderr
        [1/1] //pkg:a FAILED: exit code 2

        error: //pkg:a failed: exit code 2
          command: echo one
                   echo two >&2
                   ls missing
          | one
          | two
          | ls: cannot access 'missing': No such file or directory
          log: <home>/sandbox/<digest>/log
          sandbox: <home>/sandbox/<digest>

        1 of 1 target failed in <time>
    "#);
}

#[test]
fn nothing_matched() {
    let env = with_build("target(name = 'server', driver = 'sh', run = 'true')\n");
    insta::assert_snapshot!(run(&env, "//pkg:sever"), @r#"
        exit 1
        --- stderr
        error: no targets matched //pkg:sever
        hint: did you mean //pkg:server?
    "#);
    insta::assert_snapshot!(run(&env, "//pgk/..."), @r#"
        exit 1
        --- stderr
        error: no targets matched //pgk/...
        hint: did you mean //pkg?
    "#);
    insta::assert_snapshot!(env.heph(["run", "tset", "//..."]).run().report(), @r#"
        exit 1
        --- stderr
        error: no targets matched tset //...
        hint: heph query //... lists all targets
    "#);
    insta::assert_snapshot!(env.heph(["run", "-e", "label(x) && //..."]).run().report(), @r#"
        exit 1
        --- stderr
        error: no targets matched label(x) && //...
        hint: heph query //... lists all targets
    "#);
}

#[test]
fn wrong_usage() {
    let env = with_build("target(name = 'a', driver = 'sh', run = 'true')\n");
    insta::assert_snapshot!(env.heph(["rnu", "//..."]).run().report(), @r#"
        exit 2
        --- stderr
        error: unrecognized subcommand 'rnu'

          tip: a similar subcommand exists: 'r'

        Usage: heph [OPTIONS] <COMMAND>

        For more information, try '--help'.
    "#);
    insta::assert_snapshot!(env.heph(["run", "--jbos", "3", "//..."]).run().report(), @r#"
        exit 2
        --- stderr
        error: unexpected argument '--jbos' found

          tip: a similar argument exists: '--jobs'

        Usage: heph run --jobs <N> [SELECTOR]...

        For more information, try '--help'.
    "#);
    insta::assert_snapshot!(run(&env, "//pkg:a:b"), @r#"
        exit 2
        --- stderr
        error: '//pkg:a:b' is not a pattern, at column 8: ':' cannot be part of a target name
    "#);
    insta::assert_snapshot!(env.heph(["query", "-e", "deps(//pkg:a"]).run().report(), @r#"
        exit 2
        --- stderr
        error: 'deps(//pkg:a' is not a query, at column 13: expected ')', found the end
    "#);
}

#[test]
fn an_output_group_that_does_not_exist() {
    let env = with_build(
        "target(name = 'gen', driver = 'sh', run = 'echo c > $OUT_C; echo h > $OUT_H', out = {'c': 'x.c', 'h': 'x.h'})\n\
         target(name = 'one', driver = 'sh', run = 'echo > $OUT', out = 'one')\n\
         target(name = 'both', driver = 'group', deps = {'a': ':gen|c'})\n",
    );
    insta::assert_snapshot!(run(&env, "//pkg:gen|nope"), @r#"
        exit 2
        --- stderr
        error: //pkg:gen has no output group 'nope'
        hint: its groups: c, h
    "#);
    insta::assert_snapshot!(run(&env, "//pkg:one|nope"), @r#"
        exit 2
        --- stderr
        error: //pkg:one has no output group 'nope'
        hint: it has no groups; leave '|nope' out
    "#);
    insta::assert_snapshot!(run(&env, "//pkg:both|c"), @r#"
        exit 2
        --- stderr
        error: //pkg:both has no output group 'c'
        hint: its groups: a
    "#);
    let cat = |address: &str| env.heph(["run", "--cat-out", address]).run().success().out();
    assert_eq!(cat("//pkg:gen|h"), "h\n");
    assert_eq!(cat("//pkg:both|a"), "c\n");
    env.write(
        "use/BUILD",
        "target(name = 'use', driver = 'sh', deps = '//pkg:gen|i', run = 'true')\n",
    );
    insta::assert_snapshot!(run(&env, "//use"), @r#"
        exit 2
        --- stderr
        error: //use:use depends on //pkg:gen|i, but //pkg:gen has no output group 'i'
          --> use/BUILD:1:1
        hint: its groups: c, h
    "#);
}

#[test]
fn since_outside_of_git() {
    let env = with_build("target(name = 'a', driver = 'sh', run = 'true')\n");
    let run = env.heph(["run", "--since", "HEAD", "//..."]).run();
    insta::assert_snapshot!(run.report(), @r#"
        exit 2
        --- stderr
        error: the workspace <root> is in no git repository
        hint: changed() and --since compare the workspace with a commit; leave them out
    "#);
}
