//! A call that runs, and its end.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::{Redactor, Run};

/// Waits until something holds; panics with `what` after half a minute.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A call of `heph` that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    report: PathBuf,
    limit: Duration,
    started: Instant,
    redactor: Redactor,
    output: Vec<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub(crate) fn start(mut command: Command, report: PathBuf, limit: Duration, redactor: Redactor) -> Self {
        let started = Instant::now();
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let output = [drain(child.stdout.take()), drain(child.stderr.take())].into();
        Self {
            child,
            report,
            limit,
            started,
            redactor,
            output,
        }
    }

    /// The process of `heph` itself.
    pub fn pid(&self) -> Pid {
        let mut pid = None;
        wait_until("heph has started", || {
            pid = reported(&self.report, "pid ")
                .pop()
                .and_then(|text| Pid::from_raw(text.parse().ok()?));
            pid.is_some()
        });
        pid.expect("just waited for")
    }

    /// Sends a signal to `heph` alone.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("heph still runs");
    }

    /// Waits for the end. Panics when it left a process behind or took too long.
    pub fn wait(mut self) -> Run {
        let mut late = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for the reaper") {
                break status;
            }
            if !late && self.started.elapsed() > self.limit {
                late = true;
                let _ = rustix::process::kill_process(self.pid(), Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let mut output = self
            .output
            .drain(..)
            .map(|reader| reader.join().expect("read the output"));
        let run = Run {
            code: status.code().unwrap_or(-1),
            stdout: output.next().unwrap_or_default(),
            stderr: output.next().unwrap_or_default(),
            wall: self.started.elapsed(),
            redactor: self.redactor.clone(),
        };
        assert!(!late, "heph took longer than {:?}\n{run}", self.limit);
        let left = reported(&self.report, "left ");
        assert!(left.is_empty(), "processes were left behind: {left:#?}\n{run}");
        run
    }
}

/// Daemons whose homes are these directories, or below them.
pub(crate) fn daemons_of(directories: &[PathBuf]) -> Vec<Pid> {
    let is_home = |variable: &[u8]| {
        let home = variable.strip_prefix(b"HEPH_HOME=").map(OsStr::from_bytes);
        home.is_some_and(|home| {
            directories
                .iter()
                .any(|directory| Path::new(home).starts_with(directory))
        })
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_daemon = |process: &Path| {
        // What ends meanwhile has neither.
        let read = |name| std::fs::read(process.join(name)).unwrap_or_default();
        read("cmdline").ends_with(b"\0daemon\0run\0--background\0")
            && read("environ").split(|byte| *byte == 0).any(is_home)
    };
    processes
        .map(|entry| entry.path())
        .filter(|process| is_daemon(process))
        .filter_map(|process| Pid::from_raw(process.file_name()?.to_str()?.parse().ok()?))
        .collect()
}

/// Whether a process has ended with all its threads, reaped or not. (Its command line is gone before its files are closed.)
pub(crate) fn has_ended(pid: Pid) -> bool {
    let process = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let Ok(stat) = std::fs::read_to_string(process.join("stat")) else {
        return true;
    };
    let is_zombie = stat
        .rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'));
    let threads = std::fs::read_dir(process.join("task")).map_or(0, Iterator::count);
    is_zombie && threads <= 1
}

/// The rest of each line of the report that begins with `prefix`.
fn reported(report: &Path, prefix: &str) -> Vec<String> {
    let text = std::fs::read_to_string(report).unwrap_or_default();
    let whole_lines = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    whole_lines
        .lines()
        .filter_map(|line| line.strip_prefix(prefix))
        .map(str::to_owned)
        .collect()
}

fn drain(from: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        bytes
    })
}
