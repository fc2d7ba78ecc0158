//! A writer is killed at every system call that changes a file: each time the store opens again, and every lookup
//! gives what was published or a miss. What was flushed before the kill is still there.
//!
//! The test starts itself again as the writer and steps through its system calls with ptrace(2).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::zombie_processes,
    reason = "a test fails by panicking; without libtest's harness the lints cannot tell"
)]

mod fixture;

use std::fs;
use std::path::Path;

fn main() {
    if let Ok(role) = std::env::var("HEPH_TEST_ROLE") {
        let home = std::env::var("HEPH_TEST_HOME").expect("a role has a home");
        return roles::run(&role, Path::new(&home));
    }
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    every_point();
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn every_point() {
    fixture::skipped("kill", "system calls are stepped through on Linux on x86-64 only");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn every_point() {
    let prepared = roles::prepare();
    kill_at_each("publish", 1, |_| {});
    kill_at_each("evict", 1, |home| copy_tree(&prepared.heph(), home));
    kill_at_each("clear", 1, |home| copy_tree(&prepared.heph(), home));
    kill_at_each("checkpoint", 23, |_| {});
}

/// Runs a role once for every `stride`th point, killing it there, until it comes to its end.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn kill_at_each(role: &str, stride: usize, prepare: impl Fn(&Path)) {
    let mut point = 1;
    loop {
        let home = fixture::Home::new();
        prepare(&home.heph());
        let end = stepper::run_until(role, &home.heph(), point);
        roles::check(
            &home,
            &end.acknowledged,
            &format!("{role}, killed at call {point} ({})", end.call),
        );
        if end.finished {
            assert!(point > stride, "{role} changes no file");
            println!(
                "test {role}: ok, killed at {} points",
                (point - 1).div_ceil(stride)
            );
            return;
        }
        point += stride;
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What the killed process does, and what must be true afterwards.
mod roles {
    use std::io::Write;

    use heph_cache::*;

    use super::fixture::{self, key, publication, revision};
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    use super::fixture::{Home, blob_bytes};
    use super::*;

    /// Files of result `number`: small, large, and one that others have, too.
    fn files(number: u64) -> Vec<(&'static str, Vec<u8>)> {
        let letter = number.to_le_bytes()[0];
        vec![
            ("small", vec![letter; 10]),
            ("large", vec![letter; 70_000]),
            ("shared", b"the same in all".to_vec()),
        ]
    }

    fn result(number: u64) -> Publication {
        let files = files(number);
        let slices: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(path, bytes)| (*path, bytes.as_slice()))
            .collect();
        let mut publication = publication(number, &slices);
        publication.record = Some(revision(number, Some(3)));
        publication
    }

    fn open(home: &Path) -> Store {
        let mut options = fixture::options();
        // Copies of a prepared home have other inodes; their bytes are hashed, as after any change.
        options.grace = std::time::Duration::from_millis(1);
        Store::open(home, options).unwrap()
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub fn prepare() -> Home {
        let home = Home::new();
        let store = open(&home.heph());
        for number in 0..6 {
            store.publish(result(number)).unwrap();
        }
        store.flush().unwrap();
        drop(store);
        home
    }

    pub fn run(role: &str, home: &Path) {
        let store = open(home);
        match role {
            "publish" => publish(&store, home),
            "evict" => {
                store.lookup(&key(1), &OriginFilter::local()).unwrap();
                store.collect_garbage(Some(0)).unwrap();
                acknowledge("evicted");
            }
            "clear" => {
                store.clear().unwrap();
                acknowledge("evicted");
                store.publish(result(7)).unwrap();
                store.flush().unwrap();
                acknowledge("7");
            }
            "checkpoint" => {
                store.put_record("test", b"large", &vec![1; 1_200_000]).unwrap();
                publish(&store, home);
            }
            other => panic!("no such role: {other}"),
        }
        drop(store);
    }

    fn publish(store: &Store, home: &Path) {
        let run = store.begin_run().unwrap();
        store.publish(result(0)).unwrap();
        let mut moved = result(1);
        let source = home.join("moved");
        fs::write(&source, &files(1)[1].1).unwrap();
        moved.blobs[1].source = BlobSource::File(source);
        store.publish(moved).unwrap();
        store.flush().unwrap();
        acknowledge("0");
        acknowledge("1");
        let mut copied = result(2);
        let source = home.join("copied");
        fs::write(&source, &files(2)[1].1).unwrap();
        copied.blobs[1].source = BlobSource::CopyOf(source);
        store.publish(copied).unwrap();
        store.publish(result(0)).unwrap();
        store.touch(&[key(1)]);
        store.flush().unwrap();
        acknowledge("2");
        drop(run);
    }

    /// Tells the parent what is committed now.
    fn acknowledge(what: &str) {
        let mut out = std::io::stdout();
        writeln!(out, "{what}").unwrap();
        out.flush().unwrap();
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub fn check(home: &Home, acknowledged: &[String], case: &str) {
        let store = open(&home.heph());
        let evicts = case.starts_with("evict") || case.starts_with("clear");
        let look = |store: &Store, number: u64| {
            let local = OriginFilter::local();
            let found = store
                .lookup(&key(number), &local)
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            let manifest = found?;
            let mut expected = result(number).manifest;
            expected.sort();
            assert_eq!(*manifest, expected, "{case}: manifest of {number}");
            let mut whole = true;
            for (path, bytes) in files(number) {
                let digest = heph_common::Digest::of(&bytes);
                match blob_bytes(store, &digest) {
                    Some(found) => assert!(found == bytes, "{case}: {path} of {number}"),
                    None => whole = false,
                }
            }
            Some(whole)
        };
        for number in 0..8 {
            let found = look(&store, number);
            if acknowledged.contains(&number.to_string()) {
                assert_eq!(found, Some(true), "{case}: {number} was flushed");
            }
            assert_ne!(found, Some(false), "{case}: {number} has lost a blob");
            if evicts && number < 6 && acknowledged.contains(&"evicted".to_owned()) {
                assert_eq!(found, None, "{case}: {number} was evicted");
            }
        }
        store
            .revisions("/ws", "//a:b")
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        // The store works on, and can be emptied.
        for number in 0..2 {
            store
                .publish(result(number))
                .unwrap_or_else(|error| panic!("{case}: {error}"));
        }
        store.flush().unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(
            (look(&store, 0), look(&store, 1)),
            (Some(true), Some(true)),
            "{case}"
        );
        store.clear().unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(home.blob_files(), Vec::<std::path::PathBuf>::new(), "{case}");
        assert_eq!(store.stats().unwrap().live_runs, 0, "{case}: the claim ended");
    }
}

/// Runs the writer to its n-th changing system call and kills it at the entry of that.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod stepper {
    use std::io::Read;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    pub struct End {
        pub finished: bool,
        pub acknowledged: Vec<String>,
        pub call: &'static str,
    }

    /// System calls that change files, and their names.
    const CHANGING: [(i64, &str); 19] = [
        (libc::SYS_write, "write"),
        (libc::SYS_pwrite64, "pwrite64"),
        (libc::SYS_writev, "writev"),
        (libc::SYS_pwritev, "pwritev"),
        (libc::SYS_fsync, "fsync"),
        (libc::SYS_fdatasync, "fdatasync"),
        (libc::SYS_rename, "rename"),
        (libc::SYS_renameat2, "renameat2"),
        (libc::SYS_unlink, "unlink"),
        (libc::SYS_unlinkat, "unlinkat"),
        (libc::SYS_rmdir, "rmdir"),
        (libc::SYS_mkdir, "mkdir"),
        (libc::SYS_ftruncate, "ftruncate"),
        (libc::SYS_fallocate, "fallocate"),
        (libc::SYS_link, "link"),
        (libc::SYS_chmod, "chmod"),
        (libc::SYS_fchmod, "fchmod"),
        (libc::SYS_copy_file_range, "copy_file_range"),
        (libc::SYS_openat, "openat"),
    ];

    pub fn run_until(role: &str, home: &Path, point: usize) -> End {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env("HEPH_TEST_ROLE", role)
            .env("HEPH_TEST_HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // SAFETY: ptrace(PTRACE_TRACEME) is async-signal-safe and touches no memory of this process.
        unsafe {
            command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let (finished, call) = step(pid, point);
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        End {
            finished,
            acknowledged: text.lines().map(str::to_owned).collect(),
            call,
        }
    }

    fn step(main: i32, point: usize) -> (bool, &'static str) {
        let mut seen = 0;
        let mut killed = "its end";
        let mut began = false;
        loop {
            let mut status = 0;
            // SAFETY: waitpid writes only to `status`.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
            assert!(pid > 0, "waitpid: {}", std::io::Error::last_os_error());
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                if pid != main {
                    continue;
                }
                if killed == "its end" {
                    assert_eq!(status, 0, "the writer failed");
                }
                return (killed == "its end", killed);
            }
            let mut signal = libc::WSTOPSIG(status);
            if !began {
                began = true;
                signal = 0;
                let options =
                    libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
                // SAFETY: the tracee is stopped; only its options are set.
                unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options) };
            } else if signal == libc::SIGTRAP | 0x80 {
                signal = 0;
                if let Some(call) = entered(pid) {
                    seen += 1;
                    if seen == point {
                        killed = call;
                        // SAFETY: the process is our own child and not reaped yet.
                        unsafe { libc::kill(main, libc::SIGKILL) };
                        continue;
                    }
                }
            } else if signal == libc::SIGTRAP || signal == libc::SIGSTOP {
                signal = 0;
            }
            // SAFETY: resumes a stopped tracee; it may have been killed meanwhile, which is no harm.
            unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0, signal) };
        }
    }

    /// Name of the changing system call that a stopped thread is about to make.
    fn entered(pid: i32) -> Option<&'static str> {
        // SAFETY: the structure is plain data for which all zeros is valid.
        let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info);
        // SAFETY: the kernel writes at most `size` bytes to `info`.
        let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &raw mut info) };
        if got <= 0 || info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return None;
        }
        // SAFETY: `op` says that the entry is the member in use.
        let entry = unsafe { info.u.entry };
        let number = i64::try_from(entry.nr).ok()?;
        let name = CHANGING.iter().find(|(known, _)| *known == number)?.1;
        let [first, _, third, ..] = entry.args;
        let matters = match name {
            // Standard output is how the writer talks to us.
            "write" | "writev" => first > 2,
            "openat" => third & u64::from(libc::O_CREAT.cast_unsigned()) != 0,
            _ => true,
        };
        matters.then_some(name)
    }
}
