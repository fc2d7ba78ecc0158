//! `examples/lua`: a real program, built object by object.

use heph_tests::{Build, Environment, needs, program, repository};

/// The example in an environment of its own; `None` where it cannot be built.
pub(crate) fn lua(test: &str) -> Option<Environment> {
    let there = repository().join("examples/lua/src/lua.c").is_file();
    (needs(test, "the source of Lua (examples/lua/fetch)", there)
        && needs(test, "gcc", program("gcc").is_some()))
    .then(|| {
        let env = Environment::bare();
        env.copy_from_repository("examples/lua");
        env
    })
}

fn objects(build: &Build) -> Vec<String> {
    build
        .executed()
        .into_iter()
        .filter(|address| address.ends_with(".o"))
        .collect()
}

/// Objects whose source includes a header, by the compiler's own account.
fn including(env: &Environment, header: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(env.path("src")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let Some(stem) = name.strip_suffix(".c").filter(|stem| *stem != "luac") else {
            continue;
        };
        let list = std::process::Command::new("gcc")
            .args(["-MM", "-DLUA_USE_LINUX"])
            .arg(entry.path())
            .output()
            .unwrap();
        if String::from_utf8_lossy(&list.stdout).contains(&format!("/{header}")) {
            found.push(format!("//:{stem}.o"));
        }
    }
    found.sort();
    found
}

#[test]
fn only_what_changed_is_built_again() {
    let Some(env) = lua("only_what_changed_is_built_again") else {
        return;
    };
    let first = env.build("//...");
    assert_eq!(objects(&first).len(), 33);
    assert_eq!(first.executed().len(), 35);
    assert!(env.build("//...").executed().is_empty());

    let source = env.read("src/lmathlib.c");
    env.write(
        "src/lmathlib.c",
        source.replace("#define PI\t", "#define UNUSED_PI 3\n#define PI\t") + "\nint unused_here = 1;\n",
    );
    let changed = env.build("//:lua");
    assert_eq!(
        changed.executed(),
        ["//:lmathlib.o", "//:lua"],
        "a changed source builds its object and the link"
    );

    let source = env.read("src/lmathlib.c");
    env.write(
        "src/lmathlib.c",
        source.replace("3.14159", "3.1415926 /* enough */ + 0.00000"),
    );
    env.write("src/lmathlib.c", &source);
    env.build("//...");
    env.write("src/lmathlib.c", format!("{source}/* a comment at the end */\n"));
    let comment = env.build("//...");
    assert_eq!(
        comment.executed(),
        ["//:lmathlib.o"],
        "an equal object stops the change"
    );

    env.write(
        "src/lctype.h",
        format!("{}\n/* another comment */\n", env.read("src/lctype.h")),
    );
    let header = env.build("//...");
    assert_eq!(
        header.executed(),
        including(&env, "lctype.h"),
        "a changed header builds what includes it"
    );

    env.heph(["run", "--cat-out", "test", "//..."])
        .run()
        .success()
        .says("lua is well");
}
