//! Starting a daemon, from the side of whoever needs one.
//!
//! Of all who find none, one holds the lock of the start and hands it, with its descriptor, to the process that it starts;
//! the others wait for that lock. It is free again when the daemon is ready, or gone, whatever becomes of who started it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heph_common::config::Config;
use serde::{Deserialize, Serialize};

use crate::connect::{ConnectError, Link, connect};
use crate::endpoint::{Endpoint, EndpointError};
use crate::lock::{Lock, wait_until_free};
use crate::raw_process;

/// A daemon is ready within this time, or whoever waits for it goes on without. It takes some 30 ms; a machine on which hundreds
/// of clients start at once may need seconds.
pub const START_LIMIT: Duration = Duration::from_secs(15);

/// Whoever needs a daemon has one within this time, also when others start and stop it.
const REACH_LIMIT: Duration = Duration::from_secs(30);

/// How often one client starts a daemon: one that goes at once is not started forever.
const MOST_STARTS: u32 = 3;

/// The only variables of the caller that reach a daemon: requests bring their own. Of the rest, it needs to know where sockets
/// and temporary files go, which user it is for programs that it asks (git), and how much to log.
const KEPT: [&str; 7] = [
    "HOME",
    "USER",
    "PATH",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "HEPH_LOG",
    "RUST_BACKTRACE",
];

/// A daemon could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its place cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The system refuses.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What it says.
        source: io::Error,
    },
    /// It began and gave up.
    #[error("{message}")]
    Refused {
        /// Why, in its words.
        message: String,
        /// What to do about it; may be empty.
        hint: String,
    },
    /// It ended without a word.
    #[error("it ended before it was ready")]
    Ended {
        /// Where it may have said why.
        log: PathBuf,
    },
    /// It takes too long, or somebody else's does.
    #[error("it was not ready within {}", heph_common::duration::Shown(START_LIMIT))]
    Late {
        /// Where it says what it does.
        log: PathBuf,
    },
}

impl StartError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Endpoint(error) => error.hint(),
            Self::Refused { hint, .. } => hint.clone(),
            Self::Ended { log } | Self::Late { log } => format!("see {}", log.display()),
            Self::Io { .. } => String::new(),
        }
    }
}

/// There is no connection to a daemon, and none could be started.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// Somebody is there.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Nobody is.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Each goes before it can be used.
    #[error("it goes as soon as it is started")]
    Unstable {
        /// Where it says why.
        log: PathBuf,
    },
}

/// The daemon that is there and takes requests, if there is one.
async fn look(endpoint: &Endpoint) -> Result<Option<Link>, ConnectError> {
    match connect(endpoint).await {
        Ok(link) => Ok(Some(link)),
        Err(ConnectError::Absent | ConnectError::GoingAway) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a daemon has to know before it can do anything.
#[derive(Debug, Serialize, Deserialize)]
pub struct Handover {
    /// The home, absolute.
    pub home: PathBuf,
    /// Configuration of whoever starts it: settings of the home are taken from it.
    pub config: Config,
}

/// What a daemon answers when it is ready or has given up.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub ready: bool,
    pub message: String,
    pub hint: String,
}

/// What is needed to start a daemon.
#[derive(Clone, Debug)]
pub struct Starter {
    /// This program.
    pub program: PathBuf,
    /// Where the daemon will be.
    pub endpoint: Endpoint,
    /// Configuration of the caller.
    pub config: Arc<Config>,
    /// Environment of the caller, of which a daemon gets little.
    pub variables: HashMap<String, String>,
}

impl Starter {
    /// A connection to the daemon, started where there is none.
    ///
    /// # Errors
    /// [`ReachError`] when somebody is there who cannot be used, when no daemon gets ready, or when each goes at once.
    pub async fn reach(&self) -> Result<Link, ReachError> {
        let deadline = Instant::now() + REACH_LIMIT;
        let mut starts = 0;
        while starts < MOST_STARTS && Instant::now() < deadline {
            if let Some(link) = look(&self.endpoint).await? {
                return Ok(link);
            }
            // Waiting is done on a thread of its own, so that signals are heard meanwhile.
            let Some(lock) = self.apart(Self::claim).await? else {
                continue;
            };
            // Somebody may have started it since the first look.
            if let Some(link) = look(&self.endpoint).await? {
                return Ok(link);
            }
            starts += 1;
            match self.apart(|starter| starter.launch(lock)).await {
                // It was killed, perhaps: the next one need not be.
                Err(ReachError::Start(StartError::Ended { .. })) if starts < MOST_STARTS => {}
                launched => launched?,
            }
        }
        look(&self.endpoint).await?.ok_or_else(|| ReachError::Unstable {
            log: self.endpoint.log_file(),
        })
    }

    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StartError> + Send + 'static,
    ) -> Result<T, ReachError> {
        let starter = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&starter)).await;
        let failed = |error: tokio::task::JoinError| StartError::Io {
            action: "wait for the daemon",
            source: error.into(),
        };
        Ok(done.map_err(failed)??)
    }

    /// The right to start it; `None` after somebody else had it, whose start is over now.
    fn claim(&self) -> Result<Option<Lock>, StartError> {
        self.endpoint.create()?;
        let file = self.endpoint.start_file();
        let failed = |source| StartError::Io {
            action: "lock the start of the daemon",
            source,
        };
        if let Some(lock) = Lock::try_take(&file).map_err(failed)? {
            return Ok(Some(lock));
        }
        match wait_until_free(&file, START_LIMIT).map_err(failed)? {
            true => Ok(None),
            false => Err(self.late()),
        }
    }

    fn launch(&self, lock: Lock) -> Result<(), StartError> {
        let failed = |action| move |source| StartError::Io { action, source };
        let (ours, theirs) = UnixStream::pair().map_err(failed("make a pair of sockets"))?;
        let mut command = Command::new(&self.program);
        command
            .arg0("heph")
            .args(["daemon", "run", "--background"])
            .env_clear()
            .envs(self.variables())
            .env("HEPH_HOME", self.endpoint.home())
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(lock.into_file()))
            .stderr(Stdio::null());
        raw_process::own_session(&mut command);
        let child = command.spawn().map_err(failed("run heph daemon run"))?;
        // The command has copies of what the daemon holds now.
        drop(command);
        let answer = self.converse(ours);
        if answer.is_err() {
            // It is about to end, or hangs: in either case it is the system's, not ours, once this process is gone.
            drop(child);
        }
        answer
    }

    fn converse(&self, mut socket: UnixStream) -> Result<(), StartError> {
        let failed = |source| StartError::Io {
            action: "speak with the daemon that was started",
            source,
        };
        socket.set_read_timeout(Some(START_LIMIT)).map_err(failed)?;
        socket.set_write_timeout(Some(START_LIMIT)).map_err(failed)?;
        let handover = Handover {
            home: self.endpoint.home().to_owned(),
            config: Config::clone(&self.config),
        };
        let bytes = serde_json::to_vec(&handover).map_err(|error| failed(error.into()))?;
        let mut text = Vec::new();
        let spoken = socket
            .write_all(&bytes)
            .and_then(|()| socket.shutdown(Shutdown::Write))
            .and_then(|()| socket.read_to_end(&mut text));
        match spoken {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(self.late()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => return Err(failed(error)),
        }
        match serde_json::from_slice::<Answer>(&text) {
            Ok(answer) if answer.ready => Ok(()),
            Ok(Answer { message, hint, .. }) => Err(StartError::Refused { message, hint }),
            Err(_) => Err(StartError::Ended {
                log: self.endpoint.log_file(),
            }),
        }
    }

    fn variables(&self) -> impl Iterator<Item = (&String, &String)> {
        self.variables
            .iter()
            .filter(|(name, _)| KEPT.contains(&name.as_str()))
    }

    fn late(&self) -> StartError {
        StartError::Late {
            log: self.endpoint.log_file(),
        }
    }
}
