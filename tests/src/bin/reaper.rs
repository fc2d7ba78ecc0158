//! Runs one program and tells what outlives it.
//!
//! `reaper [--tty] REPORT PROGRAM [ARGUMENT]...`: writes `pid N` to REPORT once the program runs, ends with its exit code
//! (128 + signal), and before that adopts, lists (`left PID COMMAND`) and kills whatever the program left behind, but for daemons,
//! which are meant to stay: `Environment` looks after them. With `--tty`,
//! standard input becomes the controlling terminal and the program its foreground process group.

#![expect(
    clippy::expect_used,
    reason = "a part of the tests: a panic is how a check fails"
)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// What is killed asynchronously by the kernel may take this long to be gone.
const GRACE: Duration = Duration::from_secs(3);

#[expect(
    clippy::zombie_processes,
    reason = "everything is reaped by wait_for, the program too"
)]
fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let tty = arguments.next_if(|first| first == "--tty").is_some();
    let report = arguments.next().expect("a report file");
    let program = arguments.next().expect("a program");

    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Pid::from_raw(1)).expect("become a subreaper");
    if tty {
        rustix::process::setsid().expect("a session of its own");
        rustix::process::ioctl_tiocsctty(std::io::stdin()).expect("a controlling terminal");
    }
    let mut report = OpenOptions::new()
        .create(true)
        .append(true)
        .open(report)
        .expect("open the report");
    let child = std::process::Command::new(&program)
        .args(arguments)
        .process_group(0)
        .spawn();
    let child = child.unwrap_or_else(|error| panic_with(&program, &error));
    let pid = Pid::from_child(&child);
    if tty {
        rustix::termios::tcsetpgrp(std::io::stdin(), pid).expect("hand the terminal over");
    }
    writeln!(report, "pid {}", pid.as_raw_nonzero()).expect("write the report");

    let code = wait_for(pid);
    end_what_is_left(&mut report);
    ExitCode::from(code)
}

fn panic_with(program: &std::ffi::OsStr, error: &std::io::Error) -> std::process::Child {
    eprintln!("failed to start {}: {error}", Path::new(program).display());
    std::process::exit(126)
}

/// Reaps everything until the program itself has ended.
fn wait_for(pid: Pid) -> u8 {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((reaped, status))) if reaped == pid => return exit_code(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 125,
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = match status.terminating_signal() {
        Some(signal) => 128 + signal,
        None => status.exit_status().unwrap_or(125),
    };
    u8::try_from(code).unwrap_or(125)
}

/// Waits for descendants to go; lists and kills those that stay.
fn end_what_is_left(report: &mut File) {
    let start = Instant::now();
    let mut listed = false;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => continue,
            Err(rustix::io::Errno::CHILD) => return,
            _ if descendants().is_empty() => return,
            _ => {}
        }
        if start.elapsed() > GRACE {
            for (pid, command) in descendants() {
                if !listed {
                    let _ = writeln!(report, "left {pid} {command}");
                }
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            listed = true;
        }
        if start.elapsed() > GRACE * 3 {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process was started to stay.
fn is_daemon(pid: i32) -> bool {
    command_line(pid).ends_with("daemon run --background")
}

/// Everything below this process but daemons and what is below them, with its command line.
fn descendants() -> Vec<(i32, String)> {
    let mut parents: Vec<(i32, i32)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The command in parentheses may hold blanks and parentheses itself.
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let mut below = vec![own];
    let mut next = 0;
    while let Some(&parent) = below.get(next) {
        below.extend(
            parents
                .iter()
                .filter(|(pid, of)| *of == parent && !is_daemon(*pid))
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    below
        .into_iter()
        .skip(1)
        .map(|pid| (pid, command_line(pid)))
        .collect()
}

fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .replace('\0', " ")
        .trim_end()
        .to_owned()
}
