//! Writing into the source tree.

use std::path::Path;

use heph_engine::executor::Record;
use heph_proto::input::Source;
use heph_proto::{EntryKind, FailureKind, Input, WriteTree, Written};

use crate::support::{Bench, digest, inline};

fn request(files: Vec<Input>) -> WriteTree {
    WriteTree {
        id: 7,
        address: "//pkg:gen".to_owned(),
        files,
        ..WriteTree::default()
    }
}

fn write(bench: &Bench, request: &WriteTree) -> Written {
    bench.executor.write_tree(request, &bench.root)
}

#[track_caller]
fn changed(written: &Written) -> u32 {
    assert_eq!(written.failed, None);
    assert_eq!(written.id, 7);
    written.changed
}

#[track_caller]
fn message(written: &Written) -> &str {
    let failed = written.failed.as_ref().expect("it failed");
    assert_eq!(failed.kind(), FailureKind::Codegen);
    &failed.message
}

fn read(bench: &Bench, path: &str) -> String {
    std::fs::read_to_string(bench.root.join(path)).unwrap()
}

#[test]
fn generated_files_are_written_recorded_and_replaced() {
    let bench = Bench::new();
    let link = Input {
        path: "pkg/link".to_owned(),
        kind: EntryKind::Symlink.into(),
        source: Some(Source::LinkTarget("gen.txt".to_owned())),
        ..Input::default()
    };
    let script = Input {
        kind: EntryKind::Executable.into(),
        ..inline("pkg/new/dir/run", "#!/bin/sh\n")
    };
    let all = vec![inline("pkg/gen.txt", "one\n"), link, script];
    assert_eq!(changed(&write(&bench, &request(all.clone()))), 3);
    assert_eq!(changed(&write(&bench, &request(all))), 0);
    assert_eq!(read(&bench, "pkg/link"), "one\n");
    let mode = std::fs::metadata(bench.root.join("pkg/new/dir/run"))
        .unwrap()
        .permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o100, 0o100);

    let blob = bench.root.join("blob");
    std::fs::write(&blob, "two\n").unwrap();
    let mut second = inline("pkg/gen.txt", "two\n");
    second.source = Some(Source::BlobFile(blob.to_str().unwrap().to_owned()));
    assert_eq!(changed(&write(&bench, &request(vec![second]))), 1);
    assert_eq!(read(&bench, "pkg/gen.txt"), "two\n");
    let record = Record::read(&bench.home, &bench.root).unwrap();
    let files: Vec<&str> = record.files().map(|(path, _)| path).collect();
    assert_eq!(files, ["pkg/gen.txt", "pkg/link", "pkg/new/dir/run"]);
    let left = std::fs::read_dir(bench.root.join("pkg")).unwrap().count();
    assert_eq!(left, 3, "no temporary file is left");
}

#[test]
fn nobody_s_work_is_overwritten() {
    let bench = Bench::new();
    bench.source("pkg/gen.txt", "mine\n");
    let one = request(vec![
        inline("pkg/other.txt", "x\n"),
        inline("pkg/gen.txt", "one\n"),
    ]);
    let written = write(&bench, &one);
    assert_eq!(
        message(&written),
        "pkg/gen.txt, which //pkg:gen makes, exists but was not written by heph"
    );
    assert!(!bench.root.join("pkg/other.txt").exists(), "all or nothing");

    std::fs::remove_file(bench.root.join("pkg/gen.txt")).unwrap();
    assert_eq!(changed(&write(&bench, &one)), 2);
    bench.source("pkg/gen.txt", "one, edited\n");
    let written = write(&bench, &request(vec![inline("pkg/gen.txt", "two\n")]));
    assert_eq!(
        message(&written),
        "pkg/gen.txt was changed by someone else since //pkg:gen wrote it"
    );
    assert_eq!(read(&bench, "pkg/gen.txt"), "one, edited\n");

    // What has the new content already is nobody's loss.
    assert_eq!(
        changed(&write(
            &bench,
            &request(vec![inline("pkg/gen.txt", "one, edited\n")])
        )),
        0
    );
}

#[test]
fn formatted_files_are_replaced_only_as_they_were_read() {
    let bench = Bench::new();
    bench.source("pkg/a.txt", "ugly\n");
    let path = bench.root.join("pkg/a.txt");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(&path, mode).unwrap();
    let format = WriteTree {
        expected: vec![digest(b"ugly\n")],
        in_place: true,
        ..request(vec![inline("pkg/a.txt", "pretty\n")])
    };
    assert_eq!(changed(&write(&bench, &format)), 1);
    assert_eq!(read(&bench, "pkg/a.txt"), "pretty\n");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640, "the mode stays");
    assert_eq!(changed(&write(&bench, &format)), 0);
    assert_eq!(Record::read(&bench.home, &bench.root).unwrap().files().count(), 0);

    bench.source("pkg/a.txt", "edited meanwhile\n");
    let written = write(&bench, &format);
    assert_eq!(
        message(&written),
        "pkg/a.txt was changed by someone else while //pkg:gen ran"
    );
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        message(&write(&bench, &format)),
        "pkg/a.txt was removed while //pkg:gen ran"
    );
}

#[test]
fn frozen_writes_nothing_and_shows_the_difference() {
    let bench = Bench::new();
    bench.source("pkg/a.txt", "one\ntwo\n");
    let frozen = WriteTree {
        expected: vec![digest(b"one\ntwo\n"), bytes::Bytes::new()],
        in_place: true,
        frozen: true,
        ..request(vec![
            inline("pkg/a.txt", "one\n2\n"),
            inline("pkg/new/b.txt", "b\n"),
        ])
    };
    let written = write(&bench, &frozen);
    assert_eq!(
        message(&written),
        "pkg/a.txt, pkg/new/b.txt differ from what //pkg:gen makes"
    );
    let diff = &written.failed.as_ref().unwrap().log_tail;
    let expected = [
        "--- a/pkg/a.txt",
        "+++ b/pkg/a.txt",
        "@@ -1,2 +1,2 @@",
        " one",
        "-two",
        "+2",
        "--- /dev/null",
        "+++ b/pkg/new/b.txt",
        "@@ -0,0 +1 @@",
        "+b",
    ];
    assert_eq!(diff, &expected);
    assert_eq!(read(&bench, "pkg/a.txt"), "one\ntwo\n");
    assert!(!bench.root.join("pkg/new").exists());

    let same = WriteTree {
        files: vec![inline("pkg/a.txt", "one\ntwo\n")],
        ..frozen
    };
    assert_eq!(changed(&write(&bench, &same)), 0);
}

#[test]
fn nothing_is_written_through_links_or_outside() {
    let bench = Bench::new();
    let outside = bench.home.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, bench.root.join("link")).unwrap();
    std::os::unix::fs::symlink(outside.join("file"), bench.root.join("file")).unwrap();
    for path in ["link/file", "../file", "/etc/file", "file"] {
        message(&write(&bench, &request(vec![inline(path, "x")])));
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!Path::new("/etc/file").exists());
}
