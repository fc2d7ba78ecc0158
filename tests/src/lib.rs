//! Support for the end-to-end tests: an environment of its own for each test, the real program started in it, and what came of it.
//!
//! An [`Environment`] has its own home, workspace, `HOME`, temporary directory and `PATH`, and passes nothing else on.
//! A [`Command`] is one call of `heph`; it runs below a reaper that adopts whatever outlives it, and a test whose call leaves a
//! process behind fails. A [`Run`] is its result. `HEPH_TEST_BINARY` names another program to test than the one that was built
//! with the tests.

#![deny(unsafe_code)]
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "this crate is only ever a part of tests, where a panic is how a check fails"
)]

mod command;
mod environment;
mod events;
pub mod faults;
mod machine;
mod process;
mod redact;
mod run;
pub mod servers;
mod terminal;

pub use command::{Command, heph_program};
pub use environment::{CONFIG, Environment, Mode, files_below, repository};
pub use events::{Build, Event};
pub use machine::{needs, program, strict_available};
pub use process::{Running, wait_until};
pub use redact::Redactor;
pub use run::Run;
pub use terminal::Terminal;
