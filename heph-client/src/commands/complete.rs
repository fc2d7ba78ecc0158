//! `heph __complete`, which the completion scripts call.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap_complete::CompletionCandidate;
use heph_common::Exit;
use heph_proto::InspectComplete;
use heph_proto::inspect_request::What;

use crate::cli::{self, Global};
use crate::connector::Connector;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::service;
use crate::views::{list_of, text_of};
use crate::workspace::Workspace;

/// Completes a command line: one candidate a line, a tab, what it is.
#[derive(clap::Args, Debug)]
pub struct CompleteArgs {
    /// The word to complete, counted from 0.
    index: usize,
    /// All words, the program's name first.
    #[arg(last = true)]
    words: Vec<OsString>,
}

pub(super) fn run(context: &Context, args: CompleteArgs) -> Result<Exit> {
    if let Some(directory) = directory_of(&args.words) {
        // Addresses are completed where the command would run; a directory that is not there has none.
        let _ = std::env::set_current_dir(directory);
    }
    let dashed = args
        .words
        .get(args.index)
        .is_some_and(|word| word.as_encoded_bytes().starts_with(b"-"));
    let mut command = cli::command();
    let candidates = clap_complete::engine::complete(&mut command, args.words, args.index, None)
        .map_err(|error| CommandError::fault(format!("failed to complete: {error}")))?;
    let mut text = String::new();
    // Options only clutter what can be named, until somebody begins one.
    let wanted = |candidate: &CompletionCandidate| {
        dashed || !candidate.get_value().as_encoded_bytes().starts_with(b"-")
    };
    for candidate in candidates.into_iter().filter(wanted) {
        text.push_str(&candidate.get_value().to_string_lossy());
        if let Some(help) = candidate.get_help() {
            let help = help.to_string();
            text.push('\t');
            text.push_str(help.lines().next().unwrap_or_default());
        }
        text.push('\n');
    }
    context.print(&text)?;
    Ok(Exit::Success)
}

/// What `-C` names in a command line that is not finished.
fn directory_of(words: &[OsString]) -> Option<PathBuf> {
    let at = words
        .iter()
        .position(|word| word == "-C" || word == "--directory")?;
    words.get(at + 1).map(PathBuf::from)
}

/// Addresses that begin with what was typed. Where there is no workspace, or it is broken, there are none.
pub(crate) fn selectors(typed: &OsStr) -> Vec<CompletionCandidate> {
    let found = || -> Result<Vec<CompletionCandidate>> {
        let context = Context::new(Global {
            quiet: true,
            ..Global::default()
        });
        let workspace = Workspace::open(&context)?;
        let prefix = typed.to_string_lossy().into_owned();
        // Who only presses a key has asked for no daemon.
        let connector = Connector::new(&context)?.without_starting().or_alone();
        let what = What::Complete(InspectComplete { prefix });
        let document = service::inspect_by(connector, &context, &workspace, what)?;
        let candidate = |candidate: &serde_json::Value| {
            let description = candidate["description"]
                .as_str()
                .map(|text| text.to_owned().into());
            CompletionCandidate::new(text_of(&candidate["value"])).help(description)
        };
        Ok(list_of(&document["candidates"]).iter().map(candidate).collect())
    };
    found().unwrap_or_default()
}
