//! The first moments of a daemon that was started in the background: it lets go of everything it came with. (Its session was its own
//! before it began.)

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};

use crate::raw_process;
use crate::start::{Answer, Handover, START_LIMIT};

/// Who started this process hands over what it needs within this time.
const HANDOVER_LIMIT: Duration = START_LIMIT;

/// Bytes of a handover; a configuration is far smaller.
const LONGEST_HANDOVER: u64 = 16 << 20;

/// Who waits for this process to be ready: hears of its end if it is dropped.
#[derive(Debug)]
pub struct Readiness {
    starter: UnixStream,
    /// Locked until this process is ready, so that nobody else starts another one.
    _start: OwnedFd,
}

/// Lets go of descriptors, directory and standard streams, and reads what is handed over.
///
/// To be called before this process has opened anything or has a second thread.
///
/// # Errors
/// When this process was not started by [`Starter`](crate::Starter).
pub fn enter() -> io::Result<(Handover, Readiness)> {
    raw_process::close_from(3)?;
    std::env::set_current_dir("/")?;
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    raise_limits();
    let starter = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    let start = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let nothing = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(nothing.as_fd())?;
    rustix::stdio::dup2_stdout(nothing.as_fd())?;
    starter.set_read_timeout(Some(HANDOVER_LIMIT))?;
    starter.set_write_timeout(Some(HANDOVER_LIMIT))?;
    let mut bytes = Vec::new();
    (&starter).take(LONGEST_HANDOVER).read_to_end(&mut bytes)?;
    let handover = serde_json::from_slice(&bytes)?;
    let readiness = Readiness {
        starter,
        _start: start,
    };
    Ok((handover, readiness))
}

/// Limits of whoever starts a daemon are not for everybody whom it serves.
const RAISED: [Resource; 6] = [
    Resource::Nofile,
    Resource::Fsize,
    Resource::Data,
    Resource::As,
    Resource::Cpu,
    Resource::Nproc,
];

/// Takes as much of the machine as there is, whatever the shell that it was started from had set itself. What cannot be raised
/// stays.
fn raise_limits() {
    for resource in RAISED {
        let Rlimit { maximum, .. } = rustix::process::getrlimit(resource);
        let most = Rlimit {
            current: maximum,
            maximum,
        };
        let _ = rustix::process::setrlimit(resource, most);
    }
    #[cfg(target_os = "linux")]
    {
        let mut all = rustix::thread::CpuSet::new();
        (0..rustix::thread::CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
        let _ = rustix::thread::sched_setaffinity(None, &all);
    }
}

impl Readiness {
    /// Clients can connect.
    pub fn ready(self) {
        self.answer(&Answer {
            ready: true,
            ..Answer::default()
        });
    }

    /// There will be no daemon: why, and what to do about it.
    pub fn failed(self, message: &str, hint: &str) {
        self.answer(&Answer {
            ready: false,
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }

    fn answer(mut self, answer: &Answer) {
        // The lock goes first: who waits for it may connect while the starter still reads.
        let answer = serde_json::to_vec(answer).unwrap_or_default();
        drop(File::from(self._start));
        // A starter that is gone does not mind.
        let _ = self.starter.write_all(&answer);
    }
}
