//! `heph tool …`

use clap::Subcommand;
use heph_common::Exit;

use super::{build_fmt, cache, clean, completions, gen_gitignore};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::service;
use crate::views;
use crate::workspace::Workspace;

/// Helps around the workspace.
#[derive(clap::Args, Debug)]
pub struct ToolArgs {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Subcommand, Debug)]
enum Tool {
    BuildFmt(build_fmt::BuildFmtArgs),
    GenGitignore(gen_gitignore::GenGitignoreArgs),
    Clean(clean::CleanArgs),
    /// Removes what has not been used for longest from the store, down to the size limit; as `heph cache gc`.
    Gc,
    Completions(completions::CompletionsArgs),
    /// Looks into the store and at the remote caches.
    #[command(subcommand, subcommand_required = true, arg_required_else_help = true)]
    Cache(CacheTool),
}

#[derive(Subcommand, Debug)]
enum CacheTool {
    /// Shows where a result came from, and what it is made of.
    Inspect {
        /// The key: 64 hex digits, as `heph inspect hashin` shows it.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Measures how long each remote cache takes to answer, and remembers the order in which they are read.
    MeasureLatency,
}

pub(super) fn run(context: &Context, args: ToolArgs) -> Result<Exit> {
    match args.tool {
        Tool::BuildFmt(args) => build_fmt::run(context, &args),
        Tool::GenGitignore(args) => gen_gitignore::run(context, &args),
        Tool::Clean(args) => clean::run(context, &args),
        Tool::Gc => cache::collect(context),
        Tool::Completions(args) => completions::run(context, &args),
        Tool::Cache(CacheTool::Inspect { key }) => inspect(context, &key),
        Tool::Cache(CacheTool::MeasureLatency) => measure_latency(context),
    }
}

fn measure_latency(context: &Context) -> Result<Exit> {
    let workspace = Workspace::open_or_home(context)?;
    let what = heph_proto::maintain_request::What::MeasureLatency(heph_proto::MeasureLatency {
        root: workspace.message.root.clone(),
        environment: workspace.message.environment.clone(),
    });
    let document = service::maintain(context, &workspace, what)?;
    context.show(&document, views::latency)?;
    Ok(Exit::Success)
}

fn inspect(context: &Context, key: &str) -> Result<Exit> {
    if key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(
            CommandError::usage(format!("'{key}' is not a key: expected 64 hex digits"))
                .hint("heph inspect hashin ADDRESS shows the key of a target"),
        );
    }
    let workspace = Workspace::open_or_home(context)?;
    let what = heph_proto::maintain_request::What::Inspect(heph_proto::StoreInspect {
        key: key.to_lowercase(),
        root: workspace.message.root.clone(),
        environment: workspace.message.environment.clone(),
    });
    let document = service::maintain(context, &workspace, what)?;
    context.show(&document, |document| {
        views::result(document, context.terminal.out)
    })?;
    Ok(Exit::Success)
}
