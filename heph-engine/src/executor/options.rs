//! What an executor is told about the machine and the user, since it reads no environment itself.

use std::ffi::OsString;
use std::path::PathBuf;

/// Settings of an [`Executor`](super::Executor).
#[derive(Clone, Debug, Default)]
pub struct ExecutorOptions {
    /// The home: `sandbox/`, `stage/` and `codegen/` are made below it.
    pub home: PathBuf,
    /// Program and arguments that execute this binary as the supervisor; it calls [`supervise`](super::supervise).
    pub supervisor: Vec<OsString>,
    /// Tokens of the make jobserver: commands that may run at once.
    pub jobs: usize,
    /// Directories that strict mode hides even where a system directory would show them: the user's home. The home of
    /// heph and the workspace are hidden anyway.
    pub hidden: Vec<PathBuf>,
    /// Proxies for downloads.
    pub proxies: Proxies,
    /// `TERM` of the user's terminal, for an interactive shell.
    pub term: Option<OsString>,
}

/// Proxies by the scheme of what is fetched; `None` for a direct connection.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// URL of the proxy for `http:`.
    pub http: Option<String>,
    /// URL of the proxy for `https:`.
    pub https: Option<String>,
    /// Hosts that need none, separated by commas.
    pub none: Option<String>,
}
