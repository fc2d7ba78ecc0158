//! Ctrl-C and its like.

use std::io::{IsTerminal as _, Write as _};

use heph_common::Exit;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a run to stop.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    asked: bool,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            asked: false,
        })
    }

    /// Whether somebody has asked already, perhaps too late for what was running then.
    pub fn were_asked(&self) -> bool {
        self.asked
    }

    /// Waits for somebody to ask. The second time there is no return: the process leaves at once with code 130.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        if std::mem::replace(&mut self.asked, true) {
            restore_cursor();
            std::process::exit(Exit::Cancelled.code().into());
        }
    }
}

/// Makes the cursor of a terminal visible again, whatever was being drawn.
pub fn restore_cursor() {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        // There is nobody left to tell.
        let _ = err.write_all(b"\x1b[?25h");
    }
}
