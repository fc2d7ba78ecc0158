//! What a command can rely on, and what can be relied on of a command: spec "Sandbox", through the public API.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

mod environment;
mod fetch;
mod isolation;
mod outputs;
mod processes;
mod shell;
mod staging;
mod tree;
