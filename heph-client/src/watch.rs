//! `--watch`: waits until a file of the workspace changes.
//!
//! On Linux every directory of the workspace that is not skipped has an inotify watch; elsewhere, and where the
//! watches run out, the tree is looked at every second.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heph_common::ignore::Skip;

use crate::error::Result;

#[cfg(target_os = "linux")]
mod inotify;
mod poll;

/// Changes closer together than this are one.
#[cfg(target_os = "linux")]
const QUIET: Duration = Duration::from_millis(60);

/// Pause between two looks at the tree where it cannot be watched.
const PAUSE: Duration = Duration::from_secs(1);

/// Sees changes of the workspace's files.
pub struct Watcher {
    tree: Tree,
    source: Source,
}

enum Source {
    #[cfg(target_os = "linux")]
    Notified(inotify::Inotify),
    Polled(poll::Snapshot),
}

/// What is watched.
#[derive(Clone)]
struct Tree {
    root: PathBuf,
    skip: Skip,
    home: PathBuf,
    /// Files that the run itself wrote: their next change is no news.
    own: HashSet<PathBuf>,
}

impl Tree {
    /// The path relative to the root, or `None` when it is not watched.
    fn relative(&self, path: &Path) -> Option<PathBuf> {
        let relative = path.strip_prefix(&self.root).ok()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Files on their way into the tree have such names until they are renamed.
        let skipped = name.starts_with(".heph-")
            || path.starts_with(&self.home)
            || self.skip.skips(&relative.to_string_lossy());
        (!skipped).then(|| relative.to_owned())
    }

    /// The directories below `top`, itself included, that are watched.
    fn directories(&self, top: &Path, mut see: impl FnMut(&Path)) {
        let mut left = vec![top.to_owned()];
        while let Some(directory) = left.pop() {
            if self.relative(&directory).is_none() {
                continue;
            }
            see(&directory);
            let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            left.extend(
                entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
    }
}

impl Watcher {
    /// Watches the workspace at `root`, but for what `skip` and the home leave out, from now on.
    pub fn new(root: &Path, skip: Skip, home: &Path) -> Result<Self> {
        let tree = Tree {
            root: root.to_owned(),
            skip,
            home: home.to_owned(),
            own: HashSet::new(),
        };
        #[cfg(target_os = "linux")]
        match inotify::Inotify::new(&tree) {
            Ok(inotify) => {
                return Ok(Self {
                    source: Source::Notified(inotify),
                    tree,
                });
            }
            Err(error) => {
                tracing::warn!("the workspace is looked at every second, since it cannot be watched: {error}")
            }
        }
        let source = Source::Polled(poll::Snapshot::take(&tree));
        Ok(Self { source, tree })
    }

    /// The run wrote these files, relative to the root.
    pub fn forget(&mut self, written: &HashSet<PathBuf>) {
        self.tree.own.clone_from(written);
    }

    /// Waits for a change, and until changes have stopped for a moment; gives one file that changed.
    pub async fn changed(&mut self) -> Result<PathBuf> {
        match &mut self.source {
            #[cfg(target_os = "linux")]
            Source::Notified(inotify) => {
                let first = loop {
                    if let Some(path) = inotify.next(&self.tree).await.map_err(|error| fault(&error))? {
                        break path;
                    }
                };
                while let Ok(more) = tokio::time::timeout(QUIET, inotify.next(&self.tree)).await {
                    more.map_err(|error| fault(&error))?;
                }
                Ok(first)
            }
            Source::Polled(before) => loop {
                tokio::time::sleep(PAUSE).await;
                let now = poll::Snapshot::take(&self.tree);
                let changed = before.difference(&now, &self.tree);
                *before = now;
                if let Some(path) = changed {
                    return Ok(path);
                }
            },
        }
    }
}

#[cfg(target_os = "linux")]
fn fault(error: &std::io::Error) -> crate::error::CommandError {
    crate::error::CommandError::fault(format!("failed to watch the workspace: {error}"))
}

#[cfg(test)]
mod tests;
