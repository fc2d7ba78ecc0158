//! The program `heph`, as far as it needs no target to run: usage, workspaces, configuration, homes, formatting.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod build_fmt;
mod completions;
mod config;
mod home;
mod init;
mod pin;
mod run;
mod surroundings;
mod usage;
