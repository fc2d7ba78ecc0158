#![allow(clippy::unwrap_used, reason = "tests may fail by panicking")]

use std::fs;

use heph_engine::watch::{Change, Watch, Watched, Watching as _};
use tempfile::TempDir;

use super::Watchers;
use super::inotify::Inotify;

struct Tree {
    directory: TempDir,
    watch: Inotify,
}

impl Tree {
    /// A tree with the file `d/f`, watched.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("d/f"), "f").unwrap();
        let mut watch = Inotify::new(&root, &directory.path().join("cookies")).unwrap();
        assert!(watch.watch("d/f", Watched::File));
        assert_eq!(watch.changes(), Some(vec![]));
        Self { directory, watch }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }
}

#[test]
fn a_changed_file_is_told_once_until_it_is_watched_again() {
    let mut tree = Tree::new();
    fs::write(tree.root().join("d/f"), "g").unwrap();
    let changes = tree.watch.changes().unwrap();
    assert!(changes.contains(&Change::File("d/f".to_owned())), "{changes:?}");
    fs::write(tree.root().join("d/f"), "h").unwrap();
    assert_eq!(tree.watch.changes(), Some(vec![]));
    assert!(tree.watch.watch("d/f", Watched::File));
    fs::write(tree.root().join("d/f"), "i").unwrap();
    assert!(!tree.watch.changes().unwrap().is_empty());
}

#[test]
fn what_is_read_is_no_change() {
    let mut tree = Tree::new();
    fs::read(tree.root().join("d/f")).unwrap();
    fs::read_dir(tree.root().join("d")).unwrap().count();
    assert_eq!(tree.watch.changes(), Some(vec![]));
}

#[test]
fn names_are_told_with_their_directory() {
    let mut tree = Tree::new();
    fs::create_dir(tree.root().join("d/new")).unwrap();
    let entry = Change::Entry {
        directory: "d".to_owned(),
        path: "d/new".to_owned(),
        is_directory: true,
    };
    assert_eq!(tree.watch.changes(), Some(vec![entry]));
}

#[test]
fn what_cannot_be_relied_on_is_not_watched() {
    let mut tree = Tree::new();
    let root = tree.root();
    fs::hard_link(root.join("d/f"), root.join("d/g")).unwrap();
    tree.watch.changes();
    assert!(!tree.watch.watch("d/f", Watched::File), "it has two names");
    std::os::unix::fs::symlink("d", root.join("link")).unwrap();
    fs::write(root.join("d/h"), "h").unwrap();
    assert!(!tree.watch.watch("link/h", Watched::File), "a link is on the way");
    assert!(
        tree.watch.watch("link", Watched::File),
        "its directory tells of it"
    );
    assert!(!tree.watch.watch("gone", Watched::File));
    assert!(!tree.watch.watch("d/f", Watched::Directory));
    assert!(tree.watch.watch("d/h", Watched::File));
}

#[test]
fn a_jump_of_the_clock_proves_nothing() {
    let mut tree = Tree::new();
    tree.watch.pretend_clock(3_600_000_000_000);
    assert_eq!(tree.watch.changes(), None);
    // What was watched is watched no more, and then all is well again.
    assert!(tree.watch.watch("d/f", Watched::File));
    assert_eq!(tree.watch.changes(), Some(vec![]));
}

#[test]
fn a_moved_root_proves_nothing() {
    let mut tree = Tree::new();
    fs::rename(tree.root(), tree.directory.path().join("other")).unwrap();
    assert_eq!(tree.watch.changes(), None);
}

#[test]
fn where_no_cookie_can_be_made_nothing_is_proved() {
    let mut tree = Tree::new();
    fs::remove_dir_all(tree.directory.path().join("cookies")).unwrap();
    assert_eq!(tree.watch.changes(), None);
}

#[test]
fn no_more_is_watched_than_is_granted() {
    let mut tree = Tree::new();
    tree.watch.pretend_limit(4);
    for number in 0..4 {
        fs::write(tree.root().join(format!("d/{number}")), "").unwrap();
    }
    let watched = (0..4).filter(|number| tree.watch.watch(&format!("d/{number}"), Watched::File));
    assert_eq!(watched.count(), 1, "the root, d and d/f are watched");
}

#[test]
fn file_systems_that_do_not_tell_are_not_watched() {
    let cookies = tempfile::tempdir().unwrap();
    let watchers = Watchers::new(cookies.path().to_owned());
    assert!(watchers.watcher(std::path::Path::new("/proc/self")).is_none());
}
