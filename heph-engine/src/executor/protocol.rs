//! What is asked of a supervisor, and how commands end. The same on every system.

#![cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only Linux has a supervisor in a process of its own")
)]

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Where the sandbox is inside of strict mode, whatever its place outside.
pub(super) const INSIDE: &str = "/heph";

/// Where the programs of the base set are in strict mode.
pub(super) const INSIDE_BASE: &str = "/heph-base";

/// To a spawner, over one worker's socket.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Run this; the attached descriptors are the output (or the terminal) and those that are kept as 3, 4, …
    Spawn(Box<Spawn>),
    /// SIGTERM to the whole tree.
    Terminate,
    /// SIGKILL to the whole tree.
    Kill,
}

/// One command.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Spawn {
    /// Path of the program as the command sees it.
    pub(super) program: Vec<u8>,
    pub(super) argv: Vec<Vec<u8>>,
    /// `NAME=value`.
    pub(super) environment: Vec<Vec<u8>>,
    /// Working directory as the command sees it.
    pub(super) directory: Vec<u8>,
    /// Whether the first descriptor is a terminal that becomes the controlling one, and standard input too.
    pub(super) terminal: bool,
    /// Set in strict mode.
    pub(super) isolation: Option<Isolation>,
}

/// What a command in strict mode sees.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Isolation {
    /// Directory that becomes [`INSIDE`].
    pub(super) top: Vec<u8>,
    /// Files that are shown read-only: where they are, and their absolute path inside.
    pub(super) read_only: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) network: bool,
    pub(super) view: View,
}

/// What is the same for many commands: kept ready as one mount namespace that each command gets a copy of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct View {
    /// Paths shown read-only besides the system directories.
    pub(super) visible: Vec<Vec<u8>>,
    /// Directories that are hidden where a system directory would show them.
    pub(super) masked: Vec<Vec<u8>>,
    /// Directory of links to the programs of the base set.
    pub(super) base: Vec<u8>,
    /// Whether the machine's name resolution is needed.
    pub(super) network: bool,
}

/// How a command ended, as its keeper reports it: fixed in size, so that it can be written without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) how: How,
    pub(super) wall_us: u64,
    pub(super) cpu_us: u64,
    pub(super) memory_bytes: u64,
}

/// The ways to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// Before it began: the step, and why.
    NotStarted(Step, Errno),
    /// It was killed by request, or its keeper was killed.
    Lost,
}

macro_rules! steps {
    ($($name:ident = $number:literal $text:literal,)*) => {
        /// A step of starting a command that may fail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub(super) enum Step { $($name = $number,)* }

        impl Step {
            pub(super) fn from_number(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// What was tried, fits after "failed to".
            pub(super) fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

steps! {
    Request = 1 "read the request",
    Process = 2 "create a process",
    Namespaces = 3 "create process and IPC namespaces",
    Command = 4 "create the command's process and user namespace",
    Users = 5 "map user and group",
    Show = 6 "open a path that is to be shown",
    Copy = 7 "copy the mount namespace",
    Top = 8 "mount the sandbox directory",
    Proc = 9 "mount /proc",
    Memory = 10 "mount /dev/shm",
    Terminals = 11 "mount /dev/pts",
    Temporary = 12 "mount /tmp",
    ReadOnly = 13 "mount a read-only input",
    Network = 14 "enter the network namespace",
    Descriptors = 15 "arrange the descriptors",
    Terminal = 16 "take the terminal",
    Privileges = 17 "give up the way to privileges",
    Directory = 18 "enter the working directory",
    Execute = 19 "execute the program",
    View = 20 "prepare the file system of strict mode",
}

impl Ended {
    /// Nothing but the way it ended is known.
    pub(super) fn bare(how: How) -> Self {
        Self {
            how,
            wall_us: 0,
            cpu_us: 0,
            memory_bytes: 0,
        }
    }
}

/// Why no command can be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum SupervisorError {
    /// It ended, or was killed.
    #[error("the supervisor of commands was killed")]
    Gone,
    /// The binary could not be executed.
    #[error("failed to start the supervisor of commands ({program}): {source}")]
    Start { program: String, source: std::io::Error },
    /// A socket failed.
    #[error("failed to talk to the supervisor of commands: {0}")]
    Socket(Errno),
    /// Strict mode does not work on this machine.
    #[error("{0}")]
    NotStrict(String),
    /// The executor was shut down.
    #[error("the executor was shut down")]
    ShutDown,
}

/// What a worker hears while its command runs.
pub(super) enum Heard {
    /// The command has ended; with what there is to say about it, mostly nothing.
    Ended(Ended, String),
    /// The watched descriptor of this number can be read, or its other end is gone.
    Ready(usize),
    /// Nothing, for the given time.
    Nothing,
}
