//! What heph promises to those who run it, shown with the real program. `tests/README.md` lists which test shows which promise.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails"
)]

mod backends;
mod backends_build;
mod backends_faults;
mod build_files;
mod checkout;
mod codegen;
mod commands;
mod daemon;
mod daemon_life;
mod daemon_memory;
mod daemon_silence;
mod documentation;
mod drivers;
mod file_systems;
mod hello;
mod history;
mod host_tools;
mod hostile;
mod incremental;
mod interrupt;
mod lua;
mod messages;
mod query;
mod remote;
mod remote_backfill;
mod remote_kills;
mod remote_leftovers;
mod remote_purge;
mod remote_queue;
mod remote_scopes;
mod remote_several;
mod reporting;
mod running;
mod sandbox;
mod selectors;
mod service;
mod settings;
mod target_keys;
