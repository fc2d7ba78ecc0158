//! C-family compilers: drivers that start other programs.
//!
//! Sources: GCC's manual ("Spec Files", `-print-search-dirs`, "Environment Variables"), clang's driver
//! (`-print-search-dirs`, `-print-resource-dir`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ToolError;
use super::identity::Identity;
use super::question::ask;

/// Names of drivers, without target prefix and version.
const DRIVERS: [&str; 12] = [
    "cc",
    "c++",
    "gcc",
    "g++",
    "cpp",
    "gfortran",
    "gdc",
    "gnat",
    "clang",
    "clang++",
    "clang-cpp",
    "flang",
];

/// Programs that GCC's drivers start from their own directories.
const GCC_PARTS: [&str; 9] = [
    "cc1",
    "cc1plus",
    "cc1obj",
    "cc1objplus",
    "f951",
    "collect2",
    "lto1",
    "lto-wrapper",
    "g++-mapper-server",
];

/// Programs of binutils that drivers look for in their own directories and then on PATH.
const BINUTILS: [&str; 6] = ["as", "ld", "ld.bfd", "ld.gold", "objcopy", "dwp"];

/// Whether a program is a driver, by its name or the name of its file: `gcc-12`, `x86_64-linux-gnu-g++`, `cc`.
pub(crate) fn is_compiler(name: &str, resolved: &Path) -> bool {
    let file_name = resolved
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    is_driver(name) || is_driver(file_name)
}

fn is_driver(name: &str) -> bool {
    let version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let stem = match name.rsplit_once('-') {
        Some((stem, rest)) if version(rest) => stem,
        _ => name,
    };
    DRIVERS.iter().any(|driver| {
        stem == *driver
            || stem
                .strip_suffix(driver)
                .is_some_and(|prefix| prefix.ends_with('-'))
    })
}

/// Adds what the driver at `path` starts and reads by itself.
pub(crate) fn add(identity: &mut Identity<'_, '_>, path: &Path) -> Result<(), ToolError> {
    let Some(answer) = ask(path, &["-print-search-dirs"]) else {
        return binutils(identity, &[]);
    };
    let directories = |label: &str| -> Vec<PathBuf> {
        let line = answer
            .lines()
            .find_map(|line| line.strip_prefix(label)?.trim().strip_prefix('='));
        let mut seen = BTreeSet::new();
        let paths = line.unwrap_or_default().split(':').map(directory);
        paths
            .filter(|path| path.is_absolute() && seen.insert(path.clone()))
            .collect()
    };
    let programs = directories("programs:");
    let install = answer
        .lines()
        .find_map(|line| line.strip_prefix("install: "))
        .map(directory);
    match install.filter(|install| install.is_absolute()) {
        Some(install) => gcc(identity, &programs, &install)?,
        None => clang(identity, path, &programs, &directories("libraries:"))?,
    }
    binutils(identity, &programs)
}

fn gcc(identity: &mut Identity<'_, '_>, programs: &[PathBuf], install: &Path) -> Result<(), ToolError> {
    for part in GCC_PARTS {
        for directory in programs {
            let program = directory.join(part);
            if identity.evidence.executable(&program)?.is_some() {
                identity.add_program(part, &program)?;
                break;
            }
        }
    }
    // Specs, start files, libgcc and the headers that belong to the compiler; also the parts again, which costs nothing.
    identity.add_tree("gcc files", install, &["plugin"])?;
    if let Some(install) = identity.evidence.resolve(install)? {
        // `<prefix>/lib/gcc/<target>/<version>`.
        identity.show_directory(install.ancestors().nth(4).unwrap_or(&install));
        identity.show_directory(&install);
    }
    Ok(())
}

fn clang(
    identity: &mut Identity<'_, '_>,
    path: &Path,
    programs: &[PathBuf],
    libraries: &[PathBuf],
) -> Result<(), ToolError> {
    let asked = ask(path, &["-print-resource-dir"]).map(|answer| directory(answer.trim()));
    let resources = asked
        .as_ref()
        .filter(|path| path.is_absolute())
        .or(libraries.first());
    if let Some(resources) = resources {
        identity.add_tree("resource directory", resources, &[])?;
        identity.show_directory(resources);
    }
    let beside = path.parent().unwrap_or(Path::new("/"));
    for name in ["clang.cfg", "clang++.cfg"] {
        identity.add_file(name, &beside.join(name))?;
    }
    identity.add_tree("configuration", Path::new("/etc/clang"), &[])?;
    for part in ["ld.lld", "clang-linker-wrapper", "clang-offload-bundler"] {
        for directory in programs {
            let program = directory.join(part);
            if let Some(resolved) = identity.evidence.executable(&program)? {
                identity.bring_found(part, &program, resolved)?;
                break;
            }
        }
    }
    Ok(())
}

fn binutils(identity: &mut Identity<'_, '_>, programs: &[PathBuf]) -> Result<(), ToolError> {
    'names: for name in BINUTILS {
        for directory in programs {
            let program = directory.join(name);
            if let Some(resolved) = identity.evidence.executable(&program)? {
                identity.bring_found(name, &program, resolved)?;
                continue 'names;
            }
        }
        identity.bring(name)?;
    }
    Ok(())
}

/// A directory as compilers print it.
fn directory(text: &str) -> PathBuf {
    PathBuf::from(text.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_known_by_name() {
        for name in [
            "gcc",
            "g++-12",
            "x86_64-linux-gnu-gcc-12",
            "clang++-14",
            "cc",
            "c++",
            "gfortran",
            "clang-14.0.6",
        ] {
            assert!(is_driver(name), "{name}");
        }
        for name in [
            "gcc-ar",
            "gccgo2",
            "ccache",
            "icc2",
            "acc",
            "ld",
            "clang-format",
            "gcc-ranlib-12",
        ] {
            assert!(!is_driver(name), "{name}");
        }
    }
}
