//! `heph cache …`

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use heph_cache::remote::signing;
use heph_common::Exit;
use heph_proto::maintain_request::What;
use heph_proto::{StoreClear, StoreCollect, StoreFlush, StoreStatistics};
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::service;
use crate::views;
use crate::words;
use crate::workspace::Workspace;

mod purge;

/// Looks after the local store and what it sends to remote caches.
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
    /// Waits until results are uploaded to the remote caches.
    Flush {
        /// Longest wait, such as 30s; uploads.drainTimeout when it is not given.
        #[arg(long, value_name = "TIME", value_parser = heph_common::duration::parse)]
        timeout: Option<Duration>,
    },
    Purge(purge::PurgeArgs),
    /// Makes a pair of keys to sign manifests with: the private one goes into FILE, the public one is printed.
    Keygen {
        /// A file that does not exist yet.
        #[arg(value_name = "FILE")]
        file: PathBuf,
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
        Action::Flush { timeout } => return flush(context, &workspace, timeout),
        Action::Purge(args) => return purge::run(context, &workspace, &args),
        Action::Keygen { file } => keygen(context, &file)?,
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

fn flush(context: &Context, workspace: &Workspace, timeout: Option<Duration>) -> Result<Exit> {
    let message = workspace.message.clone();
    let wanted = StoreFlush {
        timeout_ms: timeout.map_or(0, |timeout| {
            u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1)
        }),
        root: message.root,
        environment: message.environment,
    };
    let document = service::maintain(context, workspace, What::Flush(wanted))?;
    context.show(&document, flushed)?;
    match document["left"].as_u64() {
        Some(0) => Ok(Exit::Success),
        _ => Ok(Exit::Failure),
    }
}

fn flushed(document: &Value) -> String {
    let number = |key: &str| views::number_of(&document[key]);
    let mut text = match number("left") {
        0 => "everything is uploaded\n".to_owned(),
        left => format!("{} left to be uploaded\n", words::counted(left, "result")),
    };
    for resting in document["resting"].as_array().into_iter().flatten() {
        let name = resting["cache"].as_str().unwrap_or_default();
        let cause = resting["cause"].as_str().unwrap_or_default();
        let hint = resting["hint"].as_str().unwrap_or_default();
        text.push_str(&format!(
            "cache '{name}' does not take anything at the moment: {cause}\nhint: {hint}\n"
        ));
    }
    match number("unknown") {
        0 => {}
        count => text.push_str(&format!(
            "{} for caches of other configurations\n",
            words::counted(count, "result")
        )),
    }
    text
}

fn keygen(context: &Context, file: &Path) -> Result<()> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        CommandError::failure(format!("failed to {what} {}: {error}", file.display()))
    };
    let path = context.directory()?.join(file);
    let (private, public) = signing::generate().map_err(|error| failed("make a key for", &error))?;
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut made = options
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|error| {
            failed("make", &error).hint("name a file that does not exist yet, in a directory that does")
        })?;
    made.write_all(private.as_bytes())
        .map_err(|error| failed("write", &error))?;
    let document = json!({"version": 1, "file": path.to_string_lossy(), "public_key": public});
    context.show(&document, |_| format!("{public}\n"))
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
