use super::*;

fn tree(root: &Path) -> Skip {
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::create_dir_all(root.join("skipped")).unwrap();
    std::fs::write(root.join("a/b/one"), "1").unwrap();
    Skip::new(&["skipped"]).unwrap()
}

#[tokio::test]
async fn a_change_is_seen_also_in_a_directory_that_is_new() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let home = root.join("home");
    std::fs::create_dir(&home).unwrap();
    let mut watcher = Watcher::new(&root, tree(&root), &home).unwrap();

    // What is skipped, the home, and what the run wrote itself are no news.
    std::fs::write(root.join("skipped/x"), "1").unwrap();
    std::fs::write(home.join("x"), "1").unwrap();
    std::fs::write(root.join("a/generated"), "1").unwrap();
    std::fs::write(root.join("a/.heph-1-2"), "1").unwrap();
    watcher.forget(&HashSet::from([PathBuf::from("a/generated")]));
    std::fs::write(root.join("a/b/one"), "2").unwrap();
    assert_eq!(watcher.changed().await.unwrap(), Path::new("a/b/one"));

    std::fs::create_dir(root.join("a/new")).unwrap();
    watcher.changed().await.unwrap();
    std::fs::write(root.join("a/new/two"), "1").unwrap();
    assert_eq!(watcher.changed().await.unwrap(), Path::new("a/new/two"));
}

#[test]
fn two_looks_at_the_tree_find_what_changed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    let skip = tree(&root);
    let tree = Tree {
        root: root.clone(),
        skip,
        home: root.join("home"),
        own: HashSet::new(),
    };
    let before = poll::Snapshot::take(&tree);
    std::fs::write(root.join("skipped/x"), "1").unwrap();
    let same = poll::Snapshot::take(&tree);
    assert_eq!(before.difference(&same, &tree), None);
    std::fs::remove_file(root.join("a/b/one")).unwrap();
    std::fs::write(root.join("a/two"), "1").unwrap();
    let after = poll::Snapshot::take(&tree);
    assert_eq!(
        before.difference(&after, &tree).as_deref(),
        Some(Path::new("a/two"))
    );
    assert_eq!(
        after.difference(&before, &tree).as_deref(),
        Some(Path::new("a/b/one"))
    );
}
