//! The query language: each pattern, function and operator.

use heph_tests::Environment;

fn workspace() -> Environment {
    let env = Environment::new();
    env.write(
        "a/BUILD",
        "target(name='one', driver='sh', labels='x', run='echo 1 > $OUT', out='one.txt')\n\
         target(name='two', driver='sh', labels=['x', 'y'], deps=':one', run='echo 2 > $OUT', out='two.txt')\n",
    );
    env.write(
        "a/b/BUILD",
        "target(name='three', driver='sh', labels='y', deps='//a:two', run='true')\n",
    );
    env.write(
        "c/BUILD",
        "target(name='four', driver='sh', deps=file('in.txt'), run='echo 4 > $OUT', out='gen/four.txt')\n",
    );
    env.write("c/in.txt", "input\n");
    env
}

fn query(env: &Environment, directory: &str, expression: &str) -> Vec<String> {
    env.heph(["query", "-e", expression])
        .from(directory)
        .run()
        .success()
        .lines()
}

const ONE: &str = "//a:one";
const TWO: &str = "//a:two";
const THREE: &str = "//a/b:three";
const FOUR: &str = "//c:four";

/// Sorts as heph does: package by package, a package before those below it.
fn sorted<const N: usize>(mut addresses: [&str; N]) -> Vec<String> {
    addresses.sort_by_key(|address| {
        address
            .rsplit_once(':')
            .map(|(package, name)| (package.to_owned(), name.to_owned()))
    });
    addresses.map(str::to_owned).to_vec()
}

#[test]
fn patterns() {
    let env = workspace();
    assert_eq!(query(&env, "", "//a"), sorted([ONE, TWO]));
    assert_eq!(query(&env, "", "//a/..."), sorted([ONE, TWO, THREE]));
    assert_eq!(query(&env, "", "//a:one"), [ONE]);
    assert_eq!(query(&env, "a", "..."), sorted([ONE, TWO, THREE]));
    assert_eq!(query(&env, "a", "."), sorted([ONE, TWO]));
    assert_eq!(query(&env, "a", "./b"), [THREE]);
    assert_eq!(query(&env, "a/b", "../../c"), [FOUR]);
}

#[test]
fn functions() {
    let env = workspace();
    assert_eq!(query(&env, "", "label(x)"), sorted([ONE, TWO]));
    assert_eq!(query(&env, "", "addr(//a:one)"), [ONE]);
    assert_eq!(query(&env, "", "package(a)"), sorted([ONE, TWO]));
    assert_eq!(query(&env, "", "package_prefix(a)"), sorted([ONE, TWO, THREE]));
    assert_eq!(query(&env, "", "tree_output(c/gen)"), Vec::<String>::new());
    assert_eq!(query(&env, "", "rdeps(//a:one)"), sorted([TWO, THREE]));
    assert_eq!(query(&env, "", "deps(//a/b:three)"), sorted([ONE, TWO]));
}

#[test]
fn tree_output_selects_targets_that_write_below_a_package_of_the_source_tree() {
    let env = workspace();
    env.write(
        "d/BUILD",
        "target(name='gen', driver='sh', run='echo g > $OUT', out='sub/g.txt', codegen='copy')\n",
    );
    assert_eq!(query(&env, "", "tree_output(d)"), ["//d:gen"]);
    assert_eq!(query(&env, "", "tree_output(c)"), Vec::<String>::new());
}

#[test]
fn changed_selects_what_differs_from_a_commit() {
    let env = workspace();
    env.commit_all();
    env.write("c/in.txt", "changed\n");
    assert_eq!(query(&env, "", "changed(HEAD)"), [FOUR]);
    assert_eq!(
        query(&env, "", "//... && !changed(HEAD)"),
        sorted([ONE, TWO, THREE])
    );
}

#[test]
fn operators_and_their_precedence() {
    let env = workspace();
    assert_eq!(query(&env, "", "label(x) && label(y)"), [TWO]);
    assert_eq!(query(&env, "", "label(x) || label(y)"), sorted([ONE, TWO, THREE]));
    assert_eq!(query(&env, "", "//... && !label(x)"), sorted([THREE, FOUR]));
    assert_eq!(
        query(&env, "", "//c || label(x) && label(y)"),
        sorted([TWO, FOUR])
    );
    assert_eq!(query(&env, "", "(//c || label(x)) && label(y)"), [TWO]);
    assert_eq!(query(&env, "", "!!//c"), [FOUR]);
}

#[test]
fn an_empty_query_is_no_failure_and_a_wrong_one_shows_its_place() {
    let env = workspace();
    assert_eq!(query(&env, "", "label(nobody)"), Vec::<String>::new());
    env.heph(["query", "-e", "//a && ("]).run().exits(2);
    env.heph(["query", "-e", "lable(x)"]).run().exits(2).says("label");
}

#[test]
fn a_query_can_be_a_dependency() {
    let env = workspace();
    env.write(
        "e/BUILD",
        "target(name='all', driver='sh', deps=query('label(x)'), run='cat $SRC > $OUT', out='all.txt')\n",
    );
    env.heph(["run", "--copy-out", "copied", "//e:all"])
        .run()
        .success();
    assert_eq!(env.read("copied/e/all.txt"), "1\n2\n");
    let build = env.build("//@heph/query:query@expr=\"label(x)\"");
    assert!(
        build.has_result(ONE) || build.outcomes().is_empty(),
        "{}",
        build.run
    );
}
