use proptest::prelude::*;

use super::*;
use crate::address::tests::address;

fn shown(text: &str, current: &str) -> String {
    match Query::parse(text, current) {
        Ok(query) => query.to_string(),
        Err(error) => match &error.hint {
            Some(hint) => format!("{error}\n  hint: {hint}"),
            None => error.to_string(),
        },
    }
}

#[test]
fn relative_patterns_resolve_against_the_package() {
    for (text, current, absolute) in [
        ("...", "cmd", "//cmd/..."),
        ("...", "", "//..."),
        (".", "cmd", "//cmd"),
        (".", "", "//"),
        ("./s", "cmd", "//cmd/s"),
        ("./s/...", "cmd", "//cmd/s/..."),
        ("./...", "cmd", "//cmd/..."),
        ("..", "cmd/x", "//cmd"),
        ("../s", "cmd/x", "//cmd/s"),
        ("../...", "cmd/x", "//cmd/..."),
        (":n", "cmd", "//cmd:n"),
        ("./s:n", "cmd", "//cmd/s:n"),
        ("//cmd", "x", "//cmd"),
        ("//...", "x", "//..."),
        ("//", "x", "//"),
        ("//@heph/fs/...", "x", "//@heph/fs/..."),
        ("package(.)", "cmd", "package(//cmd)"),
        ("package(cmd/x)", "", "package(//cmd/x)"),
        ("package_prefix(../s)", "cmd/x", "package_prefix(//cmd/s)"),
        ("addr(:n)", "cmd", "addr(//cmd:n)"),
        ("tree_output(./gen)", "cmd", "tree_output(//cmd/gen)"),
        ("tree_output(gen/)", "cmd", "tree_output(//gen)"),
    ] {
        assert_eq!(shown(text, current), absolute, "{text} in //{current}");
    }
}

#[test]
fn not_binds_before_and_before_or() {
    let parse = |text| Query::parse(text, "").unwrap();
    let label = |name: &str| Query::Label(name.to_owned());
    assert_eq!(
        parse("label(a)||!label(b)&&label(c)"),
        Query::Or(vec![
            label("a"),
            Query::And(vec![Query::Not(Box::new(label("b"))), label("c")])
        ])
    );
    assert_eq!(
        parse("label(a) || label(b) || label(c)"),
        Query::Or(vec![label("a"), label("b"), label("c")])
    );
    assert_eq!(shown("!(label(a)&&//b)", ""), "!(label(a) && //b)");
    assert_eq!(shown("((label(a)))", ""), "label(a)");
    assert_eq!(shown("! ! //a", ""), "!!//a");
    assert_eq!(
        shown("rdeps( deps(//a:b|out) || //c )", ""),
        "rdeps(deps(//a:b|out) || //c)"
    );
}

#[test]
fn quotes_keep_special_characters_together() {
    assert_eq!(
        shown(r#"//a:b@k="x y) && z"&&//c"#, ""),
        r#"//a:b@k="x y) && z" && //c"#
    );
    assert_eq!(shown(r#""//app/(main)/...""#, ""), r#""//app/(main)/...""#);
    assert_eq!(shown(r#"label("two words")"#, ""), r#"label("two words")"#);
    assert_eq!(shown("changed(origin/main~2)", ""), "changed(origin/main~2)");
}

#[test]
fn errors_name_the_column_and_what_was_expected() {
    let texts = [
        "",
        "  ",
        "//a &&",
        "//a //b",
        "//a & //b",
        "&& //a",
        "(//a",
        "//a)",
        "!",
        "()",
        "lable(test)",
        "frobnicate(test)",
        "label",
        "test",
        "cmd/server",
        "cmd:bin",
        "label()",
        "label(\"\")",
        "label(a b)",
        "label(a",
        "deps()",
        "addr(//a)",
        "addr(\"//a b\")",
        "package(//a:b)",
        "package(../../x)",
        "tree_output(/etc)",
        "changed(--upload-pack=x)",
        "//a/../b",
        "package(a b)",
        "..../x",
        "../../../x",
        "//a:b && //größe:c d",
        "label(\"a)",
    ];
    let all: Vec<String> = texts.iter().map(|text| shown(text, "cmd")).collect();
    insta::assert_snapshot!(all.join("\n"), @r#"
    '' is not a query, at column 1: expected a pattern, a function, '!' or '(', found the end
    '  ' is not a query, at column 3: expected a pattern, a function, '!' or '(', found the end
    '//a &&' is not a query, at column 7: expected a pattern, a function, '!' or '(', found the end
    '//a //b' is not a query, at column 5: expected '&&', '||' or the end, found '/'
    '//a & //b' is not a query, at column 5: expected '&&', '||' or the end, found '&'
    '&& //a' is not a query, at column 1: expected a pattern, a function, '!' or '(', found '&&'
    '(//a' is not a query, at column 5: expected ')', found the end
    '//a)' is not a query, at column 4: expected '&&', '||' or the end, found ')'
    '!' is not a query, at column 2: expected a pattern, a function, '!' or '(', found the end
    '()' is not a query, at column 2: expected a pattern, a function, '!' or '(', found ')'
    'lable(test)' is not a query, at column 1: there is no function 'lable'
      hint: did you mean 'label'?
    'frobnicate(test)' is not a query, at column 1: there is no function 'frobnicate'
      hint: functions are label, addr, package, package_prefix, tree_output, deps, rdeps, changed
    'label' is not a query, at column 1: expected '//', ':', './', '../', '.' or '...', found 'l'
      hint: did you mean label(…)?
    'test' is not a query, at column 1: expected '//', ':', './', '../', '.' or '...', found 't'
      hint: targets with a label are label(test), those of a package //test
    'cmd/server' is not a query, at column 1: expected '//', ':', './', '../', '.' or '...', found 'c'
      hint: targets with a label are label(cmd/server), those of a package //cmd/server
    'cmd:bin' is not a query, at column 1: expected '//', ':', './' or '../', found 'c'
      hint: write './cmd:bin' or '//cmd:bin'
    'label()' is not a query, at column 7: expected a label, found ')'
    'label("")' is not a query, at column 7: expected a label, found an empty one
    'label(a b)' is not a query, at column 9: expected ')', found 'b'
    'label(a' is not a query, at column 8: expected ')', found the end
    'deps()' is not a query, at column 6: expected a pattern, a function, '!' or '(', found ')'
    'addr(//a)' is not a query, at column 9: expected ':' and a target name, found the end
      hint: an address names a target: '//a:a'
    'addr("//a b")' is not a query, at column 7: ' ' cannot be part of a directory name
    'package(//a:b)' is not a query, at column 12: ':' cannot be part of a directory name
    'package(../../x)' is not a query, at column 12: '..' leaves the workspace
    'tree_output(/etc)' is not a query, at column 13: '/etc' is not a path within the workspace
    'changed(--upload-pack=x)' is not a query, at column 9: expected a git ref, found '-'
    '//a/../b' is not a query, at column 5: expected a directory name, found '..'
    'package(a b)' is not a query, at column 11: expected ')', found 'b'
    '..../x' is not a query, at column 1: expected '//', ':', './', '../', '.' or '...', found '.'
      hint: write './..../x' or '//..../x'
    '../../../x' is not a query, at column 4: '..' leaves the workspace
    '//a:b && //größe:c d' is not a query, at column 20: expected '&&', '||' or the end, found 'd'
    'label("a)' is not a query, at column 10: expected a closing '"', found the end
    "#);
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["(".repeat(100_000), "!".repeat(100_000), "deps(".repeat(100_000)] {
        let error = Query::parse(&text, "").unwrap_err();
        assert_eq!(error.problem, "expressions are nested too deeply");
    }
    let wide = vec!["//a"; 20_000].join("||");
    assert!(Query::parse(&wide, "").is_ok());
}

#[test]
fn patterns_match_by_package_and_identity() {
    let pattern = |text| Pattern::parse(text, "").unwrap();
    let address = |text| Address::parse(text).unwrap();
    assert!(pattern("//a/...").matches(&address("//a/b:c")));
    assert!(!pattern("//a/...").matches(&address("//ab:c")));
    assert!(!pattern("//...").matches(&address("//@heph/fs:file@f=x")));
    assert!(pattern("//a").matches(&address("//a:c|out")));
    assert!(!pattern("//a").matches(&address("//a/b:c")));
    assert!(pattern("//a:c|x").matches(&address("//a:c|y")));
    assert!(!pattern("//a:c").matches(&address("//a:c@k=1")));

    assert!(pattern("//a/b:c").matches_below("a"));
    assert!(pattern("//a/...").matches_below("a/b"));
    assert!(pattern("//a/b/...").matches_below(""));
    assert!(!pattern("//a/b/...").matches_below("a/c"));
    assert!(!pattern("//a/b/...").matches_package("a"));
}

#[test]
fn a_query_knows_which_packages_it_can_select_from() {
    let query = Query::parse("//cmd/... && !label(slow) && !//cmd/old/...", "").unwrap();
    assert_eq!(query.reach_in("cmd/x"), Reach::Some);
    assert_eq!(query.reach_in("lib"), Reach::Nothing);
    assert_eq!(query.reach_below("cmd/old/y"), Reach::Nothing);
    assert_eq!(query.reach_below(""), Reach::Some);
    assert_eq!(Query::parse("//...", "").unwrap().reach_below("x"), Reach::All);
    assert_eq!(
        Query::parse("deps(//a:b)", "").unwrap().reach_in("z"),
        Reach::Some
    );
}

fn package() -> impl Strategy<Value = String> {
    address().prop_map(|address| address.package)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z()!&|\" ]{1,6}", any::<String>()].prop_filter("an argument", |text: &String| {
        !text.is_empty() && !text.starts_with('-')
    })
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[a-z (\"&]{1,4}", 0..3).prop_map(|segments| segments.join("/"))
}

fn query() -> impl Strategy<Value = Query> {
    let leaf = prop_oneof![
        package().prop_map(|p| Query::Pattern(Pattern::Package(p))),
        package().prop_map(|p| Query::Pattern(Pattern::Below(p))),
        address().prop_map(|a| Query::Pattern(Pattern::Target(a))),
        text().prop_map(Query::Label),
        address().prop_map(Query::Addr),
        package().prop_map(Query::Package),
        package().prop_map(Query::PackagePrefix),
        path().prop_map(Query::TreeOutput),
        text().prop_map(Query::Changed),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|q| Query::Deps(Box::new(q))),
            inner.clone().prop_map(|q| Query::Rdeps(Box::new(q))),
            inner.clone().prop_map(|q| Query::Not(Box::new(q))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(Query::And),
            proptest::collection::vec(inner, 2..4).prop_map(Query::Or),
        ]
    })
}

proptest! {
    #[test]
    fn every_query_prints_in_a_form_that_parses_to_it(query in query(), current in package()) {
        let text = query.to_string();
        let again = Query::parse(&text, &current).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(again, query);
    }

    #[test]
    fn any_text_is_answered(text in any::<String>(), noise in "[/:.@|=\"\\\\a()!& ]{0,24}") {
        for text in [&text, &noise] {
            match Query::parse(text, "cmd") {
                Ok(query) => prop_assert_eq!(Query::parse(&query.to_string(), "").unwrap(), query),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn reach_agrees_with_patterns(
        query in prop_oneof![package().prop_map(Pattern::Package), package().prop_map(Pattern::Below), address().prop_map(Pattern::Target)],
        target in address(),
    ) {
        let reach = Query::Pattern(query.clone()).reach_in(&target.package);
        prop_assert!(reach != Reach::Nothing || !query.matches(&target));
        prop_assert!(reach != Reach::All || query.matches(&target));
    }
}
