//! Tools that are more than one file: rustc, cargo, Go, Java, Python, packages of node.

use std::path::Path;

use super::ToolError;
use super::identity::Identity;
use super::place::node_package;

/// Programs that cargo and its subcommands start.
const CARGO_PARTS: [&str; 6] = [
    "rustc",
    "rustdoc",
    "cargo-clippy",
    "clippy-driver",
    "cargo-fmt",
    "rustfmt",
];

/// Adds what a known tool at `resolved` is made of beside its file.
pub(crate) fn add(identity: &mut Identity<'_, '_>, name: &str, resolved: &Path) -> Result<(), ToolError> {
    let Some(directory) = resolved.parent() else {
        return Ok(());
    };
    let prefix = directory.parent().unwrap_or(directory);
    match name {
        "rustc" | "rustdoc" | "clippy-driver" => rust(identity, prefix)?,
        "cargo" => {
            for part in CARGO_PARTS {
                let program = directory.join(part);
                match identity.evidence.executable(&program)? {
                    Some(resolved) => identity.bring_found(part, &program, resolved)?,
                    None if part == "rustc" => identity.bring(part)?,
                    None => {}
                }
            }
        }
        "go" | "gofmt" => go(identity, prefix)?,
        "java" | "javac" | "jar" => {
            for file in ["release", "lib/modules", "lib/server/libjvm.so"] {
                identity.add_file(file, &prefix.join(file))?;
            }
        }
        _ if is_python(name) => python(identity, prefix)?,
        _ => {}
    }
    Ok(())
}

/// Adds what says which version of its package a script belongs to.
pub(crate) fn add_script(identity: &mut Identity<'_, '_>, resolved: &Path) -> Result<(), ToolError> {
    match node_package(resolved) {
        Some(package) => identity.add_file("package.json", &package.join("package.json")),
        None => Ok(()),
    }
}

/// The standard library of every target, the linkers that come with rustc, and the `cc` that it links with.
fn rust(identity: &mut Identity<'_, '_>, prefix: &Path) -> Result<(), ToolError> {
    let targets = prefix.join("lib/rustlib");
    for target in identity.evidence.names(&targets)?.unwrap_or_default() {
        for part in ["lib", "bin"] {
            let path = targets.join(&target).join(part);
            if path.is_dir() {
                identity.add_tree(&format!("rustlib {} {part}", target.display()), &path, &[])?;
            } else {
                identity.evidence.resolve(&path)?;
            }
        }
    }
    identity.bring("cc")
}

/// Compiler, assembler and linker. The standard library comes with the same release, which VERSION names.
fn go(identity: &mut Identity<'_, '_>, root: &Path) -> Result<(), ToolError> {
    identity.add_file("go VERSION", &root.join("VERSION"))?;
    identity.add_file("go.env", &root.join("go.env"))?;
    identity.add_tree("go tools", &root.join("pkg/tool"), &[])
}

fn is_python(name: &str) -> bool {
    let rest = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"));
    rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// Which packages are installed: their directories carry names and versions.
fn python(identity: &mut Identity<'_, '_>, prefix: &Path) -> Result<(), ToolError> {
    identity.add_file("pyvenv.cfg", &prefix.join("pyvenv.cfg"))?;
    let lib = prefix.join("lib");
    for directory in identity.evidence.names(&lib)?.unwrap_or_default() {
        let name = directory.to_string_lossy();
        if name.starts_with("python") || name.starts_with("pypy") {
            for packages in ["site-packages", "dist-packages", "lib-dynload"] {
                let label = format!("{name} {packages}");
                identity.add_names(&label, &lib.join(&directory).join(packages))?;
            }
        }
    }
    Ok(())
}
