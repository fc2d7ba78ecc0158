//! What the libraries log, for who asks with `-v` or HEPH_LOG.

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
    let filter = match text.parse::<LevelFilter>() {
        Ok(level) => EnvFilter::new(of_heph(level)),
        Err(_) => EnvFilter::try_new(text).map_err(|error| {
            CommandError::usage(format!("failed to read HEPH_LOG '{text}': {error}"))
                .hint("a level: error, warn, info, debug, trace; or filters: heph_engine=debug,warn")
        })?,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(context.terminal.cursor && context.variable("NO_COLOR").is_none())
        .finish();
    // Only a second subscriber is refused, and there is one call.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
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
