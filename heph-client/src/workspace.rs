//! The workspace that a command works in: its root, its configuration, its home.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heph_common::Exit;
use heph_common::config::{
    self, Config, ConfigErrors, FILE_NAME, LoadOptions, Origin, PluginSource, Problem, Value, find_root,
    profile_names,
};

use heph_common::ignore::Skip;
use heph_engine::driver::check_plugin;

use crate::context::Context;
use crate::error::{CommandError, Result, Said};
use crate::home::{self, Temporary};
use crate::pin;

/// Names of BUILD files where the `buildfile` plugin is not told others.
const BUILD_FILES: [&str; 2] = ["BUILD", "*.BUILD"];

/// A workspace with its configuration, ready for requests.
#[derive(Debug)]
pub struct Workspace {
    /// Absolute path of the root; the current directory outside of any workspace.
    pub root: PathBuf,
    /// Package of the current directory.
    pub package: String,
    /// Merged configuration.
    pub config: Arc<Config>,
    /// Where each value came from.
    pub origins: Vec<Origin>,
    /// The files that were merged, in order.
    pub files: Vec<PathBuf>,
    /// Profiles in use.
    pub profiles: Vec<String>,
    /// Absolute path of the home.
    pub home: PathBuf,
    /// What said where the home is.
    pub home_from: &'static str,
    /// The message for requests.
    pub message: heph_proto::Workspace,
    /// Keeps a home that lasts as long as this command.
    temporary: Option<Temporary>,
}

impl Workspace {
    /// The workspace around the current directory.
    pub fn open(context: &Context) -> Result<Self> {
        let directory = context.directory()?;
        let Some(root) = find_root(&directory) else {
            return Err(CommandError::usage(format!(
                "failed to find a workspace: there is no {FILE_NAME} in {} or above it",
                directory.display()
            ))
            .hint("heph init makes this directory a workspace"));
        };
        Self::load(context, &directory, Some(root))
    }

    /// As [`Workspace::open`]; outside of any workspace, what the user's own layer says of the home.
    pub fn open_or_home(context: &Context) -> Result<Self> {
        let directory = context.directory()?;
        let root = find_root(&directory);
        Self::load(context, &directory, root)
    }

    fn load(context: &Context, directory: &Path, root: Option<PathBuf>) -> Result<Self> {
        let home_directory = context.variable("HOME").map(PathBuf::from);
        let user_layer = user_layer(context, home_directory.as_deref());
        let profiles = profile_names(context.variable("HEPH_PROFILES").unwrap_or_default());
        let options = LoadOptions {
            root: root.as_deref(),
            user_layer: user_layer.as_deref(),
            profiles: &profiles,
            home_directory: home_directory.as_deref(),
        };
        let loaded = config::load_and_check(&options, check_plugin);
        let pinned = match &loaded {
            Ok(loaded) => loaded.config.version.clone(),
            // A newer release may know keys and plugins that this one does not.
            Err(_) => root.as_deref().and_then(pin::read),
        };
        let configured = loaded
            .as_ref()
            .ok()
            .and_then(|loaded| loaded.config.home_dir.clone());
        let located = home::locate(context, configured.as_deref(), home_directory.as_deref());
        if let Some(version) = pinned {
            pin::follow(context, &version, located.as_ref().ok().map(|(home, _)| home))?;
        }
        let loaded = loaded.map_err(|errors| said(&errors))?;
        let (home, home_from) = located?;
        let (home, temporary) = home::prepare(context, home)?;
        let root = root.unwrap_or_else(|| directory.to_owned());
        let package = package(&root, directory)?;
        let config = serde_json::to_vec(&loaded.config)
            .map_err(|error| CommandError::fault(format!("failed to hand on the configuration: {error}")))?;
        let message = heph_proto::Workspace {
            root: utf8(&root)?,
            config: config.into(),
            package: package.clone(),
            environment: pin::without_guard(&context.environment),
            home: utf8(home.path())?,
        };
        Ok(Self {
            root,
            package,
            config: Arc::new(loaded.config),
            origins: loaded.origins,
            files: loaded.files,
            profiles,
            home: home.path().to_owned(),
            home_from,
            message,
            temporary,
        })
    }

    /// Whether its home lasts only as long as this command.
    pub fn has_temporary_home(&self) -> bool {
        self.temporary.is_some()
    }

    /// Works with a temporary home from now on, unless it does so already; `cause` is shown as a warning.
    pub fn replace_home(&mut self, context: &Context, cause: &str) -> Result<()> {
        if self.temporary.is_some() {
            return Err(CommandError::fault(cause));
        }
        let (home, temporary) = home::replace(context, cause)?;
        self.message.home = utf8(home.path())?;
        self.home = home.path().to_owned();
        self.temporary = temporary;
        Ok(())
    }

    /// What `fs.skip` leaves out.
    pub fn skip(&self) -> Result<Skip> {
        Skip::new(&self.config.fs.skip).map_err(|error| CommandError::usage(error.to_string()))
    }

    /// Adds the BUILD and `.star` files below `directory`, but for what `fs.skip` leaves out.
    pub fn build_files(&self, directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
        let mut patterns = self.build_patterns();
        patterns.push("*.star".to_owned());
        let skip = self.skip()?;
        let mut directories = vec![directory.to_owned()];
        while let Some(directory) = directories.pop() {
            let entries = std::fs::read_dir(&directory).map_err(|error| {
                CommandError::usage(format!("failed to list {}: {error}", directory.display()))
            })?;
            for entry in entries.flatten() {
                let path = entry.path();
                let relative = path
                    .strip_prefix(&self.root)
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .into_owned();
                let Ok(kind) = entry.file_type() else { continue };
                if skip.skips(&relative) || path == self.home {
                    continue;
                }
                if kind.is_dir() {
                    // A workspace within this one has its own rules.
                    if !path.join(FILE_NAME).exists() {
                        directories.push(path);
                    }
                } else if kind.is_file()
                    && patterns
                        .iter()
                        .any(|p| matches_name(p, &entry.file_name().to_string_lossy()))
                {
                    files.push(path);
                }
            }
        }
        Ok(())
    }

    fn build_patterns(&self) -> Vec<String> {
        let buildfile =
            |plugin: &&config::Plugin| plugin.source == PluginSource::Builtin("buildfile".to_owned());
        let options = self
            .config
            .plugins
            .iter()
            .find(buildfile)
            .and_then(|plugin| plugin.options.as_ref());
        match options
            .and_then(|options| options.get("patterns"))
            .map(|patterns| &patterns.data)
        {
            Some(config::Data::List(items)) => {
                items.iter().filter_map(Value::text).map(str::to_owned).collect()
            }
            _ => BUILD_FILES.map(str::to_owned).to_vec(),
        }
    }
}

/// Whether a file's name matches a pattern in which `*` is any text.
fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| matches_name(tail, rest.get(at..).unwrap_or_default()))
        }),
    }
}

fn user_layer(context: &Context, home_directory: Option<&Path>) -> Option<PathBuf> {
    let directory = match context.variable("XDG_CONFIG_HOME") {
        Some(directory) if Path::new(directory).is_absolute() => PathBuf::from(directory),
        _ => home_directory?.join(".config"),
    };
    Some(directory.join("heph/hephconfig"))
}

fn package(root: &Path, directory: &Path) -> Result<String> {
    utf8(directory.strip_prefix(root).unwrap_or(Path::new("")))
}

fn utf8(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        CommandError::usage(format!("failed to use {}: its name is not UTF-8", path.display()))
            .hint("rename it: a workspace and its home have names in UTF-8")
    })
}

fn said(errors: &ConfigErrors) -> CommandError {
    CommandError {
        exit: Exit::Usage,
        problems: errors.problems.iter().map(problem).collect(),
    }
}

fn problem(problem: &Problem) -> Said {
    let hint = problem.hint.clone();
    Said {
        message: Problem {
            hint: None,
            ..problem.clone()
        }
        .to_string(),
        place: None,
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_patterns() {
        assert!(matches_name("BUILD", "BUILD"));
        assert!(matches_name("*.BUILD", "lib.BUILD"));
        assert!(matches_name("B*D*", "BUILD.bazel"));
        assert!(!matches_name("*.BUILD", "BUILD"));
        assert!(!matches_name("BUILD", "BUILD.old"));
    }
}
