//! `heph daemon run`: this process is the daemon.

use std::path::PathBuf;
use std::sync::Arc;

use heph_common::Exit;
use heph_daemon::background::{self, Readiness};
use heph_daemon::{Activity, Daemon, DaemonError, Endpoint, Handover, Log, Options, Wish};
use tokio::signal::unix::{SignalKind, signal};

use crate::connector::{build, cores};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::logging;
use crate::workspace::Workspace;

/// In a terminal, or below a service manager.
pub(super) fn in_foreground(context: &Context) -> Result<Exit> {
    let (pid, count) = (context.variable("LISTEN_PID"), context.variable("LISTEN_FDS"));
    let listener = heph_daemon::systemd::listener(pid, count)
        .map_err(|error| CommandError::fault(format!("failed to use the socket of LISTEN_FDS: {error}")))?;
    let workspace = Workspace::open_or_home(context)?;
    if workspace.has_temporary_home() {
        return Err(CommandError::fault(
            "failed to be the daemon of a home that cannot be written",
        ));
    }
    let log = open_log(&Endpoint::new(&workspace.home, &build().name))?;
    logging::to_daemon_log(context, log, true)?;
    let options = Options {
        home: workspace.home.clone(),
        config: Arc::clone(&workspace.config),
        listener,
        notify: context.variable("NOTIFY_SOCKET").map(Into::into),
        ..options(context)
    };
    let daemon = Daemon::open(options).map_err(|error| said(&error))?;
    serve(daemon, || {})
}

/// Started by a client, which waits to hear that it is ready.
pub(super) fn in_background(context: &Context) -> Result<Exit> {
    let (handover, readiness) = background::enter().map_err(|_| {
        CommandError::usage("--background is for heph itself, which starts the daemon so")
            .hint("heph daemon run is the daemon in a terminal, heph daemon start has it in the background")
    })?;
    match open_in_background(context, handover) {
        Ok(daemon) => serve(daemon, || readiness.ready()),
        Err(error) => Err(give_up(error, readiness)),
    }
}

fn open_in_background(context: &Context, handover: Handover) -> Result<Daemon> {
    let mut log = open_log(&Endpoint::new(&handover.home, &build().name))?;
    log.take_stderr()
        .map_err(|error| CommandError::fault(format!("failed to write to the log: {error}")))?;
    logging::to_daemon_log(context, log, false)?;
    let options = Options {
        home: handover.home,
        config: Arc::new(handover.config),
        ..options(context)
    };
    Daemon::open(options).map_err(|error| said(&error))
}

fn give_up(error: CommandError, readiness: Readiness) -> CommandError {
    let said = error.problems.first();
    let message = said.map_or("", |said| said.message.as_str());
    let hint = said.and_then(|said| said.hint.as_deref()).unwrap_or_default();
    readiness.failed(message, hint);
    error
}

/// What is the same for every daemon; home and configuration are still to come.
fn options(context: &Context) -> Options {
    crate::raw_allocator::stay_small();
    Options {
        home: PathBuf::new(),
        config: Arc::default(),
        build: build().clone(),
        jobs: cores(),
        places: super::places(context),
        listener: None,
        notify: None,
        keeper: crate::local::keeper(),
        trim: crate::raw_allocator::trim,
    }
}

fn open_log(endpoint: &Endpoint) -> Result<Log> {
    endpoint.create().map_err(|error| {
        CommandError::fault(format!("failed to be the daemon: {error}")).hint(error.hint())
    })?;
    let path = endpoint.log_file();
    Log::open(&path)
        .map_err(|error| CommandError::fault(format!("failed to open the log {}: {error}", path.display())))
}

fn serve(daemon: Daemon, ready: impl FnOnce()) -> Result<Exit> {
    // Runs, and whatever blocks, have threads of their own. With several for connections, each message would wake another one to look
    // for work: a cold build takes a fiftieth less processor time with this one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::fault(format!("failed to start: {error}")))?;
    let activity = Arc::clone(daemon.activity());
    let served = runtime.block_on(async {
        tokio::spawn(async move {
            if let Err(error) = hear_signals(&activity).await {
                tracing::error!("signals cannot be heard: {error}");
            }
        });
        daemon.serve(ready).await
    });
    // What still runs was waited for as long as it was worth it.
    runtime.shutdown_background();
    served.map_err(|error| said(&error))?;
    Ok(Exit::Success)
}

/// The first one has the daemon finish what it has begun, the second cancels that, the third leaves at once.
async fn hear_signals(activity: &Activity) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut wishes = [Wish::Finish as fn(String) -> Wish, Wish::Cancel].into_iter();
    loop {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            _ = hang_up.recv() => "SIGHUP",
        };
        match wishes.next() {
            Some(wish) => activity.ask(wish(name.to_owned())),
            None => std::process::exit(Exit::Cancelled.code().into()),
        }
    }
}

fn said(error: &DaemonError) -> CommandError {
    let said = CommandError::fault(format!("failed to be the daemon: {error}"));
    match error.hint() {
        hint if hint.is_empty() => said,
        hint => said.hint(hint),
    }
}
