//! What every action that runs something has in its key: the operating system, the architecture, and the state of
//! the system that commands see without declaring it.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use heph_common::{Digest, KeyBuilder};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::tool::{Contents, Evidence, ToolError, Watched, all_unchanged, libraries_of};

/// The machine as far as keys know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`, `macos`.
    pub os: String,
    /// `x86_64`, `aarch64`.
    pub arch: String,
    /// `<os>-<arch>`.
    pub name: String,
    /// Digest of the distribution (ID and VERSION_ID of os-release), of its libc and loader, and of the files that
    /// `sandbox.systemInputs` names.
    pub system: Digest,
    /// Everything that was looked at.
    pub files: Vec<Watched>,
    /// The globs that it was asked with.
    inputs: Vec<String>,
}

impl Platform {
    /// Whether [`platform`] would find the same.
    pub fn is_current(&self, system_inputs: &[String]) -> bool {
        self.inputs == system_inputs && all_unchanged(&self.files)
    }
}

/// Files that `sandbox.systemInputs` may name in all; more is a mistake that would slow every run down.
const INPUTS_LIMIT: usize = 100_000;

/// Describes this machine. `system_inputs` are globs of absolute paths. `known` is returned as it is while nothing
/// has changed: one system call a file.
pub fn platform(system_inputs: &[String], known: Option<&Platform>) -> Result<Platform, Problem> {
    let contents = Contents::default();
    if let Some(known) = known {
        if known.is_current(system_inputs) {
            return Ok(known.clone());
        }
        contents.remember(&known.files);
    }
    let mut evidence = Evidence::new(&contents);
    let mut key = KeyBuilder::new("system");
    add_release(&mut evidence, &mut key)?;
    add_libc(&mut evidence, &mut key)?;
    for glob in system_inputs {
        add_inputs(&mut evidence, &mut key, glob)?;
    }
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    Ok(Platform {
        os: os.to_owned(),
        arch: arch.to_owned(),
        name: format!("{os}-{arch}"),
        system: key.finish().0,
        files: evidence.finish(),
        inputs: system_inputs.to_owned(),
    })
}

/// Source: os-release(5).
fn add_release(evidence: &mut Evidence<'_>, key: &mut KeyBuilder) -> Result<(), ToolError> {
    let mut text = evidence.text(Path::new("/etc/os-release"))?;
    if text.is_none() {
        text = evidence.text(Path::new("/usr/lib/os-release"))?;
    }
    let text = text.unwrap_or_default();
    for name in ["ID", "VERSION_ID"] {
        let value = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
        let value = value.unwrap_or_default().trim_matches(['"', '\'']);
        key.part(name, value.as_bytes());
    }
    Ok(())
}

/// The loader and the libc that the system's shell is started with.
fn add_libc(evidence: &mut Evidence<'_>, key: &mut KeyBuilder) -> Result<(), ToolError> {
    for (name, resolved) in libraries_of(evidence, Path::new("/bin/sh"))? {
        let file_name = name.rsplit('/').next().unwrap_or_default();
        if file_name.starts_with("libc.") || file_name.starts_with("ld") {
            key.digest(&format!("libc {file_name}"), evidence.digest(&resolved)?);
        }
    }
    Ok(())
}

fn add_inputs(evidence: &mut Evidence<'_>, key: &mut KeyBuilder, glob: &str) -> Result<(), Problem> {
    let setting = "sandbox.systemInputs";
    if !glob.starts_with('/') {
        return Err(
            Problem::new(format!("{setting}: '{glob}' is not an absolute path"))
                .hint("name files outside the workspace, such as /opt/sdk/VERSION"),
        );
    }
    let matcher = GlobBuilder::new(glob)
        .literal_separator(true)
        .build()
        .map_err(|error| Problem::new(format!("{setting}: {error}")))?
        .compile_matcher();
    let base = glob.split(['*', '?', '[', '{']).next().unwrap_or_default();
    let literal = base.len() == glob.len();
    let start = if literal {
        glob
    } else {
        base.rsplit_once('/').map_or("", |(directory, _)| directory)
    };
    let mut files = Vec::new();
    if literal {
        files.push(PathBuf::from(start));
    } else {
        let start = if start.is_empty() { "/" } else { start };
        let depth = (!glob.contains("**"))
            .then(|| glob.matches('/').count() - start.trim_end_matches('/').matches('/').count());
        collect(evidence, Path::new(start), depth, &matcher, &mut files)?;
    }
    if files.len() > INPUTS_LIMIT {
        return Err(
            Problem::new(format!("{setting}: '{glob}' matches {} files", files.len()))
                .hint("name the files that say which version is installed"),
        );
    }
    key.part("input glob", glob.as_bytes());
    for path in files {
        let label = format!("input {}", path.display());
        match evidence.resolve(&path)? {
            Some(resolved) if resolved.is_file() => key.digest(&label, evidence.digest(&resolved)?),
            Some(other) => {
                evidence.passed(&other);
                key.part(&label, b"")
            }
            None => key.part(&label, b"absent"),
        };
    }
    Ok(())
}

/// Files below `directory` that match, in a fixed order. Symlinks to directories are not followed.
fn collect(
    evidence: &mut Evidence<'_>,
    directory: &Path,
    depth: Option<usize>,
    matcher: &GlobMatcher,
    files: &mut Vec<PathBuf>,
) -> Result<(), ToolError> {
    for name in evidence.names(directory)?.unwrap_or_default() {
        let path = directory.join(name);
        let Ok(found) = path.symlink_metadata() else {
            continue;
        };
        if found.is_dir() {
            if depth.is_none_or(|depth| depth > 1) && files.len() <= INPUTS_LIMIT {
                collect(evidence, &path, depth.map(|depth| depth - 1), matcher, files)?;
            }
        } else if matcher.is_match(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// What `-march=native` and its like resolve to on one machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CpuInfo {
    /// `name: value` of every different processor: vendor, model, features.
    pub processors: Vec<Vec<(String, String)>>,
    /// Sizes of the first processor's caches, as the system writes them; compilers tune for them.
    pub caches: Vec<String>,
}

/// Lines of `/proc/cpuinfo` that compilers resolve `native` by, on x86, ARM, RISC-V, POWER and s390.
const CPU_FIELDS: [&str; 22] = [
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "clflush size",
    "cache size",
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "CPU revision",
    "Features",
    "isa",
    "mmu",
    "uarch",
    "mvendorid",
    "marchid",
    "mimpid",
    "cpu",
    "features",
];

impl CpuInfo {
    /// The CPU of this machine.
    pub fn read() -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let caches = (0..8).filter_map(|index| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
            std::fs::read_to_string(path)
                .ok()
                .map(|size| size.trim().to_owned())
        });
        Self {
            caches: caches.collect(),
            ..Self::parse(&text)
        }
    }

    /// The CPU that a text in the form of `/proc/cpuinfo` describes.
    pub fn parse(text: &str) -> Self {
        let mut processors: Vec<Vec<(String, String)>> = Vec::new();
        for block in text.split("\n\n") {
            let fields = block.lines().filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                let name = name.trim();
                let known = CPU_FIELDS.contains(&name);
                known.then(|| (name.to_owned(), sorted_words(name, value.trim())))
            });
            let fields: Vec<_> = fields.collect();
            if !fields.is_empty() && !processors.contains(&fields) {
                processors.push(fields);
            }
        }
        processors.sort_unstable();
        Self {
            processors,
            caches: Vec::new(),
        }
    }
}

/// The order of features says nothing.
fn sorted_words(name: &str, value: &str) -> String {
    if !matches!(name, "flags" | "Features" | "features") {
        return value.to_owned();
    }
    let mut words: Vec<&str> = value.split_whitespace().collect();
    words.sort_unstable();
    words.join(" ")
}

/// The key part of an action that mentions `native`: model and features of its CPU.
pub fn native_cpu(cpu: &CpuInfo) -> Digest {
    let mut key = KeyBuilder::new("native-cpu");
    for processor in &cpu.processors {
        key.list(
            "processor",
            processor.iter().map(|(name, value)| format!("{name}={value}")),
        );
    }
    key.list("caches", &cpu.caches);
    key.finish().0
}

/// Options whose value may be `native`.
const CPU_OPTIONS: [&str; 6] = ["-march", "-mtune", "-mcpu", "target-cpu", "tune-cpu", "-arch"];

/// Whether any of the texts (arguments, scripts, values of variables) may ask for the CPU it runs on: an option such as
/// `-march`, `-mtune`, `-mcpu` or `target-cpu`, and the word `native`, together or apart (`-march=$CPU`).
pub fn mentions_native<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    let (mut option, mut native) = (false, false);
    for text in texts {
        option = option || CPU_OPTIONS.iter().any(|option| text.contains(option));
        native = native || has_word(text, "native");
        if (option && native) || has_word(text, "-xHost") {
            return true;
        }
    }
    false
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text.get(..start).and_then(|text| text.chars().next_back());
        let after = text
            .get(start + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[cfg(test)]
mod tests;
