//! What a run shows while it goes on and when it ends.
//!
//! The run loop tells every [`Observer`] what happens; each shows or keeps it in its own way: a live region on a
//! terminal, plain lines elsewhere, JSON lines, a report, a profile.

use std::time::Duration;

use heph_proto::{Finished, Notice, Outputs, Planned, TargetDone, WouldRun};

pub mod failure;
pub mod json;
pub mod live;
pub mod plain;
pub mod screen;
pub mod summary;

pub use failure::Failures;
pub use json::Json;
pub use live::Live;
pub use plain::Plain;

/// Something that happened during a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run began, for this selector.
    Begin(&'a str),
    /// The graph is known.
    Planned(&'a Planned),
    /// A command was started.
    Started(&'a str),
    /// Somebody else works on this target: address, process or 0.
    Waiting(&'a str, u32),
    /// A target has ended.
    Target(&'a TargetDone),
    /// So many targets were up to date.
    UpToDate(u64),
    /// Something to know once.
    Notice(&'a Notice),
    /// What a run would do.
    WouldRun(&'a WouldRun),
    /// Outputs of a target, as they are listed.
    Outputs(&'a Outputs),
    /// Files of the source tree were written: address, how many.
    Wrote(&'a str, u32),
    /// A person asked to stop.
    Cancelling,
    /// The terminal belongs to somebody else until `Resumed`.
    Suspended,
    /// The terminal is ours again.
    Resumed,
    /// The last event.
    Finished(&'a Finished),
}

/// Shows or keeps what happens.
pub trait Observer {
    /// Something happened, so long after the run began.
    fn see(&mut self, at: Duration, event: &Event<'_>);
    /// Time has passed; called a few times a second while commands run.
    fn tick(&mut self, _at: Duration) {}
}
