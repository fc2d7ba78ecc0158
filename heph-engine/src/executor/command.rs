//! One command from its start to the end of everything it started.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heph_proto::{Command, Failed, FailureKind, Plan};
use rustix::io::Errno;

use super::GRACE;
use super::control::{Bell, Cancel};
use super::environment::Inside;
use super::hint;
use super::log::Log;
use super::protocol::{Ended, Heard, How, INSIDE, Isolation, Spawn, Step, SupervisorError, View};
use super::stop::{Attempt, Stop};
use super::supervisor::Channel;

/// After this long, output is in the log's file for whoever looks at it.
const LOG_DELAY: Duration = Duration::from_millis(200);

/// Characters of a command that are shown to people.
const SHOWN: usize = 4096;

/// What was measured of a command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) wall_us: u64,
    pub(super) cpu_us: u64,
    pub(super) memory_bytes: u64,
}

/// What a worker runs a command with.
pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) command: &'a Command,
    pub(super) inside: &'a Inside,
    pub(super) channel: &'a Channel,
    pub(super) bell: &'a Arc<Bell>,
    pub(super) cancel: &'a Cancel,
    /// Set in strict mode.
    pub(super) isolation: Option<Isolation>,
    pub(super) jobserver: Option<(String, [BorrowedFd<'a>; 2])>,
}

/// Runs a command to its end, and says what it used, also where it fails. An exit code other than 0 is a failure.
pub(super) fn run(run: Run<'_>, log: &mut Log, usage: &mut Usage, spawned: impl FnOnce()) -> Attempt<()> {
    let spawn = prepare(&run)?;
    let (output, input) = super::control::pipe()
        .map_err(|error| Stop::staging("make a pipe for", log.path(), super::stop::errno(&error)))?;
    rustix::io::ioctl_fionbio(&output, true)
        .map_err(|errno| Stop::staging("make a pipe for", log.path(), errno))?;
    let mut descriptors = vec![input.as_fd()];
    if let Some((_, ends)) = &run.jobserver {
        descriptors.extend(ends);
    }
    run.channel
        .spawn(spawn, &descriptors)
        .map_err(|error| lost(&error))?;
    drop(descriptors);
    drop(input);
    spawned();
    let (ended, explanation, why) = watch(&run, &output, log)?;
    while log.take(&output) {}
    if let Some(errno) = log.failure() {
        return Err(Stop::staging("write", log.path(), errno));
    }
    *usage = Usage {
        wall_us: ended.wall_us,
        cpu_us: ended.cpu_us,
        memory_bytes: ended.memory_bytes,
    };
    match why {
        Some(Why::Cancelled) => return Err(Stop::Cancelled),
        Some(Why::TimedOut) => {
            let limit = Duration::from_millis(run.plan.timeout_ms);
            let message = format!("took longer than its timeout of {limit:?}");
            return Err(Stop::failed(FailureKind::Timeout, message));
        }
        None => {}
    }
    judge(&run, &ended, &explanation, log)
}

pub(super) fn lost(error: &SupervisorError) -> Stop {
    Stop::internal(error.to_string())
}

/// What the spawner is asked for.
pub(super) fn prepare(run: &Run<'_>) -> Attempt<Spawn> {
    let mut argv: Vec<Vec<u8>> = run
        .command
        .argv
        .iter()
        .map(|argument| argument.clone().into_bytes())
        .collect();
    let Some(name) = run.command.argv.first() else {
        return Err(Stop::failed(FailureKind::Definition, "the command is empty"));
    };
    let program = run
        .inside
        .find_program(run.plan, name)
        .ok_or_else(|| unknown(name))?;
    if run.command.script.is_some() {
        argv.push(run.inside.path("script").into_bytes());
    }
    let mut environment = run.inside.environment(run.plan);
    if let Some((flags, _)) = &run.jobserver {
        environment.push(format!("MAKEFLAGS={flags}").into_bytes());
    }
    Ok(Spawn {
        program: program.into_bytes(),
        argv,
        environment,
        directory: run.inside.directory(run.plan).into_bytes(),
        terminal: false,
        isolation: run.isolation.clone(),
    })
}

fn unknown(name: &str) -> Stop {
    Stop::failed(
        FailureKind::Program,
        format!("the program {name} is not on the sandbox's PATH"),
    )
    .hint(hint::program_hint(name))
}

#[derive(Clone, Copy)]
enum Why {
    Cancelled,
    TimedOut,
}

/// Waits for the end; ends the command when it was cancelled or takes too long.
fn watch(run: &Run<'_>, output: &OwnedFd, log: &mut Log) -> Attempt<(Ended, String, Option<Why>)> {
    let _ringing = run.cancel.ring(run.bell);
    let deadline = match run.plan.timeout_ms {
        0 => None,
        limit => Instant::now().checked_add(Duration::from_millis(limit)),
    };
    let mut why = None;
    // When patience with a command that was asked to end is over.
    let mut kill_at: Option<Instant> = None;
    let mut is_open = true;
    loop {
        let now = Instant::now();
        if why.is_none() && deadline.is_some_and(|deadline| deadline <= now) {
            why = Some(Why::TimedOut);
            kill_at = Some(now + GRACE);
            run.channel.terminate().map_err(|error| lost(&error))?;
        }
        if kill_at.is_some_and(|at| at <= now) {
            kill_at = None;
            run.channel.kill().map_err(|error| lost(&error))?;
        }
        let next = if why.is_none() { deadline } else { kill_at };
        let mut patience = next.map(|next| next.saturating_duration_since(now));
        if log.has_unwritten() {
            patience = Some(patience.map_or(LOG_DELAY, |patience| patience.min(LOG_DELAY)));
        }
        let both = [run.bell.as_fd(), output.as_fd()];
        let watched = if is_open { &both[..] } else { &both[..1] };
        match run.channel.hear(watched, patience) {
            Ok(Heard::Ended(ended, explanation)) => return Ok((ended, explanation, why)),
            Ok(Heard::Ready(0)) => {
                run.bell.silence();
                if run.cancel.is_cancelled() && why.is_none() {
                    why = Some(Why::Cancelled);
                    kill_at = Some(Instant::now() + GRACE);
                    run.channel.terminate().map_err(|error| lost(&error))?;
                }
            }
            // Readable without bytes: every writer closed it.
            Ok(Heard::Ready(_)) => is_open = log.take(output),
            Ok(Heard::Nothing) => log.write(),
            Err(error) => return Err(lost(&error)),
        }
    }
}

/// Whether the command did well.
fn judge(run: &Run<'_>, ended: &Ended, explanation: &str, log: &Log) -> Attempt<()> {
    let mut failed = Failed {
        kind: FailureKind::Command.into(),
        ..Failed::default()
    };
    match ended.how {
        How::Exited(0) => return Ok(()),
        How::Exited(code) => {
            failed.exit_code = Some(code);
            failed.message = format!("exited with code {code}");
        }
        How::Signaled(signal) => {
            failed.signal = Some(signal);
            failed.message = format!("was ended by signal {}", signal_name(signal));
        }
        How::Lost => {
            return Err(Stop::internal(
                "the command was ended together with its supervisor",
            ));
        }
        How::NotStarted(step, errno) => return Err(not_started(run, step, errno, explanation)),
    }
    failed.hint = hint::of(run.plan, failed.exit_code, &log.tail(hint::LINES));
    Err(Stop::Failed(Box::new(failed)))
}

/// Why the command of `run` could not be started.
pub(super) fn not_started(run: &Run<'_>, step: Step, errno: Errno, explanation: &str) -> Stop {
    let name = run.command.argv.first().map(String::as_str).unwrap_or_default();
    match (step, errno) {
        (Step::Execute, Errno::TOOBIG) => {
            let message = "the command and its environment are longer than the system allows";
            Stop::failed(FailureKind::Command, message).hint("pass long lists of files through $LIST_SRC")
        }
        (Step::Execute, Errno::NOENT) => {
            let message = format!(
                "the program {name}, or the interpreter that it names, does not exist in the sandbox"
            );
            Stop::failed(FailureKind::Program, message).hint(match name.rsplit('/').next() {
                Some(base) if !base.is_empty() => hint::program_hint(base),
                _ => String::new(),
            })
        }
        (Step::Execute, errno) => {
            let cause = super::stop::cause(&PathBuf::from(name), errno);
            let message = format!("the program {name} cannot be executed: {cause}");
            Stop::failed(FailureKind::Program, message)
        }
        (step, errno) => {
            let message = match explanation {
                "" => format!(
                    "failed to {}: {}",
                    step.text(),
                    super::stop::cause(&PathBuf::from(INSIDE), errno)
                ),
                explanation => explanation.to_owned(),
            };
            Stop::failed(FailureKind::Staging, message)
        }
    }
}

/// The number of a signal, with its name where it is a usual one.
fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return number.to_string(),
    };
    format!("{number} ({name})")
}

/// A command as it may be typed.
pub(super) fn shown(command: &Command) -> String {
    let mut text = String::new();
    for argument in command.argv.iter().chain(&command.script) {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&quoted(argument));
        if text.len() > SHOWN {
            let end = text
                .char_indices()
                .map(|(at, _)| at)
                .take_while(|at| *at <= SHOWN)
                .last();
            text.truncate(end.unwrap_or(0));
            text.push('…');
            break;
        }
    }
    text
}

/// A word that a shell reads as it is.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,^".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What a command in strict mode sees besides its sandbox.
pub(super) fn view(plan: &Plan, base: Option<&std::path::Path>, masked: &[Vec<u8>]) -> View {
    let present = plan
        .extra_path
        .iter()
        .filter(|path| std::path::Path::new(path).is_dir());
    let mut visible: Vec<Vec<u8>> = plan
        .visible
        .iter()
        .chain(present)
        .map(|path| path.clone().into_bytes())
        .collect();
    visible.sort();
    visible.dedup();
    let root = Some(plan.workspace_root.clone().into_bytes()).filter(|root| !root.is_empty());
    View {
        visible,
        masked: masked.iter().cloned().chain(root).collect(),
        base: base.map(super::bytes_of).unwrap_or_default(),
        network: plan.network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_typed_again() {
        let command = Command {
            argv: vec!["sh".to_owned(), "-c".to_owned(), "echo 'a b' > $OUT".to_owned()],
            script: None,
        };
        assert_eq!(shown(&command), r"sh -c 'echo '\''a b'\'' > $OUT'");
        assert_eq!(quoted(""), "''");
        let long = Command {
            argv: vec!["ä".repeat(10_000)],
            script: None,
        };
        assert!(shown(&long).len() < SHOWN + 10);
    }
}
