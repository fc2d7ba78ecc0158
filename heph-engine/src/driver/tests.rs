use std::fs;
use std::sync::Arc;

use heph_common::Address;
use heph_common::config::{self, Base};

use super::Loader;
use crate::build_file::Generated;
use crate::definition::{Action, CommandAction, Definition, GroupAction, PassEnv};
use crate::problem::{Problem, Problems};

const ALL: &str = "plugins:\n  - builtin: buildfile\n  - builtin: exec\n  - builtin: bash\n    options: {path: [/opt/bin]}\n  - builtin: sh\n  - builtin: textfile\n  - builtin: http_fetch\n";

fn loader(root: &std::path::Path, text: &str) -> Result<Loader, Problems> {
    let loaded = config::parse(".hephconfig", text, Base::default()).unwrap();
    let generated: Generated = Arc::new(|_| false);
    Loader::new(root, &loaded.config, None, generated)
}

fn shown(problems: &[Problem]) -> String {
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

/// What becomes of the targets of package `p`: their definitions, or everything that is wrong with them.
fn define(source: &str) -> Result<Vec<Definition>, String> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("p")).unwrap();
    fs::write(dir.path().join("p/BUILD"), source).unwrap();
    let loader = loader(dir.path(), ALL).map_err(|problems| shown(&problems))?;
    let evaluated = loader.evaluate("p").map_err(|problems| shown(&problems))?;
    let (mut definitions, mut wrong) = (Vec::new(), String::new());
    for spec in &evaluated.specs {
        match loader.define(spec) {
            Ok(definition) => definitions.push(definition),
            Err(problems) => wrong += &shown(&problems),
        }
    }
    if wrong.is_empty() {
        Ok(definitions)
    } else {
        Err(wrong)
    }
}

fn right(source: &str) -> Vec<Definition> {
    define(source).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn wrong(source: &str) -> String {
    define(source)
        .err()
        .unwrap_or_else(|| format!("no problem in {source}\n"))
}

fn command(source: &str) -> CommandAction {
    match right(source).remove(0).action {
        Action::Command(command) => *command,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_key_of_a_command_is_read() {
    let definitions = right(
        r#"
target(
    name = "a",
    driver = "bash",
    labels = ["x"],
    description = "all of it",
    timeout = 90,
    approval = True,
    run = ["echo one", "echo two"],
    deps = {"": ":b", "main": [":b", "//c:d@k=v|o", ":b", file("x.c")]},
    hash_deps = "../e:f",
    runtime_deps = [":b"],
    read_only_deps = ["main", ""],
    tools = {"cc": "//@heph/bin:gcc"},
    out = {"": "bin/a", "dir": ["dist/", "./x.txt"], "objects": "o/*.o"},
    support_files = ["share/"],
    env = {"B": "2", "A": "1"},
    pass_env = ["PATH_X", "HOME_X"],
    runtime_env = {"C": "3"},
    runtime_pass_env = ["TOKEN"],
    cache = {"enabled": True, "remote": False, "history": 5},
    network = True,
    sandbox = "strict",
    codegen = "copy",
    retries = 2,
    exclusive = True,
    slots = 4,
    jobserver = True,
    transitive = {"deps": ":b", "tools": ["//@heph/bin:ld"], "env": {"T": "t"}, "pass_env": "*", "runtime_pass_env": ["R"]},
)
"#,
    );
    insta::assert_debug_snapshot!(definitions, @r#"
    [
        Definition {
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
                    column: 1,
                },
            ),
            driver: "bash",
            labels: [
                "x",
            ],
            description: Some(
                "all of it",
            ),
            dependencies: [
                Dependency {
                    role: Source,
                    group: "",
                    address: Address {
                        package: "p",
                        name: "b",
                        args: {},
                        output: None,
                    },
                },
                Dependency {
                    role: Source,
                    group: "main",
                    address: Address {
                        package: "p",
                        name: "b",
                        args: {},
                        output: None,
                    },
                },
                Dependency {
                    role: Source,
                    group: "main",
                    address: Address {
                        package: "c",
                        name: "d",
                        args: {
                            "k": "v",
                        },
                        output: Some(
                            "o",
                        ),
                    },
                },
                Dependency {
                    role: Source,
                    group: "main",
                    address: Address {
                        package: "@heph/fs",
                        name: "file",
                        args: {
                            "f": "p/x.c",
                        },
                        output: None,
                    },
                },
                Dependency {
                    role: Hash,
                    group: "",
                    address: Address {
                        package: "e",
                        name: "f",
                        args: {},
                        output: None,
                    },
                },
                Dependency {
                    role: Runtime,
                    group: "",
                    address: Address {
                        package: "p",
                        name: "b",
                        args: {},
                        output: None,
                    },
                },
                Dependency {
                    role: Tool,
                    group: "cc",
                    address: Address {
                        package: "@heph/bin",
                        name: "gcc",
                        args: {},
                        output: None,
                    },
                },
            ],
            action: Command(
                CommandAction {
                    argv: [
                        "bash",
                        "--noprofile",
                        "--norc",
                        "-euo",
                        "pipefail",
                        "-c",
                        "echo one\necho two",
                    ],
                    script: None,
                    outputs: [
                        Output {
                            group: "",
                            path: "p/bin/a",
                            kind: File,
                        },
                        Output {
                            group: "dir",
                            path: "p/dist",
                            kind: Directory,
                        },
                        Output {
                            group: "dir",
                            path: "p/x.txt",
                            kind: File,
                        },
                        Output {
                            group: "objects",
                            path: "p/o/*.o",
                            kind: Glob,
                        },
                    ],
                    support_files: [
                        Output {
                            group: "",
                            path: "p/share",
                            kind: Directory,
                        },
                    ],
                    env: {
                        "A": "1",
                        "B": "2",
                    },
                    pass_env: Names(
                        [
                            "HOME_X",
                            "PATH_X",
                        ],
                    ),
                    runtime_env: {
                        "C": "3",
                    },
                    runtime_pass_env: Names(
                        [
                            "TOKEN",
                        ],
                    ),
                    network: true,
                    sandbox: Some(
                        Strict,
                    ),
                    codegen: Some(
                        Copy,
                    ),
                    read_only: [
                        "main",
                        "",
                    ],
                    extra_path: [
                        "/opt/bin",
                    ],
                    jobserver: true,
                },
            ),
            transitive: Transitive {
                dependencies: [
                    Dependency {
                        role: Source,
                        group: "",
                        address: Address {
                            package: "p",
                            name: "b",
                            args: {},
                            output: None,
                        },
                    },
                    Dependency {
                        role: Tool,
                        group: "",
                        address: Address {
                            package: "@heph/bin",
                            name: "ld",
                            args: {},
                            output: None,
                        },
                    },
                ],
                env: {
                    "T": "t",
                },
                pass_env: All,
                runtime_pass_env: Names(
                    [
                        "R",
                    ],
                ),
            },
            approval: Some(
                Approval {
                    notice: [],
                },
            ),
            timeout: Some(
                90s,
            ),
            cache: CachePolicy {
                enabled: true,
                remote: false,
                history: Some(
                    5,
                ),
            },
            retries: 2,
            exclusive: true,
            slots: 4,
        },
    ]
    "#);
}

#[test]
fn scripts_and_arguments_become_commands() {
    assert_eq!(
        command("target(name='a', driver='exec', run=['gcc', '-c', 'a b'])").argv,
        ["gcc", "-c", "a b"]
    );
    assert_eq!(
        command("target(name='a', driver='sh', run='x\\ny')").argv,
        ["sh", "-eu", "-c", "x\ny"]
    );
    let bash = command("target(name='a', run=['x', 'y'], driver='bash')");
    assert_eq!(
        bash.argv,
        ["bash", "--noprofile", "--norc", "-euo", "pipefail", "-c", "x\ny"]
    );
    assert_eq!(bash.script, None);
    assert_eq!(bash.extra_path, ["/opt/bin"]);
    let long = command("target(name='a', driver='bash', run='echo 123456789\\n' * 5000)");
    assert_eq!(long.argv, ["bash", "--noprofile", "--norc", "-euo", "pipefail"]);
    assert_eq!(long.script.unwrap().len(), 75_000);
    assert_eq!(
        command("target(name='a', driver='sh', run='x', pass_env='*')").pass_env,
        PassEnv::All
    );
    let cache = right("target(name='a', driver='sh', run='x', cache=False)")[0].cache;
    assert_eq!((cache.enabled, cache.remote), (false, false));
}

#[test]
fn other_drivers_become_their_actions() {
    let definitions = right(
        r#"
target(name = "t", driver = "textfile", text = "hello", out = "sub/t.txt", executable = True)
target(name = "f", driver = "http_fetch", url = "https://example.org/x.tar.gz", out = "x.tar.gz", sha256 = "0123456789ABCDEF" * 4)
target(name = "n", driver = "http_fetch", url = "http://localhost:80/x", out = "x")
target(name = "g", driver = "group", deps = [":t", ":f"], include = "p/**", exclude = ["**/*.o"], strip_prefix = "p/", prefix = "dist/bin", rename = {"a": "b"})
target(name = "r", driver = "group", deps = ":t", rename = "x/y")
target(name = "empty", driver = "group")
"#,
    );
    let actions: Vec<&Action> = definitions.iter().map(|definition| &definition.action).collect();
    insta::assert_debug_snapshot!(actions, @r#"
    [
        TextFile(
            TextFileAction {
                text: "hello",
                out: "p/sub/t.txt",
                executable: true,
            },
        ),
        Fetch(
            FetchAction {
                url: "https://example.org/x.tar.gz",
                sha256: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                out: "p/x.tar.gz",
                executable: false,
            },
        ),
        Fetch(
            FetchAction {
                url: "http://localhost:80/x",
                sha256: "",
                out: "p/x",
                executable: false,
            },
        ),
        Group(
            GroupAction {
                include: [
                    "p/**",
                ],
                exclude: [
                    "**/*.o",
                ],
                strip_prefix: Some(
                    "p",
                ),
                prefix: Some(
                    "dist/bin",
                ),
                rename: {
                    "a": "b",
                },
            },
        ),
        Group(
            GroupAction {
                include: [],
                exclude: [],
                strip_prefix: None,
                prefix: None,
                rename: {
                    "": "x/y",
                },
            },
        ),
        Group(
            GroupAction {
                include: [],
                exclude: [],
                strip_prefix: None,
                prefix: None,
                rename: {},
            },
        ),
    ]
    "#);
    assert_eq!(definitions[3].dependencies.len(), 2);
}

#[test]
fn unknown_keys_and_drivers_name_the_nearest() {
    let mut text = String::new();
    for source in [
        "target(\n    name = 'a',\n    driver = 'bash',\n    run = 'x',\n    dep = [':b'],\n    outs = 'x',\n    zzzzzzzz = 1,\n)",
        "target(name = 'a', driver = 'bash', run = 'x', label = 'y')",
        "target(name = 'a', driver = 'group', run = 'x')",
        "target(name = 'a', driver = 'textfile', text = 'x', out = 'x', network = True)",
        "target(name = 'a', driver = 'bsh', run = 'x')",
        "target(name = 'a', driver = 'python', run = 'x')",
        "target(name = 'a', driver = 'fs')",
        "target(name = 'a', driver = 'hostbin')",
        "target(name = 'a', driver = 'query')",
        "target(name = 'a', driver = 'buildfile')",
        "target(name = 'a')",
    ] {
        text += &wrong(source);
    }
    insta::assert_snapshot!(text, @r#"
    p/BUILD:5:5: driver 'bash' has no key 'dep'
     5 |     dep = [':b'],
       |     ^^^
    hint: did you mean 'deps'?
    p/BUILD:6:5: driver 'bash' has no key 'outs'
     6 |     outs = 'x',
       |     ^^^^
    hint: did you mean 'out'?
    p/BUILD:7:5: driver 'bash' has no key 'zzzzzzzz'
     7 |     zzzzzzzz = 1,
       |     ^^^^^^^^
    hint: it has cache, codegen, deps, env, exclusive, hash_deps, jobserver, network, out, pass_env, read_only_deps, retries, run, runtime_deps, runtime_env, runtime_pass_env, sandbox, slots, support_files, tools
    p/BUILD:1:48: driver 'bash' has no key 'label'
     1 | target(name = 'a', driver = 'bash', run = 'x', label = 'y')
       |                                                ^^^^^
    hint: did you mean 'labels'?
    p/BUILD:1:38: driver 'group' has no key 'run'
     1 | target(name = 'a', driver = 'group', run = 'x')
       |                                      ^^^
    hint: it has deps, exclude, include, prefix, rename, strip_prefix
    p/BUILD:1:64: driver 'textfile' has no key 'network'
     1 | target(name = 'a', driver = 'textfile', text = 'x', out = 'x', network = True)
       |                                                                ^^^^^^^
    hint: it has executable, out, text
    p/BUILD:1:20: there is no driver 'bsh'
     1 | target(name = 'a', driver = 'bsh', run = 'x')
       |                    ^^^^^^
    hint: did you mean 'bash'?
    p/BUILD:1:20: there is no driver 'python'
     1 | target(name = 'a', driver = 'python', run = 'x')
       |                    ^^^^^^
    hint: registered are bash, exec, group, http_fetch, sh, textfile
    p/BUILD:1:20: 'fs' is not a driver of targets
     1 | target(name = 'a', driver = 'fs')
       |                    ^^^^^^
    hint: write file("...") or glob("...") where an address is expected
    p/BUILD:1:20: 'hostbin' is not a driver of targets
     1 | target(name = 'a', driver = 'hostbin')
       |                    ^^^^^^
    hint: write "//@heph/bin:PROGRAM" where an address is expected
    p/BUILD:1:20: 'query' is not a driver of targets
     1 | target(name = 'a', driver = 'query')
       |                    ^^^^^^
    hint: write query("...") where an address is expected
    p/BUILD:1:20: 'buildfile' is not a driver of targets
     1 | target(name = 'a', driver = 'buildfile')
       |                    ^^^^^^
    p/BUILD:1:1: target //p:a names no driver
     1 | target(name = 'a')
       | ^^^^^^^^^^^^^^^^^^
    hint: add 'driver', or set the option 'defaultDriver' of the buildfile plugin
    "#);
}

#[test]
fn problems_of_macros_name_the_argument_and_the_calls() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("m.star"),
        "def m(name, **kw):\n    target(name = name, driver = 'sh', runs = 'x', **kw)\n",
    )
    .unwrap();
    fs::write(
        dir.path().join("BUILD"),
        "load('./m.star', 'm')\nm('a', outt = 'x')\n",
    )
    .unwrap();
    let loader = loader(dir.path(), ALL).unwrap();
    let evaluated = loader.evaluate("").unwrap();
    let mut text = shown(&loader.define(&evaluated.specs[0]).unwrap_err());
    fs::write(dir.path().join("m.star"), "").unwrap();
    text += &shown(&loader.define(&evaluated.specs[0]).unwrap_err());
    insta::assert_snapshot!(text, @r#"
    m.star:2:5: //:a needs 'run': driver 'sh' cannot do without
     2 |     target(name = name, driver = 'sh', runs = 'x', **kw)
       |     ^^^^^^
    called from BUILD:2:1
    hint: add run = "command"
    m.star:2:40: driver 'sh' has no key 'runs'
     2 |     target(name = name, driver = 'sh', runs = 'x', **kw)
       |                                        ^^^^
    called from BUILD:2:1
    hint: did you mean 'run'?
    m.star:2:5: driver 'sh' has no key 'outt'
     2 |     target(name = name, driver = 'sh', runs = 'x', **kw)
       |     ^^^^^^
    called from BUILD:2:1
    hint: did you mean 'out'?
    m.star:2:5: //:a needs 'run': driver 'sh' cannot do without
    called from BUILD:2:1
    hint: add run = "command"
    m.star:2:5: driver 'sh' has no key 'runs'
    called from BUILD:2:1
    hint: did you mean 'run'?
    m.star:2:5: driver 'sh' has no key 'outt'
    called from BUILD:2:1
    hint: did you mean 'out'?
    "#);
}

#[test]
fn wrong_commands_are_described() {
    let mut text = String::new();
    for keys in [
        "driver = 'exec', run = 'gcc -o x \"y\"'",
        "driver = 'exec', run = []",
        "driver = 'exec', run = ['gcc', ['x']]",
        "driver = 'exec', run = ['gcc', 1]",
        "driver = 'exec'",
        "driver = 'bash'",
        "driver = 'bash', run = ' '",
        "driver = 'bash', run = {'a': 'b'}",
        "driver = 'sh', run = ['x', 2]",
        "deps = 1",
        "deps = ['src/main.c']",
        "deps = ['*.c']",
        "deps = ['lib']",
        "deps = ['']",
        "deps = ['//a:b c', 'x']",
        "deps = ['../../x:y']",
        "deps = [[':a']]",
        "deps = {'a b': ':c'}",
        "deps = {'a': ':c', 'A': ':d'}",
        "deps = {'a': 1}",
        "hash_deps = 'x.c'",
        "runtime_deps = True",
        "tools = 'gcc'",
        "deps = {'main': ':x'}, read_only_deps = ['mian']",
        "deps = ':x', read_only_deps = 'main'",
        "out = ''",
        "out = []",
        "out = {'bin': []}",
        "out = '/tmp/x'",
        "out = '../x'",
        "out = 'a/../b'",
        "out = '.'",
        "out = './'",
        "out = 'a//b'",
        "out = 'a\\\\b'",
        "out = 'o*/'",
        "out = 'o/[x'",
        "out = 'a\\nb'",
        "out = ['a', 'b', './a']",
        "out = {'x': 'a/', 'y': 'a'}",
        "out = 1",
        "support_files = 'x'",
        "support_files = ['x', 'x/'], out = 'y'",
        "support_files = ['x'], out = 'x'",
        "env = ['A']",
        "env = {'A': 1}",
        "env = {'A': ['x']}",
        "env = {'A B': 'x'}",
        "env = {'1A': 'x'}",
        "pass_env = 'HOME'",
        "pass_env = ['*']",
        "pass_env = 3",
        "pass_env = ['A', 'B C']",
        "runtime_env = 'x'",
        "runtime_pass_env = '*'",
        "env = {'A': 'x'}, pass_env = ['A'], runtime_env = {'A': 'y'}",
        "cache = 'no'",
        "cache = {'history': 0}",
        "cache = {'remote': 1}",
        "cache = {'remot': True}",
        "network = 'yes'",
        "sandbox = 'strickt'",
        "sandbox = True",
        "codegen = 'inplace', out = 'x'",
        "codegen = 'copy'",
        "retries = -1",
        "retries = 'x'",
        "slots = 0",
        "exclusive = 1",
        "jobserver = 'x'",
        "transitive = {'deps': 'x.c'}",
        "transitive = {'env': {'A': 1}, 'pass_env': 'A', 'runtime_pass_env': 'B', 'tools': 4}",
    ] {
        let run = if keys.contains("driver") {
            ""
        } else {
            "driver = 'sh', run = 'x', "
        };
        let all = wrong(&format!("target(name = 'a', {run}{keys})"));
        // The place and the snippet are those of other tests.
        text += &all
            .lines()
            .filter(|line| !line.starts_with(' '))
            .map(|line| {
                line.split_once(": ")
                    .filter(|(place, _)| place.starts_with("p/BUILD"))
                    .map_or(line, |(_, rest)| rest)
                    .to_owned()
                    + "\n"
            })
            .collect::<String>();
    }
    insta::assert_snapshot!(text, @r#"
    'run' of //p:a must be a list of program and arguments, not text
    hint: write ["gcc", "-o", "x", "\"y\""], or use the driver 'bash'
    'run' of //p:a names no program
    'run' of //p:a must be a list of texts, and has a list in it
    hint: join lists with '+'
    'run' of //p:a must be a list of texts, and has the number 1 in it
    //p:a needs 'run': driver 'exec' cannot do without
    hint: add run = ["program", "argument"]
    //p:a needs 'run': driver 'bash' cannot do without
    hint: add run = "command"
    'run' of //p:a is empty
    hint: a target without a command is a 'group'
    'run' of //p:a must be text or a list of lines, not a dictionary
    'run' of //p:a must be text or a list of lines, not a list
    'deps' of //p:a must be text, a list of texts or a dictionary of groups, not the number 1
    'deps' of //p:a has 'src/main.c', which is no address
    hint: a file is written file("src/main.c")
    'deps' of //p:a has '*.c', which is no address
    hint: files are written glob("*.c")
    'deps' of //p:a has 'lib', which is no address
    hint: write ":lib" for a target of this package, file("lib") for a file
    'deps' of //p:a has an empty text, which is no address
    'deps' of //p:a is wrong: '//a:b c' is not an address, at column 6: ' ' cannot be part of a target name
    'deps' of //p:a is wrong: '../../x:y' is not an address, at column 4: '..' leaves the workspace
    'deps' of //p:a must be a list of texts, and has a list in it
    hint: join lists with '+'
    'deps' of //p:a has a group 'a b', which is no name for variables
    hint: a group is named with letters, digits and '_'
    'deps' of //p:a has the groups 'a' and 'A', which would set the same variable
    'deps' of //p:a has the group 'a', which must be text or a list of texts, not the number 1
    'hash_deps' of //p:a has 'x.c', which is no address
    hint: a file is written file("x.c")
    'runtime_deps' of //p:a must be text, a list of texts or a dictionary of groups, not True
    'tools' of //p:a has 'gcc', which is no address
    hint: a program of the host is "//@heph/bin:gcc", a target of this package ":gcc"
    'read_only_deps' of //p:a names 'mian', which is no group of 'deps' or 'runtime_deps'
    hint: did you mean 'main'?
    'read_only_deps' of //p:a names 'main', which is no group of 'deps' or 'runtime_deps'
    hint: give 'deps' a dictionary of groups
    'out' of //p:a has an empty path
    'out' of //p:a has an empty list
    hint: leave it out, or name an output
    'out' of //p:a has an empty list for group 'bin'
    hint: leave it out, or name an output
    'out' of //p:a has '/tmp/x', which is absolute
    hint: outputs are relative to the package
    'out' of //p:a has '../x', which leaves the package
    hint: a target writes below its own package; a group can give outputs another place
    'out' of //p:a has 'a/../b', which leaves the package
    hint: a target writes below its own package; a group can give outputs another place
    'out' of //p:a has '.', which is the package itself
    hint: give the output a directory of its own, such as "dist/"
    'out' of //p:a has './', which is the package itself
    hint: give the output a directory of its own, such as "dist/"
    'out' of //p:a has 'a//b', which has '//' or '/./' in it
    'out' of //p:a has 'a\\b', which has a backslash
    hint: segments of a path are separated by '/'
    'out' of //p:a has 'o*/', which is a glob of directories
    hint: write "o*/**"
    'out' of //p:a is wrong: 'o/[x' is not a glob pattern: a '[' is not closed
    'out' of //p:a has 'a\nb', which has a control character
    'out' of //p:a declares 'p/a' twice, in the default group
    'out' of //p:a declares 'p/a' twice, in group 'x' and group 'y'
    'out' of //p:a must be text, a list of texts or a dictionary of groups, not the number 1
    'support_files' of //p:a must be a list of texts, not "x"
    hint: write ["x"]
    'support_files' of //p:a declares 'p/x' twice, in the default group
    'support_files' of //p:a declares 'p/x', which 'out' declares too
    'env' of //p:a must be a dictionary of texts, not a list
    'env' of //p:a has 'A', which must be text, not the number 1
    hint: write "1"
    'env' of //p:a has 'A', which must be text, not a list
    'env' of //p:a has 'A B', which is no name of a variable
    'env' of //p:a has '1A', which is no name of a variable
    'pass_env' of //p:a must be a list of names or "*", not "HOME"
    hint: write ["HOME"]
    'pass_env' of //p:a has '*' in a list
    hint: write "*" alone for all variables
    'pass_env' of //p:a must be a list of names or "*", not the number 3
    'pass_env' of //p:a has 'B C', which is no name of a variable
    'runtime_env' of //p:a must be a dictionary of texts, not "x"
    'runtime_pass_env' of //p:a must be a list of names, not "*"
    hint: only 'pass_env' takes "*"
    'pass_env' of //p:a sets 'A', which 'env' sets too
    'runtime_env' of //p:a sets 'A', which 'env' sets too
    'runtime_env' of //p:a sets 'A', which 'pass_env' sets too
    'cache' of //p:a must be True, False or {"enabled": True, "remote": True, "history": 10}, not "no"
    'cache' of //p:a has 'history', which must be a whole number from 1 to 1000000, not the number 0
    'cache' of //p:a has 'remote', which must be True or False, not the number 1
    'cache' of //p:a has no key 'remot'
    hint: did you mean 'remote'?
    'network' of //p:a must be True or False, not "yes"
    'sandbox' of //p:a must be one of auto, strict, standard, off, not "strickt"
    hint: did you mean "strict"?
    'sandbox' of //p:a must be text, not True
    'codegen' of //p:a must be one of copy, in_place, not "inplace"
    hint: did you mean "in_place"?
    'codegen' of //p:a needs outputs to put into the source tree
    hint: add out = "file"
    'retries' of //p:a must be a whole number from 0 to 100, not the number -1
    'retries' of //p:a must be a whole number from 0 to 100, not "x"
    'slots' of //p:a must be a whole number from 1 to 1024, not the number 0
    'exclusive' of //p:a must be True or False, not the number 1
    'jobserver' of //p:a must be True or False, not "x"
    'transitive' of //p:a has 'deps', which has 'x.c', which is no address
    hint: a file is written file("x.c")
    'transitive' of //p:a has 'env', which has 'A', which must be text, not the number 1
    hint: write "1"
    'transitive' of //p:a has 'pass_env', which must be a list of names or "*", not "A"
    hint: write ["A"]
    'transitive' of //p:a has 'runtime_pass_env', which must be a list of texts, not "B"
    hint: write ["B"]
    'transitive' of //p:a has 'tools', which must be text, a list of texts or a dictionary of groups, not the number 4
    "#);
}

#[test]
fn wrong_targets_of_other_drivers_are_described() {
    let mut text = String::new();
    for keys in [
        "driver = 'textfile'",
        "driver = 'textfile', text = ['a'], out = 'x'",
        "driver = 'textfile', text = 'a', out = 'x/'",
        "driver = 'textfile', text = 'a', out = '*.x', executable = 'yes'",
        "driver = 'http_fetch'",
        "driver = 'http_fetch', url = 'ftp://x/y', out = 'x', sha256 = 'abc'",
        "driver = 'http_fetch', url = 'https:///y', out = 'x', sha256 = 'xyz'",
        "driver = 'http_fetch', url = 'https://u:p@x/y', out = 'x'",
        "driver = 'http_fetch', url = 'https://x/a b', out = ['x'], sha256 = 1",
        "driver = 'group', include = '../x', exclude = '[', strip_prefix = '..', prefix = '/x', rename = 1",
        "driver = 'group', rename = {'a': '../b'}",
        "driver = 'group', prefix = '.'",
        "driver = 'group', deps = 'x.c'",
    ] {
        text += &wrong(&format!("target(name = 'a', {keys})"));
    }
    insta::assert_snapshot!(text, @r#"
    p/BUILD:1:1: //p:a needs 'text': driver 'textfile' cannot do without
     1 | target(name = 'a', driver = 'textfile')
       | ^^^^^^
    hint: add text = "..."
    p/BUILD:1:1: //p:a needs 'out': driver 'textfile' cannot do without
     1 | target(name = 'a', driver = 'textfile')
       | ^^^^^^
    hint: add out = "file.txt"
    p/BUILD:1:41: 'text' of //p:a must be text, not a list
     1 | target(name = 'a', driver = 'textfile', text = ['a'], out = 'x')
       |                                         ^^^^
    hint: join lines with "\n".join([...])
    p/BUILD:1:53: 'out' of //p:a must be one file, and 'x/' is not
     1 | target(name = 'a', driver = 'textfile', text = 'a', out = 'x/')
       |                                                     ^^^
    p/BUILD:1:53: 'out' of //p:a must be one file, and '*.x' is not
     1 | target(name = 'a', driver = 'textfile', text = 'a', out = '*.x', executable = 'yes')
       |                                                     ^^^
    p/BUILD:1:66: 'executable' of //p:a must be True or False, not "yes"
     1 | target(name = 'a', driver = 'textfile', text = 'a', out = '*.x', executable = 'yes')
       |                                                                  ^^^^^^^^^^
    p/BUILD:1:1: //p:a needs 'url': driver 'http_fetch' cannot do without
     1 | target(name = 'a', driver = 'http_fetch')
       | ^^^^^^
    hint: add url = "https://..."
    p/BUILD:1:1: //p:a needs 'out': driver 'http_fetch' cannot do without
     1 | target(name = 'a', driver = 'http_fetch')
       | ^^^^^^
    hint: add out = "file"
    p/BUILD:1:43: 'url' of //p:a must be a URL that begins with https:// or http://, not "ftp://x/y"
     1 | target(name = 'a', driver = 'http_fetch', url = 'ftp://x/y', out = 'x', sha256 = 'abc')
       |                                           ^^^
    p/BUILD:1:73: 'sha256' of //p:a must have 64 hex digits, not 3
     1 | target(name = 'a', driver = 'http_fetch', url = 'ftp://x/y', out = 'x', sha256 = 'abc')
       |                                                                         ^^^^^^
    p/BUILD:1:43: 'url' of //p:a must be a URL that begins with https:// or http://, not "https:///y"
     1 | target(name = 'a', driver = 'http_fetch', url = 'https:///y', out = 'x', sha256 = 'xyz')
       |                                           ^^^
    p/BUILD:1:74: 'sha256' of //p:a must be 64 hex digits
     1 | target(name = 'a', driver = 'http_fetch', url = 'https:///y', out = 'x', sha256 = 'xyz')
       |                                                                          ^^^^^^
    p/BUILD:1:43: 'url' of //p:a has a name or password in it
     1 | target(name = 'a', driver = 'http_fetch', url = 'https://u:p@x/y', out = 'x')
       |                                           ^^^
    hint: what a BUILD file says is no secret
    p/BUILD:1:43: 'url' of //p:a must be a URL that begins with https:// or http://, not "https://x/a b"
     1 | target(name = 'a', driver = 'http_fetch', url = 'https://x/a b', out = ['x'], sha256 = 1)
       |                                           ^^^
    p/BUILD:1:79: 'sha256' of //p:a must be text, not the number 1
     1 | target(name = 'a', driver = 'http_fetch', url = 'https://x/a b', out = ['x'], sha256 = 1)
       |                                                                               ^^^^^^
    p/BUILD:1:66: 'out' of //p:a must be text, not a list
     1 | target(name = 'a', driver = 'http_fetch', url = 'https://x/a b', out = ['x'], sha256 = 1)
       |                                                                  ^^^
    p/BUILD:1:38: 'include' of //p:a is wrong: '../x' is not a glob pattern: '..' leaves the directory
     1 | target(name = 'a', driver = 'group', include = '../x', exclude = '[', strip_prefix = '..', prefix = '/x', rename = 1)
       |                                      ^^^^^^^
    p/BUILD:1:56: 'exclude' of //p:a is wrong: '[' is not a glob pattern: a '[' is not closed
     1 | target(name = 'a', driver = 'group', include = '../x', exclude = '[', strip_prefix = '..', prefix = '/x', rename = 1)
       |                                                        ^^^^^^^
    p/BUILD:1:71: 'strip_prefix' of //p:a is wrong: '..' leaves the workspace
     1 | target(name = 'a', driver = 'group', include = '../x', exclude = '[', strip_prefix = '..', prefix = '/x', rename = 1)
       |                                                                       ^^^^^^^^^^^^
    p/BUILD:1:92: 'prefix' of //p:a is wrong: '/x' is absolute; paths are relative to the workspace
     1 | target(name = 'a', driver = 'group', include = '../x', exclude = '[', strip_prefix = '..', prefix = '/x', rename = 1)
       |                                                                                            ^^^^^^
    p/BUILD:1:107: 'rename' of //p:a must be text or a dictionary of paths, not the number 1
     1 | target(name = 'a', driver = 'group', include = '../x', exclude = '[', strip_prefix = '..', prefix = '/x', rename = 1)
       |                                                                                                           ^^^^^^
    p/BUILD:1:38: 'rename' of //p:a is wrong: '../b' leaves the workspace
     1 | target(name = 'a', driver = 'group', rename = {'a': '../b'})
       |                                      ^^^^^^
    p/BUILD:1:38: 'prefix' of //p:a has '.', which is the workspace itself
     1 | target(name = 'a', driver = 'group', prefix = '.')
       |                                      ^^^^^^
    p/BUILD:1:38: 'deps' of //p:a has 'x.c', which is no address
     1 | target(name = 'a', driver = 'group', deps = 'x.c')
       |                                      ^^^^
    hint: a file is written file("x.c")
    "#);
}

#[test]
fn plugins_have_to_be_right() {
    let dir = tempfile::tempdir().unwrap();
    let text = "plugins:\n  - builtin: bildfile\n  - builtin: go\n  - path: ./x.json\n  - url: https://example.org/y.json\n  - builtin: buildfile\n    options:\n      pattern: [BUILD]\n      patterns: [\"[\", a/b]\n      skip: [\"../x\"]\n      defaultDriver: [bash]\n  - builtin: bash\n    options: {path: [bin], paths: []}\n  - builtin: textfile\n    options: {x: 1}\n  - builtin: group\n    options: {x: 1}\n";
    insta::assert_snapshot!(shown(&loader(dir.path(), text).unwrap_err()), @r#"
    .hephconfig:2:14: there is no builtin plugin 'bildfile'
      |
    2 |   - builtin: bildfile
      |              ^^^^^^^^
    hint: did you mean 'buildfile'?
    .hephconfig:3:14: there is no builtin plugin 'go'
      |
    3 |   - builtin: go
      |              ^^
    hint: it is planned, and not there yet
    .hephconfig:4:11: path plugins are not loaded by this release of heph
      |
    4 |   - path: ./x.json
      |           ^^^^^^^^
    hint: remove the entry; every plugin of this release is builtin
    .hephconfig:5:10: url plugins are not loaded by this release of heph
      |
    5 |   - url: https://example.org/y.json
      |          ^^^^^^^^^^^^^^^^^^^^^^^^^^
    hint: remove the entry; every plugin of this release is builtin
    .hephconfig:11:22: expected a text, found a list
       |
    11 |       defaultDriver: [bash]
       |                      ^
    .hephconfig:9:18: '[' is not a glob pattern: a '[' is not closed
      |
    9 |       patterns: ["[", a/b]
      |                  ^^^
    .hephconfig:9:23: a pattern of file names has no '/'
      |
    9 |       patterns: ["[", a/b]
      |                       ^^^
    .hephconfig:10:14: '../x' is not a pattern: '..' leaves the workspace
       |
    10 |       skip: ["../x"]
       |              ^^^^^^
    .hephconfig:8:7: unknown key 'pattern'
      |
    8 |       pattern: [BUILD]
      |       ^^^^^^^
    hint: did you mean 'patterns'?
    .hephconfig:13:22: 'bin' is not an absolute directory
       |
    13 |     options: {path: [bin], paths: []}
       |                      ^^^
    .hephconfig:13:28: unknown key 'paths'
       |
    13 |     options: {path: [bin], paths: []}
       |                            ^^^^^
    hint: did you mean 'path'?
    .hephconfig:15:15: the plugin 'textfile' has no options
       |
    15 |     options: {x: 1}
       |               ^
    .hephconfig:17:15: the plugin 'group' has no options
       |
    17 |     options: {x: 1}
       |               ^
    "#);
}

#[test]
fn plugins_that_are_not_listed_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("BUILD"),
        "target(name = 'a', driver = 'bash', run = 'x')\ntarget(name = 'g', driver = 'group')",
    )
    .unwrap();
    let without = loader(dir.path(), "plugins: [{builtin: fs}]").unwrap();
    assert_eq!(without.packages("").unwrap(), []);
    assert_eq!(without.package("").unwrap(), None);
    let mut text = shown(&without.evaluate("").unwrap_err());
    let with = loader(
        dir.path(),
        "plugins: [{builtin: buildfile, options: {patterns: [BUILD], defaultDriver: sh, skip: [x]}}]",
    )
    .unwrap();
    assert_eq!(with.packages("").unwrap().len(), 1);
    let specs = with.evaluate("").unwrap().specs;
    text += &shown(&with.define(&specs[0]).unwrap_err());
    assert!(with.define(&specs[1]).is_ok());
    insta::assert_snapshot!(text, @"
    this workspace has no BUILD files: the plugin 'buildfile' is not registered
    hint: add '- builtin: buildfile' to 'plugins' in .hephconfig
    BUILD:1:20: the driver 'bash' is not registered
     1 | target(name = 'a', driver = 'bash', run = 'x')
       |                    ^^^^^^
    hint: add '- builtin: bash' to 'plugins' in .hephconfig
    ");
}

#[test]
fn the_default_driver_is_that_of_the_options() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("BUILD"), "target(name = 'a', run = 'x')").unwrap();
    let loader = loader(
        dir.path(),
        "plugins: [{builtin: buildfile, options: {defaultDriver: sh}}, {builtin: sh}]",
    )
    .unwrap();
    let specs = loader.evaluate("").unwrap().specs;
    assert_eq!(loader.define(&specs[0]).unwrap().driver, "sh");
}

fn generated(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let loader = loader(dir.path(), "").unwrap();
    match loader.generated(&Address::parse(text).unwrap()) {
        None => "none\n".to_owned(),
        Some(Ok(definition)) => format!("{} {:?}\n", definition.driver, definition.action),
        Some(Err(problem)) => shown(&[problem]),
    }
}

#[test]
fn targets_are_made_from_their_address() {
    let mut text = String::new();
    for address in [
        "//@heph/fs:file@f=src/a.c",
        "//@heph/fs:glob@p=src/**/*.c",
        r#"//@heph/fs:glob@e="a,{b,c}",p="x\\,y,*.c""#,
        "//@heph/bin:gcc",
        r#"//@heph/query:query@expr="label(x)&&//...""#,
        "//@heph/introspect:outputs",
        "//a:b",
        "//@heph/fs:file",
        "//@heph/fs:file@f=\"\"",
        "//@heph/fs:file@f=../x",
        "//@heph/fs:file@f=/x",
        "//@heph/fs:file@f=a/./b",
        "//@heph/fs:file@p=x",
        "//@heph/fs:file@f=x|o",
        "//@heph/fs:flie@f=x",
        "//@heph/fs:glob@p=../x",
        "//@heph/fs:glob@p=[",
        "//@heph/fs:glob@e=x",
        "//@heph/bin:a/b",
        "//@heph/bin:gcc@v=1",
        "//@heph/query:query@expr=\"label(\"",
        "//@heph/query:q",
        "//@heph/introspect:output",
        "//@heph/fss:file",
        "//@other:x",
    ] {
        text += &generated(address);
    }
    insta::assert_snapshot!(text, @r#"
    fs File { path: "src/a.c" }
    fs Glob { patterns: ["src/**/*.c"], exclude: [] }
    fs Glob { patterns: ["x\\,y", "*.c"], exclude: ["a", "{b,c}"] }
    hostbin HostProgram { name: "gcc" }
    query Query { expression: "label(x) && //..." }
    introspect OwnOutputs
    none
    //@heph/fs:file needs the argument 'f'
    hint: write //@heph/fs:file@f=PATH
    //@heph/fs:file@f="" needs the argument 'f'
    hint: write //@heph/fs:file@f=PATH
    //@heph/fs:file@f=../x: '../x' leaves the workspace
    //@heph/fs:file@f=/x: '/x' is absolute; paths are relative to the workspace root
    the path of //@heph/fs:file@f=a/./b is not in its shortest form
    hint: write f=a/b
    //@heph/fs:file@p=x has no argument 'p'
    hint: it takes f
    //@heph/fs:file@f=x has no output groups, so '|o' selects nothing
    there is no target //@heph/fs:flie@f=x
    hint: did you mean //@heph/fs:file@f=PATH?
    //@heph/fs:glob@p=../x: '../x' is not a glob pattern: '..' leaves the directory
    //@heph/fs:glob@p=[: '[' is not a glob pattern: a '[' is not closed
    //@heph/fs:glob@e=x needs the argument 'p'
    hint: write //@heph/fs:glob@p=PATTERN
    'a/b' is not the name of a program
    hint: programs are looked up on PATH: write //@heph/bin:gcc
    //@heph/bin:gcc@v=1 has no argument 'v'
    hint: it takes none
    //@heph/query:query@expr="label(": 'label(' is not a query, at column 7: expected a label, found the end
    there is no target //@heph/query:q
    hint: did you mean //@heph/query:query@expr=QUERY?
    there is no target //@heph/introspect:output
    hint: did you mean //@heph/introspect:outputs?
    there is no target //@heph/fss:file
    hint: did you mean //@heph/fs?
    there is no target //@other:x
    hint: packages that begin with '@' are those of providers: //@heph/fs, //@heph/bin, //@heph/query, //@heph/introspect
    "#);
}

fn apply(action: &GroupAction, paths: &[&str]) -> String {
    let entries = paths
        .iter()
        .enumerate()
        .map(|(index, path)| match path.split_once('=') {
            Some((path, payload)) => (path.to_owned(), payload.to_owned()),
            None => ((*path).to_owned(), index.to_string()),
        });
    match action.apply(entries.collect()) {
        Ok(entries) => {
            entries
                .iter()
                .map(|(path, _)| path.as_str())
                .collect::<Vec<_>>()
                .join(" ")
                + "\n"
        }
        Err(problem) => shown(&[problem]),
    }
}

#[test]
fn groups_give_outputs_other_places() {
    let paths = ["p/b.o", "p/a.o", "q/c.h", "p/sub/d.h"];
    let text = |text: &str| text.to_owned();
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let names = |names: &[(&str, &str)]| names.iter().map(|(old, new)| (text(old), text(new))).collect();
    let all = GroupAction::default();
    let mut shown = apply(&all, &paths);
    shown += &apply(&all, &[]);
    shown += &apply(&all, &["a=1", "a=1", "b=1"]);
    shown += &apply(&all, &["a=1", "a=2"]);
    shown += &apply(&all, &["a", "a-b", "a/c"]);
    let objects = GroupAction {
        include: list(&["**/*.o"]),
        ..all.clone()
    };
    shown += &apply(&objects, &paths);
    shown += &apply(&objects, &["x.h", "y.h"]);
    shown += &apply(&objects, &[]);
    let excluded = GroupAction {
        exclude: list(&["p/**"]),
        ..all.clone()
    };
    shown += &apply(&excluded, &paths);
    shown += &apply(&excluded, &["p/x"]);
    let moved = GroupAction {
        include: list(&["p/**"]),
        strip_prefix: Some(text("p")),
        prefix: Some(text("dist/x")),
        ..all.clone()
    };
    shown += &apply(&moved, &paths);
    let stripped = GroupAction {
        strip_prefix: Some(text("p")),
        ..all.clone()
    };
    shown += &apply(&stripped, &paths);
    shown += &apply(&stripped, &["p"]);
    let swapped = GroupAction {
        rename: names(&[("a", "b"), ("b", "a")]),
        ..all.clone()
    };
    shown += &apply(&swapped, &["a=1", "b=2", "c=3"]);
    let renamed = GroupAction {
        rename: names(&[("p/b.o", "p/a.o")]),
        ..all.clone()
    };
    shown += &apply(&renamed, &paths);
    shown += &apply(&renamed, &["p/bb.o", "x"]);
    shown += &apply(&renamed, &["entirely/different"]);
    let single = GroupAction {
        rename: names(&[("", "x")]),
        ..all
    };
    shown += &apply(&single, &["a"]);
    shown += &apply(&single, &paths);
    insta::assert_snapshot!(shown, @"
    p/a.o p/b.o p/sub/d.h q/c.h

    a b
    two outputs are 'a'
    hint: tell them apart with 'include', 'exclude' or 'rename'
    'a' cannot be a file and hold 'a/c'
    p/a.o p/b.o
    nothing matches **/*.o of the 2 outputs of its dependencies
    hint: paths are relative to the workspace root: x.h, y.h
    nothing matches **/*.o of the 0 outputs of its dependencies
    q/c.h
    'exclude' leaves nothing of the 1 outputs of its dependencies
    hint: paths are relative to the workspace root: p/x
    dist/x/a.o dist/x/b.o dist/x/sub/d.h
    'q/c.h' does not lie below 'p', which 'strip_prefix' names
    hint: leave it out with 'include' or 'exclude'
    'p' does not lie below 'p', which 'strip_prefix' names
    hint: leave it out with 'include' or 'exclude'
    a b c
    'p/b.o' and 'p/a.o' both become 'p/a.o'
    hint: tell them apart with 'include', 'exclude' or 'rename'
    there is no 'p/b.o' to rename
    hint: did you mean 'p/bb.o'?
    there is no 'p/b.o' to rename
    hint: there are entirely/different
    x
    'rename' gives one name to 4 outputs
    hint: rename a dictionary of paths, or choose one with 'include': p/b.o, p/a.o, q/c.h, p/sub/d.h
    ");
}

#[test]
fn what_the_guide_shows_can_be_built() {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in [
        (
            "build/c.star",
            "def c_object(name):\n    return target(name = name, driver = 'sh', run = 'x')\n",
        ),
        ("p/names.star", "NAMES = ['a', 'b']\n"),
    ] {
        fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        fs::write(dir.path().join(path), text).unwrap();
    }
    let loader = loader(dir.path(), ALL).unwrap();
    let guide = include_str!("../../../docs/targets.md");
    let blocks: Vec<&str> = guide
        .split("```python\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 5);
    for block in blocks {
        fs::write(dir.path().join("p/BUILD"), block).unwrap();
        loader.refresh();
        let evaluated = loader
            .evaluate("p")
            .unwrap_or_else(|problems| panic!("{}", shown(&problems)));
        assert!(!evaluated.specs.is_empty(), "{block}");
        for spec in &evaluated.specs {
            loader
                .define(spec)
                .unwrap_or_else(|problems| panic!("{}", shown(&problems)));
        }
    }
    let configuration = guide
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    self::loader(dir.path(), configuration).unwrap();
}

#[test]
fn the_guide_names_every_key_and_function() {
    let guide = include_str!("../../../docs/targets.md");
    let keys = [
        "run",
        "deps",
        "hash_deps",
        "runtime_deps",
        "read_only_deps",
        "tools",
        "out",
        "support_files",
        "env",
        "pass_env",
        "runtime_env",
        "runtime_pass_env",
        "cache",
        "network",
        "sandbox",
        "codegen",
        "retries",
        "exclusive",
        "slots",
        "jobserver",
        "include",
        "exclude",
        "strip_prefix",
        "prefix",
        "rename",
        "text",
        "executable",
        "url",
        "sha256",
    ];
    for key in keys.into_iter().chain(crate::build_file::ENGINE_KEYS) {
        assert!(
            guide.contains(&format!("`{key}`")) || guide.contains(&format!("`{key} = ")),
            "{key}"
        );
    }
    for function in crate::build_file::FUNCTIONS {
        let last = function.name.rsplit('.').next().unwrap();
        assert!(
            guide.contains(&format!("{last}(")) || guide.contains(&format!("`{}`", function.name)),
            "{}",
            function.name
        );
    }
}

#[test]
fn the_examples_are_right() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for example in ["hello", "lua"] {
        let root = examples.join(example).canonicalize().unwrap();
        let text = fs::read_to_string(root.join(".hephconfig")).unwrap();
        let loader = loader(&root, &text).unwrap();
        let packages = loader.packages("").unwrap();
        assert!(!packages.is_empty());
        for package in packages {
            let evaluated = loader
                .evaluate(&package.package)
                .unwrap_or_else(|problems| panic!("{}", shown(&problems)));
            for spec in &evaluated.specs {
                let definition = loader
                    .define(spec)
                    .unwrap_or_else(|problems| panic!("{}", shown(&problems)));
                for dependency in &definition.dependencies {
                    if let Some(Err(problem)) = loader.generated(&dependency.address) {
                        panic!("{}", shown(&[problem]));
                    }
                }
            }
        }
    }
}
