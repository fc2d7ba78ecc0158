//! Writing outputs into the source tree, never over anybody's work.

mod difference;
mod record;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use heph_common::digest::Digest;
use heph_proto::input::Source;
use heph_proto::{EntryKind, Failed, FailureKind, Input, WriteTree, Written};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{Errno, Result};

use super::stop::{Attempt, Stop, cause};
use super::{beneath, content, relative};

pub use record::{Record, RecordError};

/// Carries a request out.
pub(super) fn write(home: &Path, request: &WriteTree, root: &Path) -> Written {
    let mut written = Written {
        id: request.id,
        ..Written::default()
    };
    match run(home, request, root) {
        Ok(changed) => written.changed = changed,
        Err(Stop::Failed(failed)) => written.failed = Some(*failed),
        Err(other) => {
            let message = format!("{other:?}");
            written.failed = Some(Failed {
                message,
                ..Failed::default()
            });
        }
    }
    written
}

fn failed(message: String) -> Stop {
    Stop::failed(FailureKind::Codegen, message)
}

fn unwritable(path: &str, errno: Errno) -> Stop {
    failed(format!(
        "failed to write {path}: {}",
        cause(Path::new(path), errno)
    ))
}

fn run(home: &Path, request: &WriteTree, root: &Path) -> Attempt<u32> {
    let tree = Tree::open(root)?;
    let mut record = match request.in_place {
        true => None,
        false => Some(Record::lock(home, root).map_err(|error| failed(error.to_string()))?),
    };
    // Everything is looked at before anything is written.
    let mut changes = Vec::new();
    for (number, file) in request.files.iter().enumerate() {
        let expected = request
            .expected
            .get(number)
            .and_then(|bytes| Digest::from_slice(bytes));
        let known = record.as_ref().and_then(|record| record.digest(&file.path));
        if let Some(change) = tree.change(request, file, expected.or(known))? {
            changes.push(change);
        }
    }
    if request.frozen {
        return match changes.is_empty() {
            true => Ok(0),
            false => Err(frozen(&tree, request, &changes)),
        };
    }
    for change in &changes {
        tree.put(change)
            .map_err(|errno| unwritable(&change.file.path, errno))?;
    }
    if let Some(record) = &mut record {
        for file in &request.files {
            record.insert(&file.path, identity(file));
        }
        record.save().map_err(|error| failed(error.to_string()))?;
    }
    Ok(u32::try_from(changes.len()).unwrap_or(u32::MAX))
}

fn frozen(tree: &Tree, request: &WriteTree, changes: &[Change<'_>]) -> Stop {
    let names: Vec<&str> = changes.iter().map(|change| change.file.path.as_str()).collect();
    let verb = if names.len() == 1 { "differs" } else { "differ" };
    let message = format!("{} {verb} from what {} makes", names.join(", "), request.address);
    let mut stop = failed(message).hint("run without --frozen to write it");
    if let Stop::Failed(failed) = &mut stop {
        for change in changes {
            let (old, new) = (tree.current(change), wanted(change.file));
            failed
                .log_tail
                .extend(difference::of(&change.file.path, old, new));
        }
    }
    stop
}

/// What a file of the tree is going to be, for people.
fn wanted(file: &Input) -> Option<Vec<u8>> {
    match &file.source {
        Some(Source::Inline(bytes)) => Some(bytes.to_vec()),
        Some(Source::BlobFile(path) | Source::SourceFile(path)) => std::fs::read(path).ok(),
        Some(Source::LinkTarget(target)) => Some(format!("link to {target}\n").into_bytes()),
        None => None,
    }
}

/// The digest that stands for a file, or for where a link points.
fn identity(file: &Input) -> Digest {
    match (&file.source, Digest::from_slice(&file.digest)) {
        (Some(Source::LinkTarget(target)), _) => Digest::of(target.as_bytes()),
        (Some(Source::Inline(bytes)), None) => Digest::of(bytes),
        (_, Some(digest)) => digest,
        (_, None) => Digest::of(b""),
    }
}

/// A file that has to be written.
struct Change<'a> {
    file: &'a Input,
    /// What is there.
    present: Option<Present>,
}

/// A file or link of the tree.
struct Present {
    digest: Digest,
    stat: Stat,
}

impl Present {
    fn is_link(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode).is_symlink()
    }

    fn is_executable(&self) -> bool {
        Mode::from_raw_mode(self.stat.st_mode).contains(Mode::XUSR)
    }
}

struct Tree {
    root: OwnedFd,
}

impl Tree {
    fn open(root: &Path) -> Attempt<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(root, flags, Mode::empty());
        let root = opened.map_err(|errno| {
            failed(format!(
                "failed to open {}: {}",
                root.display(),
                cause(root, errno)
            ))
        })?;
        Ok(Self { root })
    }

    /// What has to be done about a file; an error when somebody else's work would be lost.
    fn change<'a>(
        &self,
        request: &WriteTree,
        file: &'a Input,
        expected: Option<Digest>,
    ) -> Attempt<Option<Change<'a>>> {
        let path = &file.path;
        if !relative::is_plain(path) {
            return Err(failed(format!(
                "{path:?} is not a plain path below the workspace root"
            )));
        }
        if file.kind() == EntryKind::Directory {
            let made = beneath::directory(&self.root, path, !request.frozen);
            return match made {
                Ok(_) => Ok(None),
                Err(Errno::NOENT) if request.frozen => Ok(None),
                Err(errno) => Err(unwritable(path, errno)),
            };
        }
        let present = self.present(path).map_err(|errno| unwritable(path, errno))?;
        let Some(present) = present else {
            return match expected {
                Some(_) if request.in_place => Err(failed(format!(
                    "{path} was removed while {} ran",
                    request.address
                ))),
                _ => Ok(Some(Change { file, present: None })),
            };
        };
        let is_link = file.kind() == EntryKind::Symlink;
        let is_executable = file.kind() == EntryKind::Executable;
        if present.digest == identity(file) && present.is_link() == is_link {
            let is_same = is_link || present.is_executable() == is_executable;
            return Ok((!is_same).then_some(Change {
                file,
                present: Some(present),
            }));
        }
        if expected == Some(present.digest) {
            return Ok(Some(Change {
                file,
                present: Some(present),
            }));
        }
        let address = &request.address;
        Err(match (request.in_place, expected) {
            (true, _) => failed(format!("{path} was changed by someone else while {address} ran"))
                .hint("run it again: it then starts from the file as it is now"),
            (false, Some(_)) => failed(format!(
                "{path} was changed by someone else since {address} wrote it"
            ))
            .hint("move the change elsewhere, and remove the file"),
            (false, None) => failed(format!(
                "{path}, which {address} makes, exists but was not written by heph"
            ))
            .hint("remove it, or give the output another name"),
        })
    }

    fn present(&self, path: &str) -> Result<Option<Present>> {
        let directory = match beneath::directory(&self.root, relative::parent(path), false) {
            Err(Errno::NOENT) => return Ok(None),
            result => result?,
        };
        let name = path.rsplit('/').next().unwrap_or(path);
        let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            result => result?,
        };
        let digest = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&directory, name, Vec::new())?;
                Digest::of(target.to_bytes())
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
                content::digest_of(File::from(file))?
            }
            FileType::Directory => return Err(Errno::ISDIR),
            _ => return Err(Errno::EXIST),
        };
        Ok(Some(Present { digest, stat }))
    }

    fn current(&self, change: &Change<'_>) -> Option<Vec<u8>> {
        let present = change.present.as_ref()?;
        if present.is_link() {
            let target = rustix::fs::readlinkat(&self.root, &*change.file.path, Vec::new()).ok()?;
            return Some(format!("link to {}\n", target.to_string_lossy()).into_bytes());
        }
        let file = beneath::open(&self.root, Path::new(&change.file.path), OFlags::RDONLY).ok()?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut File::from(file), &mut bytes).ok()?;
        Some(bytes)
    }

    /// Replaces a file as a whole, if it is still what was looked at.
    fn put(&self, change: &Change<'_>) -> Result<()> {
        let file = change.file;
        let directory = beneath::directory(&self.root, relative::parent(&file.path), true)?;
        let name = file.path.rsplit('/').next().unwrap_or(&file.path);
        let temporary = format!(".heph-{}", super::unique::name());
        let result = write_beside(&directory, &temporary, change).and_then(|()| {
            let now = self.present(&file.path)?.map(|present| present.digest);
            let before = change.present.as_ref().map(|present| present.digest);
            if now != before {
                return Err(Errno::BUSY);
            }
            let flags = match before {
                None => RenameFlags::NOREPLACE,
                Some(_) => RenameFlags::empty(),
            };
            match rustix::fs::renameat_with(&directory, &*temporary, &directory, name, flags) {
                // Not every file system knows the flag.
                Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                    rustix::fs::renameat(&directory, &*temporary, &directory, name)
                }
                result => result,
            }
        });
        if result.is_err() {
            let _ = rustix::fs::unlinkat(&directory, &*temporary, AtFlags::empty());
        }
        result
    }
}

fn write_beside(directory: &OwnedFd, name: &str, change: &Change<'_>) -> Result<()> {
    let file = change.file;
    if let Some(Source::LinkTarget(target)) = &file.source {
        return rustix::fs::symlinkat(&**target, directory, name);
    }
    // The user's mask decides, as for any file that a program of theirs makes.
    let execute = 0o111;
    let mode = if file.kind() == EntryKind::Executable {
        0o666 | execute
    } else {
        0o666
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(mode))?;
    if let Some(present) = change.present.as_ref().filter(|present| !present.is_link()) {
        let kept = present.stat.st_mode & 0o777 & !execute;
        // Whoever may read it may execute it.
        let executable = if mode & execute != 0 {
            kept | ((kept & 0o444) >> 2)
        } else {
            kept
        };
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(executable))?;
    }
    match &file.source {
        Some(Source::Inline(bytes)) => content::write_all(&opened, bytes),
        Some(Source::BlobFile(path) | Source::SourceFile(path)) => {
            content::copy_trusted(Path::new(path), &opened, file.size).map_err(|error| match error {
                content::CopyError::Read(errno) | content::CopyError::Write(errno) => errno,
            })
        }
        _ => Err(Errno::INVAL),
    }
}
