//! What a command works with: the options that all take, the terminal, the caller's environment and directory.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use heph_common::Exit;
use serde_json::Value;

use crate::cli::Global;
use crate::error::{CommandError, Result};
use crate::render::plain::Loudness;
use crate::terminal::Terminal;

/// The surroundings of one call of `heph`.
#[derive(Debug, Clone)]
pub struct Context {
    /// Options that every command takes.
    pub global: Global,
    /// What the terminal can do.
    pub terminal: Terminal,
    /// The caller's variables; those that are not UTF-8 are left out.
    pub environment: HashMap<String, String>,
}

impl Context {
    /// Reads the environment and looks at the terminal.
    pub fn new(global: Global) -> Self {
        let environment: HashMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let terminal = Terminal::detect(global.color, |name| environment.get(name).cloned());
        Self {
            global,
            terminal,
            environment,
        }
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The directory that relative paths and selectors start from.
    pub fn directory(&self) -> Result<PathBuf> {
        let current = std::env::current_dir()
            .map_err(|error| CommandError::usage(format!("failed to find the current directory: {error}")))?;
        let directory = match &self.global.directory {
            Some(directory) => current.join(directory),
            None => current,
        };
        directory.canonicalize().map_err(|error| {
            CommandError::usage(format!("failed to enter '{}': {error}", directory.display()))
        })
    }

    /// How much a run says.
    pub fn loudness(&self) -> Loudness {
        match (self.global.quiet, self.global.verbose) {
            (true, _) => Loudness::Quiet,
            (false, 0) => Loudness::Normal,
            (false, _) => Loudness::Verbose,
        }
    }

    /// Writes the result of a command to standard output.
    pub fn print(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    /// Writes a document: as it is with `--json`, else as `words` tells it.
    pub fn show(&self, document: &Value, words: impl FnOnce(&Value) -> String) -> Result<()> {
        match self.global.json {
            true => self.print(&format!("{document}\n")),
            false => self.print(&words(document)),
        }
    }

    /// Writes a remark to standard error, unless nothing but failures is wanted.
    pub fn note(&self, text: &str) {
        if !self.global.quiet {
            // Without standard error there is nobody to tell.
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
    }

    /// Warns, and says what to do.
    pub fn warn(&self, message: &str, hint: &str) {
        let style = self.terminal.err;
        let mut text = format!("{} {message}\n", style.warning("warning:"));
        if !hint.is_empty() {
            text.push_str(&format!("{} {hint}\n", style.hint("hint:")));
        }
        self.note(&text);
    }
}

/// What became of writing to standard output. A reader that has gone away wants no more: that is no error.
pub fn written(result: io::Result<()>) -> Result<()> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CommandError::silent(Exit::Success),
        _ => CommandError::fault(format!("failed to write to standard output: {error}")),
    })
}
