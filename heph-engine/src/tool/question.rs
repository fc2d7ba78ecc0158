//! Asking a compiler where its parts are.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Compilers answer within milliseconds; a machine that swaps may need longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_LIMIT: u64 = 1 << 20;

/// What a program prints, run with an empty environment; `None` if it fails or takes too long. It is called by its
/// absolute path: drivers look for their parts from there.
pub(crate) fn ask(program: &Path, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .ok()?;
    let mut output = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let read = output.by_ref().take(ANSWER_LIMIT).read_to_string(&mut text);
        _ = sender.send(read.map(|_| text));
    });
    let answer = receiver.recv_timeout(ANSWER_TIMEOUT);
    if answer.is_err() {
        let group = rustix::process::Pid::from_child(&child);
        _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    // Its output has ended, so it is about to exit; or it was just killed.
    let status = child.wait().ok()?;
    answer.ok()?.ok().filter(|_| status.success())
}
