//! Outputs that go to the source tree.

use heph_tests::Environment;

#[test]
fn copy_puts_outputs_into_the_tree_and_out_of_globs() {
    let env = Environment::new();
    env.write("p/a.txt", "a\n");
    env.write(
        "p/BUILD",
        "target(name='gen', driver='sh', run='echo generated > $OUT', out='gen.txt', codegen='copy')\n\
         target(name='all', driver='sh', deps=glob('*.txt'), run='cat $SRC > $OUT', out='all')\n",
    );
    env.build("//p:gen");
    assert_eq!(env.read("p/gen.txt"), "generated\n");
    env.heph(["run", "--cat-out", "//p:all"])
        .run()
        .success()
        .says("a\n")
        .never_says("generated");
    assert!(env.build("//...").executed().is_empty());
    env.remove("p/gen.txt");
    let again = env.build("//p:gen");
    assert!(again.executed().is_empty());
    assert_eq!(env.read("p/gen.txt"), "generated\n");
}

#[test]
fn what_a_deleted_target_left_is_no_source_and_may_be_overwritten() {
    let env = Environment::new();
    env.write("a.txt", "a\n");
    let all = "target(name='all', driver='sh', deps=glob('*.txt'), run='cat $SRC > $OUT', out='all')\n";
    let generator = |name: &str, word: &str| {
        format!(
            "target(name='{name}', driver='sh', run='echo {word} > $OUT', out='gen.txt', codegen='copy')\n"
        )
    };
    let shows = || env.heph(["run", "--cat-out", "//:all"]).run().success().out();
    env.write("BUILD", format!("{}{all}", generator("gen", "generated")));
    env.build("//...");
    env.write("BUILD", all);
    assert_eq!(
        env.build("//...").executed(),
        Vec::<String>::new(),
        "nothing new to see"
    );
    assert_eq!(shows(), "a\n");
    assert_eq!(env.read("gen.txt"), "generated\n", "it is not removed");
    env.write("BUILD", format!("{}{all}", generator("other", "again")));
    env.build("//...");
    assert_eq!(env.read("gen.txt"), "again\n", "nobody's work is lost");
    env.write("BUILD", all);
    env.build("//...");
    assert_eq!(shows(), "a\n");
    env.write("gen.txt", "by hand\n");
    assert_eq!(shows(), "a\nby hand\n", "what a person writes is a source");
    env.write("BUILD", format!("{}{all}", generator("third", "again")));
    env.heph(["run", "//:third"]).run().exits(1).says("gen.txt");
    assert_eq!(env.read("gen.txt"), "by hand\n");
    assert_eq!(shows(), "a\n", "a target makes it");
    env.write("gen.txt", "again\n");
    env.write("BUILD", all);
    assert_eq!(shows(), "a\n", "it is what heph wrote once more");
}

#[test]
fn a_file_that_someone_changed_is_not_overwritten() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='gen', driver='sh', run='echo one > $OUT', out='gen.txt', codegen='copy')\n",
    );
    env.build("//:gen");
    env.write("gen.txt", "edited by hand\n");
    env.write("BUILD", env.read("BUILD").replace("one", "two"));
    env.heph(["run", "//:gen"]).run().exits(1).says("gen.txt");
    assert_eq!(env.read("gen.txt"), "edited by hand\n");
    env.remove("gen.txt");
    env.build("//:gen");
    assert_eq!(env.read("gen.txt"), "two\n");
}

fn formatter() -> Environment {
    let env = Environment::new();
    env.write("p/a.txt", "Hello\n");
    env.write("p/b.txt", "fine\n");
    env.write(
        "p/BUILD",
        "target(name='fmt', driver='bash', codegen='in_place', out=['a.txt', 'b.txt'],\n\
         \x20   deps={'src': ['//@heph/introspect:outputs']},\n\
         \x20   run='for f in $SRC_SRC; do tr A-Z a-z < $f > $f.new; cat $f.new > $f; rm $f.new; done')\n",
    );
    env
}

#[test]
fn in_place_rewrites_tracked_files_and_the_second_run_is_a_hit() {
    let env = formatter();
    assert_eq!(env.build("//p:fmt").executed(), ["//p:fmt"]);
    assert_eq!(env.read("p/a.txt"), "hello\n");
    assert!(env.build("//p:fmt").executed().is_empty());
    env.write("p/b.txt", "FINE\n");
    assert_eq!(env.build("//p:fmt").executed(), ["//p:fmt"]);
    assert_eq!(env.read("p/b.txt"), "fine\n");
}

#[test]
fn frozen_writes_nothing_prints_the_difference_and_exits_1() {
    let env = formatter();
    let run = env.heph(["run", "--frozen", "//p:fmt"]).run();
    run.exits(1).says("p/a.txt").says("-Hello").says("+hello");
    insta::assert_snapshot!(run.report(), @r#"
        exit 1
        --- stderr
        [1/1] //p:fmt FAILED: p/a.txt differs from what //p:fmt makes

        error: //p:fmt failed: p/a.txt differs from what //p:fmt makes
          | --- a/p/a.txt
          | +++ b/p/a.txt
          | @@ -1 +1 @@
          | -Hello
          | +hello
        hint: run without --frozen to write it

        1 of 1 target failed in <time>
    "#);
    assert_eq!(env.read("p/a.txt"), "Hello\n");
    env.build("//p:fmt");
    env.heph(["run", "--frozen", "//p:fmt"]).run().success();
}

#[test]
fn frozen_finds_generated_files_that_are_missing_or_old() {
    let env = Environment::new();
    env.write(
        "BUILD",
        "target(name='gen', driver='sh', run='echo one > $OUT', out='gen.txt', codegen='copy')\n",
    );
    env.heph(["run", "--frozen", "//:gen"])
        .run()
        .exits(1)
        .says("gen.txt");
    assert!(!env.exists("gen.txt"));
    env.build("//:gen");
    env.heph(["run", "--frozen", "//:gen"]).run().success();
    env.write("BUILD", env.read("BUILD").replace("one", "two"));
    env.heph(["run", "--frozen", "//:gen"])
        .run()
        .exits(1)
        .says("-one")
        .says("+two");
    assert_eq!(env.read("gen.txt"), "one\n");
}

#[test]
fn gen_gitignore_maintains_a_marked_block() {
    let env = Environment::new();
    env.write(".gitignore", "target/\n");
    env.write(
        "p/BUILD",
        "target(name='gen', driver='sh', run='echo > $OUT', out='gen.txt', codegen='copy')\n",
    );
    env.heph(["tool", "gen-gitignore"]).run().success();
    let first = env.read(".gitignore");
    assert!(
        first.starts_with("target/\n") && first.contains("p/gen.txt"),
        "{first}"
    );
    env.heph(["tool", "gen-gitignore"]).run().success();
    assert_eq!(env.read(".gitignore"), first);
    env.write(
        "p/BUILD",
        "target(name='gen', driver='sh', run='echo > $OUT', out='other.txt', codegen='copy')\n",
    );
    env.heph(["tool", "gen-gitignore"]).run().success();
    let second = env.read(".gitignore");
    assert!(
        second.contains("p/other.txt") && !second.contains("p/gen.txt"),
        "{second}"
    );
}
