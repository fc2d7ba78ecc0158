//! Runs one server for as long as its test lives.
//!
//! `keeper DIRECTORY PROGRAM [ARGUMENT]...` runs PROGRAM in DIRECTORY, which is its temporary directory, too, with its output in
//! `DIRECTORY/log`. When standard input ends, which it does however the test ends, it kills the program with all that it started,
//! and removes DIRECTORY and the files that the lines of `DIRECTORY/also` name.

#![expect(
    clippy::expect_used,
    reason = "a part of the tests: a panic is how a check fails"
)]

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory"));
    let program = arguments.next().expect("a program");
    let log = File::create(directory.join("log")).expect("create the log");
    let child = Command::new(&program)
        .args(arguments)
        .current_dir(&directory)
        .env("TMPDIR", &directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("share the log"))
        .stderr(log)
        .process_group(0)
        .spawn();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    if let Ok(mut child) = child {
        let _ = rustix::process::kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    for path in std::fs::read_to_string(directory.join("also"))
        .unwrap_or_default()
        .lines()
    {
        let _ = std::fs::remove_file(path);
    }
    // What dies asynchronously may still be writing.
    for _ in 0..100 {
        if std::fs::remove_dir_all(&directory).is_ok() || !directory.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
