use std::fs;

use super::*;
use heph_common::ignore::Skip;

/// Files of a workspace, and the evaluation of its BUILD files.
fn workspace(files: &[(&str, &str)]) -> (tempfile::TempDir, BuildFiles) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let tree = Arc::new(Tree::new(dir.path(), Skip::default(), None));
    let patterns = BuildPatterns::new(&BuildPatterns::DEFAULT, Skip::default()).unwrap();
    let generated: Generated = Arc::new(|path| path.ends_with(".gen"));
    let files = BuildFiles::new(tree, patterns, Some("bash".to_owned()), generated);
    (dir, files)
}

fn shown(problems: &Problems) -> String {
    let mut text = String::new();
    for problem in problems {
        let place = problem
            .place
            .as_ref()
            .map(|place| format!("{place}: "))
            .unwrap_or_default();
        text += &format!("{place}{}\n", problem.message);
        if let Some(hint) = &problem.hint {
            text += &format!("hint: {hint}\n");
        }
    }
    text
}

/// The problems of package `p`, whose BUILD file has this text.
fn wrong(text: &str) -> String {
    let (_dir, files) = workspace(&[("p/BUILD", text)]);
    match files.evaluate("p") {
        Ok(_) => format!("no problem in {text}\n"),
        Err(problems) => shown(&problems),
    }
}

fn right(text: &str) -> Evaluated {
    let (_dir, files) = workspace(&[("p/BUILD", text)]);
    files
        .evaluate("p")
        .unwrap_or_else(|problems| panic!("{}", shown(&problems)))
}

#[test]
fn a_target_becomes_a_spec() {
    let evaluated = right(
        r#"
x = target(
    name = "a",
    driver = "sh",
    labels = ["test", "slow", "test"],
    description = "says hello",
    timeout = "1m30s",
    approval = {"notice": ["ops"]},
    transitive = {"deps": [":b"], "env": {"X": "1"}},
    run = "echo",
    nothing = None,
    number = 3,
    fraction = 0.5,
    truth = True,
    deps = {"main": (":b", "//c:d")},
    fields = struct(x = 1),
)
target(name = "b", labels = "one", timeout = 5, approval = False, text = x)
"#,
    );
    insta::assert_debug_snapshot!(evaluated.specs, @r#"
    [
        Spec {
            address: Address {
                package: "p",
                name: "a",
                args: {},
                output: None,
            },
            place: Some(
                Place {
                    file: "p/BUILD",
                    line: 2,
                    column: 5,
                },
            ),
            callers: [],
            driver: "sh",
            labels: [
                "slow",
                "test",
            ],
            description: Some(
                "says hello",
            ),
            timeout: Some(
                90s,
            ),
            approval: Some(
                Approval {
                    notice: [
                        "ops",
                    ],
                },
            ),
            transitive: [
                (
                    "deps",
                    List(
                        [
                            String(
                                ":b",
                            ),
                        ],
                    ),
                ),
                (
                    "env",
                    Dict(
                        [
                            (
                                "X",
                                String(
                                    "1",
                                ),
                            ),
                        ],
                    ),
                ),
            ],
            config: [
                (
                    "run",
                    String(
                        "echo",
                    ),
                ),
                (
                    "number",
                    Int(
                        3,
                    ),
                ),
                (
                    "fraction",
                    Float(
                        0.5,
                    ),
                ),
                (
                    "truth",
                    Bool(
                        true,
                    ),
                ),
                (
                    "deps",
                    Dict(
                        [
                            (
                                "main",
                                List(
                                    [
                                        String(
                                            ":b",
                                        ),
                                        String(
                                            "//c:d",
                                        ),
                                    ],
                                ),
                            ),
                        ],
                    ),
                ),
                (
                    "fields",
                    Dict(
                        [
                            (
                                "x",
                                Int(
                                    1,
                                ),
                            ),
                        ],
                    ),
                ),
            ],
        },
        Spec {
            address: Address {
                package: "p",
                name: "b",
                args: {},
                output: None,
            },
            place: Some(
                Place {
                    file: "p/BUILD",
                    line: 18,
                    column: 1,
                },
            ),
            callers: [],
            driver: "bash",
            labels: [
                "one",
            ],
            description: None,
            timeout: Some(
                5s,
            ),
            approval: None,
            transitive: [],
            config: [
                (
                    "text",
                    String(
                        "//p:a",
                    ),
                ),
            ],
        },
    ]
    "#);
}

#[test]
fn functions_give_addresses() {
    let evaluated = right(
        r#"
def show(*args):
    for arg in args:
        print(arg)
show(
    target(name = "t"),
    glob("*.c"),
    glob(["src/**/*.{c,h}", "../x,y/*.c"], exclude = ["**/gen/*", "b.c"]),
    glob("./a/*", exclude = "a/x"),
    file("src/a b.c"),
    file("../q/x.c"),
    query("label(test) && //..."),
    query(":a || ./x/..."),
    get_pkg(),
    heph.core.pkg(),
    heph.fs.join("a", "b/", "../c"),
    heph.fs.dir("a/b/c"), heph.fs.dir("a"), heph.fs.base("a/b/c"), heph.fs.parent("a/b"), repr(heph.fs.parent("a")),
    type(heph.core.os), type(heph.core.arch), type(heph.core.num_cpu),
    f"{heph.core.os}" == heph.core.os,
    [x * 2 for x in range(3)], (lambda x: x + 1)(2), json.encode({"a": [1]}), struct(a = 1).a,
)
if True:
    for i in range(2):
        print("top level", i)
"#,
    );
    insta::assert_snapshot!(evaluated.printed.join("\n"), @r#"
    //p:t
    //@heph/fs:glob@p=p/*.c
    //@heph/fs:glob@e="p/**/gen/*,p/b.c",p="p/src/**/*.{c,h},x\\,y/*.c"
    //@heph/fs:glob@e=p/a/x,p=p/a/*
    //@heph/fs:file@f="p/src/a b.c"
    //@heph/fs:file@f=q/x.c
    //@heph/query:query@expr="label(test) && //..."
    //@heph/query:query@expr="//p:a || //p/x/..."
    p
    p
    a/c
    a/b
    .
    c
    a
    ""
    string
    string
    int
    True
    [0, 2, 4]
    3
    {"a":[1]}
    1
    top level 0
    top level 1
    "#);
}

#[test]
fn a_directory_without_build_files_has_no_targets() {
    let (_dir, files) = workspace(&[("p/x", "")]);
    assert_eq!(files.evaluate("p").unwrap().specs, []);
    assert_eq!(files.evaluate("missing").unwrap().files, []);
}

#[test]
fn several_build_files_make_one_package() {
    let (_dir, files) = workspace(&[
        ("p/BUILD", "target(name = 'a')"),
        ("p/more.BUILD", "target(name = 'b')\n\ntarget(name = 'a')"),
    ]);
    insta::assert_snapshot!(shown(&files.evaluate("p").unwrap_err()), @"
    p/more.BUILD:3:1: target //p:a is defined twice; the first one is at p/BUILD:1:1
     3 | target(name = 'a')
       | ^^^^^^^^^^^^^^^^^^
    hint: give one of them another name
    ");
}

const MACROS: &str = r#"
def library(name, deps = []):
    return target(
        name = name,
        deps = deps + [glob("*.c")],
    )

def deep(n):
    if n == 0:
        fail("too deep for", get_pkg())
    deep(n - 1)

VALUE = {"a": 1}
_private = 1
"#;

#[test]
fn a_macro_registers_targets_in_the_package_that_calls_it() {
    let (_dir, files) = workspace(&[
        ("lib/macros.star", MACROS),
        (
            "lib/again.star",
            "load('./macros.star', 'library')\ndef two(name):\n  library(name + '1')\n  library(name + '2')\n",
        ),
        (
            "p/q/BUILD",
            "load('//lib:again.star', 'two')\nload('../../lib/macros.star', v = 'VALUE')\n\ntwo('x')\nprint(v)",
        ),
    ]);
    let evaluated = files.evaluate("p/q").unwrap();
    let targets: Vec<String> = evaluated
        .specs
        .iter()
        .map(|spec| {
            format!(
                "{} {:?} {}",
                spec.address,
                spec.config,
                spec.place.as_ref().unwrap()
            )
        })
        .collect();
    insta::assert_snapshot!(targets.join("\n"), @r#"
    //p/q:x1 [("deps", List([String("//@heph/fs:glob@p=p/q/*.c")]))] lib/macros.star:3:12
    //p/q:x2 [("deps", List([String("//@heph/fs:glob@p=p/q/*.c")]))] lib/macros.star:3:12
    "#);
    let callers: Vec<String> = evaluated.specs[1].callers.iter().map(Place::to_string).collect();
    assert_eq!(callers, ["lib/again.star:4:3", "p/q/BUILD:4:1"]);
    let read: Vec<&str> = evaluated.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(read, ["lib/again.star", "lib/macros.star", "p/q/BUILD"]);
    assert_eq!(evaluated.printed, [r#"{"a": 1}"#]);
}

#[test]
fn problems_in_macros_name_the_calls() {
    let (_dir, files) = workspace(&[
        ("lib/macros.star", MACROS),
        ("p/BUILD", "load('//lib:macros.star', 'deep')\ndeep(2)\n"),
        (
            "q/BUILD",
            "load('//lib:macros.star', 'library')\nlibrary('a')\nlibrary('a')\nlibrary(3)\nlibrary('x', deps = 1)",
        ),
    ]);
    let mut text = shown(&files.evaluate("p").unwrap_err());
    text += &shown(&files.evaluate("q").unwrap_err());
    insta::assert_snapshot!(text, @r#"
    lib/macros.star:10:9: too deep for p
     10 |         fail("too deep for", get_pkg())
        |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    called from lib/macros.star:11:5
    called from p/BUILD:2:1
    lib/macros.star:3:12: target //q:a is defined twice; the first one is at q/BUILD:2:1
     3 |     return target(
       |            ^^^^^^^
    called from q/BUILD:3:1
    hint: give one of them another name
    lib/macros.star:3:12: 'name' of a target must be text, not a number
     3 |     return target(
       |            ^^^^^^^
    called from q/BUILD:4:1
    "#);
}

#[test]
fn loads_that_fail_say_why() {
    let (_dir, files) = workspace(&[
        ("lib/macros.star", MACROS),
        ("lib/a.star", "load('./b.star', 'x')\n"),
        ("lib/b.star", "load('//lib:c.star', 'x')\n"),
        ("lib/c.star", "load(':a.star', 'x')\n"),
        ("lib/wrong.star", "def f(:\n"),
        ("lib/target.star", "target(name = 'x')\n"),
        ("lib/uses.star", "load('./target.star', 'x')\n"),
        (
            "p/BUILD",
            "load('//lib:a.star', 'x')\nload('//lib:macro.star', 'x')\nload('//lib:macros.star', 'libary', '_private', 'zzzzzz')\nload('lib/x.star', 'x')\nload('//lib', 'x')\nload('../../x', 'x')\nload('//lib:wrong.star', 'f')\nload('//lib:uses.star', 'f')\nload('//lib:zzzzzz', 'f')",
        ),
    ]);
    insta::assert_snapshot!(shown(&files.evaluate("p").unwrap_err()), @r#"
    lib/c.star:1:6: files load each other in a circle: lib/a.star -> lib/b.star -> lib/c.star -> lib/a.star
     1 | load(':a.star', 'x')
       |      ^^^^^^^^^
    loaded from lib/b.star:1:6
    loaded from lib/a.star:1:6
    loaded from p/BUILD:1:6
    p/BUILD:2:6: there is no file lib/macro.star
     2 | load('//lib:macro.star', 'x')
       |      ^^^^^^^^^^^^^^^^^^
    hint: did you mean 'lib/macros.star'?
    p/BUILD:3:27: lib/macros.star does not define 'libary'
     3 | load('//lib:macros.star', 'libary', '_private', 'zzzzzz')
       |                           ^^^^^^^^
    hint: did you mean 'library'?
    p/BUILD:3:37: '_private' is private to lib/macros.star: its name begins with '_'
     3 | load('//lib:macros.star', 'libary', '_private', 'zzzzzz')
       |                                     ^^^^^^^^^^
    p/BUILD:3:49: lib/macros.star does not define 'zzzzzz'
     3 | load('//lib:macros.star', 'libary', '_private', 'zzzzzz')
       |                                                 ^^^^^^^^
    p/BUILD:4:6: 'lib/x.star' is not the name of a file to load
     4 | load('lib/x.star', 'x')
       |      ^^^^^^^^^^^^
    hint: write "//pkg:file.star" or "./file.star"
    p/BUILD:5:6: '//lib' names no file: expected ':' and a file name
     5 | load('//lib', 'x')
       |      ^^^^^^^
    hint: write "//pkg:file.star" or "./file.star"
    p/BUILD:6:6: '../../x' leaves the workspace
     6 | load('../../x', 'x')
       |      ^^^^^^^^^
    hint: write "//pkg:file.star" or "./file.star"
    lib/wrong.star:1:7: unexpected symbol ':', expected identifier
     1 | def f(:
       |       ^
    loaded from p/BUILD:7:6
    lib/target.star:1:1: target() needs a package, and a loaded file belongs to none
     1 | target(name = 'x')
       | ^^^^^^^^^^^^^^^^^^
    loaded from lib/uses.star:1:6
    loaded from p/BUILD:8:6
    hint: call it in a function that BUILD files call
    p/BUILD:9:6: there is no file lib/zzzzzz
     9 | load('//lib:zzzzzz', 'f')
       |      ^^^^^^^^^^^^^^
    hint: its directory has a.star, b.star, c.star, macros.star, target.star
    "#);
}

#[test]
fn wrong_files_are_described_with_their_line() {
    let mut text = String::new();
    for source in [
        "target(name = 'x'\n",
        "x = 1\n  y = 2\n",
        "x = \"abc\n",
        "targt(name = 'x')",
        "print(heph.cor.os)",
        "print(heph.fs.glop('x'))",
        "x = 1 + 'a'",
        "x = {}\ny = x['a']",
        "x = [1]\nprint(x[3])",
        "def f(a): pass\nf()",
        "def f(a): pass\nf(1, b = 2)",
        "def f(x):\n    return x.missing\n\nf('a')",
        "fail('wrong', 3)",
        "class X: pass",
        "import os",
        "while True: pass",
        "x = [1, 2]\nfor i in x:\n    x.append(i)",
        "return 1",
        "int('x')",
        "'a'.join(1)",
        "json.encode(print)",
        "json.decode('[1,')",
        "print(json.decode('{\"a\": [1, null, 2.5]}')); json.encode(1e999)",
        "'{}'.format()",
    ] {
        text += &wrong(source);
    }
    insta::assert_snapshot!(text, @r#"
    p/BUILD:2:1: unexpected new line, expected symbol ')'
     2 | 
       | ^
    p/BUILD:2:1: unexpected new indentation block, expected expression
     2 |   y = 2
       | ^
    p/BUILD:1:5: unfinished string literal
     1 | x = "abc
       |     ^^^^
    p/BUILD:1:1: variable 'targt' not found
     1 | targt(name = 'x')
       | ^^^^^
    hint: did you mean 'target'?
    p/BUILD:1:7: object of type 'namespace' has no attribute 'cor'
     1 | print(heph.cor.os)
       |       ^^^^^^^^
    hint: did you mean 'core'?
    p/BUILD:1:7: object of type 'namespace' has no attribute 'glop'
     1 | print(heph.fs.glop('x'))
       |       ^^^^^^^^^^^^^^^^^
    hint: did you mean 'glob'?
    p/BUILD:1:5: operation '+' not supported for types 'int' and 'string'
     1 | x = 1 + 'a'
       |     ^^^^^^^
    p/BUILD:2:5: key '"a"' was not found
     2 | y = x['a']
       |     ^^^^^^
    p/BUILD:2:7: index '3' is out of bound
     2 | print(x[3])
       |       ^^^^
    p/BUILD:2:1: f() needs the argument 'a'
     2 | f()
       | ^^^
    p/BUILD:2:1: f() has no parameter 'b'
     2 | f(1, b = 2)
       | ^^^^^^^^^^^
    p/BUILD:2:12: object of type 'string' has no attribute 'missing'
     2 |     return x.missing
       |            ^^^^^^^^^
    called from p/BUILD:4:1
    p/BUILD:1:1: wrong 3
     1 | fail('wrong', 3)
       | ^^^^^^^^^^^^^^^^
    p/BUILD:1:1: cannot use reserved keyword 'class'
     1 | class X: pass
       | ^^^^^
    p/BUILD:1:1: cannot use reserved keyword 'import'
     1 | import os
       | ^^^^^^
    p/BUILD:1:1: cannot use reserved keyword 'while'
     1 | while True: pass
       | ^^^^^
    p/BUILD:3:5: this operation mutates an iterable for an iterator while iterating.
     3 |     x.append(i)
       |     ^^^^^^^^^^^
    p/BUILD:1:1: 'return' cannot be used outside of a 'def' function
     1 | return 1
       | ^^^^^^^^
    p/BUILD:1:1: cannot parse 'x' as an integer in base 10
     1 | int('x')
       | ^^^^^^^^
    p/BUILD:1:1: operation '(iter)' not supported on type 'int'
     1 | 'a'.join(1)
       | ^^^^^^^^^^^
    p/BUILD:1:1: json.encode(): a function is no plain value
     1 | json.encode(print)
       | ^^^^^^^^^^^^^^^^^^
    p/BUILD:1:1: json.decode(): EOF while parsing a value at line 1 column 3
     1 | json.decode('[1,')
       | ^^^^^^^^^^^^^^^^^^
    p/BUILD:1:46: json.encode(): JSON has no number inf
     1 | print(json.decode('{"a": [1, null, 2.5]}')); json.encode(1e999)
       |                                              ^^^^^^^^^^^^^^^^^^
    p/BUILD:1:1: not enough parameters in format string
     1 | '{}'.format()
       | ^^^^^^^^^^^^^
    "#);
}

#[test]
fn wrong_targets_are_described_with_their_argument() {
    let text = wrong(
        r#"
target(name = "a", labels = 3, timeout = "5 minutes",
       approval = "yes", description = ["x"],
       transitive = {"dep": []}, run = print)
target(name = "b", labels = ["a b"], timeout = 0, approval = {"requried": True}, driver = 1, transitive = 2)
target(name = "c", timeout = -1, approval = {"required": 1}, labels = [1], x = {1: 2}, y = 99999999999999999999)
target(name = "d", timeout = [], approval = {"notice": "ops"})
target(**{"name": "e", "labels": 1})
target(name = "a")
"#,
    );
    insta::assert_snapshot!(text, @r#"
    p/BUILD:2:20: 'labels' of //p:a must be text or a list of texts, not the number 3
     2 | target(name = "a", labels = 3, timeout = "5 minutes",
       |                    ^^^^^^
    p/BUILD:2:32: 'timeout' of //p:a is wrong: '5 minutes' is not a duration: expected numbers with units, as in 250ms, 30s, 5m, 1h30m or 7d
     2 | target(name = "a", labels = 3, timeout = "5 minutes",
       |                                ^^^^^^^
    p/BUILD:3:8: 'approval' of //p:a must be True, False or {"required": True, "notice": [groups]}, not "yes"
     3 |        approval = "yes", description = ["x"],
       |        ^^^^^^^^
    p/BUILD:3:26: 'description' of //p:a must be text, not a list
     3 |        approval = "yes", description = ["x"],
       |                          ^^^^^^^^^^^
    p/BUILD:4:8: 'transitive' of //p:a has no key 'dep'
     4 |        transitive = {"dep": []}, run = print)
       |        ^^^^^^^^^^
    hint: did you mean 'deps'?
    p/BUILD:4:34: 'run' of //p:a cannot be used: a function is no plain value
     4 |        transitive = {"dep": []}, run = print)
       |                                  ^^^
    p/BUILD:5:20: 'labels' of //p:b has the label 'a b': a label is a word without blanks and ( ) , ! & | " \
     5 | target(name = "b", labels = ["a b"], timeout = 0, approval = {"requried": True}, driver = 1, transitive = 2)
       |                    ^^^^^^
    p/BUILD:5:38: 'timeout' of //p:b must be more than 0
     5 | target(name = "b", labels = ["a b"], timeout = 0, approval = {"requried": True}, driver = 1, transitive = 2)
       |                                      ^^^^^^^
    hint: leave it out for no limit
    p/BUILD:5:51: 'approval' of //p:b has no key 'requried'
     5 | target(name = "b", labels = ["a b"], timeout = 0, approval = {"requried": True}, driver = 1, transitive = 2)
       |                                                   ^^^^^^^^
    hint: did you mean 'required'?
    p/BUILD:5:82: 'driver' of //p:b must be text, not the number 1
     5 | target(name = "b", labels = ["a b"], timeout = 0, approval = {"requried": True}, driver = 1, transitive = 2)
       |                                                                                  ^^^^^^
    p/BUILD:5:94: 'transitive' of //p:b must be a dictionary such as {"deps": [...]}, not the number 2
     5 | target(name = "b", labels = ["a b"], timeout = 0, approval = {"requried": True}, driver = 1, transitive = 2)
       |                                                                                              ^^^^^^^^^^
    p/BUILD:6:20: 'timeout' of //p:c must be more than 0
     6 | target(name = "c", timeout = -1, approval = {"required": 1}, labels = [1], x = {1: 2}, y = 99999999999999999999)
       |                    ^^^^^^^
    hint: leave it out for no limit
    p/BUILD:6:34: 'approval' of //p:c has 'required', which must be True or False, not a number
     6 | target(name = "c", timeout = -1, approval = {"required": 1}, labels = [1], x = {1: 2}, y = 99999999999999999999)
       |                                  ^^^^^^^^
    p/BUILD:6:62: 'labels' of //p:c must be text or a list of texts, not the number 1
     6 | target(name = "c", timeout = -1, approval = {"required": 1}, labels = [1], x = {1: 2}, y = 99999999999999999999)
       |                                                              ^^^^^^
    p/BUILD:6:76: 'x' of //p:c cannot be used: a key of a dictionary must be text, not a number
     6 | target(name = "c", timeout = -1, approval = {"required": 1}, labels = [1], x = {1: 2}, y = 99999999999999999999)
       |                                                                            ^
    p/BUILD:6:88: 'y' of //p:c cannot be used: the number does not fit into 64 bits
     6 | target(name = "c", timeout = -1, approval = {"required": 1}, labels = [1], x = {1: 2}, y = 99999999999999999999)
       |                                                                                        ^
    p/BUILD:7:20: 'timeout' of //p:d must be a duration such as "30s" or "1h30m", or a number of seconds, not a list
     7 | target(name = "d", timeout = [], approval = {"notice": "ops"})
       |                    ^^^^^^^
    p/BUILD:7:34: 'approval' of //p:d has 'notice', which must be a list of texts, not text
     7 | target(name = "d", timeout = [], approval = {"notice": "ops"})
       |                                  ^^^^^^^^
    p/BUILD:8:1: 'labels' of //p:e must be text or a list of texts, not the number 1
     8 | target(**{"name": "e", "labels": 1})
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    p/BUILD:9:1: target //p:a is defined twice; the first one is at p/BUILD:2:1
     9 | target(name = "a")
       | ^^^^^^^^^^^^^^^^^^
    hint: give one of them another name
    "#);
    let mut text = String::new();
    for source in [
        "target('x')",
        "target(1)",
        "target(driver = 'x')",
        "target(name = 1)",
        "target(name = 'a b')",
        "target(name = '')",
        "target(name = '../x')",
    ] {
        text += &wrong(source);
    }
    insta::assert_snapshot!(text, @r#"
    p/BUILD:1:1: target() takes named arguments only, found text
     1 | target('x')
       | ^^^^^^^^^^^
    hint: write target(name = "x", ...)
    p/BUILD:1:1: target() takes named arguments only, found a number
     1 | target(1)
       | ^^^^^^^^^
    hint: write target(name = ..., driver = ..., ...)
    p/BUILD:1:1: a target needs a name
     1 | target(driver = 'x')
       | ^^^^^^^^^^^^^^^^^^^^
    hint: write target(name = "...", ...)
    p/BUILD:1:1: 'name' of a target must be text, not a number
     1 | target(name = 1)
       | ^^^^^^^^^^^^^^^^
    p/BUILD:1:1: '//p:a b' is not an address, at column 6: ' ' cannot be part of a target name
     1 | target(name = 'a b')
       | ^^^^^^^^^^^^^^^^^^^^
    p/BUILD:1:1: '//p:' is not an address, at column 5: a target name is missing
     1 | target(name = '')
       | ^^^^^^^^^^^^^^^^^
    p/BUILD:1:1: '//p:../x' is not an address, at column 5: expected a target name, found '..'
     1 | target(name = '../x')
       | ^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn wrong_arguments_of_functions_are_described() {
    let mut text = String::new();
    for source in [
        "glob(1)",
        "glob([])",
        "glob(['a', 2])",
        "glob('../../x')",
        "glob('/x')",
        "glob('a**')",
        "glob('*', exclude = 1)",
        "glob('*', excludes = [])",
        "file('')",
        "file('/etc/passwd')",
        "file('../../x')",
        "file('.')",
        "file('src/')",
        "file('a\\nb')",
        "file(glob('*'))",
        "query('label(')",
        "query('')",
        "provider_state(1)",
        "provider_state('go', x = print)",
        "heph.core.packages('//a:b')",
        "heph.fs.glob(3)",
        "heph.fs.parent('.')",
        "heph.fs.join(1)",
        "range(1, 2, 0)",
    ] {
        text += &wrong(source);
    }
    insta::assert_snapshot!(text, @r#"
    p/BUILD:1:1: the pattern of glob() must be text or a list of texts, not a number
     1 | glob(1)
       | ^^^^^^^
    p/BUILD:1:1: glob() needs at least one pattern
     1 | glob([])
       | ^^^^^^^^
    p/BUILD:1:1: the pattern of glob() must be text or a list of texts, not a number
     1 | glob(['a', 2])
       | ^^^^^^^^^^^^^^
    p/BUILD:1:1: '../../x' leaves the workspace
     1 | glob('../../x')
       | ^^^^^^^^^^^^^^^
    p/BUILD:1:1: '/x' is absolute; paths are relative to the package
     1 | glob('/x')
       | ^^^^^^^^^^
    p/BUILD:1:1: 'a**' is not a glob pattern: '**' must stand alone between slashes
     1 | glob('a**')
       | ^^^^^^^^^^^
    p/BUILD:1:1: exclude of glob() must be text or a list of texts, not a number
     1 | glob('*', exclude = 1)
       | ^^^^^^^^^^^^^^^^^^^^^^
    p/BUILD:1:1: glob() has no parameter 'excludes'
     1 | glob('*', excludes = [])
       | ^^^^^^^^^^^^^^^^^^^^^^^^
    p/BUILD:1:1: a path must not be empty
     1 | file('')
       | ^^^^^^^^
    p/BUILD:1:1: '/etc/passwd' is absolute; paths are relative to the package
     1 | file('/etc/passwd')
       | ^^^^^^^^^^^^^^^^^^^
    p/BUILD:1:1: '../../x' leaves the workspace
     1 | file('../../x')
       | ^^^^^^^^^^^^^^^
    p/BUILD:1:1: file() takes one file, and '.' is a directory
     1 | file('.')
       | ^^^^^^^^^
    hint: write glob("**")
    p/BUILD:1:1: file() takes one file, and 'src/' is a directory
     1 | file('src/')
       | ^^^^^^^^^^^^
    hint: write glob("src/**")
    p/BUILD:1:1: 'a\nb' has a control character
     1 | file('a\nb')
       | ^^^^^^^^^^^^
    p/BUILD:1:1: file() takes a path, and '//@heph/fs:glob@p=p/*' is a dependency already
     1 | file(glob('*'))
       | ^^^^^^^^^^^^^^^
    hint: use it as it is
    p/BUILD:1:1: 'label(' is not a query, at column 7: expected a label, found the end
     1 | query('label(')
       | ^^^^^^^^^^^^^^^
    p/BUILD:1:1: '' is not a query, at column 1: expected a pattern, a function, '!' or '(', found the end
     1 | query('')
       | ^^^^^^^^^
    p/BUILD:1:1: the argument 'provider' must be of type str, not int (repr: 1)
     1 | provider_state(1)
       | ^^^^^^^^^^^^^^^^^
    p/BUILD:1:22: 'x' of provider_state(): a function is no plain value
     1 | provider_state('go', x = print)
       |                      ^
    p/BUILD:1:1: '//a:b' is not a pattern of packages
     1 | heph.core.packages('//a:b')
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: write "//...", "//pkg/...", "./..." or "//pkg"
    p/BUILD:1:1: the pattern of heph.fs.glob() must be text or a list of texts, not a number
     1 | heph.fs.glob(3)
       | ^^^^^^^^^^^^^^^
    p/BUILD:1:1: the root of the workspace has no parent
     1 | heph.fs.parent('.')
       | ^^^^^^^^^^^^^^^^^^^
    p/BUILD:1:1: the argument 'parts' must be of type tuple[str, ...], not tuple (repr: (1,))
     1 | heph.fs.join(1)
       | ^^^^^^^^^^^^^^^
    p/BUILD:1:1: the step of a range() must not be 0
     1 | range(1, 2, 0)
       | ^^^^^^^^^^^^^^
    "#);
}

#[test]
fn what_does_not_end_is_stopped() {
    let mut text = String::new();
    for source in [
        "for i in range(1000000000): pass",
        "for a in range(10000):\n    for b in range(10000):\n        c = a",
        "def f(n):\n    return f(n + 1)\nf(0)",
        "def f(n):\n    return g(n)\ndef g(n):\n    return f(n)\nf(0)",
        "x = 'a' * 9999999999999",
        "x = 'ab' * 2000000000",
        "x = [1, 2, 3] * 1000000000",
        "x = 1000000000 * (1, 2)",
        "x = 'a'\nfor i in range(100):\n    x = x + x",
        "x = 'a'\nfor i in range(100):\n    x += x",
        "x = [1]\nfor i in range(100):\n    x += x",
        "x = [1]\nfor i in range(100):\n    x.extend(x)",
        "x = 3\nfor i in range(100):\n    x = x * x",
        "x = 2\nx *= 2",
        "x = 1 << 99999999",
        "y = [[i] for i in range(4000000)]",
    ] {
        text += &wrong(source);
    }
    let nested = format!("x = {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let chained = format!("x = {}1", "1 + ".repeat(100_000));
    let negated = format!("x = {}1", "-".repeat(100_000));
    let alternatives = format!("if 1:\n  pass\n{}", "elif 2:\n  pass\n".repeat(100_000));
    let indented: String = (0..3000).map(|n| format!("{}if 1:\n", " ".repeat(n))).collect();
    for source in [nested, chained, negated, alternatives, indented] {
        let all = wrong(&source);
        text += &all
            .lines()
            .map(|line| line.chars().take(160).collect::<String>() + "\n")
            .collect::<String>();
    }
    insta::assert_snapshot!(text, @"
    p/BUILD:1:10: range() of 1000000000 numbers: a BUILD file may use at most 5000000
     1 | for i in range(1000000000): pass
       |          ^^^^^^^^^^^^^^^^^
    p/BUILD:3:9: evaluation does not come to an end: it was stopped after 200000 calls and loop rounds
     3 |         c = a
       |         ^^^^^
    hint: look for a loop over far too many values
    p/BUILD:2:14: calls are nested more than 100 deep: 'f' calls itself without end
     2 |     return f(n + 1)
       |              ^^^^^
    called from p/BUILD:2:12
    called from p/BUILD:3:1
    p/BUILD:2:12: calls are nested more than 100 deep: 'f' calls itself without end
     2 |     return g(n)
       |            ^^^^
    called from p/BUILD:4:12
    called from p/BUILD:5:1
    p/BUILD:1:5: evaluation takes too much memory: the values of a BUILD file may take 128 MiB, those of a loaded file 24 MiB
     1 | x = 'a' * 9999999999999
       |     ^^^^^^^^^^^^^^^^^^^
    hint: look for a text or list that grows in a loop
    p/BUILD:1:5: evaluation takes too much memory: the values of a BUILD file may take 128 MiB, those of a loaded file 24 MiB
     1 | x = 'ab' * 2000000000
       |     ^^^^^^^^^^^^^^^^^
    hint: look for a text or list that grows in a loop
    p/BUILD:1:5: evaluation takes too much memory: the values of a BUILD file may take 128 MiB, those of a loaded file 24 MiB
     1 | x = [1, 2, 3] * 1000000000
       |     ^^^^^^^^^^^^^^^^^^^^^^
    hint: look for a text or list that grows in a loop
    p/BUILD:1:5: evaluation takes too much memory: the values of a BUILD file may take 128 MiB, those of a loaded file 24 MiB
     1 | x = 1000000000 * (1, 2)
       |     ^^^^^^^^^^^^^^^^^^
    hint: look for a text or list that grows in a loop
    p/BUILD:3:9: evaluation takes too much memory: the values of a BUILD file may take 128 MiB, those of a loaded file 24 MiB
     3 |     x = x + x
       |         ^^^^^
    hint: look for a text or list that grows in a loop
    p/BUILD:3:5: evaluation takes too much memory: the values of a BUILD file may take 128 MiB, those of a loaded file 24 MiB
     3 |     x += x
       |     ^^^^^^
    hint: look for a text or list that grows in a loop
    p/BUILD:3:5: evaluation takes too much memory: the values of a BUILD file may take 128 MiB, those of a loaded file 24 MiB
     3 |     x += x
       |     ^^^^^^
    hint: look for a text or list that grows in a loop
    p/BUILD:3:5: evaluation takes too much memory: the values of a BUILD file may take 128 MiB, those of a loaded file 24 MiB
     3 |     x.extend(x)
       |     ^^^^^^^^^^^
    hint: look for a text or list that grows in a loop
    p/BUILD:3:9: the product of numbers of more than 64 bits is too large
     3 |     x = x * x
       |         ^^^^^
    p/BUILD:2:1: '*=' is not supported in BUILD files
     2 | x *= 2
       | ^^^^^^
    hint: write 'x = x * y'
    p/BUILD:1:5: integer overflow computing left shift
     1 | x = 1 << 99999999
       |     ^^^^^^^^^^^^^
    p/BUILD:1:1: evaluation does not come to an end: it was stopped after 200000 calls and loop rounds
     1 | y = [[i] for i in range(4000000)]
       | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: look for a loop over far too many values
    p/BUILD:1:1004: this is nested too deeply: at most 1000 levels and operators in one expression
     1 | x = ((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((
    hint: give parts of it a name
    p/BUILD:1:2002: this is nested too deeply: at most 1000 levels and operators in one expression
     1 | x = 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 +
    hint: give parts of it a name
    p/BUILD:1:1004: this is nested too deeply: at most 1000 levels and operators in one expression
     1 | x = --------------------------------------------------------------------------------------------------------------------
    hint: give parts of it a name
    p/BUILD:1997:8: this is nested too deeply: at most 1000 levels and operators in one expression
     1997 | elif 2:
          |        ^
    hint: give parts of it a name
    p/BUILD:999:1004: this is nested too deeply: at most 1000 levels and operators in one expression
     999 | 
    hint: give parts of it a name
    ");
}

#[test]
fn nested_values_do_not_exhaust_the_stack() {
    let text = wrong("x = []\nfor i in range(1000000):\n    x = [x]\ntarget(name = 'a', deps = x)");
    insta::assert_snapshot!(text, @"
    p/BUILD:3:5: evaluation does not come to an end: it was stopped after 200000 calls and loop rounds
     3 |     x = [x]
       |     ^^^^^^^
    hint: look for a loop over far too many values
    ");
    let text = wrong("x = []\nfor i in range(20):\n    x = [x, x]\ntarget(name = 'a', deps = x)");
    insta::assert_snapshot!(text, @"
    p/BUILD:4:20: 'deps' of //p:a cannot be used: it holds more than 1000000 values
     4 | target(name = 'a', deps = x)
       |                    ^^^^
    ");
}

#[test]
fn what_globs_and_packages_answer_is_observed() {
    let (dir, files) = workspace(&[
        ("p/a.c", ""),
        ("p/b.gen", ""),
        ("p/sub/c.c", ""),
        ("p/sub/BUILD", ""),
        ("q/BUILD", ""),
        ("x.c", ""),
        (
            "p/BUILD",
            "print(heph.fs.glob('**', exclude = 'BUILD'))\nprint(heph.fs.glob('../*.c'))\nprint(heph.core.packages(), heph.core.packages('./...'), heph.core.packages('//q'), heph.core.packages('//z'))",
        ),
    ]);
    let evaluated = files.evaluate("p").unwrap();
    insta::assert_snapshot!(evaluated.printed.join("\n"), @r#"
    ["a.c", "sub/BUILD", "sub/c.c"]
    ["../x.c"]
    ["p", "p/sub", "q"] ["p", "p/sub"] ["q"] []
    "#);
    insta::assert_debug_snapshot!(evaluated.observed.iter().map(|o| (&o.question, &o.directories)).collect::<Vec<_>>(), @r#"
    [
        (
            Glob {
                patterns: [
                    "p/**",
                ],
                exclude: [
                    "p/BUILD",
                ],
            },
            [
                "p",
                "p/sub",
            ],
        ),
        (
            Glob {
                patterns: [
                    "*.c",
                ],
                exclude: [],
            },
            [
                "",
            ],
        ),
        (
            Packages {
                prefix: "",
                below: true,
            },
            [],
        ),
        (
            Packages {
                prefix: "p",
                below: true,
            },
            [],
        ),
        (
            Packages {
                prefix: "q",
                below: false,
            },
            [
                "q",
            ],
        ),
        (
            Packages {
                prefix: "z",
                below: false,
            },
            [
                "z",
            ],
        ),
    ]
    "#);
    fs::write(dir.path().join("p/new.c"), "").unwrap();
    files.tree().refresh();
    let changed: Vec<bool> = evaluated
        .observed
        .iter()
        .map(|o| files.observe(o.question.clone()).unwrap().1 != *o)
        .collect();
    assert_eq!(changed, [true, false, false, false, false, false]);
}

#[test]
fn loaded_files_are_read_again_when_they_changed() {
    let (dir, files) = workspace(&[
        ("a.star", "load('./b.star', 'x')\ny = x\nprint('once')"),
        ("b.star", "x = 1"),
        ("BUILD", "load('//:a.star', 'y')\nprint(y)"),
    ]);
    assert_eq!(files.evaluate("").unwrap().printed, ["once", "1"]);
    fs::write(dir.path().join("b.star"), "x = 2").unwrap();
    assert_eq!(files.evaluate("").unwrap().printed, ["1"]);
    files.refresh();
    assert_eq!(files.evaluate("").unwrap().printed, ["once", "2"]);
}

#[test]
fn many_packages_are_evaluated_at_once() {
    let texts: Vec<(String, String)> = (0..200)
        .map(|n| {
            (
                format!("p{n}/BUILD"),
                format!("load('//:m.star', 'm')\nm('t{n}')"),
            )
        })
        .chain([("m.star".to_owned(), "def m(name): target(name = name)".to_owned())])
        .collect();
    let (_dir, files) = workspace(
        &texts
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect::<Vec<_>>(),
    );
    let packages: Vec<String> = (0..200)
        .map(|n| format!("p{n}"))
        .chain(["none".to_owned()])
        .collect();
    let results = files.evaluate_all(&packages);
    for (n, result) in results.iter().take(200).enumerate() {
        assert_eq!(
            result.as_ref().unwrap().specs[0].address.to_string(),
            format!("//p{n}:t{n}")
        );
    }
    assert_eq!(results[200].as_ref().unwrap().specs.len(), 0);
}

#[test]
fn files_that_cannot_be_read_are_described() {
    let (dir, files) = workspace(&[("a b/BUILD", "")]);
    let mut text = shown(&files.evaluate("a b").unwrap_err());
    fs::create_dir(dir.path().join("p")).unwrap();
    fs::write(dir.path().join("p/BUILD"), b"x = 1\ny = '\xff'").unwrap();
    files.tree().refresh();
    text += &shown(&files.evaluate("p").unwrap_err());
    fs::create_dir(dir.path().join("q")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("q/BUILD")).unwrap();
    files.tree().refresh();
    text += &shown(&files.evaluate("q").unwrap_err());
    insta::assert_snapshot!(text, @"
    the directory 'a b' cannot be a package: its name has characters that an address cannot hold
    hint: rename it, or leave it out with 'fs.skip' in .hephconfig
    cannot read p/BUILD: line 2 is not UTF-8
    cannot read q/BUILD: No such file or directory (os error 2)
    ");
}

#[test]
fn printing_is_bounded() {
    let printed = right("for i in range(1500): print(i)").printed;
    assert_eq!(printed.len(), 1001);
    assert_eq!(printed[1000], "(and 500 more lines)");
}

#[test]
fn states_for_providers_are_collected() {
    let states = right("\nprovider_state('go', tags = ['a'], x = {'y': 1})").provider_states;
    insta::assert_debug_snapshot!(states, @r#"
    [
        ProviderState {
            provider: "go",
            package: "p",
            config: [
                (
                    "tags",
                    List(
                        [
                            String(
                                "a",
                            ),
                        ],
                    ),
                ),
                (
                    "x",
                    Dict(
                        [
                            (
                                "y",
                                Int(
                                    1,
                                ),
                            ),
                        ],
                    ),
                ),
            ],
            place: Place {
                file: "p/BUILD",
                line: 2,
                column: 1,
            },
        },
    ]
    "#);
}

#[test]
fn the_catalogue_is_what_is_there() {
    assert!(FUNCTIONS.is_sorted_by_key(|function| function.name));
    for function in FUNCTIONS {
        let printed = right(&format!("print(type({}))", function.name)).printed;
        assert_eq!(
            printed[0] == "function",
            function.signature.contains('('),
            "{} {printed:?}",
            function.name
        );
        assert!(function.signature.starts_with(function.name));
    }
    let own = ["target", "glob", "file", "query", "provider_state", "get_pkg"];
    let below = right("print(' '.join(['heph.core.' + x for x in dir(heph.core)] + ['heph.fs.' + x for x in dir(heph.fs)]))").printed;
    for name in own.into_iter().chain(below[0].split(' ')) {
        assert!(FUNCTIONS.iter().any(|function| function.name == name), "{name}");
    }
}

#[test]
fn line_ends_and_marks_of_other_systems() {
    let targets = |text: &str| right(text).specs.len();
    assert_eq!(
        targets("target(\r\n    name = 'a',\r\n)\r\ntarget(name = 'b')\r\n"),
        2
    );
    assert_eq!(targets("\u{feff}target(name = 'a')\n"), 1);
    insta::assert_snapshot!(wrong("if 1:\n\tx = 1\n"), @"
    p/BUILD:1:6: tabs are not allowed here
     1 | if 1:
       |      ^
    hint: indent with blanks
    ");
    insta::assert_snapshot!(wrong("x = 1\r\ny = z\r\n"), @"
    p/BUILD:2:5: variable 'z' not found
     2 | y = z
       |     ^
    hint: did you mean 'x'?
    ");
    insta::assert_snapshot!(wrong("x = \"\u{0}\"\nfile(x)\n"), @r#"
    p/BUILD:2:1: '\0' has a control character
     2 | file(x)
       | ^^^^^^^
    "#);
}
