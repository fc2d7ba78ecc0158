//! Faults of a cache that is a directory: those of its file system, and of what lies there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use heph_tests::{Environment, Mode, files_below, needs, wait_until};
use rustix::mount::{MountFlags, mount_remount};

use super::{LONGEST, PAUSE, SETTINGS, build, is_flushed, outcomes, write_package};
use crate::file_systems::Mounted;

/// What ends a fault.
type Undo = Box<dyn FnOnce()>;

/// A fault: its name, what makes it, whether what is there is used, and whether results get there.
type Case = (&'static str, fn(&Path) -> Undo, bool, bool);

const CASES: [Case; 11] = [
    ("a-file-in-its-place", file_in_its_place, false, false),
    ("gone", gone, false, true),
    ("read-only", read_only, true, false),
    ("full", full, true, false),
    (
        "halves",
        |at| each_object(at, |path, whole| fs::write(path, &whole[..whole.len() / 2])),
        false,
        true,
    ),
    (
        "empty",
        |at| each_object(at, |path, _| fs::write(path, "")),
        false,
        true,
    ),
    ("flipped", |at| each_object(at, flip), false, true),
    (
        "directories",
        |at| {
            each_object(at, |path, _| {
                fs::remove_file(path).and_then(|()| fs::create_dir(path))
            })
        },
        false,
        false,
    ),
    ("pipes", |at| each_object(at, pipe), false, false),
    (
        "links",
        |at| each_object(at, |path, _| link(path, "/etc/passwd")),
        false,
        false,
    ),
    ("a-linked-directory", linked_directory, false, false),
];

fn file_in_its_place(at: &Path) -> Undo {
    let (at, aside) = (at.to_path_buf(), at.with_extension("aside"));
    fs::rename(&at, &aside).unwrap();
    fs::write(&at, "in the way").unwrap();
    Box::new(move || {
        fs::remove_file(&at).unwrap();
        fs::rename(&aside, &at).unwrap();
    })
}

fn gone(at: &Path) -> Undo {
    let (at, aside) = (at.to_path_buf(), at.with_extension("aside"));
    fs::rename(&at, &aside).unwrap();
    Box::new(move || {
        for file in files_below(&aside) {
            let place = at.join(file.strip_prefix(&aside).unwrap());
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::rename(file, place).unwrap();
        }
        fs::remove_dir_all(&aside).unwrap();
    })
}

fn read_only(at: &Path) -> Undo {
    let mount = at.parent().unwrap().to_path_buf();
    mount_remount(&mount, MountFlags::RDONLY, "").unwrap();
    Box::new(move || mount_remount(&mount, MountFlags::empty(), "").unwrap())
}

fn full(at: &Path) -> Undo {
    let junk = at.with_extension("junk");
    let mut file = fs::File::create(&junk).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    Box::new(move || fs::remove_file(junk).unwrap())
}

fn linked_directory(at: &Path) -> Undo {
    let (inner, aside) = (at.join("v1"), at.with_extension("aside"));
    fs::rename(&inner, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &inner).unwrap();
    Box::new(move || {
        fs::remove_file(&inner).unwrap();
        fs::rename(&aside, &inner).unwrap();
    })
}

/// Spoils every object, and makes all of them good again. What has become good meanwhile is left as it is.
fn each_object(at: &Path, spoil: impl Fn(&Path, &[u8]) -> std::io::Result<()>) -> Undo {
    let all: Vec<(PathBuf, Vec<u8>)> = files_below(at)
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    for (path, whole) in &all {
        spoil(path, whole).unwrap();
    }
    Box::new(move || {
        for (path, whole) in all {
            let kind = path.symlink_metadata().unwrap().file_type();
            let removed = if kind.is_dir() {
                fs::remove_dir(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.and_then(|()| fs::write(&path, whole)).unwrap();
        }
    })
}

fn flip(path: &Path, whole: &[u8]) -> std::io::Result<()> {
    let mut bytes = whole.to_vec();
    bytes[whole.len() / 2] ^= 1;
    fs::write(path, bytes)
}

fn pipe(path: &Path, _: &[u8]) -> std::io::Result<()> {
    fs::remove_file(path)?;
    let made = std::process::Command::new("mkfifo").arg(path).status()?;
    assert!(made.success());
    Ok(())
}

fn link(path: &Path, to: &str) -> std::io::Result<()> {
    fs::remove_file(path)?;
    std::os::unix::fs::symlink(to, path)
}

fn machine(at: &Path, mode: Mode) -> Environment {
    let env = Environment::new().with_mode(mode);
    let (config, at) = (heph_tests::CONFIG, at.display());
    env.write(
        ".hephconfig",
        format!("{config}sandbox:\n  mode: \"off\"\ncaches:\n  shared:\n    uri: file://{at}\n{SETTINGS}"),
    );
    env
}

#[test]
fn directory() {
    let mounted = Mounted::tmpfs("size=64m");
    if !needs("backends_faults::directory", "cannot mount", mounted.is_some()) {
        return;
    }
    let mounted = mounted.unwrap();
    let at = mounted.at().join("cache");
    let first = machine(&at, Mode::InProcess);
    for (name, ..) in CASES {
        write_package(&first, &format!("{name}/now/read"));
        write_package(&first, &format!("{name}/later"));
    }
    first.build("//...");
    assert!(is_flushed(&first));

    let env = machine(&at, Mode::Fresh);
    env.heph(["daemon", "start"]).run().success();
    let daemon = env.daemons();
    let mut all = Vec::new();
    for (name, make, hits, takes) in CASES {
        let packages = ["now/read", "now/write", "later"].map(|part| format!("{name}/{part}"));
        packages.iter().for_each(|package| write_package(&env, package));
        let [read, write, later] = &packages;
        let undo = make(&at);
        let met = build(&env, &format!("//{name}/now/..."), &[read.clone(), write.clone()]);
        let ended = Instant::now();
        let expected = if hits { "remote" } else { "executed" };
        assert_eq!(outcomes(&met, read), [expected; 2], "{name}: {}", met.run);
        assert_eq!(outcomes(&met, write), ["executed"; 2], "{name}: {}", met.run);
        assert!(met.run.wall < LONGEST, "{name}: {}", met.run);
        assert_eq!(is_flushed(&env), takes, "{name}: {}", met.run);
        undo();
        wait_until("the queue is empty", || is_flushed(&env));
        wait_until("the pause is over", || ended.elapsed() > PAUSE);
        let recovered = build(&env, &format!("//{name}/later/..."), std::slice::from_ref(later));
        assert_eq!(
            outcomes(&recovered, later),
            ["remote"; 2],
            "{name}: {}",
            recovered.run
        );
        assert_eq!(recovered.notices(), [""; 0], "{name}: {}", recovered.run);
        all.extend(packages);
    }
    assert_eq!(env.daemons(), daemon, "nobody had to restart it");
    let last = machine(&at, Mode::InProcess);
    all.iter().for_each(|package| write_package(&last, package));
    let built = build(&last, "//...", &all);
    assert_eq!(built.executed(), [""; 0], "{}", built.run);
    assert_eq!(built.notices(), [""; 0], "{}", built.run);
}
