//! `heph`, the command line: it parses what was typed, asks the service, runs what the service decides, and is the
//! only part of heph that turns what happened into words.

#![deny(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

mod buildfmt;
mod cli;
mod commands;
mod connector;
mod context;
mod error;
mod home;
mod liveness;
mod local;
mod logging;
mod pin;
mod raw_allocator;
pub mod reference;
mod render;
mod run;
mod selection;
mod service;
mod signals;
mod terminal;
mod views;
mod watch;
mod words;
mod workspace;

/// The program: parses the command line, runs the command, says what went wrong, and gives the exit code.
pub fn main() -> ExitCode {
    raw_allocator::configure();
    local::serve_if_asked();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Whoever reads the help through a pipe that closes has read enough.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let context = context::Context::new(cli.global);
    let started = match &cli.command {
        // It has a log of its own.
        cli::Command::Daemon(args) if args.is_run() => Ok(()),
        _ => logging::start(&context),
    };
    match started.and_then(|()| commands::dispatch(&context, cli.command)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprint!("{}", error.text(context.terminal.err));
            error.exit.into()
        }
    }
}
