//! What a command left behind: the declared outputs, with their bytes.
//!
//! Runs when no process of the command is left, so nothing changes meanwhile; but the command may have put links anywhere.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use heph_common::digest::Digest;
use heph_proto::content::Content as Held;
use heph_proto::{Content, EntryKind, FailureKind, OutputEntry, OutputSpec, Plan, Produced};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::{Errno, Result};

use super::stop::{Attempt, Stop, cause};
use super::{beneath, content, digest_bytes, relative, stage};

/// Outputs up to this size are reported inline.
const INLINE: u64 = 64 * 1024;

/// New files that are named when a declared output is missing.
const NAMED: usize = 10;

/// Gathers the outputs of `plan` below `ws`. Files that are too large to be inline are moved to `stage`.
///
/// Gives them sorted by path.
pub(super) fn collect(ws: &OwnedFd, plan: &Plan, stage: &Path) -> Attempt<Vec<Produced>> {
    let mut collection = Collection {
        ws,
        stage,
        inputs: plan.inputs.iter().map(|input| input.path.as_str()).collect(),
        in_place: plan.in_place,
        produced: BTreeMap::new(),
    };
    let mut missing = Vec::new();
    for spec in &plan.outputs {
        if !collection.output(spec)? && !spec.optional {
            missing.push(spec);
        }
    }
    if missing.is_empty() {
        return collection.move_large();
    }
    Err(collection.missing(plan, &missing))
}

struct Collection<'a> {
    ws: &'a OwnedFd,
    stage: &'a Path,
    inputs: HashSet<&'a str>,
    in_place: bool,
    /// By path and group.
    produced: BTreeMap<(String, String), Produced>,
}

/// What was found at a path.
enum Found {
    Nothing,
    Link(String),
    Directory,
    File(OwnedFd, Stat),
}

fn wrong(message: String) -> Stop {
    Stop::failed(FailureKind::Output, message)
}

fn unreadable(path: &str, errno: Errno) -> Stop {
    wrong(format!(
        "failed to read the output {path}: {}",
        cause(Path::new(path), errno)
    ))
}

impl Collection<'_> {
    /// Whether there was anything.
    fn output(&mut self, spec: &OutputSpec) -> Attempt<bool> {
        let path = spec.path.trim_end_matches('/');
        if spec.glob {
            return self.matches(spec, path);
        }
        match self.look(path)? {
            Found::Nothing => Ok(false),
            Found::Directory if spec.directory => {
                self.below(path, &spec.group)?;
                Ok(true)
            }
            Found::Directory => Err(wrong(format!(
                "the output {path} is a directory, but a file is declared"
            ))
            .hint(format!("declare it as \"{path}/\" to keep all that is in it"))),
            Found::File(..) if spec.directory => Err(wrong(format!(
                "the output {path}/ is a file, but a directory is declared"
            ))),
            found => {
                self.keep(path, &spec.group, found)?;
                Ok(true)
            }
        }
    }

    fn matches(&mut self, spec: &OutputSpec, pattern: &str) -> Attempt<bool> {
        let glob = globset::GlobBuilder::new(pattern)
            .literal_separator(true)
            .build()
            .map_err(|error| {
                let message = format!("the output {pattern} is no valid glob: {error}");
                Stop::failed(FailureKind::Definition, message)
            })?
            .compile_matcher();
        let start = relative::parent(stage::fixed_part(pattern, true));
        let mut names = Vec::new();
        // Without `**` a pattern matches as many levels as it has.
        let depth = match pattern.contains("**") {
            true => usize::MAX,
            false => pattern.split('/').count(),
        };
        self.walk(start, depth, &mut |path, is_directory| {
            if !is_directory && glob.is_match(Path::new(OsStr::from_bytes(path))) {
                names.push(path.to_vec());
            }
        })?;
        let mut any = false;
        for name in names {
            let name = utf8(&name)?;
            if self.inputs.contains(name.as_str()) && !self.in_place {
                continue;
            }
            let found = self.look(&name)?;
            self.keep(&name, &spec.group, found)?;
            any = true;
        }
        Ok(any)
    }

    /// Everything below a directory; an empty one is kept as itself.
    fn below(&mut self, directory: &str, group: &str) -> Attempt<()> {
        let mut names = Vec::new();
        let mut full = BTreeSet::new();
        self.walk(directory, usize::MAX, &mut |path, is_directory| {
            names.push((path.to_vec(), is_directory));
        })?;
        for (name, is_directory) in &names {
            let name = utf8(name)?;
            full.insert(relative::parent(&name).to_owned());
            if !is_directory {
                let found = self.look(&name)?;
                self.keep(&name, group, found)?;
            }
        }
        let directories = names.into_iter().filter(|(_, is_directory)| *is_directory);
        let root = (directory.as_bytes().to_vec(), true);
        for (name, _) in directories.chain([root]) {
            let name = utf8(&name)?;
            if !full.contains(&name) {
                self.put(&name, group, EntryKind::Directory, Entry::Nothing);
            }
        }
        Ok(())
    }

    /// Visits what lies below a directory, at most `depth` levels of path deep; links are not followed.
    fn walk(&self, directory: &str, depth: usize, visit: &mut dyn FnMut(&[u8], bool)) -> Attempt<()> {
        let mut waiting = vec![directory.as_bytes().to_vec()];
        while let Some(directory) = waiting.pop() {
            let entries = match self.entries(&directory) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                result => result.map_err(|errno| unreadable(&directory.escape_ascii().to_string(), errno))?,
            };
            for (name, is_directory) in entries {
                let mut path = directory.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend(name);
                visit(&path, is_directory);
                let level = path.iter().filter(|byte| **byte == b'/').count() + 1;
                if is_directory && level < depth {
                    waiting.push(path);
                }
            }
        }
        Ok(())
    }

    fn entries(&self, directory: &[u8]) -> Result<Vec<(Vec<u8>, bool)>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = match directory {
            b"" => ".".as_ref(),
            directory => Path::new(OsStr::from_bytes(directory)),
        };
        let opened = match beneath::open(self.ws, directory, flags) {
            Err(Errno::ACCESS) => {
                rustix::fs::chmodat(self.ws, directory, Mode::RWXU, AtFlags::empty())?;
                beneath::open(self.ws, directory, flags)?
            }
            result => result?,
        };
        let mut entries = Vec::new();
        for entry in Dir::read_from(&opened)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let is_directory = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode).is_dir()
                }
                kind => kind.is_dir(),
            };
            entries.push((name.to_bytes().to_vec(), is_directory));
        }
        Ok(entries)
    }

    fn look(&self, path: &str) -> Attempt<Found> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let opened = match beneath::open(self.ws, Path::new(path), flags) {
            // A file that its maker may not read is still an output.
            Err(Errno::ACCESS) => {
                let readable = Mode::RUSR | Mode::WUSR | Mode::XUSR;
                rustix::fs::chmodat(self.ws, path, readable, AtFlags::empty())
                    .and_then(|()| beneath::open(self.ws, Path::new(path), flags))
            }
            result => result,
        };
        let file = match opened {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Found::Nothing),
            Err(Errno::LOOP) => return self.link(path),
            Err(Errno::XDEV) => {
                return Err(wrong(format!(
                    "the output {path} lies behind a link out of the sandbox"
                )));
            }
            Err(Errno::NXIO) => return Err(special(path, "socket")),
            Err(errno) => return Err(unreadable(path, errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| unreadable(path, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Found::File(file, stat)),
            FileType::Directory => Ok(Found::Directory),
            FileType::Fifo => Err(special(path, "pipe")),
            FileType::Socket => Err(special(path, "socket")),
            _ => Err(special(path, "device")),
        }
    }

    fn link(&self, path: &str) -> Attempt<Found> {
        let target = rustix::fs::readlinkat(self.ws, path, Vec::new())
            .map_err(|errno| unreadable(path, errno))?
            .into_bytes();
        let shown = target.escape_ascii().to_string();
        let target = PathBuf::from(OsString::from_vec(target));
        if relative::resolve(relative::parent(path), &target).is_none() {
            return Err(wrong(format!(
                "the output {path} is a link out of the sandbox, to {shown}"
            ))
            .hint("make it a relative link to something below the workspace root, or a copy"));
        }
        target
            .into_os_string()
            .into_string()
            .map(Found::Link)
            .map_err(|_| {
                wrong(format!(
                    "the output {path} is a link to {shown}, which is not UTF-8"
                ))
            })
    }

    fn keep(&mut self, path: &str, group: &str, found: Found) -> Attempt<()> {
        match found {
            Found::Nothing => {}
            Found::Directory => self.put(path, group, EntryKind::Directory, Entry::Nothing),
            Found::Link(target) => self.put(path, group, EntryKind::Symlink, Entry::Link(target)),
            Found::File(file, stat) => {
                let entry = self.file(path, file, &stat)?;
                let executable = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
                let kind = if executable {
                    EntryKind::Executable
                } else {
                    EntryKind::File
                };
                self.put(path, group, kind, entry);
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &str, group: &str, kind: EntryKind, entry: Entry) {
        let mut output = OutputEntry {
            group: group.to_owned(),
            path: path.to_owned(),
            kind: kind.into(),
            ..OutputEntry::default()
        };
        let mut content = None;
        match entry {
            Entry::Nothing => {}
            Entry::Link(target) => output.link_target = target,
            Entry::Bytes(bytes) => {
                output.digest.clone_from(&bytes.digest);
                output.size = bytes.size;
                content = Some(bytes);
            }
        }
        let produced = Produced {
            entry: Some(output),
            content,
        };
        self.produced
            .insert((path.to_owned(), group.to_owned()), produced);
    }

    fn file(&mut self, path: &str, file: OwnedFd, stat: &Stat) -> Attempt<Entry> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size <= INLINE {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
            std::io::Read::read_to_end(&mut File::from(file), &mut bytes)
                .map_err(|error| unreadable(path, super::stop::errno(&error)))?;
            return Ok(Entry::Bytes(Content {
                digest: digest_bytes(Digest::of(&bytes)),
                size: bytes.len() as u64,
                content: Some(Held::Inline(bytes.into())),
            }));
        }
        let digest = content::digest_of(File::from(file)).map_err(|errno| unreadable(path, errno))?;
        Ok(Entry::Bytes(Content {
            digest: digest_bytes(digest),
            size,
            content: None,
        }))
    }

    /// Moves the files that are not inline to `stage`: last, since a path may belong to two groups.
    fn move_large(self) -> Attempt<Vec<Produced>> {
        let mut previous: Option<(String, PathBuf)> = None;
        let mut all = Vec::with_capacity(self.produced.len());
        for ((path, _), mut produced) in self.produced {
            if let Some(content @ Content { content: None, .. }) = &mut produced.content {
                let target = self.stage.join(super::unique::name());
                let result = match &previous {
                    Some((before, moved)) if *before == path => copy(moved, &target),
                    _ => take(self.ws, &path, &target),
                };
                result.map_err(|errno| Stop::staging("keep an output in", &target, errno))?;
                content.content = Some(Held::File(target.to_string_lossy().into_owned()));
                previous = Some((path, target));
            }
            all.push(produced);
        }
        Ok(all)
    }

    /// Says which outputs are missing, and what was written instead.
    fn missing(&self, plan: &Plan, missing: &[&OutputSpec]) -> Stop {
        let names: Vec<&str> = missing.iter().map(|spec| spec.path.as_str()).collect();
        let message = match (missing.first(), names.len()) {
            (Some(spec), 1) if spec.glob => format!("no output matches {}", spec.path),
            (_, 1) => format!("the output {} was not written", names.join(", ")),
            _ => format!("the outputs {} were not written", names.join(", ")),
        };
        let declared: HashSet<&str> = self.produced.keys().map(|(path, _)| path.as_str()).collect();
        let mut instead = BTreeSet::new();
        let _ = self.walk(&plan.package, usize::MAX, &mut |path, is_directory| {
            let path = String::from_utf8_lossy(path);
            if !is_directory && !self.inputs.contains(&*path) && !declared.contains(&*path) {
                instead.insert(path.into_owned());
            }
        });
        let more = instead.len().saturating_sub(NAMED);
        let mut instead: Vec<String> = instead.into_iter().take(NAMED).collect();
        if instead.is_empty() {
            return wrong(message);
        }
        if more > 0 {
            instead.push(format!("{more} more"));
        }
        wrong(message).hint(format!("it wrote instead: {}", instead.join(", ")))
    }
}

/// Moves a file to `target`; copies one that has other names, which may belong to the store.
fn take(ws: &OwnedFd, path: &str, target: &Path) -> Result<()> {
    let stat = rustix::fs::statat(ws, path, AtFlags::SYMLINK_NOFOLLOW)?;
    let executable = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
    let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
    if stat.st_nlink == 1 && rustix::fs::renameat(ws, path, rustix::fs::CWD, target).is_ok() {
        return rustix::fs::chmod(target, mode);
    }
    let from = beneath::open(ws, Path::new(path), OFlags::RDONLY)?;
    let to = content::create(rustix::fs::CWD, &target.to_string_lossy(), mode)?;
    std::io::copy(&mut File::from(from), &mut File::from(to))
        .map(drop)
        .map_err(|error| super::stop::errno(&error))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .map(drop)
        .map_err(|error| super::stop::errno(&error))
}

enum Entry {
    Nothing,
    Link(String),
    Bytes(Content),
}

fn special(path: &str, what: &str) -> Stop {
    wrong(format!(
        "the output {path} is a {what}; only files, directories and links are kept"
    ))
}

fn utf8(name: &[u8]) -> Attempt<String> {
    match std::str::from_utf8(name) {
        Ok(name) => Ok(name.to_owned()),
        Err(_) => Err(wrong(format!(
            "the name of the output {} is not UTF-8",
            name.escape_ascii()
        ))),
    }
}
