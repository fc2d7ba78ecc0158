//! What drivers make of specs: definitions that the graph links and runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heph_common::Address;
use serde::{Deserialize, Serialize};

use crate::problem::{Place, Problem};
use crate::spec::Approval;

/// A target that its driver has checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Its address, without an output.
    pub address: Address,
    /// The call that made it.
    pub place: Option<Place>,
    /// Name of its driver.
    pub driver: String,
    /// Labels, sorted.
    pub labels: Vec<String>,
    /// For people.
    pub description: Option<String>,
    /// What it depends on, in the order it was written.
    pub dependencies: Vec<Dependency>,
    /// What it does.
    pub action: Action,
    /// What it hands to whoever depends on it.
    pub transitive: Transitive,
    /// Confirmation it needs.
    pub approval: Option<Approval>,
    /// Time its command may take.
    pub timeout: Option<Duration>,
    /// How its results are kept.
    pub cache: CachePolicy,
    /// How often it is tried again after a failure.
    pub retries: u32,
    /// Whether nothing else may run beside it.
    pub exclusive: bool,
    /// Job slots it takes; at least 1.
    pub slots: u32,
}

impl Definition {
    /// Names of its output groups, without the default group, which has none.
    pub fn output_groups(&self) -> BTreeSet<&str> {
        let mut groups: BTreeSet<&str> = match &self.action {
            Action::Command(command) => command.outputs.iter().map(|output| &*output.group).collect(),
            Action::Group(_) => self.dependencies.iter().map(|need| &*need.group).collect(),
            _ => BTreeSet::new(),
        };
        groups.remove("");
        groups
    }

    /// Fails when `address`, which is that of this target, means an output group that it does not have.
    pub fn check_output(&self, address: &Address) -> Result<(), Problem> {
        let Some(group) = &address.output else {
            return Ok(());
        };
        let groups = self.output_groups();
        if groups.contains(group.as_str()) {
            return Ok(());
        }
        let problem = Problem::new(format!("{} has no output group '{group}'", self.address));
        Err(match groups.is_empty() {
            true => problem.hint(format!("it has no groups; leave '|{group}' out")),
            false => {
                let names: Vec<&str> = groups.into_iter().collect();
                problem.hint(format!("its groups: {}", names.join(", ")))
            }
        })
    }
}

/// One dependency.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Dependency {
    /// What it is for.
    pub role: Role,
    /// Group it was declared in; empty for the default group.
    pub group: String,
    /// The target; its `output` selects one output group.
    pub address: Address,
}

/// What a dependency is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// In the sandbox and in the key (`deps`).
    Source,
    /// In the key only (`hash_deps`).
    Hash,
    /// In the sandbox only (`runtime_deps`).
    Runtime,
    /// A program, first on PATH (`tools`).
    Tool,
}

/// What a target hands to whoever depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transitive {
    /// Dependencies and tools.
    pub dependencies: Vec<Dependency>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Variables taken from the caller.
    pub pass_env: PassEnv,
    /// Variables taken from the caller that stay out of the key.
    pub runtime_pass_env: PassEnv,
}

/// Variables that are taken from the caller's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassEnv {
    /// These.
    Names(Vec<String>),
    /// All but session variables and credentials.
    All,
}

impl Default for PassEnv {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

/// How results are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachePolicy {
    /// Whether results are reused at all.
    pub enabled: bool,
    /// Whether remote caches are used.
    pub remote: bool,
    /// How many revisions of the target are kept; `None` for as many as fit.
    pub history: Option<u32>,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            remote: true,
            history: None,
        }
    }
}

/// What a target does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Runs a command (exec, bash, sh).
    Command(Box<CommandAction>),
    /// Re-exports outputs of its dependencies (group). All its dependencies have `Role::Source`.
    Group(GroupAction),
    /// Writes a text (textfile).
    TextFile(TextFileAction),
    /// Downloads a file (http_fetch).
    Fetch(FetchAction),
    /// One file of the workspace (`//@heph/fs:file`).
    File {
        /// Relative to the workspace root.
        path: String,
    },
    /// Files of the workspace (`//@heph/fs:glob`).
    Glob {
        /// Patterns relative to the workspace root.
        patterns: Vec<String>,
        /// Patterns of what is left out.
        exclude: Vec<String>,
    },
    /// A program of the host (`//@heph/bin`).
    HostProgram {
        /// Name that is looked up on the caller's PATH.
        name: String,
    },
    /// Every target that a query selects (`//@heph/query:query`).
    Query {
        /// The query, absolute.
        expression: String,
    },
    /// The files of the tree that the depending target declares as its outputs (`//@heph/introspect:outputs`).
    OwnOutputs,
}

/// A command with its surroundings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandAction {
    /// Program and arguments; for bash and sh the interpreter with its options.
    pub argv: Vec<String>,
    /// Text of a script for the interpreter in `argv`.
    pub script: Option<String>,
    /// Declared outputs, in the order they were written; paths relative to the workspace root.
    pub outputs: Vec<Output>,
    /// Outputs that travel with every other output of the target.
    pub support_files: Vec<Output>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// Variables taken from the caller.
    pub pass_env: PassEnv,
    /// Variables that stay out of the key.
    pub runtime_env: BTreeMap<String, String>,
    /// Variables taken from the caller that stay out of the key.
    pub runtime_pass_env: PassEnv,
    /// Whether the network is reachable.
    pub network: bool,
    /// Isolation of its own; `None` for the workspace's.
    pub sandbox: Option<Isolation>,
    /// Whether outputs also go to the source tree.
    pub codegen: Option<Codegen>,
    /// Dependency groups that are linked into the sandbox, not copied.
    pub read_only: Vec<String>,
    /// Whole directories appended to PATH (option `path` of the plugin).
    pub extra_path: Vec<String>,
    /// Whether a make jobserver is offered.
    pub jobserver: bool,
}

/// One declared output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Output group; empty for the default group.
    pub group: String,
    /// Relative to the workspace root, without a slash at its end.
    pub path: String,
    /// What it is.
    pub kind: OutputKind,
}

/// What a declared output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// A file.
    File,
    /// A directory with all below it.
    Directory,
    /// All files that match a glob; at least one.
    Glob,
}

/// How outputs go to the source tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Codegen {
    /// Beside the sources; never an input of globs.
    Copy,
    /// Over the sources.
    InPlace,
}

/// Isolation that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// Strict where the machine allows.
    Auto,
    /// Namespaces; nothing but what is declared can be read.
    Strict,
    /// Own directories and environment.
    Standard,
    /// As standard, without saying so.
    Off,
}

/// Re-exported outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupAction {
    /// Globs of the paths that are kept, relative to the workspace root; empty keeps all.
    pub include: Vec<String>,
    /// Globs of the paths that are left out.
    pub exclude: Vec<String>,
    /// Removed from the front of each path.
    pub strip_prefix: Option<String>,
    /// Put in front of each path.
    pub prefix: Option<String>,
    /// New paths by old ones, after prefixes; a single text (key "") renames the only file.
    pub rename: BTreeMap<String, String>,
}

/// A file with a given text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextFileAction {
    /// Its content.
    pub text: String,
    /// Its path relative to the workspace root.
    pub out: String,
    /// Whether it is executable.
    pub executable: bool,
}

/// A file to download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchAction {
    /// http or https.
    pub url: String,
    /// SHA-256 of the content, 64 hex digits; empty when none was given.
    pub sha256: String,
    /// Its path relative to the workspace root.
    pub out: String,
    /// Whether it is executable.
    pub executable: bool,
}
