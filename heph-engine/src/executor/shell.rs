//! An interactive shell in the sandbox of a target, on a pseudo-terminal.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use heph_proto::plan::Action;
use heph_proto::report::Outcome;
use heph_proto::{Command, Completed, FailureKind, Plan, Report};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};

use super::command::{self, Run, quoted};
use super::content;
use super::control::Control;
use super::protocol::{Heard, How};
use super::run::Executor;
use super::stop::{Attempt, Stop};
use super::worker::{Room, Worker};

/// How often the window's size is looked at.
const RESIZE: Duration = Duration::from_millis(250);

/// The user's terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Where keys come from.
    pub input: OwnedFd,
    /// Where the screen is.
    pub output: OwnedFd,
}

impl Executor {
    /// Stages a command plan and gives the user a shell in its sandbox, where `run` runs the command.
    ///
    /// Completes without outputs when the shell exits, whatever its exit code. The sandbox is kept.
    pub async fn shell(&self, mut plan: Plan, terminal: Terminal, control: Control) -> Report {
        self.learn(&mut plan);
        self.work(move |worker, reply| {
            let mut report = Report {
                sandbox: plan.sandbox,
                ..Report::default()
            };
            let result = session(worker, &plan, &terminal, control, &mut report);
            report.outcome = Some(match result {
                Ok(()) => Outcome::Completed(Completed::default()),
                Err(stop) => stop.into_outcome(),
            });
            let _ = reply.send(report);
        })
        .await
    }
}

fn session(
    worker: &mut Worker<'_>,
    plan: &Plan,
    terminal: &Terminal,
    control: Control,
    report: &mut Report,
) -> Attempt<()> {
    let Some(Action::Command(command)) = &plan.action else {
        let message = "only a target that runs a command has a sandbox to look into";
        return Err(Stop::failed(FailureKind::Definition, message));
    };
    let mut plan = plan.clone();
    plan.keep = true;
    let plan = &plan;
    let mut room = worker.room(plan)?;
    report.sandbox = room.mode.into();
    worker.furnish(plan, command, &mut room)?;
    let shell = start_file(plan, command, &room)?;
    let term = worker.shared.options.term.clone();
    let bell = worker.bell()?;
    let channel = worker.channel(&room)?;
    let run = Run {
        plan,
        command: &shell,
        inside: &room.inside,
        channel,
        bell: &bell,
        cancel: &control.cancel,
        isolation: room.isolation.clone(),
        jobserver: None,
    };
    let mut spawn = command::prepare(&run)?;
    spawn.terminal = true;
    let term = term.unwrap_or_else(|| "dumb".into());
    let start = format!("ENV={}", room.inside.path("shell"));
    spawn
        .environment
        .push(format!("TERM={}", term.to_string_lossy()).into_bytes());
    spawn.environment.push(start.into_bytes());
    let failed = |errno| Stop::staging("make a terminal for", room.place.path(), errno);
    let (ours, theirs) = pseudo_terminal(terminal).map_err(failed)?;
    channel
        .spawn(spawn, &[theirs.as_fd()])
        .map_err(|error| command::lost(&error))?;
    drop(theirs);
    if let Some(spawned) = control.spawned {
        spawned();
    }
    let raw = Raw::new(&terminal.input);
    let result = converse(&run, &ours, terminal);
    drop(raw);
    result
}

/// Writes what the shell reads first; gives the command that starts it.
fn start_file(plan: &Plan, command: &Command, room: &Room) -> Attempt<Command> {
    let mut words: Vec<String> = command.argv.iter().map(|word| quoted(word)).collect();
    if command.script.is_some() {
        words.push(quoted(&room.inside.path("script")));
    }
    let directory = quoted(&room.inside.directory(plan));
    let text = format!(
        "run() (\n  cd {directory} && {command}\n)\nPS1='heph:\\w\\$ '\n\
         echo {notice}\n",
        command = words.join(" "),
        notice = quoted(&format!(
            "sandbox of {}: `run` runs its command, `exit` leaves",
            plan.address
        )),
    );
    content::create(room.place.top(), "shell", Mode::from_raw_mode(0o644))
        .and_then(|file| content::write_all(&file, text.as_bytes()))
        .map_err(|errno| Stop::staging("write", &room.place.path().join("shell"), errno))?;
    let has_bash = room.inside.has_program("bash") || plan.tools.iter().any(|tool| tool.name == "bash");
    let argv = match has_bash {
        true => vec![
            "bash".to_owned(),
            "--noprofile".to_owned(),
            "--rcfile".to_owned(),
            room.inside.path("shell"),
        ],
        false => vec!["sh".to_owned(), "-i".to_owned()],
    };
    Ok(Command { argv, script: None })
}

fn pseudo_terminal(terminal: &Terminal) -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let ours = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)?;
    rustix::pty::grantpt(&ours)?;
    rustix::pty::unlockpt(&ours)?;
    let name = rustix::pty::ptsname(&ours, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let theirs = rustix::fs::open(&*name, flags, Mode::empty())?;
    if let Ok(size) = rustix::termios::tcgetwinsize(&terminal.output) {
        rustix::termios::tcsetwinsize(&ours, size)?;
    }
    Ok((ours, theirs))
}

/// Carries keys in and text out until the shell has ended.
fn converse(run: &Run<'_>, ours: &OwnedFd, terminal: &Terminal) -> Attempt<()> {
    let _ringing = run.cancel.ring(run.bell);
    let mut has_input = true;
    let mut has_output = true;
    let mut cancelled = false;
    loop {
        if let (Ok(wanted), Ok(current)) = (
            rustix::termios::tcgetwinsize(&terminal.output),
            rustix::termios::tcgetwinsize(ours),
        ) && (wanted.ws_row, wanted.ws_col) != (current.ws_row, current.ws_col)
        {
            let _ = rustix::termios::tcsetwinsize(ours, wanted);
        }
        let mut watched = vec![run.bell.as_fd()];
        watched.extend(has_output.then(|| ours.as_fd()));
        watched.extend(has_input.then(|| terminal.input.as_fd()));
        let heard = run
            .channel
            .hear(&watched, Some(RESIZE))
            .map_err(|error| command::lost(&error))?;
        match heard {
            Heard::Ended(..) if cancelled => return Err(Stop::Cancelled),
            Heard::Ended(ended, explanation) => {
                return match ended.how {
                    How::NotStarted(step, errno) => Err(command::not_started(run, step, errno, &explanation)),
                    _ => Ok(()),
                };
            }
            Heard::Nothing => {}
            Heard::Ready(0) => {
                run.bell.silence();
                cancelled = run.cancel.is_cancelled();
                if cancelled {
                    // An interactive shell ignores SIGTERM.
                    run.channel.kill().map_err(|error| command::lost(&error))?;
                }
            }
            // The other end of a terminal being closed reads as an error.
            Heard::Ready(1) if has_output => has_output = carry(ours, &terminal.output),
            Heard::Ready(_) => has_input = carry(&terminal.input, ours),
        }
    }
}

/// Moves what is there to read; whether there may be more.
fn carry(from: &OwnedFd, to: &OwnedFd) -> bool {
    let mut buffer = [0; 4096];
    match rustix::io::read(from, &mut buffer) {
        Ok(0) => false,
        Ok(count) => content::write_all(to, buffer.get(..count).unwrap_or_default()).is_ok(),
        Err(Errno::INTR | Errno::AGAIN) => true,
        Err(_) => false,
    }
}

/// Every key goes to the shell as it is, until the value is dropped.
struct Raw<'a> {
    terminal: &'a OwnedFd,
    before: Option<Termios>,
}

impl<'a> Raw<'a> {
    fn new(terminal: &'a OwnedFd) -> Self {
        let before = rustix::termios::tcgetattr(terminal).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw);
        }
        Self { terminal, before }
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(self.terminal, OptionalActions::Flush, before);
        }
    }
}
