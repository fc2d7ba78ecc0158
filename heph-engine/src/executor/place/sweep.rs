//! Removing what a command left, also what it made unreadable.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::{Errno, Result};

use super::super::relative;
use super::{MODE, Place, Stamps, Trash, open_directory};
use crate::stat::Stat;

/// Entries after which a directory is read once more: removing while reading may skip some on some file systems.
const ONE_BUFFER: usize = 32;

/// Directories of a place that is not worth keeping: the next one hardly needs the same.
const MANY: usize = 64;

/// Bytes of a directory that is worth keeping; they do not shrink.
const SMALL: i64 = 16 * 1024;

/// Two changes within this time may leave equal stamps: several ticks of the slowest clock.
const SETTLED: i64 = 50_000_000;

/// Empties a place but for its own directories; gives their new stamps. An error when something about those is unusual.
pub(super) fn sweep(place: &Place, trash: Option<&Trash>) -> Result<Stamps> {
    if place.directories.len() > MANY {
        return Err(Errno::STALE);
    }
    let before = &place.stamps;
    // The top directory is renamed between two uses, so its stamp tells nothing.
    each_entry(&place.top, &mut |name, kind| {
        if matches!(name.to_bytes(), b"ws" | b"tmp" | b"home" | b"list") {
            return Ok(false);
        }
        discard(&place.top, name, kind, trash)
    })?;
    check(&place.top)?;
    let inner = [
        ("ws", &place.ws),
        ("tmp", &place.tmp),
        ("home", &place.home),
        ("list", &place.list),
    ];
    let mut stamps = Stamps::default();
    for (((name, directory), before_it), stamp) in inner.into_iter().zip(before.inner).zip(&mut stamps.inner)
    {
        let stat = rustix::fs::fstat(directory)?;
        let is_touched = !before.holds(before_it, Stat::of(&stat).changed);
        match (name, is_touched) {
            ("ws", _) => sweep_below(directory, "", place, is_touched, trash)?,
            ("list", true) => each_entry(directory, &mut |name, kind| discard(directory, name, kind, trash))?,
            (_, true) => empty(directory)?,
            (_, false) => {}
        }
        let stat = if is_touched { check(directory)? } else { stat };
        *stamp = Stat::of(&stat).changed;
        // The command may have put another directory there.
        let named = rustix::fs::statat(&place.top, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if (named.st_dev, named.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(Errno::STALE);
        }
    }
    Ok(stamps)
}

impl Stamps {
    /// Whether nothing happened since `before`, given that the clock of the directory says `now`.
    fn holds(&self, before: i64, now: i64) -> bool {
        before == now && before != 0 && before.saturating_add(SETTLED) < self.claimed
    }
}

/// Empties a directory but for those directories below it that are to be kept, which are emptied too. One that was not
/// touched has no other entries.
fn sweep_below(
    directory: &OwnedFd,
    path: &str,
    place: &Place,
    is_touched: bool,
    trash: Option<&Trash>,
) -> Result<()> {
    let kept = &place.directories;
    if is_touched {
        each_entry(directory, &mut |name, kind| {
            let is_kept = name.to_str().is_ok_and(|name| {
                kept.contains(&if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}/{name}")
                })
            });
            if is_kept && kind == FileType::Directory {
                return Ok(false);
            }
            discard(directory, name, kind, trash)
        })?;
    }
    for inner in kept.iter().filter(|kept| relative::parent(kept) == path) {
        let name = inner.rsplit('/').next().unwrap_or(inner);
        // A missing one would be missed by who uses the place next: the error makes it be removed.
        let opened = open_directory(directory, name)?;
        sweep_below(&opened, inner, place, true, trash)?;
        check(&opened)?;
    }
    Ok(())
}

/// Refuses a directory that the command may have done more to than putting files into it.
fn check(directory: &OwnedFd) -> Result<rustix::fs::Stat> {
    let stat = rustix::fs::fstat(directory)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode != Mode::from_raw_mode(MODE) || stat.st_size > SMALL {
        return Err(Errno::STALE);
    }
    if has_attributes(directory) {
        Err(Errno::STALE)
    } else {
        Ok(stat)
    }
}

/// Whether there are extended attributes (access control lists are) besides a label that the system gives everything.
#[cfg(target_os = "linux")]
pub(super) fn has_attributes(directory: &OwnedFd) -> bool {
    let mut names = [0_u8; 256];
    match rustix::fs::flistxattr(directory, &mut names[..]) {
        Ok(count) => names
            .get(..count)
            .unwrap_or_default()
            .split(|byte| *byte == 0)
            .any(|name| !name.is_empty() && name != b"security.selinux"),
        Err(Errno::NOTSUP) => false,
        Err(_) => true,
    }
}

/// Whether there are extended attributes; not looked for here, so that places are not used again.
#[cfg(not(target_os = "linux"))]
pub(super) fn has_attributes(_directory: &OwnedFd) -> bool {
    true
}

/// Removes everything below a directory.
pub(super) fn empty(directory: &OwnedFd) -> Result<()> {
    each_entry(directory, &mut |name, kind| {
        remove(directory, name, kind).map(|()| true)
    })
}

/// Calls `visit` for each entry of a directory, from the start; it says whether it removed it. Entries may be visited
/// again.
fn each_entry(directory: &OwnedFd, visit: &mut dyn FnMut(&CStr, FileType) -> Result<bool>) -> Result<()> {
    loop {
        let mut removed = 0;
        pass(directory, &mut |name, kind| {
            if name != c"." && name != c".." && visit(name, kind)? {
                removed += 1;
            }
            Ok(())
        })?;
        if removed < ONE_BUFFER {
            return Ok(());
        }
    }
}

/// Reads a directory once, without allocating.
#[cfg(target_os = "linux")]
fn pass(directory: &OwnedFd, visit: &mut dyn FnMut(&CStr, FileType) -> Result<()>) -> Result<()> {
    let mut space = [std::mem::MaybeUninit::<u8>::uninit(); 2048];
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(0))?;
    let mut entries = rustix::fs::RawDir::new(directory, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        visit(entry.file_name(), entry.file_type())?;
    }
    Ok(())
}

/// Reads a directory once.
#[cfg(not(target_os = "linux"))]
fn pass(directory: &OwnedFd, visit: &mut dyn FnMut(&CStr, FileType) -> Result<()>) -> Result<()> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        visit(entry.file_name(), entry.file_type())?;
    }
    Ok(())
}

/// Removes an entry, or has it taken away; true, for [`each_entry`].
fn discard(parent: &OwnedFd, name: &CStr, kind: FileType, trash: Option<&Trash>) -> Result<bool> {
    let taken = kind == FileType::RegularFile && trash.is_some_and(|trash| trash.take(parent, name));
    if !taken {
        remove(parent, name, kind)?;
    }
    Ok(true)
}

fn remove(parent: &OwnedFd, name: &CStr, kind: FileType) -> Result<()> {
    if kind == FileType::Directory {
        return remove_directory(parent, name);
    }
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) if kind == FileType::Unknown => remove_directory(parent, name),
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(parent, Mode::RWXU)?;
            rustix::fs::unlinkat(parent, name, AtFlags::empty())
        }
        result => result,
    }
}

fn remove_directory(parent: &OwnedFd, name: &CStr) -> Result<()> {
    // Most are empty.
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS) => {}
        result => return result,
    }
    let inner = match open_directory(parent, name) {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(parent, Mode::RWXU)?;
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open_directory(parent, name)?
        }
        result => result?,
    };
    match empty(&inner) {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(&inner, Mode::RWXU)?;
            empty(&inner)?;
        }
        result => result?,
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
