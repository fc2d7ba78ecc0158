//! Work areas in the home: how much they take, and removing those that nobody works in.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

/// Directories or files, and the bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// How many, at the top.
    pub count: u64,
    /// Bytes of the files that only they name.
    pub bytes: u64,
}

/// What the entries of a directory take.
pub(super) fn measure(directory: &Path) -> Room {
    let mut room = Room::default();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        room.count += 1;
        room.bytes += bytes_below(&entry.path());
    }
    room
}

/// Removes every sandbox that no process has claimed: whoever works in one holds a lock on its directory.
pub(super) fn sandboxes(directory: &Path) -> Room {
    remove(directory, |path, _| {
        let Ok(claim) = File::open(path) else {
            // One that its command has made unreadable: claimed ones never are.
            return make_accessible(path)
                .and_then(|()| File::open(path))
                .ok()
                .filter(|claim| claim.try_lock().is_ok());
        };
        claim.try_lock().is_ok().then_some(claim)
    })
}

/// Removes every entry that was last changed before a time.
pub(super) fn older_than(directory: &Path, time: SystemTime) -> Room {
    remove(directory, |_, metadata| {
        metadata
            .modified()
            .is_ok_and(|modified| modified <= time)
            .then_some(())
    })
}

/// Removes the entries for which `claim` gives something, which is kept until they are gone.
fn remove<T>(directory: &Path, claim: impl Fn(&Path, &Metadata) -> Option<T>) -> Room {
    let mut room = Room::default();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let Some(claim) = claim(&path, &metadata) else {
            continue;
        };
        let bytes = bytes_below(&path);
        match remove_all(&path, &metadata) {
            Ok(()) => {
                room.count += 1;
                room.bytes += bytes;
            }
            Err(error) => tracing::warn!("{} cannot be removed: {error}", path.display()),
        }
        drop(claim);
    }
    room
}

fn remove_all(path: &Path, metadata: &Metadata) -> io::Result<()> {
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        // A command may have taken away the right to write, or even to look.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_accessible(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

/// Lets the owner into a directory and all below it.
fn make_accessible(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_accessible(&entry.path())?;
        }
    }
    Ok(())
}

fn bytes_below(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !metadata.is_dir() {
        return if metadata.nlink() == 1 { metadata.len() } else { 0 };
    }
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| bytes_below(&entry.path()))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_sandbox_stays_and_the_others_go() {
        let home = tempfile::tempdir().unwrap();
        let (claimed, free) = (home.path().join("claimed"), home.path().join("free"));
        fs::create_dir_all(claimed.join("ws")).unwrap();
        fs::create_dir_all(free.join("ws/deep")).unwrap();
        fs::write(free.join("ws/deep/file"), "12345").unwrap();
        fs::set_permissions(free.join("ws/deep"), Permissions::from_mode(0o000)).unwrap();
        let claim = File::open(&claimed).unwrap();
        claim.lock().unwrap();
        let removed = sandboxes(home.path());
        assert_eq!(removed.count, 1);
        assert!(claimed.exists() && !free.exists());
        drop(claim);
        assert_eq!(sandboxes(home.path()), Room { count: 1, bytes: 0 });
        assert_eq!(measure(home.path()), Room::default());
    }

    #[test]
    fn only_old_files_are_abandoned() {
        let home = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for (name, age) in [("old", 60), ("new", 0)] {
            let path = home.path().join(name);
            fs::write(&path, "123").unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(now - std::time::Duration::from_secs(age))
                .unwrap();
        }
        let removed = older_than(home.path(), now - std::time::Duration::from_secs(30));
        assert_eq!(removed, Room { count: 1, bytes: 3 });
        assert!(home.path().join("new").exists());
    }
}
