//! Files that differ from a commit, as git sees them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::problem::Problem;
use crate::tree::WORKSPACE_MARK;

/// Workspace-relative paths that differ from a commit: changed, added, removed, untracked.
#[derive(Debug, Default)]
pub struct Changes {
    paths: HashSet<String>,
}

impl Changes {
    /// What differs between the commit that `reference` names and the files of the workspace.
    ///
    /// git is the caller's, with its `PATH`, configuration and variables; without a caller, this process's.
    ///
    /// Fails when the workspace is in no git repository or the commit is not known there.
    pub fn since(
        root: &Path,
        reference: &str,
        caller: Option<&BTreeMap<String, String>>,
    ) -> Result<Self, Problem> {
        if reference.starts_with('-') {
            return Err(Problem::new(format!("'{reference}' is not a git reference")));
        }
        let commit = format!("{reference}^{{commit}}");
        git(root, caller, &["rev-parse", "--verify", "--quiet", &commit]).map_err(|problem| match problem
            .message
            .is_empty()
        {
            true => Problem::new(format!("git knows no commit '{reference}'"))
                .hint("name a branch, a tag or a commit that is there; in CI, fetch it first"),
            false => problem,
        })?;
        let mut paths = HashSet::new();
        for arguments in [
            [
                "diff",
                "--name-only",
                "--no-renames",
                "--relative",
                "-z",
                reference,
                "--",
            ]
            .as_slice(),
            &["ls-files", "--others", "--exclude-standard", "-z"],
        ] {
            let output = git(root, caller, arguments)?;
            paths.extend(
                output
                    .split(|byte| *byte == 0)
                    .filter(|path| !path.is_empty())
                    .map(|path| String::from_utf8_lossy(path).into_owned()),
            );
        }
        Ok(Self { paths })
    }

    /// Whether this path differs.
    pub fn contains(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// Whether the settings of the workspace, or of a profile, differ; or what directories belong to it.
    pub fn has_settings(&self) -> bool {
        self.paths().any(|path| path.ends_with(WORKSPACE_MARK))
    }

    /// All paths that differ.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }
}

fn git(
    root: &Path,
    caller: Option<&BTreeMap<String, String>>,
    arguments: &[&str],
) -> Result<Vec<u8>, Problem> {
    let mut command = Command::new("git");
    if let Some(environment) = caller {
        // It is looked for on the caller's PATH, too.
        command.env_clear().envs(environment);
    }
    command
        .arg("-C")
        .arg(root)
        .args(["-c", "core.quotePath=false"])
        .args(arguments)
        // Its messages are compared.
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| {
        Problem::new(format!("git could not be run: {error}"))
            .hint("install git, or leave out changed() and --since")
    })?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(refused(root, String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// What git says, in our words; no message where it says nothing.
fn refused(root: &Path, said: &str) -> Problem {
    if said.contains("not a git repository") {
        let message = format!("the workspace {} is in no git repository", root.display());
        return Problem::new(message)
            .hint("changed() and --since compare the workspace with a commit; leave them out");
    }
    match said.trim_start_matches("fatal: ") {
        "" => Problem::new(""),
        said => Problem::new(format!(
            "git refused to compare the workspace with a commit: {said}"
        )),
    }
}
