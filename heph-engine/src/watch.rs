//! Proof that files stayed as they were, from a watcher, for hosts that outlive a run.
//!
//! A path is *trusted* while all of this holds: it was watched, then looked at (by `stat` or by reading it), and no change of
//! it was told since. What is trusted need not be looked at again. It is only ever an economy: where a watcher cannot prove that
//! it has told everything, nothing is trusted and every path is looked at.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::path::Path;

use crate::tree::is_below;

/// What a watched path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// A directory, for the names in it.
    Directory,
    /// A file, for its bytes, its mode and its links.
    File,
}

/// What a watcher tells. Paths are relative to the root, which is the empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The bytes, the mode or the number of links of a file.
    File(String),
    /// A name came or went: the directory and the path of what has the name.
    Entry {
        /// The directory.
        directory: String,
        /// What came, went or was replaced, with all below it.
        path: String,
        /// Whether what came or went is a directory.
        is_directory: bool,
    },
}

/// Watches one workspace.
pub trait Watch: Send + Sync + Debug {
    /// What changed since the last call, whole: everything that happened before this call is in it.
    ///
    /// `None` when that cannot be proved. Then nothing is watched any more.
    fn changes(&mut self) -> Option<Vec<Change>>;

    /// Watches a path from now on, and every directory above it. `false` where that cannot be relied on: another file system, a
    /// link on the way, a file with several names, no more watches.
    fn watch(&mut self, path: &str, what: Watched) -> bool;
}

/// Makes watchers.
pub trait Watching: Send + Sync + Debug {
    /// A watcher of the workspace at `root`; `None` where there can be none.
    fn watcher(&self, root: &Path) -> Option<Box<dyn Watch>>;
}

/// What is watched and what is trusted of one workspace.
#[derive(Debug, Default)]
pub struct Trust {
    watch: Option<Box<dyn Watch>>,
    /// Watched paths, and whether each is trusted.
    paths: HashMap<Box<str>, bool>,
}

impl Trust {
    /// Trust that rests on a watcher.
    pub fn new(watch: Option<Box<dyn Watch>>) -> Self {
        Self {
            watch,
            paths: HashMap::new(),
        }
    }

    /// Whether there is a watcher at all.
    pub fn is_possible(&self) -> bool {
        self.watch.is_some()
    }

    /// Takes over what the watcher tells: what changed is trusted no more. Gives the paths that changed or were replaced, and what
    /// was watched below them, sorted; `None` when nobody can tell, and nothing is trusted.
    pub fn hear(&mut self) -> Option<Vec<String>> {
        let Some(changes) = self.watch.as_mut().and_then(|watch| watch.changes()) else {
            self.paths.clear();
            return None;
        };
        let mut changed = Vec::with_capacity(changes.len());
        let mut moved = HashSet::new();
        for change in changes {
            match change {
                Change::File(path) => changed.push(path),
                Change::Entry {
                    directory,
                    path,
                    is_directory,
                } => {
                    if let Some(trusted) = self.paths.get_mut(&*directory) {
                        *trusted = false;
                    }
                    if is_directory {
                        moved.insert(path.clone());
                    }
                    changed.push(path);
                }
            }
        }
        changed.sort_unstable();
        changed.dedup();
        for path in &changed {
            // Watched anew before it is trusted again: it may be another file, or have several names now.
            self.paths.remove(&**path);
        }
        if !moved.is_empty() {
            let is_gone = |path: &str| is_below(path, |above| moved.contains(above));
            let gone: Vec<Box<str>> = self.paths.keys().filter(|path| is_gone(path)).cloned().collect();
            for path in gone {
                self.paths.remove(&path);
                changed.push(path.into_string());
            }
            changed.sort_unstable();
        }
        Some(changed)
    }

    /// Whether a path is what it was when it was looked at last.
    pub fn holds(&self, path: &str) -> bool {
        self.paths.get(path).is_some_and(|trusted| *trusted)
    }

    /// A path was looked at, after the last [`Trust::hear`]: it is trusted from now on, if it was watched before.
    pub fn looked_at(&mut self, path: &str) {
        if let Some(trusted) = self.paths.get_mut(path) {
            *trusted = true;
        }
    }

    /// Watches a path. It is not trusted before it is looked at.
    pub fn watch(&mut self, path: &str, what: Watched) {
        if self.paths.contains_key(path) {
            return;
        }
        if let Some(watch) = &mut self.watch
            && watch.watch(path, what)
        {
            self.paths.insert(path.into(), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Watches everything and tells what it is given.
    #[derive(Debug)]
    struct Told(Vec<Option<Vec<Change>>>);

    impl Watch for Told {
        fn changes(&mut self) -> Option<Vec<Change>> {
            self.0.remove(0)
        }

        fn watch(&mut self, _: &str, _: Watched) -> bool {
            true
        }
    }

    fn entry(directory: &str, path: &str, is_directory: bool) -> Change {
        Change::Entry {
            directory: directory.to_owned(),
            path: path.to_owned(),
            is_directory,
        }
    }

    fn trusting(told: Vec<Option<Vec<Change>>>) -> Trust {
        let mut trust = Trust::new(Some(Box::new(Told(told))));
        for (path, what) in [
            ("", Watched::Directory),
            ("a", Watched::Directory),
            ("a/f", Watched::File),
            ("a.txt", Watched::File),
        ] {
            trust.watch(path, what);
            assert!(!trust.holds(path), "nobody has looked yet");
            trust.looked_at(path);
            assert!(trust.holds(path));
        }
        trust
    }

    fn held(trust: &Trust) -> Vec<&'static str> {
        ["", "a", "a/f", "a.txt"]
            .into_iter()
            .filter(|path| trust.holds(path))
            .collect()
    }

    #[test]
    fn what_was_not_watched_is_never_trusted() {
        let mut trust = trusting(vec![]);
        trust.looked_at("b");
        assert!(!trust.holds("b"));
        let mut none = Trust::default();
        none.watch("a", Watched::File);
        none.looked_at("a");
        assert!(!none.holds("a"));
        assert_eq!(none.hear(), None);
    }

    #[test]
    fn a_changed_file_is_watched_anew_before_it_is_trusted() {
        let mut trust = trusting(vec![Some(vec![Change::File("a/f".to_owned())])]);
        assert_eq!(trust.hear(), Some(vec!["a/f".to_owned()]));
        assert_eq!(held(&trust), ["", "a", "a.txt"]);
        trust.looked_at("a/f");
        assert!(!trust.holds("a/f"));
        trust.watch("a/f", Watched::File);
        trust.looked_at("a/f");
        assert!(trust.holds("a/f"));
    }

    #[test]
    fn a_name_that_comes_or_goes_concerns_its_directory_and_what_is_below() {
        let mut trust = trusting(vec![Some(vec![entry("", "a", true)])]);
        assert_eq!(trust.hear(), Some(vec!["a".to_owned(), "a/f".to_owned()]));
        assert_eq!(held(&trust), ["a.txt"]);
        let mut trust = trusting(vec![Some(vec![entry("a", "a/f", false)])]);
        trust.hear();
        assert_eq!(held(&trust), ["", "a.txt"]);
    }

    #[test]
    fn without_a_proof_nothing_is_trusted() {
        let mut trust = trusting(vec![None]);
        assert_eq!(trust.hear(), None);
        assert_eq!(held(&trust), [""; 0]);
    }
}
