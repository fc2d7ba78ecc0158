//! The supervisor's outermost process: starts the spawners, and ends what they leave when they are killed.
//!
//! It does nothing else, so that nothing makes it die. A spawner's orphans become its children, since it is a subreaper;
//! when it is the one that dies, the spawners are told by their parent-death signal and end their commands themselves.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Result;
use rustix::process::{Pid, Signal, WaitOptions};

use super::wire::{self, Start};
use super::{descendants, namespace, raw_process, raw_system, spawner};

/// The supervisor: serves the client at the other end of descriptor 0 until that is gone, and leaves no process behind.
///
/// For the hidden subcommand that [`super::super::ExecutorOptions::supervisor`] names; never returns.
pub fn supervise() -> ! {
    let code = match Guard::new().and_then(|mut guard| guard.serve()) {
        Ok(()) => 0,
        Err(_) => 1,
    };
    std::process::exit(code)
}

struct Guard {
    control: OwnedFd,
    signals: OwnedFd,
    spawners: Vec<Pid>,
}

impl Guard {
    fn new() -> Result<Self> {
        raw_system::close_from(3)?;
        raw_system::default_signals();
        let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), spawner::FIRST_OWN)?;
        spawner::occupy_low_descriptors()?;
        let _ = rustix::process::setsid();
        rustix::process::chdir("/")?;
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let signals = raw_system::signal_descriptor()?;
        Ok(Self {
            control,
            signals,
            spawners: Vec::new(),
        })
    }

    fn serve(&mut self) -> Result<()> {
        loop {
            let mut polled = [
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            spawner::retry(|| rustix::event::poll(&mut polled, None))?;
            let [control, signals] = polled.map(|polled| !polled.revents().is_empty());
            if signals {
                spawner::drain(&self.signals);
                self.reap();
            }
            if control {
                match wire::receive::<Start>(&self.control, &mut wire::Buffer::new())? {
                    Some((start, descriptors)) => self.start(start, descriptors)?,
                    None => return self.end(),
                }
            }
        }
    }

    fn start(&mut self, start: Start, descriptors: Vec<OwnedFd>) -> Result<()> {
        let Some(socket) = descriptors.into_iter().next() else {
            return Ok(());
        };
        let identity = namespace::Identity::current();
        let flags = match start.trial {
            Some(_) => namespace::FLAGS,
            None => 0,
        };
        match raw_process::fork(flags) {
            Ok(Some(pid)) => self.spawners.push(pid),
            Ok(None) => spawner::main(socket, start.trial, &identity),
            Err(errno) => {
                let obstacle = format!("the namespaces cannot be made: {errno}");
                wire::send(
                    socket,
                    &wire::Ready {
                        obstacle: Some(obstacle),
                    },
                    &[],
                )?;
            }
        }
        Ok(())
    }

    /// Reaps who has ended. When that was a spawner, its commands are orphans now, and end.
    fn reap(&mut self) {
        let mut spawner_died = false;
        while let Ok(Some((pid, _))) = rustix::process::wait(WaitOptions::NOHANG) {
            spawner_died |= self.spawners.contains(&pid);
            self.spawners.retain(|spawner| *spawner != pid);
        }
        if spawner_died {
            end_others(&self.spawners);
        }
    }

    /// The client is gone: the spawners see it too and end their commands; what is left after them ends here.
    fn end(&mut self) -> Result<()> {
        for spawner in &self.spawners {
            let _ = rustix::process::kill_process(*spawner, Signal::TERM);
        }
        for spawner in std::mem::take(&mut self.spawners) {
            let _ = spawner::retry(|| rustix::process::waitpid(Some(spawner), WaitOptions::empty()));
        }
        end_others(&[]);
        Ok(())
    }
}

/// Kills and reaps all children of this process but the given ones, and their descendants.
pub(super) fn end_others(known: &[Pid]) {
    loop {
        let mut others = Vec::new();
        descendants::for_each_child(&mut |child| others.push(child));
        others.retain(|child| !known.contains(child));
        if others.is_empty() {
            return;
        }
        for other in &others {
            let _ = rustix::process::kill_process(*other, Signal::KILL);
        }
        for other in &others {
            let wait = || rustix::process::waitpid(Some(*other), WaitOptions::empty());
            let _ = spawner::retry(wait);
        }
    }
}
