//! The process that starts commands, one keeper each.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, Signal, WaitOptions};

use super::super::protocol::{Ended, How, Isolation, Request, Spawn, Step};
use super::namespace::{Identity, Lease, Rooms};
use super::raw_process::{self, Launched, Namespaces, ReadOnly, Script, Stacks};
use super::wire::{self, Ready};
use super::{guard, raw_system};

/// Own descriptors are at least this high: the numbers below are where those of commands go.
pub(super) const FIRST_OWN: RawFd = 20;

/// Opens `/dev/null` on every number below [`FIRST_OWN`] that is free, so that nothing else gets one.
pub(super) fn occupy_low_descriptors() -> Result<()> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mut null = rustix::fs::open("/dev/null", flags, Mode::empty())?;
    for standard in [rustix::stdio::stdin(), rustix::stdio::stdout()] {
        if standard.as_raw_fd() == 0 {
            rustix::stdio::dup2_stdin(&null)?;
        } else {
            rustix::stdio::dup2_stdout(&null)?;
        }
    }
    while null.as_raw_fd() < FIRST_OWN {
        let next = rustix::fs::open("/dev/null", flags, Mode::empty())?;
        // Stays open for the life of the process.
        std::mem::forget(std::mem::replace(&mut null, next));
    }
    Ok(())
}

pub(super) fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => continue,
            result => return result,
        }
    }
}

pub(super) fn drain(signals: &OwnedFd) {
    let mut buffer = [0; 1024];
    while rustix::io::read(signals, &mut buffer).is_ok_and(|count| count > 0) {}
}

/// Serves the client at the other end of `main` until that is gone; never returns.
pub(super) fn main(main: OwnedFd, trial: Option<Isolation>, identity: &Identity) -> ! {
    let code = match run(&main, trial, identity) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    std::process::exit(code)
}

fn run(main: &OwnedFd, trial: Option<Isolation>, identity: &Identity) -> Result<()> {
    let strict = trial.is_some();
    // The keepers of strict mode end with their namespace, which ends with this process; those of standard mode need
    // this process to end them.
    let signal = if strict { Signal::KILL } else { Signal::TERM };
    rustix::process::set_parent_process_death_signal(Some(signal))?;
    if !strict {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    let mut spawner = Spawner {
        signals: raw_system::signal_descriptor()?,
        null: rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
        rooms: None,
        workers: Vec::new(),
        running: Vec::new(),
        stacks: Vec::new(),
        buffer: wire::Buffer::new(),
    };
    let obstacle = match trial {
        Some(trial) => spawner.prepare(trial, identity).err(),
        None => None,
    };
    let useless = obstacle.is_some();
    wire::send(main, &Ready { obstacle }, &[])?;
    if useless {
        return Ok(());
    }
    spawner.serve(main)
}

struct Spawner {
    signals: OwnedFd,
    null: OwnedFd,
    /// Set in strict mode.
    rooms: Option<Rooms>,
    workers: Vec<OwnedFd>,
    running: Vec<Running>,
    stacks: Vec<Stacks>,
    buffer: wire::Buffer,
}

struct Running {
    launched: Launched,
    /// The worker's socket, by number; the socket outlives the command.
    worker: RawFd,
    network: Option<Lease>,
}

impl Spawner {
    /// Makes the rooms of strict mode, and one trial run of all that a command needs.
    fn prepare(&mut self, trial: Isolation, identity: &Identity) -> std::result::Result<(), String> {
        self.rooms = Some(Rooms::new(identity).map_err(|error| error.to_string())?);
        let failed = |step: Step, errno: Errno| format!("failed to {}: {errno}", step.text());
        let (namespaces, network) = match &mut self.rooms {
            Some(rooms) => furnish(rooms, &trial)?,
            None => return Ok(()),
        };
        let null = || rustix::io::fcntl_dupfd_cloexec(&self.null, FIRST_OWN);
        let standard =
            (|| Ok([null()?, null()?, null()?]))().map_err(|errno| failed(Step::Descriptors, errno))?;
        let script = Script {
            program: CString::default(),
            argv: Vec::new(),
            environment: Vec::new(),
            directory: CString::default(),
            standard,
            kept: Vec::new(),
            terminal: false,
            report: None,
            isolation: Some(namespaces),
        };
        let process = |errno| failed(Step::Process, errno);
        let launched = raw_process::launch(script, Stacks::new().map_err(process)?).map_err(process)?;
        retry(|| rustix::process::waitpid(Some(launched.pid), WaitOptions::empty())).map_err(process)?;
        if let (Some(rooms), Some(lease)) = (&mut self.rooms, network) {
            rooms.give_back(lease);
        }
        let failure = launched.failure();
        self.stacks.push(launched.into_stacks());
        failure.map_or(Ok(()), |(step, errno)| Err(failed(step, errno)))
    }

    fn serve(&mut self, main: &OwnedFd) -> Result<()> {
        loop {
            let mut polled: Vec<PollFd<'_>> = [main.as_fd(), self.signals.as_fd()]
                .into_iter()
                .chain(self.workers.iter().map(AsFd::as_fd))
                .map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN))
                .collect();
            retry(|| rustix::event::poll(&mut polled, None))?;
            let ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
            drop(polled);
            let mut ready = ready.into_iter();
            let (main_ready, signals_ready) = (ready.next(), ready.next());
            if signals_ready == Some(true) {
                drain_until_term(&self.signals)?.then(|| self.end());
                self.reap();
            }
            let workers: Vec<RawFd> = self
                .workers
                .iter()
                .zip(ready)
                .filter(|(_, ready)| *ready)
                .map(|(worker, _)| worker.as_raw_fd())
                .collect();
            for worker in workers {
                self.hear(worker);
            }
            if main_ready == Some(true) {
                match wire::receive::<()>(main, &mut self.buffer)? {
                    Some(((), descriptors)) => self.workers.extend(descriptors),
                    None => {
                        self.end();
                    }
                }
            }
        }
    }

    /// Does what a worker asks; one that is gone takes its command with it.
    fn hear(&mut self, worker: RawFd) {
        let Some(socket) = self.workers.iter().find(|socket| socket.as_raw_fd() == worker) else {
            return;
        };
        match wire::receive::<Request>(socket, &mut self.buffer) {
            Ok(Some((Request::Spawn(spawn), descriptors))) => {
                if let Err((step, errno, text)) = self.spawn(worker, *spawn, descriptors) {
                    self.tell(worker, &Ended::bare(How::NotStarted(step, errno)), &text);
                }
            }
            Ok(Some((Request::Terminate, _))) => self.signal(worker, Signal::TERM),
            Ok(Some((Request::Kill, _))) => self.signal(worker, Signal::USR1),
            Ok(None) | Err(_) => {
                self.signal(worker, Signal::USR1);
                // A keeper may still want to report to it: it goes when its command has ended.
                if !self.running.iter().any(|running| running.worker == worker) {
                    self.workers.retain(|socket| socket.as_raw_fd() != worker);
                }
            }
        }
    }

    fn tell(&self, worker: RawFd, ended: &Ended, text: &str) {
        if let Some(socket) = self.workers.iter().find(|socket| socket.as_raw_fd() == worker) {
            let flags = rustix::net::SendFlags::NOSIGNAL;
            let text = text.bytes().take(wire::EXPLANATION);
            let message: Vec<u8> = ended.encode().into_iter().chain(text).collect();
            let _ = rustix::net::send(socket, &message, flags);
        }
    }

    fn signal(&self, worker: RawFd, signal: Signal) {
        for running in self.running.iter().filter(|running| running.worker == worker) {
            let _ = rustix::process::kill_process(running.launched.pid, signal);
        }
    }

    fn spawn(
        &mut self,
        worker: RawFd,
        spawn: Spawn,
        descriptors: Vec<OwnedFd>,
    ) -> std::result::Result<(), (Step, Errno, String)> {
        let plain = |step| move |errno| (step, errno, String::new());
        let text = |bytes| {
            CString::new(bytes).map_err(|_| {
                let text = "a NUL character is in an argument or a variable of the command";
                (Step::Request, Errno::INVAL, text.to_owned())
            })
        };
        let texts = |all: Vec<Vec<u8>>| all.into_iter().map(text).collect::<std::result::Result<_, _>>();
        let mut descriptors = descriptors.into_iter();
        let output = descriptors.next().ok_or(plain(Step::Request)(Errno::BADF))?;
        let copy =
            |of: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(of, FIRST_OWN).map_err(plain(Step::Descriptors));
        let input = if spawn.terminal {
            copy(&output)?
        } else {
            copy(&self.null)?
        };
        let (isolation, network) = match (&mut self.rooms, &spawn.isolation) {
            (Some(rooms), Some(isolation)) => {
                let (namespaces, network) =
                    furnish(rooms, isolation).map_err(|text| (Step::View, Errno::INVAL, text))?;
                (Some(namespaces), network)
            }
            _ => (None, None),
        };
        let script = Script {
            program: text(spawn.program)?,
            argv: texts(spawn.argv)?,
            environment: texts(spawn.environment)?,
            directory: text(spawn.directory)?,
            standard: [input, copy(&output)?, output],
            kept: descriptors.collect(),
            terminal: spawn.terminal,
            report: Some(worker),
            isolation,
        };
        let process = plain(Step::Process);
        let stacks = match self.stacks.pop() {
            Some(stacks) => stacks,
            None => Stacks::new().map_err(process)?,
        };
        let launched = raw_process::launch(script, stacks).map_err(process)?;
        self.running.push(Running {
            launched,
            worker,
            network,
        });
        Ok(())
    }

    /// Reaps keepers that have ended, and answers for those that were killed.
    fn reap(&mut self) {
        while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
            let at = self
                .running
                .iter()
                .position(|running| running.launched.pid == pid);
            let Some(at) = at else {
                continue;
            };
            let running = self.running.swap_remove(at);
            if !running.launched.reported() {
                guard::end_others(&self.keepers());
                self.tell(running.worker, &Ended::bare(How::Lost), "");
            }
            if let (Some(rooms), Some(lease)) = (&mut self.rooms, running.network) {
                rooms.give_back(lease);
            }
            self.stacks.push(running.launched.into_stacks());
        }
    }

    fn keepers(&self) -> Vec<Pid> {
        self.running.iter().map(|running| running.launched.pid).collect()
    }

    /// Ends all commands and this process.
    fn end(&mut self) -> ! {
        for keeper in self.keepers() {
            let _ = rustix::process::kill_process(keeper, Signal::USR1);
        }
        for keeper in self.keepers() {
            let _ = retry(|| rustix::process::waitpid(Some(keeper), WaitOptions::empty()));
        }
        guard::end_others(&[]);
        std::process::exit(0)
    }
}

/// Reads all pending signals; whether one of them asks this process to end.
fn drain_until_term(signals: &OwnedFd) -> Result<bool> {
    /// `struct signalfd_siginfo`; its first field is the number.
    const SIZE: usize = 128;
    let mut end = false;
    let mut buffer = [0; SIZE];
    loop {
        match retry(|| rustix::io::read(signals, &mut buffer)) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(end),
            Ok(_) => {
                let number = buffer.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
                end |= number == Some(Signal::TERM.as_raw().cast_unsigned());
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// What a command in strict mode enters: its view's template and a network namespace.
fn furnish(
    rooms: &mut Rooms,
    isolation: &Isolation,
) -> std::result::Result<(Namespaces, Option<Lease>), String> {
    let template = rooms.template(&isolation.view)?;
    let network = match isolation.network {
        true => None,
        false => Some(rooms.network()?),
    };
    let text = |bytes: &Vec<u8>| CString::new(bytes.clone()).map_err(|error| error.to_string());
    let mut read_only = Vec::with_capacity(isolation.read_only.len());
    for (source, target) in &isolation.read_only {
        read_only.push(ReadOnly::new(text(source)?, text(target)?));
    }
    let namespaces = Namespaces {
        template,
        network: network.as_ref().map(Lease::descriptor),
        top: text(&isolation.top)?,
        read_only,
    };
    Ok((namespaces, network))
}
