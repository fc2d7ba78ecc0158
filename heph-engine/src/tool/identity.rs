//! The identity of one tool: which contents enter it, under which labels.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use heph_common::{Digest, KeyBuilder};

use super::ToolError;
use super::base::BASE_PROGRAMS;
use super::evidence::{Evidence, Object};
use super::finder::ToolFinder;
use super::loader;
use super::place::is_system;
use super::{compiler, toolchain};

/// Raised when identities are told in another way.
pub(crate) const FORMAT: u32 = 1;

/// Scripts whose interpreters are scripts; Linux stops at five.
const SCRIPT_LIMIT: usize = 8;

/// Collects contents into an identity.
pub(crate) struct Identity<'a, 'b> {
    pub(crate) finder: &'a ToolFinder,
    pub(crate) evidence: &'a mut Evidence<'b>,
    key: KeyBuilder,
    /// Programs that are part of it already, so that they are not followed again.
    programs: BTreeSet<PathBuf>,
    /// Names that are known as tools already.
    tools: BTreeSet<(String, PathBuf)>,
    brings: Vec<(String, PathBuf)>,
    visible: Vec<PathBuf>,
}

impl<'a, 'b> Identity<'a, 'b> {
    pub(crate) fn new(finder: &'a ToolFinder, evidence: &'a mut Evidence<'b>, name: &str) -> Self {
        let mut key = KeyBuilder::new("tool");
        key.part("tool-format", &FORMAT.to_le_bytes())
            .part("name", name.as_bytes());
        Self {
            finder,
            evidence,
            key,
            programs: BTreeSet::new(),
            tools: BTreeSet::new(),
            brings: Vec::new(),
            visible: Vec::new(),
        }
    }

    /// Digest, what it brings, what it needs to see.
    pub(crate) fn finish(self) -> (Digest, Vec<(String, PathBuf)>, Vec<PathBuf>) {
        (self.key.finish().0, self.brings, self.visible)
    }

    /// A program that is started by a name that may mean more than its file: compilers and what they start.
    pub(crate) fn add_tool(&mut self, name: &str, path: &Path, resolved: &Path) -> Result<(), ToolError> {
        if !self.tools.insert((name.to_owned(), resolved.to_owned())) {
            return Ok(());
        }
        let object = self.add_program("program", path)?;
        let is_binary = matches!(object, Some(Object::Elf(_) | Object::Other));
        if is_binary && compiler::is_compiler(name, resolved) {
            compiler::add(self, path)?;
        }
        match is_binary {
            true => toolchain::add(self, name, resolved)?,
            false => toolchain::add_script(self, resolved)?,
        }
        Ok(())
    }

    /// A program with its libraries, or a script with its interpreter. `None` if it does not exist.
    pub(crate) fn add_program(&mut self, label: &str, path: &Path) -> Result<Option<Object>, ToolError> {
        let mut label = label.to_owned();
        let mut path = path.to_owned();
        let mut first = None;
        for _ in 0..SCRIPT_LIMIT {
            let Some(resolved) = self.evidence.executable(&path)? else {
                self.key.part(&format!("no {label}"), b"");
                break;
            };
            let object =
                self.evidence
                    .contents
                    .object(&resolved)
                    .map_err(|source| ToolError::Unreadable {
                        path: resolved.clone(),
                        source,
                    })?;
            let digest = self.evidence.digest(&resolved)?;
            self.key.digest(&label, digest);
            self.show(&path, &resolved);
            first.get_or_insert_with(|| object.clone());
            if !self.programs.insert(resolved.clone()) {
                break;
            }
            let line = match object {
                Object::Elf(elf) => {
                    self.add_libraries(&resolved, &elf)?;
                    break;
                }
                Object::Script(line) => line,
                Object::Other => break,
            };
            match self.interpreter(&line)? {
                Some(next) => path = next,
                None => break,
            }
            label = format!("{label} interpreter");
        }
        Ok(first)
    }

    /// The contents of a directory that a tool cannot do without.
    pub(crate) fn add_tree(&mut self, label: &str, path: &Path, skip: &[&str]) -> Result<(), ToolError> {
        match self.evidence.tree(path, skip)? {
            Some(digest) => self.key.digest(label, digest),
            None => self.key.part(&format!("no {label}"), b""),
        };
        Ok(())
    }

    /// The content of a file that is not executed.
    pub(crate) fn add_file(&mut self, label: &str, path: &Path) -> Result<(), ToolError> {
        match self.evidence.resolve(path)? {
            Some(resolved) if resolved.is_file() => {
                let digest = self.evidence.digest(&resolved)?;
                self.key.digest(label, digest);
            }
            Some(other) => self.evidence.passed(&other),
            None => _ = self.key.part(&format!("no {label}"), b""),
        }
        Ok(())
    }

    /// The names in a directory.
    pub(crate) fn add_names(&mut self, label: &str, path: &Path) -> Result<(), ToolError> {
        if let Some(names) = self.evidence.names(path)? {
            let names = names.iter().filter(|name| *name != "__pycache__");
            self.key.list(label, names.map(|name| name.as_encoded_bytes()));
        }
        Ok(())
    }

    /// A program that the tool looks for on PATH: the caller's, if there is one.
    pub(crate) fn bring(&mut self, name: &str) -> Result<(), ToolError> {
        if self.brings.iter().any(|(brought, _)| brought == name) || BASE_PROGRAMS.contains(&name) {
            return Ok(());
        }
        match self.finder.search(self.evidence, name)? {
            Some((path, resolved)) => self.bring_found(name, &path, resolved),
            None => {
                self.key.part(&format!("no {name}"), b"");
                Ok(())
            }
        }
    }

    /// A program that the tool looks for on PATH and that lies at `path`.
    pub(crate) fn bring_found(
        &mut self,
        name: &str,
        path: &Path,
        resolved: PathBuf,
    ) -> Result<(), ToolError> {
        if self.brings.iter().any(|(brought, _)| brought == name) {
            return Ok(());
        }
        self.key.part("brings", name.as_bytes());
        self.brings.push((name.to_owned(), resolved.clone()));
        self.add_tool(name, path, &resolved)
    }

    /// A directory that the tool needs to see as a whole.
    pub(crate) fn show_directory(&mut self, path: &Path) {
        if !is_system(path) && self.finder.private().may_show(path) {
            self.visible.push(path.to_owned());
        }
    }

    fn add_libraries(
        &mut self,
        program: &Path,
        elf: &std::sync::Arc<super::elf::Elf>,
    ) -> Result<(), ToolError> {
        for library in loader::libraries(self.evidence, program, elf)? {
            match library.found {
                Some(found) => {
                    let digest = self.evidence.digest(&found.resolved)?;
                    // Names of libraries are part of what the loader matches; directories are not.
                    let name = library.name.rsplit('/').next().unwrap_or_default();
                    self.key.digest(&format!("library {name}"), digest);
                    self.show_file(&found.path);
                    self.show_file(&found.resolved);
                }
                None => _ = self.key.part(&format!("no library {}", library.name), b""),
            }
        }
        Ok(())
    }

    /// The interpreter named by what follows `#!`. One that `env` looks for is brought.
    fn interpreter(&mut self, line: &str) -> Result<Option<PathBuf>, ToolError> {
        let (program, arguments) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let program = Path::new(program);
        if !program.is_absolute() {
            return Ok(None);
        }
        if program.file_name().is_some_and(|name| name == "env") {
            self.add_program("env", program)?;
            if let Some(name) = env_program(arguments) {
                match Path::new(name).is_absolute() {
                    true => return Ok(Some(PathBuf::from(name))),
                    false => self.bring(name)?,
                }
            }
            return Ok(None);
        }
        Ok(Some(program.to_owned()))
    }

    fn show(&mut self, path: &Path, resolved: &Path) {
        let private = self.finder.private();
        self.visible.extend(
            [path, resolved]
                .into_iter()
                .filter_map(|path| private.shown(path)),
        );
    }

    fn show_file(&mut self, path: &Path) {
        if !is_system(path) {
            self.visible.push(path.to_owned());
        }
    }
}

/// The program that `env` starts, given its arguments.
fn env_program(arguments: &str) -> Option<&str> {
    let mut words = arguments.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "-u" | "--unset" | "-C" | "--chdir" => _ = words.next(),
            "-S" | "--split-string" => {}
            _ if word.starts_with("-S") && word.len() > 2 => return word.get(2..),
            _ if word.starts_with('-') || word.contains('=') => {}
            _ => return Some(word),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::env_program;

    #[test]
    fn env_is_understood() {
        assert_eq!(env_program("python3"), Some("python3"));
        assert_eq!(env_program("-S python3 -u"), Some("python3"));
        assert_eq!(env_program("-i -u HOME A=b node"), Some("node"));
        assert_eq!(env_program("-Snode --x"), Some("node"));
        assert_eq!(env_program(""), None);
    }
}
