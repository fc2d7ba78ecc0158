//! What the libraries log, for who asks with `-v` or HEPH_LOG.

use std::io::{self, Write};
use std::sync::Mutex;

use heph_daemon::Log;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::context::Context;
use crate::error::{CommandError, Result};

/// Shows logs on standard error from now on, where they are asked for.
///
/// HEPH_LOG takes a level (`debug`) or filters (`heph_engine=trace,warn`); it goes before `-v`.
pub fn start(context: &Context) -> Result<()> {
    let text = match (context.variable("HEPH_LOG"), context.global.verbose) {
        (Some(text), _) => text,
        (None, 0) => return Ok(()),
        (None, 1) => "info",
        (None, 2) => "debug",
        (None, _) => "trace",
    };
    let filter = filter(text)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(context.terminal.cursor && context.variable("NO_COLOR").is_none())
        .finish();
    // Only a second subscriber is refused, and there is one call.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// A daemon's log: to its file and, where there is somebody to read it, to standard error.
pub fn to_daemon_log(context: &Context, log: Log, is_watched: bool) -> Result<()> {
    let filter = filter(context.variable("HEPH_LOG").unwrap_or("info"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Mutex::new(Tee { log, is_watched }))
        .with_ansi(false)
        .with_target(false)
        .finish();
    // Only a second subscriber is refused, and there is one call.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}

/// Writes to a log and, when it is watched, to standard error.
struct Tee {
    log: Log,
    is_watched: bool,
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_watched {
            // A terminal that is gone must not end the log.
            let _ = io::stderr().write_all(bytes);
        }
        self.log.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.log.flush()
    }
}

fn filter(text: &str) -> Result<EnvFilter> {
    match text.parse::<LevelFilter>() {
        Ok(level) => Ok(EnvFilter::new(of_heph(level))),
        Err(_) => EnvFilter::try_new(text).map_err(|error| {
            CommandError::usage(format!("failed to read HEPH_LOG '{text}': {error}"))
                .hint("a level: error, warn, info, debug, trace; or filters: heph_engine=debug,warn")
        }),
    }
}

/// This level for heph itself; of what it is built from, only warnings.
fn of_heph(level: LevelFilter) -> String {
    let own = [
        "heph_client",
        "heph_daemon",
        "heph_engine",
        "heph_cache",
        "heph_common",
    ];
    let own: String = own.iter().map(|name| format!(",{name}={level}")).collect();
    format!("{}{own}", level.min(LevelFilter::WARN))
}
