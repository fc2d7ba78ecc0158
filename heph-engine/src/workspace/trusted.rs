//! What of a workspace need not be looked at, because a watcher would have told of a change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Workspace;
use crate::watch::{Trust, Watched, Watching};

/// The trust in one workspace's files and directories.
#[derive(Debug, Default)]
pub(super) struct Trusted {
    trust: Trust,
    root: PathBuf,
    watching: Option<Arc<dyn Watching>>,
    /// Everything that is known and cannot be trusted at the moment; `None` when that may be all.
    open: Option<BTreeSet<String>>,
}

/// What has to be looked at in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Suspects {
    /// All that is known.
    All,
    /// These paths and the directories above them.
    These(BTreeSet<String>),
}

impl Suspects {
    /// Whether there is anything to look at.
    pub fn any(&self) -> bool {
        match self {
            Self::All => true,
            Self::These(paths) => !paths.is_empty(),
        }
    }

    /// Whether a path has to be looked at.
    pub fn has(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(paths) => paths.contains(path),
        }
    }
}

impl Trusted {
    /// Trust in the workspace at `root`.
    pub fn new(root: &Path, watching: Arc<dyn Watching>) -> Self {
        Self {
            trust: Trust::new(watching.watcher(root)),
            root: root.to_owned(),
            watching: Some(watching),
            open: None,
        }
    }

    /// Whether there is a watcher.
    pub fn is_possible(&self) -> bool {
        self.trust.is_possible()
    }

    /// Another directory is the root now.
    pub fn renew(&mut self) {
        if let Some(watching) = self.watching.take() {
            *self = Self::new(&self.root, watching);
        }
    }

    /// What changed since the last call, or was never trusted. Such paths are watched (again), so that they are trusted once
    /// they are looked at.
    pub fn suspects(&mut self) -> Suspects {
        let heard = self.trust.hear();
        let Some(open) = heard.and_then(|changed| {
            let mut open = self.open.take()?;
            for path in changed {
                let above = path.rsplit_once('/').map_or("", |(above, _)| above);
                open.insert(above.to_owned());
                open.insert(path);
            }
            Some(open)
        }) else {
            self.open = None;
            return Suspects::All;
        };
        self.open = Some(BTreeSet::new());
        Suspects::These(open)
    }

    /// Whether a path is what it was when it was looked at last.
    pub fn holds(&self, path: &str) -> bool {
        self.trust.holds(path)
    }

    /// A path is about to be looked at. Where most is trusted it is watched before, so that it can be trusted afterwards.
    pub fn look(&mut self, path: &str, what: Watched) {
        if self.open.is_some() {
            self.trust.watch(path, what);
        }
    }

    /// A path was looked at, after [`Trusted::look`], and is what is known of it.
    pub fn looked_at(&mut self, path: &str) {
        self.trust.looked_at(path);
        if let Some(open) = &mut self.open
            && !self.trust.holds(path)
        {
            open.insert(path.to_owned());
        }
    }

    /// A path was looked at, and nothing is known of it that could be trusted.
    pub fn remains_open(&mut self, path: &str) {
        if let Some(open) = &mut self.open {
            open.insert(path.to_owned());
        }
    }
}

impl Workspace {
    /// Has everything watched that is known, and looks at it once more, so that later runs need not look. For the time after an
    /// answer. `false`: there is no watcher, or nothing left to do.
    pub fn settle(&mut self) -> bool {
        if !self.trusted.is_possible() || self.trusted.open.is_some() {
            return false;
        }
        // What was told so far concerns watches of earlier; everything is looked at below.
        if self.trusted.trust.hear().is_none() {
            return false;
        }
        self.trusted.open = Some(BTreeSet::new());
        self.note_directories();
        let directories: Vec<String> = self.directories.keys().cloned().collect();
        // What an earlier request rests on may be too new to be remembered: then it stays open.
        let mut files: BTreeSet<String> = self.files.paths().into_iter().map(String::from).collect();
        files.extend(self.warm.iter().flat_map(|warm| warm.paths().cloned()));
        let files: Vec<String> = files.into_iter().collect();
        let read: Vec<String> = self
            .packages
            .values()
            .flat_map(|package| &package.files)
            .map(|file| file.path.clone())
            .collect();
        for directory in &directories {
            self.trusted.look(directory, Watched::Directory);
        }
        for path in files.iter().chain(&read) {
            self.trusted.look(path, Watched::File);
        }
        self.refresh_suspects(&Suspects::All);
        let changed: BTreeSet<usize> = self.files.changed(&files).into_iter().collect();
        let mut touched = BTreeSet::new();
        for (index, path) in files.iter().enumerate() {
            if changed.contains(&index) {
                self.trusted.remains_open(path);
                touched.insert(path.clone());
            } else {
                self.trusted.looked_at(path);
            }
        }
        self.warm.iter_mut().for_each(|warm| warm.touch(&touched));
        true
    }
}
