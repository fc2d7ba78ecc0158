//! Watchers of workspaces, for a daemon's warm graphs.
//!
//! There is no thread and nothing to do while nobody builds: the kernel keeps what happened until the next run asks for it. A run
//! asks with a cookie: a file with a name of its own is made in a directory that the same watcher watches; once its event is
//! read, everything that happened before has been read. The cookie lies in the home, not in the workspace, where editors and other
//! watchers would see it.
//!
//! A store through a shared memory mapping is seen when its file is closed, which is when it is unmapped.

use std::path::{Path, PathBuf};

use heph_engine::watch::{Watch, Watching};

#[cfg(target_os = "linux")]
mod inotify;

/// Makes watchers whose cookies lie in one directory.
#[derive(Debug)]
pub struct Watchers {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "inotify is Linux's"))]
    cookies: PathBuf,
}

impl Watchers {
    /// Watchers whose cookies lie in this directory of the home; it is made when it is needed.
    pub fn new(cookies: PathBuf) -> Self {
        Self { cookies }
    }
}

impl Watching for Watchers {
    #[cfg(target_os = "linux")]
    fn watcher(&self, root: &Path) -> Option<Box<dyn Watch>> {
        match inotify::Inotify::new(root, &self.cookies) {
            Ok(watcher) => Some(Box::new(watcher)),
            Err(error) => {
                tracing::info!(
                    "{} is not watched, its files are looked at in every run: {error}",
                    root.display()
                );
                None
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn watcher(&self, _: &Path) -> Option<Box<dyn Watch>> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
