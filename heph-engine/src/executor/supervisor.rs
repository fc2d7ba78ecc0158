//! The processes that start and end commands.
//!
//! ```text
//! client ── guard ─┬─ spawner (standard) ── keeper ── command, and what it starts
//!                  └─ spawner (strict)   ── keeper ── command, and what it starts
//! ```
//!
//! All are this binary, executed once for each run as the guard and cloned from there. Each of the client's workers has
//! a socket of its own to a spawner, so that an answer needs no dispatching.
//!
//! Invariant: whichever of them dies, all processes that the commands started are ended: by the keeper when the command
//! ends; by the spawner when the keeper is killed or the client is gone; by the guard, or by the end of their PID
//! namespace, when the spawner is killed.

mod descendants;
mod guard;
mod namespace;
#[expect(unsafe_code, reason = "clone and execve")]
mod raw_process;
#[expect(unsafe_code, reason = "system calls without a safe wrapper")]
mod raw_system;
mod spawner;
mod template;
mod wire;

use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::time::Timespec;

pub use guard::supervise;

use super::protocol::{Ended, Heard, Isolation, Request, Spawn, SupervisorError};

const INSIDE_C: &CStr = c"/heph";
const INSIDE_TEMPORARY_C: &CStr = c"/heph/tmp";

/// User and group in strict mode, whoever builds.
const INNER_ID: u32 = 1000;
const INNER_MAP: &str = "1000 1000 1";

/// The supervisor of one run, started when the first command is.
#[derive(Debug)]
pub(super) struct Supervisor {
    program: Vec<OsString>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    guard: Option<Guard>,
    is_shut_down: bool,
}

#[derive(Debug)]
struct Guard {
    process: Child,
    control: OwnedFd,
    standard: Option<Arc<Spawner>>,
    strict: Option<Result<Arc<Spawner>, String>>,
}

/// The client's end of a spawner; as long as it is open, the spawner serves.
#[derive(Debug)]
struct Spawner {
    main: OwnedFd,
}

/// One worker's line to a spawner. Carries one command at a time.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    /// Keeps the spawner going while this channel is in use.
    _spawner: Arc<Spawner>,
}

impl Supervisor {
    /// A supervisor that will be started as `program` with its arguments.
    pub(super) fn new(program: Vec<OsString>) -> Self {
        Self {
            program,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A line for commands that are not isolated.
    pub(super) fn standard(&self) -> Result<Channel, SupervisorError> {
        self.again(|supervisor| supervisor.channel(None))
    }

    /// A line for isolated commands; the first time, `trial` is tried out.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::NotStrict`] with the reason where this machine does not allow it.
    pub(super) fn strict(&self, trial: &Isolation) -> Result<Channel, SupervisorError> {
        self.again(|supervisor| supervisor.channel(Some(trial)))
    }

    /// Tries a second time, with a new supervisor, when the first one turns out to be gone.
    fn again(
        &self,
        attempt: impl Fn(&Self) -> Result<Channel, SupervisorError>,
    ) -> Result<Channel, SupervisorError> {
        match attempt(self) {
            Err(SupervisorError::Gone | SupervisorError::Socket(_)) => {
                self.forget();
                attempt(self)
            }
            result => result,
        }
    }

    fn channel(&self, trial: Option<&Isolation>) -> Result<Channel, SupervisorError> {
        let spawner = {
            let mut state = self.lock();
            if state.is_shut_down {
                return Err(SupervisorError::ShutDown);
            }
            let guard = match &mut state.guard {
                Some(guard) => guard,
                none => none.insert(Guard::start(&self.program)?),
            };
            match trial {
                None => match &guard.standard {
                    Some(spawner) => Arc::clone(spawner),
                    None => {
                        let spawner = guard.spawner(None)??;
                        Arc::clone(guard.standard.insert(spawner))
                    }
                },
                Some(isolation) => {
                    let strict = match guard.strict.take() {
                        Some(strict) => strict,
                        None => match guard.spawner(Some(isolation))? {
                            Ok(spawner) => Ok(spawner),
                            Err(SupervisorError::NotStrict(reason)) => Err(reason),
                            Err(error) => return Err(error),
                        },
                    };
                    guard
                        .strict
                        .insert(strict)
                        .clone()
                        .map_err(SupervisorError::NotStrict)?
                }
            }
        };
        let (socket, other) = wire::pair().map_err(SupervisorError::Socket)?;
        wire::send(&spawner.main, &(), &[other.as_fd()]).map_err(SupervisorError::Socket)?;
        Ok(Channel {
            socket,
            _spawner: spawner,
        })
    }

    /// Leaves a supervisor that does not answer any more.
    fn forget(&self) {
        let guard = self.lock().guard.take();
        drop(guard);
    }

    /// Ends every command and the supervisor itself; waits until that is done.
    pub(super) fn shut_down(&self) {
        let guard = {
            let mut state = self.lock();
            state.is_shut_down = true;
            state.guard.take()
        };
        drop(guard);
    }
}

impl Guard {
    fn start(program: &[OsString]) -> Result<Self, SupervisorError> {
        let failed = |source| SupervisorError::Start {
            program: program
                .iter()
                .map(|part| part.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(" "),
            source,
        };
        let Some((binary, arguments)) = program.split_first() else {
            return Err(failed(std::io::ErrorKind::InvalidInput.into()));
        };
        let (control, other) = wire::pair().map_err(SupervisorError::Socket)?;
        let process = Command::new(binary)
            .args(arguments)
            // Visible to commands as the name of process 1: no path.
            .arg0("heph")
            .env_clear()
            .stdin(Stdio::from(other))
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            process,
            control,
            standard: None,
            strict: None,
        })
    }

    /// Has a spawner made.
    fn spawner(
        &self,
        trial: Option<&Isolation>,
    ) -> Result<Result<Arc<Spawner>, SupervisorError>, SupervisorError> {
        let (main, other) = wire::pair().map_err(SupervisorError::Socket)?;
        let start = wire::Start {
            trial: trial.cloned(),
        };
        wire::send(&self.control, &start, &[other.as_fd()]).map_err(SupervisorError::Socket)?;
        drop(other);
        let ready =
            wire::receive::<wire::Ready>(&main, &mut wire::Buffer::new()).map_err(SupervisorError::Socket)?;
        let (ready, _) = ready.ok_or(SupervisorError::Gone)?;
        Ok(match ready.obstacle {
            None => Ok(Arc::new(Spawner { main })),
            Some(obstacle) => Err(SupervisorError::NotStrict(obstacle)),
        })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Its end tells the guard to end; the spawners notice theirs when the last channel is gone, or hear it from
        // the guard.
        if let Ok((end, _)) = wire::pair() {
            self.control = end;
        }
        self.standard = None;
        self.strict = None;
        let _ = self.process.wait();
    }
}

impl Channel {
    /// Starts a command; its end will be heard.
    pub(super) fn spawn(&self, spawn: Spawn, descriptors: &[BorrowedFd<'_>]) -> Result<(), SupervisorError> {
        self.ask(&Request::Spawn(Box::new(spawn)), descriptors)
    }

    /// SIGTERM to all that the command started.
    pub(super) fn terminate(&self) -> Result<(), SupervisorError> {
        self.ask(&Request::Terminate, &[])
    }

    /// SIGKILL to all that the command started.
    pub(super) fn kill(&self) -> Result<(), SupervisorError> {
        self.ask(&Request::Kill, &[])
    }

    fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), SupervisorError> {
        wire::send(&self.socket, request, descriptors).map_err(|_| SupervisorError::Gone)
    }

    /// Waits for the end of the command, for a watched descriptor to be readable, or for `patience` to end. The first
    /// that is ready counts, the end last.
    pub(super) fn hear(
        &self,
        watched: &[BorrowedFd<'_>],
        patience: Option<std::time::Duration>,
    ) -> Result<Heard, SupervisorError> {
        let patience = patience.map(|patience| Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        });
        let mut polled: Vec<PollFd<'_>> = watched
            .iter()
            .copied()
            .chain([self.socket.as_fd()])
            .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
            .collect();
        match rustix::event::poll(&mut polled, patience.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(Heard::Nothing),
            result => result.map_err(SupervisorError::Socket)?,
        };
        match polled.iter().position(|polled| !polled.revents().is_empty()) {
            Some(number) if number < watched.len() => return Ok(Heard::Ready(number)),
            Some(_) => {}
            None => return Ok(Heard::Nothing),
        }
        let mut buffer = [0; wire::ENDED + wire::EXPLANATION];
        let length = match rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => return Err(SupervisorError::Gone),
            Ok((_, length)) => length,
            Err(errno) => return Err(SupervisorError::Socket(errno)),
        };
        let explanation = buffer.get(wire::ENDED..length).unwrap_or_default();
        let explanation = String::from_utf8_lossy(explanation).into_owned();
        let ended = Ended::decode(&buffer).ok_or(SupervisorError::Gone)?;
        Ok(Heard::Ended(ended, explanation))
    }

    /// Whether the spawner is there.
    pub(super) fn is_alive(&self) -> bool {
        let mut polled = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(0))
    }
}
