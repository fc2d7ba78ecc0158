//! The half of the engine that the client runs: it makes sandboxes, runs commands in them, and collects what they leave.
//!
//! It knows nothing of graphs, keys or the store: a [`Plan`](heph_proto::Plan) says what to do, a
//! [`Report`](heph_proto::Report) what came of it.
//!
//! Invariants: no process that a command started is left when its report is given, nor when this process dies in any
//! way; nothing of this process's environment reaches a command; an input that is not what the plan says is never used.

mod base;
mod beneath;
mod collect;
mod command;
mod content;
mod control;
mod environment;
mod fetch;
mod hint;
mod jobserver;
mod log;
mod options;
mod place;
mod places;
mod protocol;
mod relative;
mod run;
mod shell;
mod stage;
mod stop;
#[cfg(target_os = "linux")]
mod supervisor;
#[cfg(not(target_os = "linux"))]
#[path = "executor/group.rs"]
mod supervisor;
mod tree;
mod umask;
mod unique;
mod worker;

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use heph_common::digest::Digest;

pub use control::{Cancel, Control};
pub use options::{ExecutorOptions, Proxies};
pub use run::{Executor, Probe};
pub use shell::Terminal;
pub use supervisor::supervise;
pub use tree::{Record, RecordError};

/// Time between SIGTERM and SIGKILL when a command is cancelled or takes too long.
pub const GRACE: Duration = Duration::from_secs(2);

fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

fn digest_bytes(digest: Digest) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(digest.as_bytes())
}
