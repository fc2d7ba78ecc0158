//! `heph cache …`

use std::io::{BufRead as _, IsTerminal as _};

use clap::Subcommand;
use heph_common::Exit;
use heph_proto::maintain_request::What;
use heph_proto::{StoreClear, StoreCollect, StoreStatistics};
use serde_json::Value;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::service;
use crate::views;
use crate::words;
use crate::workspace::Workspace;

/// Looks after the local store.
#[derive(clap::Args, Debug)]
pub struct CacheArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Shows what the store holds and how much room it takes.
    Stats,
    /// Removes what has not been used for longest, down to the size limit.
    Gc,
    /// Removes every result. What runs at the moment keeps what it uses.
    Clear {
        /// Does not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

pub(super) fn run(context: &Context, args: CacheArgs) -> Result<Exit> {
    let workspace = Workspace::open_or_home(context)?;
    let ask = |what| service::maintain(context, &workspace, what);
    let style = context.terminal.out;
    match args.action {
        Action::Stats => {
            context.show(&ask(What::Statistics(StoreStatistics {}))?, |d| {
                views::statistics(d, style)
            })?;
        }
        Action::Gc => return collect(context),
        Action::Clear { yes } => {
            confirm(
                yes,
                &format!("remove every result in {}", workspace.home.display()),
            )?;
            context.show(&ask(What::Clear(StoreClear {}))?, removed)?;
        }
    }
    Ok(Exit::Success)
}

/// Trims the store to its size limit; also `heph tool gc`.
pub(super) fn collect(context: &Context) -> Result<Exit> {
    let workspace = Workspace::open_or_home(context)?;
    let document = service::maintain(context, &workspace, What::Collect(StoreCollect {}))?;
    context.show(&document, removed)?;
    Ok(Exit::Success)
}

fn confirm(yes: bool, what: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CommandError::usage(format!(
            "failed to ask whether to {what}: standard input is no terminal"
        ))
        .hint("--yes does not ask"));
    }
    eprint!("{what}? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _ => Err(CommandError::failure("nothing was removed")),
    }
}

fn removed(document: &Value) -> String {
    let number = |key: &str| views::number_of(&document[key]);
    format!(
        "removed {} and {}, {} in all; {} left\n",
        words::counted(number("removed_results"), "result"),
        words::counted(number("removed_blobs"), "blob"),
        words::size(number("freed_bytes")),
        words::size(number("kept_bytes")),
    )
}
