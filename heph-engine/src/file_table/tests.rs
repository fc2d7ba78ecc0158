use std::ffi::OsStr;
use std::fs;
use std::fs::FileTimes;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn workspace(files: &[(&str, &str)]) -> (TempDir, FileTable) {
    let directory = TempDir::new().unwrap();
    for (path, text) in files {
        write(&directory, path, text);
    }
    let table = FileTable::open(directory.path()).unwrap();
    (directory, table)
}

fn write(directory: &TempDir, path: &str, text: &str) {
    let path = directory.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Waits until no write can leave the same times any more, as the table does.
fn settle(directory: &TempDir, path: &str) {
    let path = directory.path().join(path);
    loop {
        let found = rustix::fs::lstat(&path).unwrap();
        if Stat::of(&found).settled(now()) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn files_links_and_directories_are_told_apart() {
    let (directory, table) = workspace(&[("src/a.c", "int a;\n"), ("run.sh", "#!/bin/sh\n")]);
    fs::set_permissions(directory.path().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("a.c", directory.path().join("src/link.c")).unwrap();

    let file = table.state("src/a.c").unwrap();
    assert_eq!(file.digest, Digest::of(b"int a;\n"));
    assert_eq!((file.size, file.executable()), (7, false));
    assert!(table.state("run.sh").unwrap().executable());
    let link = table.state("src/link.c").unwrap();
    assert_eq!(link.link_target(), Some("a.c"));
    assert_eq!(link.digest, Digest::of(b"a.c"));
    assert_eq!(table.state("src").unwrap().kind, FileKind::Directory);
}

#[test]
fn a_settled_file_is_not_read_again() {
    let (directory, table) = workspace(&[("a", "first")]);
    settle(&directory, "a");
    let state = table.state("a").unwrap();
    assert!(table.changed(&["a"]).is_empty());

    // What the table knows of the stat is believed: another digest under it comes back.
    let mut records = table.export();
    records[0].state.digest = Digest::of(b"other");
    let second = FileTable::open(directory.path()).unwrap();
    second.import(records);
    assert_ne!(second.state("a").unwrap(), state);
}

#[test]
fn a_fresh_file_is_read_every_time() {
    let (directory, table) = workspace(&[("a", "first")]);
    let future = SystemTime::now() + Duration::from_secs(60);
    let file = File::options()
        .write(true)
        .open(directory.path().join("a"))
        .unwrap();
    file.set_times(FileTimes::new().set_modified(future)).unwrap();
    table.state("a").unwrap();
    assert_eq!(table.changed(&["a"]), [0]);
    assert!(table.export().is_empty());

    // Same size, same times, same inode: only reading shows it.
    fs::write(directory.path().join("a"), "secnd").unwrap();
    file.set_times(FileTimes::new().set_modified(future)).unwrap();
    assert_eq!(table.state("a").unwrap().digest, Digest::of(b"secnd"));
}

#[test]
fn a_restored_modification_time_hides_nothing() {
    let (directory, table) = workspace(&[("a", "first")]);
    let path = directory.path().join("a");
    settle(&directory, "a");
    table.state("a").unwrap();
    let before = fs::metadata(&path).unwrap();
    fs::write(&path, "secnd").unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(before.modified().unwrap()))
        .unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(
        (before.size(), before.mtime_nsec()),
        (after.size(), after.mtime_nsec())
    );

    assert_eq!(table.changed(&["a"]), [0]);
    assert_eq!(table.state("a").unwrap().digest, Digest::of(b"secnd"));
}

#[test]
fn a_changed_mode_and_a_replaced_file_are_seen() {
    let (directory, table) = workspace(&[("a", "same"), ("b", "same")]);
    settle(&directory, "b");
    assert!(!table.state("a").unwrap().executable());
    fs::set_permissions(directory.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(table.state("a").unwrap().executable());

    fs::rename(directory.path().join("b"), directory.path().join("a")).unwrap();
    assert!(!table.state("a").unwrap().executable());
    assert!(matches!(table.state("b"), Err(FileError::Missing { .. })));
}

#[test]
fn what_is_gone_is_forgotten() {
    let (directory, table) = workspace(&[("a", "x"), ("b", "y")]);
    settle(&directory, "b");
    assert!(table.states(&["a", "b"]).iter().all(Result::is_ok));
    fs::remove_file(directory.path().join("a")).unwrap();
    assert_eq!(table.changed(&["a", "b", "c"]), [0, 2]);
    assert!(table.state("a").is_err());
    assert_eq!(table.export().len(), 1);
    table.retain(|path| path != "b");
    assert!(table.export().is_empty());
}

#[test]
fn a_snapshot_carries_everything() {
    let (directory, table) = workspace(&[("b", "1"), ("a/c", "2")]);
    symlink("b", directory.path().join("link")).unwrap();
    settle(&directory, "link");
    for path in ["b", "a/c", "link"] {
        table.state(path).unwrap();
    }
    let bytes = postcard::to_stdvec(&table.export()).unwrap();
    let records: Vec<FileRecord> = postcard::from_bytes(&bytes).unwrap();
    let paths: Vec<&str> = records.iter().map(|record| &*record.path).collect();
    assert_eq!(paths, ["a/c", "b", "link"]);

    let second = FileTable::open(directory.path()).unwrap();
    second.import(records);
    assert!(second.changed(&["a/c", "b", "link"]).is_empty());
    assert_eq!(second.state("link").unwrap(), table.state("link").unwrap());
}

#[test]
fn links_out_of_the_workspace_are_refused() {
    let (directory, table) = workspace(&[("d/a", "x")]);
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    symlink("../..", directory.path().join("d/up")).unwrap();
    symlink("/etc/passwd", directory.path().join("absolute")).unwrap();
    symlink("../d/./a", directory.path().join("d/inside")).unwrap();
    symlink(outside.path(), directory.path().join("out")).unwrap();
    symlink("d", directory.path().join("within")).unwrap();

    let message = |path: &str| {
        let error = table.state(path).unwrap_err();
        let problem = Problem::from(error);
        format!("{}; {}", problem.message, problem.hint.unwrap_or_default())
    };
    insta::assert_snapshot!(message("d/up"), @"the symlink d/up -> ../.. leaves the workspace; copy what it leads to into the workspace");
    insta::assert_snapshot!(message("absolute"), @"the symlink absolute -> /etc/passwd leaves the workspace; make the link relative and its target a file of the workspace");
    insta::assert_snapshot!(message("out/secret"), @"'out/secret' is not a path within the workspace; copy what it leads to into the workspace");
    assert!(table.state("d/inside").is_ok());
    assert_eq!(table.state("within/a").unwrap().digest, Digest::of(b"x"));
}

#[test]
fn odd_paths_have_clear_errors() {
    let (directory, table) = workspace(&[("a", "x")]);
    let odd = OsStr::from_bytes(b"caf\xe9.c");
    fs::write(directory.path().join(odd), "").unwrap();
    symlink(OsStr::from_bytes(b"\xff"), directory.path().join("link")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(directory.path().join("pipe"))
        .status();
    assert!(made.unwrap().success());

    insta::assert_snapshot!(table.state(Path::new(odd)).unwrap_err(), @r#"the name "caf\xe9.c" is not UTF-8"#);
    insta::assert_snapshot!(table.state("link").unwrap_err(), @r#"the name "link -> \xff" is not UTF-8"#);
    insta::assert_snapshot!(table.state("pipe").unwrap_err(), @"pipe is a pipe, which cannot be an input");
    insta::assert_snapshot!(table.state("../a").unwrap_err(), @"'../a' is not a path within the workspace");
    insta::assert_snapshot!(table.state("/etc/passwd").unwrap_err(), @"'/etc/passwd' is not a path within the workspace");
    insta::assert_snapshot!(table.state("a/b").unwrap_err(), @"no such file: a/b");
    insta::assert_snapshot!(table.state("").unwrap_err(), @"'' is not a path within the workspace");
}

#[test]
fn many_files_keep_their_order() {
    let names: Vec<String> = (0..2000).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let (_directory, table) = workspace(&[]);
    for (n, name) in names.iter().enumerate() {
        write(&_directory, name, &n.to_string());
    }
    settle(&_directory, names.last().unwrap());
    for (n, state) in table.states(&names).into_iter().enumerate() {
        assert_eq!(state.unwrap().digest, Digest::of(n.to_string().as_bytes()));
    }
    assert!(table.changed(&names).is_empty());
    write(&_directory, &names[1500], "changed");
    fs::remove_file(_directory.path().join(&names[3])).unwrap();
    assert_eq!(table.changed(&names), [3, 1500]);
}

proptest! {
    #[test]
    fn large_and_small_reads_give_the_same_digest(size in 0usize..600_000, expected in 0u64..700_000) {
        let bytes: Vec<u8> = (0..size).map(|n| n as u8).collect();
        let (digest, length) = digest_of(&mut bytes.as_slice(), expected).unwrap();
        prop_assert_eq!(digest, Digest::of(&bytes));
        prop_assert_eq!(length, size as u64);
    }
}
