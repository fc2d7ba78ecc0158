//! Links that run out, other file systems, shared blocks, full and read-only ones: by the next means, or with the cause.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

mod fixture;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use fixture::{Home, blob_bytes, key, publication, skipped};
use heph_cache::error::Scarcity;
use heph_cache::*;
use heph_common::Digest;

/// A mounted file system; unmounted when dropped.
struct Mount {
    place: PathBuf,
    _directory: tempfile::TempDir,
}

impl Mount {
    /// Mounts with these arguments of mount(8); says why not.
    fn new(arguments: &[&str]) -> Result<Self, String> {
        Self::with_device(|_| Ok("none".to_owned()), arguments)
    }

    /// Mounts an image of 300 MB that `program` has formatted.
    fn image(program: &str, arguments: &[&str]) -> Result<Self, String> {
        let make = |directory: &Path| {
            let image = directory.join("image");
            let file = fs::File::create(&image).map_err(|error| error.to_string())?;
            file.set_len(320 << 20).map_err(|error| error.to_string())?;
            run(Command::new(program).args(arguments).arg(&image))?;
            Ok(image.display().to_string())
        };
        Self::with_device(make, &["-o", "loop"])
    }

    fn with_device(
        device: impl Fn(&Path) -> Result<String, String>,
        arguments: &[&str],
    ) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may mount".to_owned());
        }
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("mount");
        fs::create_dir(&place).unwrap();
        let device = device(directory.path())?;
        run(Command::new("mount").args(arguments).arg(device).arg(&place))?;
        Ok(Self {
            place,
            _directory: directory,
        })
    }

    fn remount(&self, options: &str) -> Result<(), String> {
        run(Command::new("mount")
            .arg("-o")
            .arg(format!("remount,{options}"))
            .arg(&self.place))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.place));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// A blob file in the store of a home.
fn blob_file(store: &Store, bytes: &[u8]) -> Blob {
    store.publish(publication(1, &[("a", bytes)])).unwrap();
    let blob = store.blob(&Digest::of(bytes), false).unwrap().unwrap();
    assert!(matches!(blob, Blob::File(_)));
    blob
}

#[test]
fn placing_gives_the_bytes_the_mode_and_never_overwrites() {
    let home = Home::new();
    let store = home.open();
    let large = vec![8; 100_000];
    let file = blob_file(&store, &large);
    let inline = Blob::Inline(Bytes::from_static(b"#!/bin/sh\n"));
    let ways = [Placement::Reflink, Placement::CopyOnly, Placement::LinkReadOnly];
    for (number, how) in ways.into_iter().enumerate() {
        for (name, blob, bytes) in [
            ("file", &file, &large),
            ("inline", &inline, &b"#!/bin/sh\n".to_vec()),
        ] {
            let destination = home.path().join(format!("{name}-{number}"));
            let placed = place(blob, &destination, how, 0o755).unwrap();
            assert!(fs::read(&destination).unwrap() == *bytes);
            let mode = fs::metadata(&destination).unwrap().permissions().mode() & 0o7777;
            match placed {
                Placed::Linked => assert_eq!(mode, 0o444),
                Placed::Copied | Placed::Reflinked => assert_eq!(mode, 0o755),
            }
            let again = place(blob, &destination, how, 0o755).unwrap_err();
            assert!(matches!(again, PlaceError::Io { .. }), "{again}");
            assert!(fs::read(&destination).unwrap() == *bytes, "it is still there");
        }
    }
    let set_uid = home.path().join("set-uid");
    place(&file, &set_uid, Placement::CopyOnly, 0o4755).unwrap();
    assert_eq!(
        fs::metadata(set_uid).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    let nowhere = place(&file, &home.path().join("no/such"), Placement::Reflink, 0o644).unwrap_err();
    assert!(matches!(nowhere, PlaceError::Io { .. }), "{nowhere}");
    let Blob::File(path) = &file else { return };
    fs::remove_file(path).unwrap();
    let gone = place(&file, &home.path().join("gone"), Placement::LinkReadOnly, 0o644).unwrap_err();
    assert!(matches!(gone, PlaceError::Gone { .. }), "{gone}");
    assert!(!home.path().join("gone").exists());
}

#[test]
fn when_links_run_out_bytes_are_copied() {
    const TEST: &str = "when_links_run_out_bytes_are_copied";
    let mount = match Mount::image("mkfs.ext4", &["-q", "-F", "-N", "4096"]) {
        Ok(mount) => mount,
        Err(why) => return skipped(TEST, &why),
    };
    let store = Store::open(&mount.place.join("home"), fixture::options()).unwrap();
    let large = vec![8; 70_000];
    let blob = blob_file(&store, &large);
    let tree = mount.place.join("tree");
    fs::create_dir(&tree).unwrap();
    let mut copied = 0;
    for number in 0..65_010 {
        let destination = tree.join(number.to_string());
        match place(&blob, &destination, Placement::LinkReadOnly, 0o444).unwrap() {
            Placed::Linked => assert_eq!(copied, 0, "links after the first copy"),
            Placed::Copied | Placed::Reflinked => {
                copied += 1;
                assert!(fs::read(destination).unwrap() == large);
            }
        }
    }
    assert_eq!(
        copied, 11,
        "ext4 has 65,000 links, one of them is the store's own"
    );
    assert!(
        blob_bytes(&store, &Digest::of(&large)).unwrap() == large,
        "still trusted"
    );
}

#[test]
fn another_file_system_gets_a_copy_both_ways() {
    const TEST: &str = "another_file_system_gets_a_copy_both_ways";
    let mount = match Mount::new(&["-t", "tmpfs", "-o", "size=8m"]) {
        Ok(mount) => mount,
        Err(why) => return skipped(TEST, &why),
    };
    let home = Home::new();
    let store = home.open();
    let large = vec![8; 100_000];
    let blob = blob_file(&store, &large);
    for (name, how) in [("link", Placement::LinkReadOnly), ("reflink", Placement::Reflink)] {
        let destination = mount.place.join(name);
        assert_eq!(place(&blob, &destination, how, 0o644).unwrap(), Placed::Copied);
        assert!(fs::read(destination).unwrap() == large);
    }
    let other = vec![9; 100_000];
    let source = mount.place.join("moved");
    fs::write(&source, &other).unwrap();
    let mut moved = publication(2, &[("a", &other)]);
    moved.blobs[0].source = BlobSource::File(source.clone());
    store.publish(moved).unwrap();
    assert!(!source.exists());
    assert!(blob_bytes(&store, &Digest::of(&other)).unwrap() == other);
}

#[test]
fn blocks_are_shared_where_the_file_system_can() {
    const TEST: &str = "blocks_are_shared_where_the_file_system_can";
    let kinds = [
        ("mkfs.btrfs", vec!["-q"]),
        ("mkfs.xfs", vec!["-q", "-m", "reflink=1"]),
    ];
    for (program, arguments) in kinds {
        let mount = match Mount::image(program, &arguments) {
            Ok(mount) => mount,
            Err(why) => {
                skipped(TEST, &why);
                continue;
            }
        };
        let store = Store::open(&mount.place.join("home"), fixture::options()).unwrap();
        let large = vec![8; 1_000_000];
        let blob = blob_file(&store, &large);
        let destination = mount.place.join("out");
        let placed = place(&blob, &destination, Placement::Reflink, 0o644).unwrap();
        assert_eq!(placed, Placed::Reflinked, "{program}");
        let Blob::File(path) = &blob else { return };
        assert_ne!(
            fs::metadata(path).unwrap().ino(),
            fs::metadata(&destination).unwrap().ino()
        );
        fs::write(&destination, b"changed").unwrap();
        assert!(
            fs::read(path).unwrap() == large,
            "{program}: a write to the copy leaves the blob alone"
        );
        // On the way in, too.
        let source = mount.place.join("source");
        let other = vec![9; 1_000_000];
        fs::write(&source, &other).unwrap();
        let mut copied = publication(2, &[("a", &other)]);
        copied.blobs[0].source = BlobSource::CopyOf(source);
        store.publish(copied).unwrap();
        assert!(
            blob_bytes(&store, &Digest::of(&other)).unwrap() == other,
            "{program}"
        );
    }
}

/// Fills a store until it says that it cannot go on; what it took is still right.
fn fill(store: &Store, size: usize) -> StoreError {
    let local = OriginFilter::local();
    let content =
        |number: u64| -> Vec<u8> { number.to_le_bytes().iter().copied().cycle().take(size).collect() };
    for number in 0..100_000 {
        let bytes = content(number);
        let error = match store
            .publish(publication(number, &[("a", &bytes)]))
            .and_then(|_| store.flush())
        {
            Ok(()) => continue,
            Err(error) => error,
        };
        assert!(number > 0, "nothing at all was stored: {error}");
        for earlier in 0..number {
            assert!(
                store.lookup(&key(earlier), &local).unwrap().is_some(),
                "{earlier} after {error}"
            );
            assert!(
                blob_bytes(store, &Digest::of(&content(earlier))) == Some(content(earlier)),
                "{earlier}"
            );
        }
        let again = store.publish(publication(number + 1, &[("a", &content(number + 1))]));
        assert!(again.is_err(), "the next one says so at once");
        return error;
    }
    unreachable!("a small file system is never full")
}

#[test]
fn a_full_disk_is_said_with_the_path_and_lookups_go_on() {
    const TEST: &str = "a_full_disk_is_said_with_the_path_and_lookups_go_on";
    for size in [70_000, 3_000] {
        let mount = match Mount::new(&["-t", "tmpfs", "-o", "size=3m"]) {
            Ok(mount) => mount,
            Err(why) => return skipped(TEST, &why),
        };
        let home = mount.place.join("home");
        let store = Store::open(&home, fixture::options()).unwrap();
        let error = fill(&store, size);
        let StoreError::Full { path, full } = &error else {
            unreachable!("{error}");
        };
        assert!(path.starts_with(&home), "{error}");
        assert_eq!(*full, Scarcity::Blocks);
        assert!(error.hint().is_some());
        let blob = Blob::Inline(Bytes::from(vec![1; 3 << 20]));
        let destination = mount.place.join("out");
        let placed = place(&blob, &destination, Placement::Reflink, 0o644).unwrap_err();
        assert!(matches!(placed, PlaceError::Full { .. }), "{placed}");
        assert!(!destination.exists(), "nothing half written is left");
        // With space again, everything works again, and what waited is not lost.
        mount.remount("size=16m").unwrap();
        store
            .publish(publication(7_777, &[("a", b"space again")]))
            .unwrap();
        store.flush().unwrap();
        drop(store);
        let store = Store::open(&home, fixture::options()).unwrap();
        for number in [0, 7_777] {
            assert!(
                store
                    .lookup(&key(number), &OriginFilter::local())
                    .unwrap()
                    .is_some()
            );
        }
    }
}

#[test]
fn no_inodes_left_is_told_apart() {
    const TEST: &str = "no_inodes_left_is_told_apart";
    let mount = match Mount::new(&["-t", "tmpfs", "-o", "size=16m,nr_inodes=60"]) {
        Ok(mount) => mount,
        Err(why) => return skipped(TEST, &why),
    };
    let store = Store::open(&mount.place.join("home"), fixture::options()).unwrap();
    let error = fill(&store, 70_000);
    assert!(
        matches!(
            error,
            StoreError::Full {
                full: Scarcity::Inodes,
                ..
            }
        ),
        "{error}"
    );
    // Small results need no inodes.
    store.publish(publication(7_777, &[("a", b"small")])).unwrap();
    store.flush().unwrap();
}

#[test]
fn a_read_only_remount_is_said_and_lookups_go_on() {
    const TEST: &str = "a_read_only_remount_is_said_and_lookups_go_on";
    let mount = match Mount::new(&["-t", "tmpfs", "-o", "size=16m"]) {
        Ok(mount) => mount,
        Err(why) => return skipped(TEST, &why),
    };
    let home = mount.place.join("home");
    let large = vec![4; 70_000];
    let local = OriginFilter::local();
    let store = Store::open(&home, fixture::options()).unwrap();
    store.publish(publication(1, &[("a", &large)])).unwrap();
    store.flush().unwrap();
    match mount.remount("ro") {
        Ok(()) => {
            assert!(blob_bytes(&store, &Digest::of(&large)).unwrap() == large);
            let error = store
                .publish(publication(2, &[("a", &vec![2; 70_000])]))
                .unwrap_err();
            assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
            mount.remount("rw").unwrap();
        }
        Err(why) => skipped(TEST, &format!("while a store is open: {why}")),
    }
    drop(store);
    if let Err(why) = mount.remount("ro") {
        return skipped(TEST, &why);
    }
    let error = Store::open(&home, fixture::options()).unwrap_err();
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error}");
    assert!(error.hint().unwrap().contains("HEPH_HOME"));
    mount.remount("rw").unwrap();
    let store = Store::open(&home, fixture::options()).unwrap();
    assert!(store.lookup(&key(1), &local).unwrap().is_some());
    assert!(blob_bytes(&store, &Digest::of(&large)).unwrap() == large);
}
