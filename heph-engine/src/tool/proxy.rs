//! Programs that only choose another program: what they choose in this workspace and environment.
//!
//! Sources: the rustup book ("Overrides"), pyenv's README ("Understanding Python version selection") and its
//! siblings, ccache(1) ("Run modes").

use std::path::{Path, PathBuf};

use super::ToolError;
use super::evidence::{Evidence, Object};
use super::finder::ToolFinder;

/// What stands behind a program that was found on PATH.
#[derive(Debug)]
pub(crate) enum Behind {
    /// It is the program itself.
    Itself,
    /// The next one of this name on PATH.
    Next,
    /// Another file.
    Program(PathBuf),
}

/// They stand in front of compilers and find the next one on PATH.
const MASQUERADES: [&str; 7] = [
    "hephc",
    "ccache",
    "distcc",
    "icecc",
    "sccache",
    "buildcache",
    "gomacc",
];

/// Version managers whose choice is not known here.
const OPAQUE: [&str; 5] = ["mise", "asdf", "volta-shim", "proto-shim", "snap"];

/// Variables that the known proxies look at.
pub(crate) const VARIABLES: [&str; 6] = [
    "GOENV_VERSION",
    "NODENV_VERSION",
    "PYENV_VERSION",
    "RBENV_VERSION",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
];

/// Looks behind the program `name` that was found at `path` and is `resolved` without symlinks.
pub(crate) fn behind(
    finder: &ToolFinder,
    evidence: &mut Evidence<'_>,
    name: &str,
    path: &Path,
    resolved: &Path,
) -> Result<Behind, ToolError> {
    let file_name = resolved
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if file_name != name && MASQUERADES.contains(&file_name) {
        return Ok(Behind::Next);
    }
    if file_name != name && OPAQUE.contains(&file_name) {
        return Err(opaque(name, path, file_name));
    }
    if name != "rustup" && name != "rustup-init" && is_rustup(evidence, path, resolved, file_name)? {
        return rustup(finder, evidence, name).map(Behind::Program);
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    if directory
        .file_name()
        .is_some_and(|directory| directory == "shims")
    {
        let script = matches!(evidence.contents.object(resolved), Ok(Object::Script(_)));
        let text = if script { evidence.text(resolved)? } else { None }.unwrap_or_default();
        if let Some(manager) = MANAGERS
            .iter()
            .find(|manager| text.contains(&format!("{}\" exec", manager.name)))
        {
            return versions(finder, evidence, manager, name, directory);
        }
        // Shims of other managers (jenv, phpenv, asdf) have the same shape.
        let manager = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("exec ")?.split_once(" exec "));
        if let Some((manager, _)) = manager {
            let manager = manager.trim_matches('"').rsplit('/').next().unwrap_or_default();
            return Err(opaque(name, path, manager));
        }
    }
    Ok(Behind::Itself)
}

fn opaque(name: &str, path: &Path, manager: &str) -> ToolError {
    ToolError::Proxy {
        name: name.to_owned(),
        problem: format!(
            "{} is a stand-in of {manager}, and what it would start is not known",
            path.display()
        ),
        hint: format!("put the directory of the real {name} in front of PATH"),
    }
}

/// rustup's stand-ins are symlinks or hard links to `rustup` beside them.
fn is_rustup(
    evidence: &mut Evidence<'_>,
    path: &Path,
    resolved: &Path,
    file_name: &str,
) -> Result<bool, ToolError> {
    if file_name == "rustup" || file_name == "rustup-init" {
        return Ok(true);
    }
    let Some(rustup) = path.parent().map(|directory| directory.join("rustup")) else {
        return Ok(false);
    };
    let Some(rustup) = evidence.resolve(&rustup)? else {
        return Ok(false);
    };
    let same = |a: &rustix::fs::Stat, b: &rustix::fs::Stat| a.st_ino == b.st_ino && a.st_dev == b.st_dev;
    let stats = (super::evidence::lstat(&rustup), super::evidence::lstat(resolved));
    if let (Ok(rustup), Ok(other)) = stats
        && (same(&rustup, &other) || rustup.st_size != other.st_size)
    {
        return Ok(same(&rustup, &other));
    }
    Ok(evidence.digest(&rustup)? == evidence.digest(resolved)?)
}

fn rustup(finder: &ToolFinder, evidence: &mut Evidence<'_>, name: &str) -> Result<PathBuf, ToolError> {
    let problem = |problem: String, hint: String| ToolError::Proxy {
        name: name.to_owned(),
        problem,
        hint,
    };
    let home = match (finder.variable("RUSTUP_HOME"), finder.home()) {
        (Some(home), _) => finder.workspace().join(home),
        (None, Some(home)) => home.join(".rustup"),
        (None, None) => {
            let hint = "set HOME or RUSTUP_HOME".to_owned();
            return Err(problem("rustup has no home directory".to_owned(), hint));
        }
    };
    let settings = evidence.text(&home.join("settings.toml"))?.unwrap_or_default();
    let chosen = match finder.variable("RUSTUP_TOOLCHAIN") {
        Some(toolchain) => Some(Toolchain::Name(toolchain.to_owned())),
        None => overridden(finder, evidence, &settings)?,
    };
    let chosen = match chosen {
        Some(chosen) => chosen,
        None => match value(&settings, "", "default_toolchain").filter(|name| name != "none") {
            Some(name) => Toolchain::Name(name),
            None => {
                let hint = "rustup default stable".to_owned();
                return Err(problem("rustup has no default toolchain".to_owned(), hint));
            }
        },
    };
    let candidates: Vec<PathBuf> = match &chosen {
        Toolchain::Directory(directory) => vec![directory.clone()],
        Toolchain::Name(toolchain) => {
            let triple = value(&settings, "", "default_host_triple").unwrap_or_else(host_triple);
            let toolchains = home.join("toolchains");
            vec![
                toolchains.join(toolchain),
                toolchains.join(format!("{toolchain}-{triple}")),
            ]
        }
    };
    for directory in &candidates {
        if evidence.resolve(directory)?.is_none() {
            continue;
        }
        let program = directory.join("bin").join(name);
        return match evidence.executable(&program)? {
            Some(_) => Ok(program),
            None => Err(problem(
                format!("the toolchain {chosen} that rustup selects has no {name}"),
                format!("rustup component add {name} --toolchain {chosen}"),
            )),
        };
    }
    let problem_text = format!("the toolchain {chosen} that rustup selects is not installed");
    Err(problem(
        problem_text,
        format!("rustup toolchain install {chosen}"),
    ))
}

enum Toolchain {
    Name(String),
    Directory(PathBuf),
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Directory(directory) => write!(f, "{}", directory.display()),
        }
    }
}

/// The nearest override of the workspace's directory or one above it; in each, settings go before files.
fn overridden(
    finder: &ToolFinder,
    evidence: &mut Evidence<'_>,
    settings: &str,
) -> Result<Option<Toolchain>, ToolError> {
    for directory in finder.workspace().ancestors() {
        let key = directory.to_string_lossy();
        if let Some(name) = value(settings, "overrides", &key) {
            return Ok(Some(Toolchain::Name(name)));
        }
        for file in ["rust-toolchain", "rust-toolchain.toml"] {
            let Some(text) = evidence.text(&directory.join(file))? else {
                continue;
            };
            if let Some(path) = value(&text, "toolchain", "path") {
                return Ok(Some(Toolchain::Directory(directory.join(path))));
            }
            if let Some(channel) = value(&text, "toolchain", "channel") {
                return Ok(Some(Toolchain::Name(channel)));
            }
            let line = text.trim();
            if file == "rust-toolchain" && !line.is_empty() && !line.contains(['\n', '[', '=']) {
                return Ok(Some(Toolchain::Name(line.to_owned())));
            }
        }
    }
    Ok(None)
}

fn host_triple() -> String {
    match std::env::consts::OS {
        "macos" => format!("{}-apple-darwin", std::env::consts::ARCH),
        _ => format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
    }
}

/// The text of `key = "text"` in a section of a TOML file; rustup writes and reads no other form of these keys.
fn value(toml: &str, section: &str, key: &str) -> Option<String> {
    let mut current = "";
    for line in toml.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            current = name.split(']').next().unwrap_or_default().trim();
        } else if current == section
            && let Some((name, rest)) = line.split_once('=')
            && name.trim().trim_matches(['"', '\'']) == key
        {
            let rest = rest.trim();
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            return rest.get(1..)?.split(quote).next().map(str::to_owned);
        }
    }
    None
}

/// A version manager that works as pyenv does.
struct Manager {
    name: &'static str,
    version: &'static str,
    file: &'static str,
}

const MANAGERS: [Manager; 4] = [
    Manager {
        name: "pyenv",
        version: "PYENV_VERSION",
        file: ".python-version",
    },
    Manager {
        name: "rbenv",
        version: "RBENV_VERSION",
        file: ".ruby-version",
    },
    Manager {
        name: "nodenv",
        version: "NODENV_VERSION",
        file: ".node-version",
    },
    Manager {
        name: "goenv",
        version: "GOENV_VERSION",
        file: ".go-version",
    },
];

/// The program in the first selected version that has it.
fn versions(
    finder: &ToolFinder,
    evidence: &mut Evidence<'_>,
    manager: &Manager,
    name: &str,
    shims: &Path,
) -> Result<Behind, ToolError> {
    let root = shims.parent().unwrap_or(Path::new("/"));
    let selected = match finder.variable(manager.version) {
        Some(text) => text.split(':').map(str::to_owned).collect(),
        None => selected_by_file(finder, evidence, manager, root)?,
    };
    for version in &selected {
        if version == "system" {
            return Ok(Behind::Next);
        }
        let Some(directory) = installed(evidence, manager, root, version)? else {
            return Err(ToolError::Proxy {
                name: name.to_owned(),
                problem: format!(
                    "the version {version} that {} selects is not installed",
                    manager.name
                ),
                hint: format!("{} install {version}", manager.name),
            });
        };
        let program = directory.join("bin").join(name);
        if evidence.executable(&program)?.is_some() {
            return Ok(Behind::Program(program));
        }
    }
    Err(ToolError::Proxy {
        name: name.to_owned(),
        problem: format!(
            "{} selects {}, which has no {name}",
            manager.name,
            selected.join(" and ")
        ),
        hint: format!(
            "select another version with {} or {}",
            manager.version, manager.file
        ),
    })
}

fn selected_by_file(
    finder: &ToolFinder,
    evidence: &mut Evidence<'_>,
    manager: &Manager,
    root: &Path,
) -> Result<Vec<String>, ToolError> {
    let above = finder
        .workspace()
        .ancestors()
        .map(|directory| directory.join(manager.file));
    for file in above.chain([root.join("version")]) {
        let text = evidence.text(&file)?.unwrap_or_default();
        let lines = text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default());
        let versions: Vec<String> = lines
            .flat_map(str::split_whitespace)
            .map(|word| word.trim_end_matches('/').to_owned())
            .collect();
        if !versions.is_empty() {
            return Ok(versions);
        }
    }
    Ok(vec!["system".to_owned()])
}

/// The directory of a version: exact, or the latest one that begins with it (`3.11` is 3.11.7).
fn installed(
    evidence: &mut Evidence<'_>,
    manager: &Manager,
    root: &Path,
    version: &str,
) -> Result<Option<PathBuf>, ToolError> {
    let versions = root.join("versions");
    let bare = version
        .strip_prefix(&format!("{}-", language(manager)))
        .unwrap_or(version);
    for name in [version, bare, version.trim_start_matches('v')] {
        if !name.is_empty()
            && !name.split('/').any(|part| part == "..")
            && evidence.resolve(&versions.join(name))?.is_some()
        {
            return Ok(Some(versions.join(name)));
        }
    }
    let names = evidence.names(&versions)?.unwrap_or_default();
    let numbers = |name: &str| -> Option<Vec<u32>> {
        let rest = name.strip_prefix(bare)?.strip_prefix('.')?;
        rest.split('.').map(|part| part.parse().ok()).collect()
    };
    let matching = names.iter().filter_map(|name| name.to_str());
    let latest = matching.filter_map(|name| Some((numbers(name)?, name))).max();
    Ok(latest.map(|(_, name)| versions.join(name)))
}

fn language(manager: &Manager) -> &'static str {
    match manager.name {
        "pyenv" => "python",
        "rbenv" => "ruby",
        "nodenv" => "node",
        _ => "go",
    }
}
