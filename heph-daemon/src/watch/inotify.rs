//! inotify(7).
//!
//! Directories are watched for the names in them; files by themselves, since a file that got a second name elsewhere changes
//! without a word to its directory.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use heph_engine::tree::is_below;
use heph_engine::watch::{Change, Watch, Watched};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

/// How long the event of a cookie may take. The kernel queues it before the cookie's maker goes on, so this is never waited for
/// where watching works.
const COOKIE_PATIENCE: Duration = Duration::from_millis(100);

/// The wall clock may drift by so much against the one that never jumps, between two looks.
const DRIFT: i64 = 1_000_000_000;

/// Room for events that are read at once.
const BUFFER: usize = 64 * 1024;

/// File systems that tell of every change: local ones, whose changes all go through this kernel.
const WATCHABLE: [u32; 10] = [
    0xEF53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683E, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58F6, // ramfs
    0x794C_7630, // overlayfs
    0xF2F5_2010, // F2FS
    0x2FC1_2FC1, // ZFS
    0xCA45_1A4E, // bcachefs
    0x3153_464A, // JFS
];

/// A watcher of one workspace.
#[derive(Debug)]
pub(super) struct Inotify {
    root: PathBuf,
    device: u64,
    cookies: PathBuf,
    queue: Queue,
    /// Tells when anything was mounted or unmounted.
    mounts: File,
    /// What the wall clock shows when the clock that never jumps shows zero, in nanoseconds.
    clock: i64,
    next_cookie: u64,
    /// How many watches there may be: the user's other programs need some too.
    most: usize,
}

/// The descriptor and what is watched through it.
#[derive(Debug)]
struct Queue {
    descriptor: OwnedFd,
    cookies: i32,
    places: HashMap<i32, Place>,
    /// Watches by path; `None` for a symlink, which is covered by its directory.
    watches: HashMap<Box<str>, Option<i32>>,
}

/// What a watch is on, relative to the root.
#[derive(Clone, Debug)]
struct Place {
    path: Box<str>,
    what: Watched,
}

/// Nothing can be proved.
struct Lost(&'static str);

impl Inotify {
    /// A watcher that watches nothing yet but the root.
    pub(super) fn new(root: &Path, cookies: &Path) -> io::Result<Self> {
        let kind = rustix::fs::statfs(root)?.f_type;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "file systems have 32-bit names"
        )]
        let kind = kind as u32;
        if !WATCHABLE.contains(&kind) {
            return Err(io::Error::other(format!(
                "changes on a file system of the type {kind:#x} are not told"
            )));
        }
        fs::create_dir_all(cookies)?;
        Ok(Self {
            device: fs::symlink_metadata(root)?.dev(),
            queue: Queue::new(root, cookies)?,
            root: root.to_owned(),
            cookies: cookies.to_owned(),
            mounts: File::open("/proc/self/mountinfo")?,
            clock: clock_offset(),
            next_cookie: 0,
            most: most_watches(),
        })
    }

    /// Everything that happened before this call.
    fn read(&mut self) -> Result<Vec<Change>, Lost> {
        let clock = clock_offset();
        if (clock - std::mem::replace(&mut self.clock, clock)).abs() > DRIFT {
            return Err(Lost("the clock has jumped"));
        }
        if self.mounts_changed() {
            return Err(Lost("something was mounted or unmounted"));
        }
        let name = format!("{}-{}", std::process::id(), self.next_cookie);
        self.next_cookie += 1;
        let cookie = self.cookies.join(&name);
        File::create_new(&cookie).map_err(|_| Lost("no cookie can be made"))?;
        // One that stays costs its few bytes in a directory of heph's own.
        drop(fs::remove_file(&cookie));
        let mut changes = Vec::new();
        let deadline = Instant::now() + COOKIE_PATIENCE;
        while !self.queue.read(name.as_bytes(), &mut changes)? {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: 0,
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut ready = [PollFd::new(&self.queue.descriptor, PollFlags::IN)];
            match poll(&mut ready, Some(&left)) {
                Ok(0) => return Err(Lost("the cookie was not told of")),
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return Err(Lost("the watcher cannot be read")),
            }
        }
        Ok(changes)
    }

    /// Whether anything was mounted or unmounted since the last call: what is mounted over a directory hides it without an event.
    fn mounts_changed(&self) -> bool {
        let mut told = [PollFd::new(&self.mounts, PollFlags::PRI)];
        match poll(&mut told, Some(&Timespec::default())) {
            Ok(0) => false,
            Ok(_) | Err(_) => true,
        }
    }

    /// As if the wall clock had been set by so many nanoseconds.
    #[cfg(test)]
    pub(super) fn pretend_clock(&mut self, skew: i64) {
        self.clock += skew;
    }

    /// As if the system granted so many watches.
    #[cfg(test)]
    pub(super) fn pretend_limit(&mut self, most: usize) {
        self.most = most;
    }

    fn add(&mut self, path: &str, what: Watched) -> bool {
        if self.queue.watches.contains_key(path) {
            return true;
        }
        // Above first: what is put in the place of a directory is told of by the one that holds it.
        let above = path.rsplit_once('/').map_or("", |(above, _)| above);
        if path.is_empty() || self.queue.watches.len() >= self.most || !self.add(above, Watched::Directory) {
            return false;
        }
        let full = self.root.join(path);
        let Ok(found) = fs::symlink_metadata(&full) else {
            return false;
        };
        if found.is_symlink() && what == Watched::File {
            self.queue.watches.insert(path.into(), None);
            return true;
        }
        let Ok(watch) = inotify::add_watch(&self.queue.descriptor, &full, flags(what)) else {
            return false;
        };
        // What is there is looked at once it is watched: it may have been replaced meanwhile, which its directory tells.
        let reliable = fs::symlink_metadata(&full).is_ok_and(|found| {
            found.dev() == self.device
                && match what {
                    Watched::Directory => found.is_dir(),
                    Watched::File => found.is_file() && found.nlink() == 1,
                }
        });
        let place = Place {
            path: path.into(),
            what,
        };
        match self.queue.places.insert(watch, place) {
            // One inode, two paths: neither can be told by its watch.
            Some(other) => {
                self.queue.forget(&other.path);
                false
            }
            None if reliable => {
                self.queue.watches.insert(path.into(), Some(watch));
                true
            }
            None => {
                self.queue.drop_watch(watch);
                false
            }
        }
    }
}

impl Watch for Inotify {
    fn changes(&mut self) -> Option<Vec<Change>> {
        match self.read() {
            Ok(changes) => Some(changes),
            Err(Lost(why)) => {
                tracing::info!(
                    "{}: {why}; every file is looked at in this run",
                    self.root.display()
                );
                match Queue::new(&self.root, &self.cookies) {
                    Ok(queue) => self.queue = queue,
                    Err(error) => {
                        tracing::warn!("{} cannot be watched: {error}", self.root.display());
                        self.queue.watches.clear();
                    }
                }
                None
            }
        }
    }

    fn watch(&mut self, path: &str, what: Watched) -> bool {
        self.add(path, what)
    }
}

impl Queue {
    fn new(root: &Path, cookies: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let cookies = inotify::add_watch(&descriptor, cookies, WatchFlags::CREATE | WatchFlags::ONLYDIR)?;
        let watch = inotify::add_watch(&descriptor, root, flags(Watched::Directory))?;
        let place = Place {
            path: "".into(),
            what: Watched::Directory,
        };
        Ok(Self {
            descriptor,
            cookies,
            places: HashMap::from([(watch, place)]),
            watches: HashMap::from([("".into(), Some(watch))]),
        })
    }

    /// Reads what is there; `true` once the cookie was seen.
    fn read(&mut self, cookie: &[u8], changes: &mut Vec<Change>) -> Result<bool, Lost> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut seen = false;
        // Watches may not be dropped while the reader borrows the descriptor.
        let mut gone: Vec<Box<str>> = Vec::new();
        let mut reader = Reader::new(&self.descriptor, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Lost("the watcher cannot be read")),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                return Err(Lost("there were more changes than the system remembers"));
            }
            if flags.contains(ReadFlags::UNMOUNT) {
                return Err(Lost("a file system was unmounted"));
            }
            if event.wd() == self.cookies {
                seen |= event.file_name().is_some_and(|name| name.to_bytes() == cookie);
                continue;
            }
            let Some(Place { path, what }) = self.places.get(&event.wd()) else {
                continue;
            };
            match (what, event.file_name()) {
                (Watched::File, _) => {
                    changes.push(Change::File(path.to_string()));
                    gone.push(path.clone());
                }
                (Watched::Directory, Some(name)) => {
                    let name = name.to_string_lossy();
                    let entry = match &**path {
                        "" => name.into_owned(),
                        directory => format!("{directory}/{name}"),
                    };
                    gone.push(entry.as_str().into());
                    changes.push(Change::Entry {
                        directory: path.to_string(),
                        path: entry,
                        is_directory: flags.contains(ReadFlags::ISDIR),
                    });
                }
                (Watched::Directory, None) if path.is_empty() => {
                    return Err(Lost("the workspace was moved or removed"));
                }
                // Told by the directory that holds it.
                (Watched::Directory, None) => {}
            }
        }
        let directories: Vec<&str> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Entry {
                    path,
                    is_directory: true,
                    ..
                } => Some(path.as_str()),
                _ => None,
            })
            .collect();
        if !directories.is_empty() {
            gone.extend(self.below(&directories));
        }
        for path in gone {
            self.forget(&path);
        }
        Ok(seen)
    }

    /// Watched paths below any of these.
    fn below(&self, directories: &[&str]) -> Vec<Box<str>> {
        let moved: HashSet<&str> = directories.iter().copied().collect();
        let is_gone = |path: &str| is_below(path, |above| moved.contains(above));
        self.watches
            .keys()
            .filter(|path| is_gone(path))
            .cloned()
            .collect()
    }

    fn forget(&mut self, path: &str) {
        if let Some(Some(watch)) = self.watches.remove(path) {
            self.drop_watch(watch);
        }
    }

    fn drop_watch(&mut self, watch: i32) {
        self.places.remove(&watch);
        // The kernel has dropped it already when what it was on is gone.
        let _ = inotify::remove_watch(&self.descriptor, watch);
    }
}

fn flags(what: Watched) -> WatchFlags {
    let own = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::DONT_FOLLOW;
    match what {
        Watched::Directory => {
            own | WatchFlags::ONLYDIR
                | WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
        }
        Watched::File => own | WatchFlags::MODIFY | WatchFlags::ATTRIB | WatchFlags::CLOSE_WRITE,
    }
}

/// What the wall clock shows when the clock that never jumps shows zero, in nanoseconds.
fn clock_offset() -> i64 {
    let nanoseconds = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec
            .saturating_mul(1_000_000_000)
            .saturating_add(time.tv_nsec)
    };
    nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime)
}

/// Half of what the system grants a user.
fn most_watches() -> usize {
    const USUAL: usize = 8192;
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches")
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok());
    limit.unwrap_or(USUAL) / 2
}
