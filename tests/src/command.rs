//! One call of `heph`.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::machine::program_beside_tests;
use crate::{Build, Environment, Mode, Run, Running};

/// A call that hangs is ended after this time, and its test fails.
const LIMIT: Duration = Duration::from_secs(180);

/// One call of `heph`, to be started.
#[derive(Debug)]
pub struct Command<'a> {
    pub(crate) environment: &'a Environment,
    arguments: Vec<String>,
    directory: PathBuf,
    variables: Vec<(String, String)>,
    limit: Duration,
    number: u64,
    within: Vec<String>,
    program: PathBuf,
}

impl<'a> Command<'a> {
    pub(crate) fn new(environment: &'a Environment, arguments: Vec<String>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            environment,
            arguments,
            directory: environment.root(),
            variables: environment.variables(),
            limit: LIMIT,
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            within: Vec::new(),
            program: heph_program(),
        }
    }

    /// Of another build of `heph`.
    pub fn by(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// From a directory of the workspace.
    pub fn from(mut self, directory: &str) -> Self {
        self.directory = self.environment.path(directory);
        self
    }

    /// With a variable.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self = self.without(name);
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Without a variable.
    pub fn without(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// Started by another program, which gets the call as the end of its arguments.
    pub fn within(mut self, program: &[&str]) -> Self {
        self.within = program.iter().map(|part| (*part).to_owned()).collect();
        self
    }

    /// With another limit on its time.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it and waits for its end.
    pub fn run(self) -> Run {
        self.start().wait()
    }

    /// Starts it and reads its events; the call must have `--json`.
    pub fn build(self) -> Build {
        Build::new(self.run())
    }

    /// Starts it.
    pub fn start(self) -> Running {
        self.warm_up();
        let mut command = self.below_reaper(&[]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::start(command, self.report(), self.limit, self.environment.redactor())
    }

    /// Before a run in warm mode, the daemon sees the workspace. Whatever is wrong with it, the run will say.
    pub(crate) fn warm_up(&self) {
        let is_run = self.arguments.first().is_some_and(|first| first == "run");
        if self.environment.mode() != Mode::Warm || !is_run {
            return;
        }
        let mut query = std::process::Command::new(&self.program);
        query
            .args(["query", "//..."])
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        query.status().expect("heph query runs");
    }

    /// The reaper with this call as its program.
    pub(crate) fn below_reaper(&self, options: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(program_beside_tests("reaper"));
        command
            .args(options)
            .arg(self.report())
            .args(&self.within)
            .arg(&self.program)
            .args(&self.arguments);
        command
            .current_dir(&self.directory)
            .env_clear()
            .envs(self.variables.iter().cloned());
        command
    }

    /// Where the reaper tells what happened.
    pub(crate) fn report(&self) -> PathBuf {
        self.environment.beside(&format!("report-{}", self.number))
    }

    pub(crate) fn time_limit(&self) -> Duration {
        self.limit
    }
}

/// The program under test.
pub fn heph_program() -> PathBuf {
    std::env::var_os("HEPH_TEST_BINARY").map_or_else(|| program_beside_tests("heph-e2e"), PathBuf::from)
}
