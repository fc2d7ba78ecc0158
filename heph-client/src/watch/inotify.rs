//! inotify(7): the system says what changed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::sync::mpsc;

use super::Tree;

/// Room for events that are read at once.
const BUFFER: usize = 16 * 1024;

/// How long after the last listener has gone the thread may go on.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Changes of a tree, from a thread that waits for them.
pub(super) struct Inotify {
    changes: mpsc::UnboundedReceiver<PathBuf>,
}

impl Inotify {
    /// Watches every directory of the tree. Fails when the system has no more watches.
    pub(super) fn new(tree: &Tree) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // Bounded by the kernel's own queue: the thread hands on what it has read.
        let (sender, changes) = mpsc::unbounded_channel();
        let mut thread = Thread {
            descriptor,
            directories: HashMap::new(),
            tree: tree.clone(),
            sender,
        };
        thread.add(&tree.root)?;
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                if let Err(error) = thread.run() {
                    tracing::warn!("the workspace is no longer watched: {error}");
                }
            })?;
        Ok(Self { changes })
    }

    /// The next changed path, relative to the root; `None` for one that is no news.
    pub(super) async fn next(&mut self, tree: &Tree) -> io::Result<Option<PathBuf>> {
        let Some(path) = self.changes.recv().await else {
            return Err(io::Error::other("watching has ended"));
        };
        Ok(Some(path).filter(|path| !tree.own.contains(path)))
    }
}

struct Thread {
    descriptor: OwnedFd,
    directories: HashMap<i32, PathBuf>,
    tree: Tree,
    sender: mpsc::UnboundedSender<PathBuf>,
}

impl Thread {
    fn run(&mut self) -> io::Result<()> {
        while !self.sender.is_closed() {
            match poll(
                &mut [PollFd::new(&self.descriptor, PollFlags::IN)],
                Some(&PATIENCE),
            ) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => self.read()?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn add(&mut self, top: &Path) -> io::Result<()> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR
            | WatchFlags::DONT_FOLLOW;
        let mut failed = None;
        let Self {
            descriptor,
            directories,
            tree,
            ..
        } = self;
        tree.directories(top, |directory| {
            match inotify::add_watch(&*descriptor, directory, flags) {
                Ok(watch) => drop(directories.insert(watch, directory.to_owned())),
                // Gone again already.
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
                Err(error) => failed = Some(error),
            }
        });
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut fresh = Vec::new();
        let mut reader = Reader::new(&self.descriptor, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Err(error) => return Err(error.into()),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                // Something changed; what, nobody knows.
                let _ = self.sender.send(PathBuf::from("a file"));
            }
            let Some(directory) = self.directories.get(&event.wd()) else {
                continue;
            };
            let Some(name) = event.file_name() else { continue };
            let path = directory.join(OsStr::from_bytes(name.to_bytes()));
            let Some(relative) = self.tree.relative(&path) else {
                continue;
            };
            if flags.contains(ReadFlags::ISDIR) {
                if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                    fresh.push(path);
                } else if !flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
                    continue;
                }
            }
            let _ = self.sender.send(relative);
        }
        for directory in fresh {
            self.add(&directory)?;
        }
        Ok(())
    }
}
