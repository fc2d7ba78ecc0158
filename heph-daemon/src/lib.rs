//! Hosts coordinator and graph behind the gRPC service of `heph-proto`.
//!
//! Client and daemon speak one protocol, wherever the daemon lives: [`in_process`] serves it in the client's own
//! process over an in-memory channel, a [`Daemon`] on a socket that [`connect()`] finds by its [`Endpoint`] and that a
//! [`Starter`] starts.

#![deny(unsafe_code)]

pub mod activity;
pub mod background;
pub mod connect;
pub mod daemon;
pub mod endpoint;
pub mod in_process;
pub mod lifecycle;
pub mod lock;
pub mod log;
mod memory;
pub mod peer;
#[expect(
    unsafe_code,
    reason = "a session before exec, and descriptors that come with a process"
)]
mod raw_process;
pub mod retire;
pub mod server;
pub mod service;
pub mod start;
mod status;
pub mod systemd;
pub mod watch;
mod working;

pub use activity::{Activity, Wish};
pub use connect::{ConnectError, Link, connect};
pub use daemon::{Daemon, DaemonError, Options};
pub use endpoint::{Endpoint, EndpointError, Places};
pub use in_process::{InProcess, in_process};
pub use lifecycle::Reason;
pub use log::Log;
pub use service::Service;
pub use start::{Handover, ReachError, StartError, Starter};
pub use working::Seen;
