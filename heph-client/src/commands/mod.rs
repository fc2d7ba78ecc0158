//! One command, one file.

use heph_common::Exit;

use crate::cli::Command;
use crate::context::Context;
use crate::error::Result;

pub mod build_fmt;
pub mod cache;
pub mod clean;
pub mod complete;
pub mod completions;
pub mod daemon;
pub mod gen_gitignore;
pub mod init;
pub mod inspect;
pub mod query;
pub mod run;
pub mod stats;
pub mod status;
pub mod tool;
pub mod validate;
pub mod version;
pub mod why_miss;

/// Runs a command.
pub fn dispatch(context: &Context, command: Command) -> Result<Exit> {
    match command {
        Command::Run(args) => run::run(context, *args),
        Command::Query(args) => query::run(context, &args),
        Command::Inspect(args) => inspect::run(context, args),
        Command::Validate(args) => validate::run(context, &args),
        Command::WhyMiss(args) => why_miss::run(context, &args),
        Command::Init(args) => init::run(context, &args),
        Command::Daemon(args) => daemon::run(context, &args),
        Command::Stats(args) => stats::run(context, &args),
        Command::Status(args) => status::run(context, &args),
        Command::Cache(args) => cache::run(context, args),
        Command::Tool(args) => tool::run(context, args),
        Command::Version(args) => version::run(context, &args),
        Command::Complete(args) => complete::run(context, args),
    }
}
