//! Hosts coordinator and graph behind the gRPC service of `heph-proto`.
//!
//! Client and daemon speak one protocol, wherever the daemon lives: [`in_process`] serves it in the client's own
//! process over an in-memory channel.

#![deny(unsafe_code)]

pub mod in_process;
pub mod service;
pub mod watch;

pub use in_process::{InProcess, in_process};
pub use service::Service;
