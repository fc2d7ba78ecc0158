use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::*;
use std::time::{Duration, SystemTime};

fn tree(files: &[&str]) -> (tempfile::TempDir, Tree) {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let skip = Skip::new(&["vendor", "**/generated"]).unwrap();
    let home = dir.path().join("out/home");
    let tree = Tree::new(dir.path(), skip, Some(&home));
    (dir, tree)
}

fn glob(tree: &Tree, patterns: &[&str], exclude: &[&str]) -> GlobResult {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    tree.glob(&owned(patterns), &owned(exclude), &|_| false).unwrap()
}

const FILES: [&str; 12] = [
    "BUILD",
    "a/x.BUILD",
    "a/BUILD",
    "a/b/c/BUILD",
    "a/b/main.c",
    "vendor/lib/BUILD",
    "a/generated/BUILD",
    ".git/BUILD",
    "out/home/BUILD",
    "nested/.hephconfig",
    "nested/BUILD",
    "nested/below/BUILD",
];

#[test]
fn packages_are_found_where_nothing_is_left_out() {
    let (_dir, tree) = tree(&FILES);
    let patterns = BuildPatterns::new(&BuildPatterns::DEFAULT, Skip::default()).unwrap();
    let found = tree.packages(&patterns, "").unwrap();
    let shown: Vec<String> = found
        .iter()
        .map(|p| format!("{}: {}", p.package, p.build_files.join(" ")))
        .collect();
    assert_eq!(shown, [": BUILD", "a: BUILD x.BUILD", "a/b/c: BUILD"]);
    assert_eq!(tree.packages(&patterns, "a/b").unwrap().len(), 1);
    assert_eq!(tree.packages(&patterns, "vendor/lib").unwrap(), []);
    assert_eq!(tree.packages(&patterns, "missing").unwrap(), []);
    assert_eq!(
        tree.package(&patterns, "a").unwrap().unwrap().build_files,
        ["BUILD", "x.BUILD"]
    );
    assert_eq!(tree.package(&patterns, "a/b").unwrap(), None);
    assert_eq!(tree.package(&patterns, ".git").unwrap(), None);
    assert_eq!(tree.package(&patterns, "nested").unwrap(), None);
    assert_eq!(tree.package(&patterns, "nested/below").unwrap(), None);
    assert_eq!(tree.packages(&patterns, "nested/below").unwrap(), []);
    let skipping = BuildPatterns::new(&["BUILD"], Skip::new(&["a/*"]).unwrap()).unwrap();
    assert_eq!(tree.packages(&skipping, "").unwrap().len(), 2);
    assert_eq!(tree.packages(&skipping, "a/b/c").unwrap(), []);
}

#[test]
fn a_wide_tree_is_walked_by_all_workers() {
    let files: Vec<String> = (0..300).map(|n| format!("p{n:03}/q/BUILD")).collect();
    let (_dir, tree) = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let patterns = BuildPatterns::new(&BuildPatterns::DEFAULT, Skip::default()).unwrap();
    let found = tree.packages(&patterns, "").unwrap();
    assert_eq!(found.len(), 300);
    assert!(found.is_sorted());
    assert_eq!(tree.export().len(), 601);
}

#[test]
fn globs_read_only_what_can_match() {
    let (_dir, tree) = tree(&FILES);
    let found = glob(&tree, &["a/*/*.c", "BUILD"], &[]);
    assert_eq!(found.files, ["BUILD", "a/b/main.c"]);
    assert_eq!(found.directories, ["", "a", "a/b"]);
    assert_eq!(
        glob(&tree, &["**/BUILD"], &["a/b/**"]).files,
        ["BUILD", "a/BUILD"]
    );
    assert_eq!(
        glob(&tree, &["vendor/**", "missing/*"], &[]).files,
        Vec::<String>::new()
    );
    assert_eq!(glob(&tree, &["missing/*"], &[]).directories, ["missing"]);
    let all = ["a/**".to_owned()];
    let without = tree.glob(&all, &[], &|path| path.ends_with("BUILD")).unwrap();
    assert_eq!(without.files, ["a/b/main.c"]);
}

#[test]
fn links_are_found_and_never_followed() {
    let (dir, tree) = tree(&["real/x.c"]);
    symlink("real", dir.path().join("link")).unwrap();
    symlink("x.c", dir.path().join("real/y.c")).unwrap();
    assert_eq!(glob(&tree, &["**/*.c"], &[]).files, ["real/x.c", "real/y.c"]);
    assert_eq!(glob(&tree, &["link/*.c"], &[]).files, Vec::<String>::new());
    assert_eq!(glob(&tree, &["*"], &[]).files, ["link"]);
    assert_eq!(
        tree.list("link").unwrap_err().kind(),
        io::ErrorKind::NotADirectory
    );
}

#[test]
fn a_name_that_is_not_utf8_is_an_error_where_it_matches() {
    let (dir, tree) = tree(&["src/a.c"]);
    fs::write(
        dir.path()
            .join("src")
            .join(std::ffi::OsStr::from_bytes(b"\xff.c")),
        "",
    )
    .unwrap();
    assert_eq!(glob(&tree, &["src/*.h"], &[]).files, Vec::<String>::new());
    let problem = tree.glob(&["src/*.c".to_owned()], &[], &|_| false).unwrap_err();
    insta::assert_snapshot!(problem.message, @r#"the name of 'src/\xff.c' is not UTF-8, so no target can have it as an input"#);
}

#[test]
fn a_listing_is_proved_by_the_stat_of_its_directory() {
    let (dir, tree) = tree(&["a/x"]);
    let path = dir.path().join("a");
    let old = SystemTime::now() - Duration::from_secs(10);
    fs::File::open(&path).unwrap().set_modified(old).unwrap();
    // The change of the attributes is recent, whatever the content's time says.
    let stat = tree.list("a").unwrap().stat;
    assert!(!stat.settled);
    assert!(!tree.verify("a", &stat));
    let settled = DirStat {
        settled: true,
        ..stat
    };
    assert!(tree.verify("a", &settled));
    fs::write(path.join("y"), "").unwrap();
    assert!(!tree.verify("a", &settled));
    assert_eq!(tree.list("a").unwrap().entries.len(), 1);
    tree.refresh();
    assert_eq!(tree.list("a").unwrap().entries.len(), 2);
    assert!(!tree.verify("missing", &settled));
}

#[test]
fn the_nearest_file_is_named() {
    let (_dir, tree) = tree(&["src/main.c", "src/util.c"]);
    assert_eq!(tree.nearest_file("src/mian.c").as_deref(), Some("src/main.c"));
    assert_eq!(tree.nearest_file("src/other.rs"), None);
    assert_eq!(tree.nearest_file("missing/main.c"), None);
}

#[test]
fn lists_of_patterns_join_and_split() {
    for patterns in [
        vec!["a"],
        vec!["a,b", "{c,d}/*"],
        vec!["x\\,y", "\\{a", "b"],
        vec!["{a\\},b}", "c"],
    ] {
        let again = split_list(&escape_list(&patterns));
        let compiled = |p: &str| format!("{:?}", pattern::Pattern::new(p));
        let same = patterns
            .iter()
            .map(|p| compiled(p))
            .eq(again.iter().map(|p| compiled(p)));
        assert!(same, "{patterns:?} {again:?}");
    }
    assert_eq!(split_list(""), Vec::<String>::new());
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = String> {
        "[ab.]{1,2}".prop_filter("a name", |name| name != "." && name != "..")
    }

    fn pattern_text() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            3 => "[ab]{1,2}",
            2 => "[ab]?\\*[ab]?",
            1 => "\\?[ab]?",
            1 => Just("[!a]*".to_owned()),
            1 => Just("{a,b/a}".to_owned()),
            2 => Just("**".to_owned()),
        ];
        proptest::collection::vec(segment, 1..4).prop_map(|segments| segments.join("/"))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// The walk, which reads only directories that can match, finds what trying every path would.
        #[test]
        fn walking_finds_what_matches(
            files in proptest::collection::btree_set(proptest::collection::vec(name(), 1..4), 0..8),
            patterns in proptest::collection::vec(pattern_text(), 1..3),
            exclude in proptest::collection::vec(pattern_text(), 0..2),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut made = std::collections::BTreeSet::new();
            for file in files {
                let path = file.join("/");
                let full = dir.path().join(&path);
                // A name may already be taken by a directory, or one above by a file.
                if fs::create_dir_all(full.parent().unwrap()).is_ok() && !full.exists() && fs::write(&full, "").is_ok() {
                    made.insert(path);
                }
            }
            let tree = Tree::new(dir.path(), Skip::default(), None);
            let matches = |patterns: &[String], path: &str| patterns.iter().any(|p| pattern::Pattern::new(p).unwrap().matches(path));
            let expected: Vec<String> = made.into_iter().filter(|path| matches(&patterns, path) && !matches(&exclude, path)).collect();
            let found = tree.glob(&patterns, &exclude, &|_| false).unwrap();
            prop_assert_eq!(found.files, expected);
        }

        #[test]
        fn any_text_is_a_pattern_or_refused(text in any::<String>(), path in "[ab/*]{0,6}", odd in "[a/*?{},!\\[\\]\\\\]{0,12}") {
            for text in [text, odd] {
                if let Ok(pattern) = pattern::Pattern::new(&text) {
                    let _ = pattern.matches(&path);
                    let joined = escape_list(&[&text, &text]);
                    prop_assert_eq!(split_list(&joined).len(), 2, "{}", joined);
                }
                if !text.is_empty() && !text.contains('/') && text != "." && text != ".." {
                    prop_assert!(pattern::Pattern::new(&pattern::escape(&text)).unwrap().matches(&text));
                }
            }
        }
    }
}
