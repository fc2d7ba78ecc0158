//! What a failed command was looking for, and what would declare it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use heph_proto::Plan;

use super::protocol::INSIDE;
use super::relative;

/// Lines of the log that are read.
pub(super) const LINES: usize = 200;

/// Places where compilers look for what is included.
const BESIDES: [&str; 3] = ["", "include", "src"];

/// The file or program that a failed command missed, and the line that would give it; empty when nothing is found.
pub(super) fn of(plan: &Plan, exit_code: Option<i32>, log: &[String]) -> String {
    if exit_code == Some(127)
        && let Some(program) = log.iter().rev().find_map(|line| missing_program(line))
    {
        return program_hint(&program);
    }
    undeclared(plan, log).unwrap_or_default()
}

/// What makes a program of the machine available.
pub(super) fn program_hint(name: &str) -> String {
    format!("declare it: tools = [\"//@heph/bin:{name}\"]")
}

/// The program that a shell or `env` did not find.
fn missing_program(line: &str) -> Option<String> {
    let clean = |text: &str| {
        let name = text.trim().trim_matches(['\'', '"', '`', '\u{2018}', '\u{2019}']);
        let is_name = relative::is_name(name) && !name.contains(char::is_whitespace);
        is_name.then(|| name.to_owned())
    };
    if let Some(before) = line.trim_end().strip_suffix(": command not found") {
        return clean(before.rsplit(": ").next()?);
    }
    if let Some(before) = line.trim_end().strip_suffix(": not found") {
        return clean(before.rsplit(": ").next()?);
    }
    let rest = line.strip_prefix("env: ")?;
    clean(rest.split(": No such file").next()?)
}

/// A path of the log that lies in the workspace but was not an input.
fn undeclared(plan: &Plan, log: &[String]) -> Option<String> {
    let root = Path::new(&plan.workspace_root);
    if plan.workspace_root.is_empty() {
        return None;
    }
    let inputs: HashSet<&str> = plan.inputs.iter().map(|input| input.path.as_str()).collect();
    let made: HashSet<&str> = plan.outputs.iter().map(|output| output.path.as_str()).collect();
    for line in log.iter().rev() {
        for word in words(line) {
            for path in candidates(plan, word) {
                if inputs.contains(path.as_str()) || made.contains(path.as_str()) {
                    continue;
                }
                let Ok(found) = std::fs::symlink_metadata(root.join(&path)) else {
                    continue;
                };
                // A directory of inputs exists in both places.
                let is_known =
                    found.is_dir() && inputs.iter().any(|input| Path::new(input).starts_with(&path));
                if !is_known {
                    return Some(declaration(plan, &path, found.is_dir()));
                }
            }
        }
    }
    None
}

/// The parts of a line that may be paths.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_whitespace() || "\"'`<>()[]{},;=\u{2018}\u{2019}".contains(c))
        .flat_map(|word| {
            let word = word.trim_end_matches(['.', ':']);
            // `file.c:3:10:` and `cannot open:file`
            [word, word.split(':').next().unwrap_or(word)]
        })
        .filter(|word| word.contains(['.', '/']) && word.len() > 2)
}

/// Where in the workspace a word of the log may be.
fn candidates(plan: &Plan, word: &str) -> Vec<String> {
    let inside = format!("{INSIDE}/ws/");
    let whole = [inside.as_str(), &format!("{}/", plan.workspace_root)];
    if let Some(path) = whole.iter().find_map(|prefix| word.strip_prefix(prefix)) {
        return plain(PathBuf::from(path)).into_iter().collect();
    }
    if word.starts_with('/') {
        return Vec::new();
    }
    let mut candidates = Vec::new();
    for base in [plan.package.as_str(), ""] {
        for beside in BESIDES {
            let directory = Path::new(base).join(beside);
            candidates.extend(plain(directory.join(word)));
        }
    }
    candidates
}

fn plain(path: PathBuf) -> Option<String> {
    relative::resolve("", &path).filter(|path| relative::is_plain(path))
}

fn declaration(plan: &Plan, path: &str, is_directory: bool) -> String {
    let package = plan.package.as_str();
    let local = match package {
        "" => Some(path),
        _ => path.strip_prefix(package).and_then(|path| path.strip_prefix('/')),
    };
    let dependency = match (local, is_directory) {
        (Some(local), false) => format!("file(\"{local}\")"),
        (Some(local), true) => format!("glob(\"{local}/**\")"),
        (None, false) => format!("\"//@heph/fs:file@f={path}\""),
        (None, true) => format!("\"//@heph/fs:glob@p={path}/**\""),
    };
    format!("{path} exists in the workspace but is not declared: deps = [{dependency}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(files: &[&str], package: &str, line: &str) -> String {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let plan = Plan {
            package: package.to_owned(),
            workspace_root: root.path().to_str().unwrap().to_owned(),
            inputs: vec![heph_proto::Input {
                path: "p/known.h".to_owned(),
                ..Default::default()
            }],
            ..Plan::default()
        };
        of(&plan, Some(1), &[line.to_owned()])
    }

    #[test]
    fn a_header_beside_is_named_with_the_key_that_declares_it() {
        let line = "main.c:1:10: fatal error: x.h: No such file or directory";
        assert_eq!(
            hint(&["p/x.h"], "p", line),
            "p/x.h exists in the workspace but is not declared: deps = [file(\"x.h\")]"
        );
        assert_eq!(
            hint(&["p/include/x.h"], "p", line),
            "p/include/x.h exists in the workspace but is not declared: deps = [file(\"include/x.h\")]"
        );
    }

    #[test]
    fn files_of_other_packages_have_their_address() {
        assert_eq!(
            hint(
                &["q/data.txt"],
                "p",
                "cat: /heph/ws/q/data.txt: No such file or directory"
            ),
            "q/data.txt exists in the workspace but is not declared: deps = [\"//@heph/fs:file@f=q/data.txt\"]"
        );
        assert_eq!(
            hint(&["q/data.txt"], "p", "cat: '../q/data.txt': No such file"),
            "q/data.txt exists in the workspace but is not declared: deps = [\"//@heph/fs:file@f=q/data.txt\"]"
        );
    }

    #[test]
    fn what_is_declared_or_nowhere_gives_no_hint() {
        assert_eq!(hint(&["p/known.h"], "p", "known.h: broken"), "");
        assert_eq!(hint(&[], "p", "x.h: No such file"), "");
        assert_eq!(hint(&[], "p", "../../../etc/passwd: no"), "");
    }

    #[test]
    fn missing_programs_are_understood() {
        for line in [
            "sh: 1: foo: not found",
            "/bin/sh: 3: foo: not found",
            "bash: line 1: foo: command not found",
            "/heph/script: line 4: foo: command not found",
            "env: \u{2018}foo\u{2019}: No such file or directory",
            "env: 'foo': No such file or directory",
        ] {
            let hint = of(&Plan::default(), Some(127), &[line.to_owned()]);
            assert_eq!(hint, "declare it: tools = [\"//@heph/bin:foo\"]", "{line}");
        }
    }
}
