//! The POSIX base set: the programs that every command finds on its PATH without declaring them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use heph_common::{Digest, KeyBuilder};
use serde::{Deserialize, Serialize};

use super::ToolError;
use super::evidence::{Contents, Evidence, Object, Watched, all_unchanged};
use super::loader;

/// The names of the base set, sorted.
pub const BASE_PROGRAMS: [&str; 124] = [
    "[",
    "awk",
    "b2sum",
    "base32",
    "base64",
    "basename",
    "basenc",
    "bash",
    "bunzip2",
    "bzcat",
    "bzip2",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "cksum",
    "cmp",
    "comm",
    "cp",
    "csplit",
    "cut",
    "dash",
    "date",
    "dd",
    "df",
    "diff",
    "diff3",
    "dir",
    "dirname",
    "du",
    "echo",
    "egrep",
    "env",
    "expand",
    "expr",
    "factor",
    "false",
    "fgrep",
    "find",
    "fmt",
    "fold",
    "getconf",
    "getopt",
    "grep",
    "groups",
    "gunzip",
    "gzip",
    "head",
    "hostid",
    "id",
    "install",
    "join",
    "link",
    "ln",
    "logname",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mktemp",
    "mv",
    "nice",
    "nl",
    "nohup",
    "nproc",
    "numfmt",
    "od",
    "paste",
    "patch",
    "pathchk",
    "pr",
    "printenv",
    "printf",
    "ptx",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "sdiff",
    "sed",
    "seq",
    "sh",
    "sha1sum",
    "sha224sum",
    "sha256sum",
    "sha384sum",
    "sha512sum",
    "shred",
    "shuf",
    "sleep",
    "sort",
    "split",
    "stat",
    "stdbuf",
    "stty",
    "sum",
    "sync",
    "tac",
    "tail",
    "tar",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "truncate",
    "tsort",
    "tty",
    "uname",
    "unexpand",
    "uniq",
    "unlink",
    "unxz",
    "vdir",
    "wc",
    "which",
    "whoami",
    "xargs",
    "xz",
    "xzcat",
    "yes",
    "zcat",
];

/// Where they are looked for: never on the caller's PATH.
const DIRECTORIES: [&str; 2] = ["/usr/bin", "/bin"];

/// The programs of the base set that this machine has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseSet {
    /// Names and resolved paths, sorted by name.
    pub programs: Vec<(String, PathBuf)>,
    /// Names that this machine lacks, sorted.
    pub absent: Vec<String>,
    /// Identity of all of them with their libraries.
    pub digest: Digest,
    /// Everything that was looked at.
    pub files: Vec<Watched>,
}

impl BaseSet {
    /// Whether [`base_set`] would find the same.
    pub fn is_current(&self) -> bool {
        self.covers(&BASE_PROGRAMS) && all_unchanged(&self.files)
    }

    /// Whether it was made of these names, sorted.
    fn covers(&self, names: &[&str]) -> bool {
        let own = self.programs.iter().map(|(name, _)| name).chain(&self.absent);
        self.programs.len() + self.absent.len() == names.len()
            && own
                .into_iter()
                .all(|name| names.binary_search(&name.as_str()).is_ok())
    }
}

/// Finds the base set. `known` is returned as it is while nothing has changed: one system call a file. A program that
/// cannot be read is absent.
pub fn base_set(known: Option<&BaseSet>) -> BaseSet {
    let contents = Contents::default();
    if let Some(known) = known {
        if known.is_current() {
            return known.clone();
        }
        contents.remember(&known.files);
    }
    let directories = DIRECTORIES.map(PathBuf::from);
    find(&contents, &BASE_PROGRAMS, &directories)
}

fn find(contents: &Contents, names: &[&str], directories: &[PathBuf]) -> BaseSet {
    let mut evidence = Evidence::new(contents);
    let mut key = KeyBuilder::new("base-set");
    let mut programs = Vec::new();
    let mut absent = Vec::new();
    let mut roots: Vec<PathBuf> = Vec::new();
    for directory in directories {
        if let Ok(Some(resolved)) = evidence.resolve(directory)
            && !roots.contains(&resolved)
        {
            roots.push(resolved);
        }
    }
    let mut libraries = BTreeMap::new();
    for name in names {
        match add(&mut evidence, name, &roots, &mut libraries) {
            Ok(Some((resolved, digest))) => {
                key.digest(name, digest);
                programs.push(((*name).to_owned(), resolved));
            }
            Ok(None) | Err(_) => absent.push((*name).to_owned()),
        }
    }
    for (name, digest) in libraries {
        key.digest(&format!("library {name}"), digest);
    }
    BaseSet {
        programs,
        absent,
        digest: key.finish().0,
        files: evidence.finish(),
    }
}

/// The resolved path and the digest of one program, and its libraries. Interpreters of scripts are in the base set
/// themselves.
fn add(
    evidence: &mut Evidence<'_>,
    name: &str,
    roots: &[PathBuf],
    libraries: &mut BTreeMap<String, Digest>,
) -> Result<Option<(PathBuf, Digest)>, ToolError> {
    for root in roots {
        let Some(resolved) = evidence.executable(&root.join(name))? else {
            continue;
        };
        let digest = evidence.digest(&resolved)?;
        if let Ok(Object::Elf(elf)) = evidence.contents.object(&resolved) {
            for library in loader::libraries(evidence, &resolved, &elf)? {
                let name = library.name.rsplit('/').next().unwrap_or_default().to_owned();
                if let Some(found) = library.found {
                    libraries.insert(name, evidence.digest(&found.resolved)?);
                }
            }
        }
        return Ok(Some((resolved, digest)));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    fn install(directory: &TempDir, name: &str, text: &str) {
        let new = directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, directory.path().join(name)).unwrap();
    }

    fn settled(directory: &TempDir) -> BaseSet {
        let directories = [directory.path().join("absent"), directory.path().to_owned()];
        loop {
            let base = find(&Contents::default(), &["awk", "sed", "tar"], &directories);
            if all_unchanged(&base.files) {
                return base;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn upgrades_and_what_is_installed_later_are_seen() {
        let directory = TempDir::new().unwrap();
        install(&directory, "sed", "sed 1");
        install(&directory, "tar", "tar 1");
        let first = settled(&directory);
        let names: Vec<&str> = first.programs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            (names, first.absent.clone()),
            (vec!["sed", "tar"], vec!["awk".to_owned()])
        );
        assert!(first.covers(&["awk", "sed", "tar"]));
        assert!(!first.covers(&["awk", "sed", "tr"]));

        install(&directory, "sed", "sed 2");
        assert!(!all_unchanged(&first.files));
        let second = settled(&directory);
        assert_ne!(second.digest, first.digest);

        install(&directory, "awk", "awk");
        assert!(!all_unchanged(&second.files));
        assert_ne!(settled(&directory).digest, second.digest);
    }
}
