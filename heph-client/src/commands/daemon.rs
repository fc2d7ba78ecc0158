//! `heph daemon …`

use std::path::PathBuf;

use clap::Subcommand;
use heph_common::Exit;
use heph_daemon::connect::ConnectError;
use heph_daemon::{Endpoint, Link, Places};
use serde_json::json;

use crate::connector::{Connector, build};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::render::json::VERSION;
use crate::service;
use crate::workspace::Workspace;

mod install;
mod log;
mod run;
pub mod status;
mod stop;

/// Looks after the daemon that serves the runs of a home.
#[derive(clap::Args, Debug)]
pub struct DaemonArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Starts it, unless it runs. (A command that needs it starts it too.)
    Start,
    /// Has it finish its runs, and waits for its end.
    Stop {
        /// Those of other builds of heph too.
        #[arg(long)]
        all: bool,
        /// Cancels its runs.
        #[arg(long)]
        now: bool,
    },
    /// Starts a new one in its place; it finishes the runs it has.
    Restart,
    /// Shows what it is and what it does. Exit code 1 when none runs.
    Status {
        /// Those of other builds of heph too.
        #[arg(long)]
        all: bool,
    },
    /// Is the daemon, and shows what it does, until Ctrl-C.
    Run {
        /// Started by heph itself, which hands over what is needed.
        #[arg(long, hide = true)]
        background: bool,
    },
    /// Shows its log.
    Log {
        /// Goes on with what is added, until Ctrl-C.
        #[arg(short, long)]
        follow: bool,
    },
    /// Has systemd (or launchd) start it when it is needed. Again after heph was updated.
    Install,
    /// Takes that back.
    Uninstall,
}

impl DaemonArgs {
    /// Whether the process becomes a daemon, which has a log of its own.
    pub fn is_run(&self) -> bool {
        matches!(self.action, Action::Run { .. })
    }
}

pub(super) fn run(context: &Context, args: &DaemonArgs) -> Result<Exit> {
    match args.action {
        Action::Run { background: true } => run::in_background(context),
        Action::Run { background: false } => run::in_foreground(context),
        Action::Start => start(context, &Workspace::open_or_home(context)?),
        Action::Stop { all, now } => stop::run(context, &Workspace::open_or_home(context)?, all, now),
        Action::Restart => {
            let workspace = Workspace::open_or_home(context)?;
            stop::send_away(context, &workspace)?;
            start(context, &workspace)
        }
        Action::Status { all } => status::run(context, &Workspace::open_or_home(context)?, all),
        Action::Install => install::install(context, &Workspace::open_or_home(context)?),
        Action::Uninstall => install::uninstall(context, &Workspace::open_or_home(context)?),
        Action::Log { follow } => log::run(context, &Workspace::open_or_home(context)?, follow),
    }
}

fn start(context: &Context, workspace: &Workspace) -> Result<Exit> {
    let runtime = service::runtime()?;
    let link = runtime.block_on(Connector::required().reach(context, workspace))?;
    let document = json!({"version": VERSION, "pid": link.hello.pid, "home": workspace.home});
    context.show(&document, |_| {
        format!(
            "the daemon of {} runs: process {}\n",
            workspace.home.display(),
            link.hello.pid
        )
    })?;
    Ok(Exit::Success)
}

/// Where the socket may lie.
fn places(context: &Context) -> Places {
    Places {
        runtime: context.variable("XDG_RUNTIME_DIR").map(PathBuf::from),
        temporary: std::env::temp_dir(),
    }
}

/// The daemon of this build of heph, and with `all` those of others; only those that are there.
///
/// # Errors
/// When that of this build is there and cannot be reached. Of others, a warning says so.
async fn found(context: &Context, workspace: &Workspace, all: bool) -> Result<Vec<(Endpoint, Link)>> {
    let own = Endpoint::new(&workspace.home, &build().name);
    let mut places = vec![own.clone()];
    if all {
        places.extend(own.others());
    }
    let mut found = Vec::new();
    for place in places {
        match heph_daemon::connect(&place).await {
            Ok(link) => found.push((place, link)),
            Err(ConnectError::Absent | ConnectError::GoingAway) => {}
            Err(error) if place == own => {
                return Err(
                    CommandError::fault(format!("failed to reach the daemon: {error}"))
                        .hint(crate::connector::hint(&error)),
                );
            }
            Err(error) => {
                let message = format!("the daemon of heph {} cannot be reached: {error}", place.build());
                context.warn(&message, &crate::connector::hint(&error));
            }
        }
    }
    Ok(found)
}
