//! Asking a person before a target runs that wants it.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heph_proto::{Command, Failed, FailureKind, Plan};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::Mutex;

use super::Progress;
use crate::terminal::Style;
use crate::words;

/// Who may say yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything is approved (`--auto-approve`).
    Yes,
    /// A person at the terminal is asked.
    Ask,
    /// There is nobody to ask.
    No,
}

/// Asks, one question at a time.
#[derive(Debug)]
pub struct Approver {
    answer: Answer,
    style: Style,
    terminal: Mutex<()>,
    /// Nobody waits for answers any more.
    over: Arc<AtomicBool>,
}

impl Approver {
    /// Answers as `answer` says; questions are written in `style`.
    pub fn new(answer: Answer, style: Style) -> Self {
        Self {
            answer,
            style,
            terminal: Mutex::new(()),
            over: Arc::default(),
        }
    }

    /// Questions that wait for an answer are given up, or, with `false`, asked again.
    pub fn give_up(&self, over: bool) {
        self.over.store(over, Ordering::SeqCst);
    }

    /// Whether the plan may run. Plans that need no approval always may.
    pub async fn approve(&self, plan: &Plan, progress: &Progress) -> Result<(), Failed> {
        let Some(approval) = &plan.approval else {
            return Ok(());
        };
        match self.answer {
            Answer::Yes => return Ok(()),
            Answer::No => {
                return Err(refused(
                    "it needs approval, and there is no terminal to ask at",
                    "heph run --auto-approve runs it without asking",
                ));
            }
            Answer::Ask => {}
        }
        let _turn = self.terminal.lock().await;
        progress.suspend().await;
        let question = question(plan, &approval.notice, self.style);
        let over = Arc::clone(&self.over);
        let answer = tokio::task::spawn_blocking(move || ask(&question, &over)).await;
        progress.resume();
        match answer {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(refused("approval was refused", "")),
            Ok(Err(error)) => Err(refused(
                &format!("it needs approval, and asking failed: {error}"),
                "heph run --auto-approve runs it without asking",
            )),
            Err(_) => Err(refused("asking for approval was interrupted", "")),
        }
    }
}

fn refused(message: &str, hint: &str) -> Failed {
    Failed {
        kind: FailureKind::Approval.into(),
        message: message.to_owned(),
        hint: hint.to_owned(),
        ..Failed::default()
    }
}

fn question(plan: &Plan, notice: &[String], style: Style) -> String {
    let mut text = format!("{} needs your approval", style.bold(&plan.address));
    if !notice.is_empty() {
        text.push_str(&format!(" (concerns {})", notice.join(", ")));
    }
    text.push('\n');
    if let Some(heph_proto::plan::Action::Command(command)) = &plan.action {
        for line in script(command).lines() {
            text.push_str(&format!("  {}\n", words::printable(line)));
        }
    }
    text.push_str("run it? [y/N] ");
    text
}

/// What a command does, without the shell that does it.
fn script(command: &Command) -> String {
    if let Some(script) = &command.script {
        return script.clone();
    }
    match command.argv.iter().position(|argument| argument == "-c") {
        Some(at) => command.argv.get(at + 1..).unwrap_or_default().join(" "),
        None => command.argv.join(" "),
    }
}

/// How often a question that waits looks whether it is still wanted.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

fn ask(question: &str, over: &AtomicBool) -> io::Result<bool> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(question.as_bytes())?;
    while poll(&mut [PollFd::new(&terminal, PollFlags::IN)], Some(&PATIENCE))? == 0 {
        if over.load(Ordering::SeqCst) {
            terminal.write_all(b"\n")?;
            return Ok(false);
        }
    }
    let mut answer = String::new();
    BufReader::new(terminal).read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
