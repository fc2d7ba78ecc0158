//! `examples/hello` does what the README says.

use heph_tests::{Environment, needs, program};

fn hello(test: &str) -> Option<Environment> {
    needs(test, "gcc", program("gcc").is_some()).then(|| {
        let env = Environment::bare();
        env.copy_from_repository("examples/hello");
        let _ = std::fs::remove_file(env.path("words.h"));
        env
    })
}

#[test]
fn everything_is_built_and_the_second_run_executes_nothing() {
    let Some(env) = hello("everything_is_built_and_the_second_run_executes_nothing") else {
        return;
    };
    let first = env.build("//...");
    assert_eq!(
        first.executed(),
        ["//:greets", "//:hello", "//:words", "//tools:embed"]
    );
    assert_eq!(first.outcomes().len(), 4, "{}", first.run);
    assert!(env.exists("words.h"));
    assert!(env.build("//...").executed().is_empty());
}

#[test]
fn a_new_word_is_greeted_and_a_new_order_of_words_changes_nothing() {
    let Some(env) = hello("a_new_word_is_greeted") else {
        return;
    };
    env.build("//...");
    env.write("words/north.txt", "hello\nhei\nmoin\n");
    assert_eq!(env.build("//...").executed(), ["//:greets", "//:words"]);
    env.write("words/south.txt", "ciao\nhola\nyassas\nsalve\n");
    assert_eq!(
        env.build("//...").executed(),
        ["//:greets", "//:hello", "//:words"]
    );
    assert!(env.read("words.h").contains("salve"));
}

#[test]
fn its_gitignore_is_what_the_tool_writes() {
    let Some(env) = hello("its_gitignore_is_what_the_tool_writes") else {
        return;
    };
    let committed = env.read(".gitignore");
    env.heph(["tool", "gen-gitignore"]).run().success();
    assert_eq!(env.read(".gitignore"), committed);
}
