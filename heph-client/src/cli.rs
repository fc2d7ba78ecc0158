//! The command line: one tree of commands, with the options that all of them take.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

use crate::commands;
use crate::terminal::ColorChoice;

/// heph builds targets and remembers every result.
#[derive(Parser, Debug)]
#[command(
    name = "heph",
    bin_name = "heph",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_required = true,
    propagate_version = false,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 a target failed or nothing matched, 2 wrong usage or configuration,\n\
                  3 heph itself failed, 130 cancelled."
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Works as if heph had been started in DIR.
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true, value_hint = clap::ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
    /// Says more; twice, even more.
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Says only what failed.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Prints JSON (docs/json.md).
    #[arg(long, global = true)]
    pub json: bool,
    /// Prints plain lines, also on a terminal.
    #[arg(long, global = true)]
    pub no_tui: bool,
    /// When to use colours.
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        default_value = "auto",
        hide_possible_values = false
    )]
    pub color: ColorChoice,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    #[command(visible_alias = "r")]
    Run(Box<commands::run::RunArgs>),
    #[command(visible_alias = "q")]
    Query(commands::query::QueryArgs),
    #[command(
        visible_alias = "i",
        subcommand_required = true,
        arg_required_else_help = true
    )]
    Inspect(commands::inspect::InspectArgs),
    #[command(visible_alias = "v")]
    Validate(commands::validate::ValidateArgs),
    WhyMiss(commands::why_miss::WhyMissArgs),
    Init(commands::init::InitArgs),
    Status(commands::status::StatusArgs),
    Stats(commands::stats::StatsArgs),
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Daemon(commands::daemon::DaemonArgs),
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Cache(commands::cache::CacheArgs),
    #[command(subcommand_required = true, arg_required_else_help = true)]
    Tool(commands::tool::ToolArgs),
    Version(commands::version::VersionArgs),
    #[command(name = "__complete", hide = true)]
    Complete(commands::complete::CompleteArgs),
}

/// The command line as clap knows it.
pub fn command() -> clap::Command {
    use clap::CommandFactory as _;
    Cli::command()
}
