//! `version:` in the configuration: another release runs in the place of this one.

use std::collections::HashMap;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use heph_common::config::{FILE_NAME, Version};
use heph_common::home::Home;

use crate::context::Context;
use crate::error::{CommandError, Result};

/// Says in the replaced process which release it was started as, so that it does not look for itself forever.
const GUARD: &str = "HEPH_PINNED_AS";

/// The version that the root's configuration asks for, read without understanding the rest of it.
pub fn read(root: &Path) -> Option<Version> {
    let text = std::fs::read_to_string(root.join(FILE_NAME)).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("version:"))?;
    let value = value.split(" #").next().unwrap_or_default().trim();
    Version::parse(value.trim_matches(['"', '\'']))
}

/// Goes on when this is the release that is asked for, or HEPH_NO_SELF_UPDATE is set. Otherwise becomes that release,
/// or fails when it is not in the home.
pub fn follow(context: &Context, version: &Version, home: Option<&Home>) -> Result<()> {
    let ours = env!("CARGO_PKG_VERSION");
    if version.as_str() == ours || context.variable("HEPH_NO_SELF_UPDATE").is_some() {
        return Ok(());
    }
    let cure = format!("install heph {version}, or set HEPH_NO_SELF_UPDATE=1 to go on with {ours}");
    let Some(home) = home else {
        return Err(CommandError::usage(format!(
            "this workspace is pinned to heph {version}, and this is {ours}"
        ))
        .hint(cure));
    };
    let program = home.version_binary(version);
    if context.variable(GUARD) == Some(version.as_str()) {
        return Err(CommandError::usage(format!(
            "this workspace is pinned to heph {version}, but {} is heph {ours}",
            program.display()
        ))
        .hint(format!(
            "remove {}; {cure}",
            program.parent().unwrap_or(&program).display()
        )));
    }
    if !program.is_file() {
        return Err(CommandError::usage(format!(
            "this workspace is pinned to heph {version}, this is {ours}, and there is no {}",
            program.display()
        ))
        .hint(cure));
    }
    let error = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .env(GUARD, version.as_str())
        .exec();
    Err(CommandError::fault(format!(
        "failed to run heph {version}, {}: {error}",
        program.display()
    ))
    .hint(cure))
}

/// The caller's variables as they were before this process was replaced by a pinned release.
pub fn without_guard(environment: &HashMap<String, String>) -> HashMap<String, String> {
    let mut environment = environment.clone();
    environment.remove(GUARD);
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_a_configuration_that_is_not_understood() {
        let root = tempfile::tempdir().unwrap();
        let read_from = |text: &str| {
            std::fs::write(root.path().join(FILE_NAME), text).unwrap();
            read(root.path()).map(|version| version.to_string())
        };
        assert_eq!(
            read_from("novelty: [1]\nversion: v9.8.7 # newest\n").as_deref(),
            Some("9.8.7")
        );
        assert_eq!(read_from("version: '9.8.7'\n").as_deref(), Some("9.8.7"));
        assert_eq!(read_from("plugins: []\n"), None);
    }
}
