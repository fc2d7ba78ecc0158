//! Making a sandbox: directories, inputs, lists and tools.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use heph_proto::input::Source;
use heph_proto::tool::Program;
use heph_proto::{EntryKind, FailureKind, Input, Plan, Tool};
use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Result;

use super::content::{self, Copied, CopyError};
use super::place::{self, Place, Trash};
use super::relative;
use super::stop::{Attempt, Stop};

/// Read-only inputs above this size are shown without a copy. Below, a copy costs less than a mount.
const SHOWN: u64 = 64 * 1024;

/// A sandbox that is ready for its command.
#[derive(Debug)]
pub(super) struct Staged {
    /// Read-only inputs to mount: where they are, and where below the top they are shown.
    pub(super) read_only: Vec<(PathBuf, String)>,
}

/// Fills an empty place with what the plan says. `strict` when read-only inputs can be mounted.
pub(super) fn stage(place: &mut Place, plan: &Plan, strict: bool, trash: Option<&Trash>) -> Attempt<Staged> {
    check(plan)?;
    place
        .arrange(directories(plan))
        .map_err(|(path, errno)| Stop::staging("make", &place.path().join("ws").join(path), errno))?;
    let mut stage = Stage {
        top: place.path(),
        strict,
        trash,
        read_only: Vec::new(),
    };
    // Links come last: nothing is ever written through one.
    let (links, others): (Vec<&Input>, Vec<&Input>) = plan
        .inputs
        .iter()
        .partition(|input| input.kind() == EntryKind::Symlink);
    for input in others.into_iter().chain(links) {
        stage.input(place.ws(), input)?;
    }
    stage.lists(place.list(), plan)?;
    let top = place.top();
    if !plan.tools.is_empty() {
        stage.at("bin", "make", place::make(top, "bin"))?;
        let bin = stage.at("bin", "open", place::open_directory(top, "bin"))?;
        for tool in &plan.tools {
            stage.tool(&bin, tool)?;
        }
    }
    Ok(Staged {
        read_only: stage.read_only,
    })
}

/// Refuses paths that leave the workspace.
fn check(plan: &Plan) -> Attempt<()> {
    let package = (!plan.package.is_empty()).then_some(("package", plan.package.as_str()));
    let outputs = plan
        .outputs
        .iter()
        .map(|output| ("output", output.path.trim_end_matches('/')));
    let inputs = plan.inputs.iter().map(|input| ("input", input.path.as_str()));
    for (what, path) in package.into_iter().chain(outputs).chain(inputs) {
        if !relative::is_plain(path) {
            let message = format!("the {what} path {path:?} is not a plain path below the workspace root");
            return Err(Stop::failed(FailureKind::Definition, message));
        }
    }
    Ok(())
}

/// The directories below `ws` that are there when the command starts.
fn directories(plan: &Plan) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut add = |directory: &str| {
        let mut directory = directory;
        while !directory.is_empty() && !all.contains(directory) {
            all.insert(directory.to_owned());
            directory = relative::parent(directory);
        }
    };
    add(&plan.package);
    for output in &plan.outputs {
        add(relative::parent(fixed_part(
            output.path.trim_end_matches('/'),
            output.glob,
        )));
    }
    for input in &plan.inputs {
        match input.kind() {
            EntryKind::Directory => add(&input.path),
            _ => add(relative::parent(&input.path)),
        }
    }
    all
}

struct Stage<'a> {
    top: &'a Path,
    strict: bool,
    trash: Option<&'a Trash>,
    read_only: Vec<(PathBuf, String)>,
}

impl Stage<'_> {
    /// Names the path that a failure is about.
    fn at<T>(&self, path: &str, action: &str, result: Result<T>) -> Attempt<T> {
        result.map_err(|errno| Stop::staging(action, &self.top.join(path), errno))
    }

    fn input(&mut self, ws: &OwnedFd, input: &Input) -> Attempt<()> {
        let inside = || format!("ws/{}", input.path);
        match (input.kind(), &input.source) {
            (EntryKind::Directory, _) => Ok(()),
            (EntryKind::Symlink, Some(Source::LinkTarget(target))) => {
                let result = rustix::fs::symlinkat(&**target, ws, &*input.path);
                self.at(&inside(), "make", result)
            }
            (EntryKind::File | EntryKind::Executable, Some(source)) => self.file(ws, input, source),
            (kind, _) => {
                let message = format!("the input {} of kind {kind:?} has no source", input.path);
                Err(Stop::internal(message))
            }
        }
    }

    fn file(&mut self, ws: &OwnedFd, input: &Input, source: &Source) -> Attempt<()> {
        let executable = input.kind() == EntryKind::Executable;
        let mode = match (executable, input.read_only) {
            (false, false) => 0o644,
            (true, false) => 0o755,
            (false, true) => 0o444,
            (true, true) => 0o555,
        };
        let inside = format!("ws/{}", input.path);
        if let Source::BlobFile(blob) = source
            && input.read_only
            && input.size > SHOWN
        {
            if self.strict {
                let file = content::create(ws, &input.path, Mode::from_raw_mode(mode));
                drop(self.at(&inside, "make", file)?);
                self.read_only.push((PathBuf::from(blob), inside));
                return Ok(());
            }
            // Where the blob lies on another file system, or has all the links it can have, a copy does it.
            if rustix::fs::linkat(CWD, &**blob, ws, &*input.path, AtFlags::empty()).is_ok() {
                return Ok(());
            }
        }
        let size = match source {
            Source::Inline(bytes) => bytes.len() as u64,
            _ => input.size,
        };
        let file = content::create_or_reuse(self.trash, ws, &input.path, Mode::from_raw_mode(mode), size);
        let file = self.at(&inside, "make", file)?;
        let failed = |from: &str, error| match error {
            CopyError::Read(errno) => Stop::staging("read", Path::new(from), errno),
            CopyError::Write(errno) => Stop::staging("write", &self.top.join(&inside), errno),
        };
        match source {
            Source::Inline(bytes) => self.at(&inside, "write", content::write_all(&file, bytes)),
            Source::BlobFile(blob) => {
                content::copy_trusted(Path::new(blob), &file, input.size).map_err(|error| failed(blob, error))
            }
            Source::SourceFile(source) => {
                let copied = content::copy_verified(Path::new(source), &file, &input.digest, input.size);
                match copied.map_err(|error| failed(source, error))? {
                    Copied::Verified => Ok(()),
                    Copied::Differs => Err(Stop::Stale(source.clone())),
                }
            }
            Source::LinkTarget(_) => Err(Stop::internal(format!(
                "the input {} is a file with a link's source",
                input.path
            ))),
        }
    }

    fn lists(&mut self, directory: &OwnedFd, plan: &Plan) -> Attempt<()> {
        for list in &plan.lists {
            if !relative::is_name(&list.name) {
                return Err(Stop::internal(format!("{:?} is no name for a list", list.name)));
            }
            let mut text = String::with_capacity(list.lines.iter().map(|line| line.len() + 1).sum());
            for line in &list.lines {
                text.push_str(line);
                text.push('\n');
            }
            let inside = format!("list/{}", list.name);
            let (mode, size) = (Mode::from_raw_mode(0o644), text.len() as u64);
            let file = content::create_or_reuse(self.trash, directory, &list.name, mode, size);
            let file = self.at(&inside, "make", file)?;
            self.at(&inside, "write", content::write_all(&file, text.as_bytes()))?;
        }
        Ok(())
    }

    fn tool(&self, bin: &OwnedFd, tool: &Tool) -> Attempt<()> {
        if !relative::is_name(&tool.name) {
            let message = format!("{:?} is no name for a tool", tool.name);
            return Err(Stop::failed(FailureKind::Definition, message));
        }
        let target = match &tool.program {
            Some(Program::Host(path)) => path.clone(),
            Some(Program::Input(path)) => format!("../ws/{path}"),
            None => return Err(Stop::internal(format!("the tool {} has no program", tool.name))),
        };
        let result = rustix::fs::symlinkat(&*target, bin, &*tool.name);
        self.at(&format!("bin/{}", tool.name), "make", result)
    }
}

/// Makes what a path of the machine below `/tmp` or `/var/tmp` is mounted on in the command's own `/tmp`.
pub(super) fn mount_point(place: &Place, source: &[u8], target: &[u8]) -> Attempt<()> {
    let (source, target) = (
        Path::new(OsStr::from_bytes(source)),
        Path::new(OsStr::from_bytes(target)),
    );
    let below = ["/tmp", "/var/tmp"]
        .iter()
        .find_map(|parent| target.strip_prefix(parent).ok());
    let point = place.path().join("tmp").join(below.unwrap_or(Path::new("")));
    let failed = |error: std::io::Error| Stop::staging("make", &point, super::stop::errno(&error));
    if source.is_dir() {
        return std::fs::create_dir_all(&point).map_err(failed);
    }
    std::fs::create_dir_all(point.parent().unwrap_or(&point)).map_err(failed)?;
    std::fs::File::create(&point).map(drop).map_err(failed)
}

/// The part of a glob before the first component with a special character, with that component.
pub(super) fn fixed_part(path: &str, glob: bool) -> &str {
    if !glob {
        return path;
    }
    let special = path.find(['*', '?', '[', '{', '\\']).unwrap_or(path.len());
    let end = path
        .get(special..)
        .and_then(|rest| rest.find('/'))
        .map_or(path.len(), |at| special + at);
    path.get(..end).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_have_a_fixed_part() {
        assert_eq!(fixed_part("a/b/*.o", true), "a/b/*.o");
        assert_eq!(fixed_part("a/*/c.o", true), "a/*");
        assert_eq!(fixed_part("a/*/c.o", false), "a/*/c.o");
        assert_eq!(relative::parent(fixed_part("a/**/c.o", true)), "a");
    }
}
