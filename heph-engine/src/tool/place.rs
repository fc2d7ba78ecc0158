//! Where a tool lives, and what a sandbox must show for it to work.

use std::path::{Path, PathBuf};

/// Directories that every sandbox shows read-only, where they exist. The stores of Nix and Guix are never changed in
/// place.
pub const SYSTEM_DIRECTORIES: [&str; 10] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/nix/store",
    "/gnu/store",
];

/// Whether a path lies in the [`SYSTEM_DIRECTORIES`].
pub fn is_system(path: &Path) -> bool {
    SYSTEM_DIRECTORIES
        .iter()
        .any(|directory| path.starts_with(directory))
}

/// The places that are a person's and never shown as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Private {
    homes: Vec<PathBuf>,
    workspaces: Vec<PathBuf>,
}

/// What a directory has that is one self-contained installation.
const MARKS: [&str; 5] = [
    "pkg/tool",
    "include/node",
    "conda-meta",
    "pyvenv.cfg",
    "lib/rustlib",
];

impl Private {
    /// A home directory and a workspace; both also without symlinks.
    pub(crate) fn new(home: Option<&Path>, workspace: &Path) -> Self {
        let both = |path: &Path| -> Vec<PathBuf> {
            let resolved = path.canonicalize().ok().filter(|resolved| resolved != path);
            [path.to_owned()].into_iter().chain(resolved).collect()
        };
        Self {
            homes: home.map(both).unwrap_or_default(),
            workspaces: both(workspace),
        }
    }

    /// What must be shown so that the program at `path` works: nothing for a system program, its installation
    /// prefix (`<prefix>` of `<prefix>/bin/x`), or the file alone where that would show what is a person's.
    pub(crate) fn shown(&self, path: &Path) -> Option<PathBuf> {
        if is_system(path) {
            return None;
        }
        let prefix = installation(path).filter(|prefix| self.may_show(prefix));
        Some(prefix.unwrap_or(path).to_owned())
    }

    /// Whether a directory may be shown as a whole.
    pub(crate) fn may_show(&self, directory: &Path) -> bool {
        let depth = directory.components().count();
        // `/home/u` of other people, and `/tmp`, `/opt`, `/srv` themselves.
        if depth <= 2 || (depth == 3 && directory.starts_with("/home")) {
            return false;
        }
        let holds = |places: &[PathBuf]| places.iter().any(|place| place.starts_with(directory));
        let within = |places: &[PathBuf]| places.iter().any(|place| directory.starts_with(place));
        if holds(&self.homes) || holds(&self.workspaces) || within(&self.workspaces) {
            return false;
        }
        // `~/.local`, `~/.cargo`, `~/go` hold more than one installation.
        let in_home = self.homes.iter().any(|home| directory.parent() == Some(home));
        !in_home || MARKS.iter().any(|mark| directory.join(mark).exists())
    }
}

/// The directory that a program was installed into: `<prefix>` of `<prefix>/bin/x`, or its package of node.
fn installation(path: &Path) -> Option<&Path> {
    if let Some(package) = node_package(path) {
        return Some(package);
    }
    let directory = path.parent()?;
    let name = directory.file_name()?;
    (name == "bin" || name == "sbin" || name == "libexec").then_some(directory.parent()?)
}

/// The directory of the innermost node package that a file belongs to.
pub(crate) fn node_package(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|directory| {
        let parent = directory.parent();
        let name = |path: Option<&Path>| {
            path.and_then(Path::file_name)
                .map(|name| name.to_string_lossy().into_owned())
        };
        let scope = name(parent).filter(|name| name.starts_with('@'));
        match scope {
            Some(_) => name(parent.and_then(Path::parent)).as_deref() == Some("node_modules"),
            None => {
                name(parent).as_deref() == Some("node_modules")
                    && !name(Some(directory)).is_some_and(|name| name.starts_with('@'))
            }
        }
    })
}

/// Sorted, and without what lies below another entry.
pub(crate) fn outermost(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    paths.sort_unstable();
    let mut kept: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !kept.last().is_some_and(|last| path.starts_with(last)) {
            kept.push(path);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str) -> Option<String> {
        let private = Private::new(Some(Path::new("/home/u")), Path::new("/home/u/src/w"));
        private
            .shown(Path::new(path))
            .map(|path| path.display().to_string())
    }

    #[test]
    fn an_installation_is_shown_as_a_whole() {
        assert_eq!(shown("/usr/bin/gcc"), None);
        assert_eq!(shown("/opt/node/bin/node").as_deref(), Some("/opt/node"));
        let toolchain = "/home/u/.rustup/toolchains/stable";
        assert_eq!(
            shown(&format!("{toolchain}/bin/rustc")).as_deref(),
            Some(toolchain)
        );
    }

    #[test]
    fn what_is_a_persons_is_not() {
        for alone in [
            "/home/u/bin/x",
            "/home/u/.local/bin/x",
            "/home/u/.cargo/bin/rg",
            "/home/u/src/w/bin/x",
            "/home/u/src/w/node/bin/x",
            "/home/other/bin/x",
            "/home/bin/x",
            "/opt/bin/x",
            "/bin2/x",
            "/home/u/src/bin/x",
        ] {
            assert_eq!(shown(alone).as_deref(), Some(alone));
        }
    }

    #[test]
    fn a_node_package_is_an_installation() {
        let modules = "/opt/node/lib/node_modules";
        let package = |path: &str| node_package(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(
            package(&format!("{modules}/npm/bin/npm-cli.js")),
            Some(format!("{modules}/npm"))
        );
        assert_eq!(
            package(&format!("{modules}/@a/b/c.js")),
            Some(format!("{modules}/@a/b"))
        );
        assert_eq!(package("/opt/node/bin/node"), None);
        assert_eq!(
            shown(&format!("{modules}/p/cli.js")),
            Some(format!("{modules}/p"))
        );
    }

    #[test]
    fn nested_places_are_shown_once() {
        let paths = ["/opt/a/lib", "/opt/a", "/opt/ab", "/opt/a"]
            .map(PathBuf::from)
            .to_vec();
        assert_eq!(outermost(paths), ["/opt/a", "/opt/ab"].map(PathBuf::from));
    }
}
