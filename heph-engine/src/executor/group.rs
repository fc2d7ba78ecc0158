//! Starting and ending commands where there is neither a subreaper nor a PID namespace: by process groups.
//!
//! What a command starts ends with it as long as it stays in the command's process group. There is no supervisor: when
//! this process is killed, its commands go on. Strict mode does not exist.

#[path = "group/raw_start.rs"]
#[expect(unsafe_code, reason = "what a child does before it executes its program")]
mod raw_start;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use rustix::time::Timespec;

use super::protocol::{Ended, Heard, How, Isolation, Spawn, Step, SupervisorError};

/// Says that there is nothing to supervise; never returns.
pub fn supervise() -> ! {
    std::process::exit(0)
}

/// Knows which process groups run.
#[derive(Debug)]
pub(super) struct Supervisor {
    running: Arc<Mutex<Vec<Pid>>>,
    is_shut_down: AtomicBool,
}

impl Supervisor {
    pub(super) fn new(_program: Vec<OsString>) -> Self {
        Self {
            running: Arc::default(),
            is_shut_down: AtomicBool::new(false),
        }
    }

    pub(super) fn standard(&self) -> Result<Channel, SupervisorError> {
        if self.is_shut_down.load(Ordering::SeqCst) {
            return Err(SupervisorError::ShutDown);
        }
        let (reader, writer) =
            super::control::pipe().map_err(|error| SupervisorError::Socket(super::stop::errno(&error)))?;
        Ok(Channel {
            running: Arc::clone(&self.running),
            reader,
            writer,
            ended: Mutex::default(),
        })
    }

    pub(super) fn strict(&self, _trial: &Isolation) -> Result<Channel, SupervisorError> {
        Err(SupervisorError::NotStrict("strict mode needs Linux".to_owned()))
    }

    pub(super) fn shut_down(&self) {
        self.is_shut_down.store(true, Ordering::SeqCst);
        for group in self.running.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = rustix::process::kill_process_group(*group, Signal::KILL);
        }
    }
}

/// Runs one command at a time.
#[derive(Debug)]
pub(super) struct Channel {
    running: Arc<Mutex<Vec<Pid>>>,
    /// Becomes readable when the command has ended.
    reader: OwnedFd,
    writer: OwnedFd,
    ended: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    group: Option<Pid>,
    result: Arc<Mutex<Option<Ended>>>,
}

impl Channel {
    pub(super) fn is_alive(&self) -> bool {
        true
    }

    pub(super) fn spawn(&self, spawn: Spawn, descriptors: &[BorrowedFd<'_>]) -> Result<(), SupervisorError> {
        let socket = |error: std::io::Error| SupervisorError::Socket(super::stop::errno(&error));
        let mut bell = std::fs::File::from(self.writer.try_clone().map_err(socket)?);
        let result = Arc::new(Mutex::new(None));
        let mut state = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        let child = match raw_start::start(spawn, descriptors) {
            Ok(child) => child,
            Err(error) => {
                let how = How::NotStarted(Step::Execute, super::stop::errno(&error));
                *state = State {
                    group: None,
                    result: Arc::new(Mutex::new(Some(Ended::bare(how)))),
                };
                return bell.write_all(b"!").map_err(socket);
            }
        };
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        *state = State {
            group,
            result: Arc::clone(&result),
        };
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(group);
        drop(all);
        let running = Arc::clone(&self.running);
        std::thread::spawn(move || {
            let ended = wait(child, group, start);
            let mut all = running.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|other| Some(*other) != group);
            drop(all);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
            let _ = bell.write_all(b"!");
        });
        Ok(())
    }

    pub(super) fn terminate(&self) -> Result<(), SupervisorError> {
        self.signal(Signal::TERM);
        Ok(())
    }

    pub(super) fn kill(&self) -> Result<(), SupervisorError> {
        self.signal(Signal::KILL);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let state = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = state.group {
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }

    pub(super) fn hear(
        &self,
        watched: &[BorrowedFd<'_>],
        patience: Option<Duration>,
    ) -> Result<Heard, SupervisorError> {
        let patience = patience.map(|patience| Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        });
        let mut polled: Vec<PollFd<'_>> = watched
            .iter()
            .copied()
            .chain([self.reader.as_fd()])
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
        let _ = rustix::io::read(&self.reader, &mut [0_u8; 1]);
        let mut state = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        state.group = None;
        let ended = *state.result.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Heard::Ended(ended.ok_or(SupervisorError::Gone)?, String::new()))
    }
}

/// Waits for a command and ends what is left of its process group.
fn wait(mut child: Child, group: Option<Pid>, start: Instant) -> Ended {
    let status = child.wait();
    if let Some(group) = group {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let how = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => How::Exited(code),
            (None, Some(signal)) => How::Signaled(signal),
            (None, None) => How::Lost,
        },
        Err(_) => How::Lost,
    };
    let wall_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ended {
        wall_us,
        ..Ended::bare(how)
    }
}
