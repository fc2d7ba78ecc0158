use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::problem::Problem;

mod compilers;
mod elves;
mod libraries;
mod proxies;

/// A directory that plays the part of a machine.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As package managers do it: another file takes the place.
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, &path).unwrap();
        path
    }

    fn program(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.write(path, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn link(&self, path: &str, target: impl AsRef<Path>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        _ = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    /// Compiles C with the arguments, in this directory.
    fn cc<A: AsRef<OsStr>>(&self, source: &str, arguments: impl IntoIterator<Item = A>) {
        let file = self.write("source.c", source);
        let status = Command::new("cc")
            .arg(file)
            .args(arguments)
            .current_dir(self.directory.path())
            .status();
        assert!(status.unwrap().success());
    }

    fn finder(&self, path: &[&str]) -> ToolFinder {
        self.finder_with(path, &[])
    }

    fn finder_with(&self, path: &[&str], variables: &[(&str, &str)]) -> ToolFinder {
        let path: Vec<PathBuf> = path.iter().map(|path| self.path(path)).collect();
        let variables: BTreeMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let workspace = self.path("home/workspace");
        fs::create_dir_all(&workspace).unwrap();
        ToolFinder::new(&path, &variables, Some(&self.path("home")), &workspace)
    }
}

/// Finds a tool, once more until nothing of it was changed a moment ago.
fn settled(finder: &ToolFinder, name: &str) -> Tool {
    loop {
        let tool = finder.find(name, None).unwrap();
        if ToolFinder::unchanged(&tool) {
            return tool;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn message(error: ToolError) -> String {
    let problem = Problem::from(error);
    format!("{}; {}", problem.message, problem.hint.unwrap_or_default())
}

#[test]
fn an_upgraded_tool_is_another_one() {
    let machine = Machine::new();
    machine.program("bin/tool", "version 1");
    let finder = machine.finder(&["bin"]);
    let first = settled(&finder, "tool");
    assert_eq!(finder.find("tool", Some(&first)).unwrap(), first);

    machine.program("bin/tool", "version 2");
    assert!(!ToolFinder::unchanged(&first));
    let second = finder.find("tool", Some(&first)).unwrap();
    assert_ne!(second.digest, first.digest);

    machine.program("bin/tool", "version 1");
    assert_eq!(finder.find("tool", Some(&second)).unwrap().digest, first.digest);
}

#[test]
fn the_place_of_a_tool_does_not_count() {
    let machine = Machine::new();
    machine.program("a/bin/tool", "same");
    machine.program("b/libexec/other", "same");
    machine.link("c/tool", "../b/libexec/other");
    machine.program("a/bin/same", "same");
    let first = machine.finder(&["a/bin"]).find("tool", None).unwrap();
    let second = machine.finder(&["c"]).find("tool", None).unwrap();
    assert_eq!(first.digest, second.digest);
    assert_eq!(second.path, machine.path("c/tool"));
    assert_eq!(second.resolved, machine.path("b/libexec/other"));
    // Programs may act by their names.
    assert_ne!(
        machine.finder(&["a/bin"]).find("same", None).unwrap().digest,
        first.digest
    );
}

#[test]
fn an_earlier_directory_of_path_shadows_a_tool() {
    let machine = Machine::new();
    machine.program("late/tool", "late");
    machine.write("plain/tool", "not executable");
    fs::create_dir_all(machine.path("directory/tool")).unwrap();
    let path = ["absent", "early", "plain", "directory", "late"];
    let finder = machine.finder(&path);
    let late = settled(&finder, "tool");
    assert_eq!(late.path, machine.path("late/tool"));

    let plain = machine.path("plain/tool");
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(finder.find("tool", Some(&late)).unwrap().path, plain);
    fs::remove_file(plain).unwrap();
    let late = settled(&finder, "tool");

    machine.program("early/tool", "early");
    let early = finder.find("tool", Some(&late)).unwrap();
    assert_eq!(early.path, machine.path("early/tool"));
    assert_ne!(early.digest, late.digest);

    let early = settled(&finder, "tool");
    machine.program("absent/tool", "early");
    assert_eq!(
        finder.find("tool", Some(&early)).unwrap().path,
        machine.path("absent/tool")
    );
}

#[test]
fn another_path_is_another_question() {
    let machine = Machine::new();
    machine.program("a/tool", "a");
    machine.program("b/tool", "b");
    let known = settled(&machine.finder(&["a", "b"]), "tool");
    let found = machine.finder(&["b", "a"]).find("tool", Some(&known)).unwrap();
    assert_eq!(found.path, machine.path("b/tool"));
}

#[test]
fn every_link_of_a_chain_is_watched() {
    let machine = Machine::new();
    machine.program("opt/1/bin/tool", "version 1");
    machine.program("opt/2/bin/tool", "version 2");
    machine.link("opt/current", "1");
    machine.link("alternatives/tool", machine.path("opt/current/bin/tool"));
    machine.link("bin/tool", "../alternatives/tool");
    let finder = machine.finder(&["bin"]);
    let first = settled(&finder, "tool");
    assert_eq!(first.resolved, machine.path("opt/1/bin/tool"));

    machine.link("opt/current", "2");
    assert!(!ToolFinder::unchanged(&first));
    let second = finder.find("tool", Some(&first)).unwrap();
    assert_eq!(second.resolved, machine.path("opt/2/bin/tool"));
    assert_ne!(second.digest, first.digest);

    machine.link("opt/current", "current");
    assert!(message(finder.find("tool", None).unwrap_err()).starts_with("too many symlinks: "));
    machine.link("opt/current", "nowhere");
    assert!(matches!(
        finder.find("tool", None),
        Err(ToolError::NotFound { .. })
    ));
}

#[test]
fn the_interpreter_of_a_script_counts() {
    let machine = Machine::new();
    let engine = machine.program("lib/engine", "version 1");
    let interpreter = machine.program("lib/interpreter", format!("#! {} -x\n", engine.display()));
    machine.program("bin/tool", format!("#!{}\nrun\n", interpreter.display()));
    let finder = machine.finder(&["bin"]);
    let first = settled(&finder, "tool");

    machine.program("lib/engine", "version 2");
    let second = finder.find("tool", Some(&first)).unwrap();
    assert_ne!(second.digest, first.digest);

    let second = settled(&finder, "tool");
    fs::remove_file(engine).unwrap();
    let third = finder.find("tool", Some(&second)).unwrap();
    assert_ne!(third.digest, second.digest);
    assert!(first.visible.contains(&interpreter));
}

#[test]
fn what_env_looks_for_is_brought() {
    let machine = Machine::new();
    machine.program("bin/tool", "#!/usr/bin/env -S snake -u\n");
    machine.program("bin/shell", "#!/usr/bin/env sh\n");
    machine.program("bin/lost", "#!/usr/bin/env nothing\n");
    let snake = machine.program("other/snake", "version 1");
    let finder = machine.finder(&["bin", "other"]);
    let first = settled(&finder, "tool");
    assert_eq!(first.brings, [("snake".to_owned(), snake)]);

    machine.program("other/snake", "version 2");
    assert_ne!(finder.find("tool", Some(&first)).unwrap().digest, first.digest);

    // The base set has it, whatever the caller's PATH has.
    assert!(finder.find("shell", None).unwrap().brings.is_empty());

    let lost = settled(&finder, "lost");
    assert!(lost.brings.is_empty());
    let nothing = machine.program("bin/nothing", "something");
    assert_eq!(
        finder.find("lost", Some(&lost)).unwrap().brings,
        [("nothing".to_owned(), nothing)]
    );
}

#[test]
fn scripts_that_interpret_each_other_end() {
    let machine = Machine::new();
    let first = machine.path("bin/first");
    machine.program("bin/second", format!("#!{}\n", first.display()));
    machine.program(
        "bin/first",
        format!("#!{}\n", machine.path("bin/second").display()),
    );
    machine.program("bin/a", "#!/usr/bin/env b\n");
    machine.program("bin/b", "#!/usr/bin/env a\n");
    let finder = machine.finder(&["bin"]);
    finder.find("first", None).unwrap();
    finder.find("a", None).unwrap();
}

#[test]
fn what_is_known_is_not_read_again() {
    let machine = Machine::new();
    machine.program("bin/tool", "#!/bin/sh\n");
    let finder = machine.finder(&["bin"]);
    let mut known = settled(&finder, "tool");
    known.digest = heph_common::Digest::of(b"believed");
    assert_eq!(finder.find("tool", Some(&known)).unwrap(), known);

    let bytes = postcard::to_stdvec(&known).unwrap();
    assert_eq!(postcard::from_bytes::<Tool>(&bytes).unwrap(), known);
}

#[test]
fn a_missing_tool_has_a_clear_error() {
    let machine = Machine::new();
    for name in ["clang", "clang++", "clan", "zip"] {
        machine.program(&format!("bin/{name}"), "");
    }
    let finder = machine.finder(&["bin", "absent"]);
    let error = |name: &str| message(finder.find(name, None).unwrap_err());
    insta::assert_snapshot!(error("clnag"), @"no program 'clnag' on PATH; did you mean clang, clan or clang++?");
    insta::assert_snapshot!(error("javac"), @"no program 'javac' on PATH; install it, or add its directory to PATH");
    insta::assert_snapshot!(error("bin/zip"), @"'bin/zip' is not the name of a program; a program is named without its directory, such as //@heph/bin:git");
    insta::assert_snapshot!(error(""), @"'' is not the name of a program; ");
}

#[test]
fn a_tool_outside_the_system_is_shown_with_its_installation() {
    let machine = Machine::new();
    machine.program("opt/thing/bin/tool", "");
    machine.program("home/bin/tool", "");
    let shown = |directory: &str| machine.finder(&[directory]).find("tool", None).unwrap().visible;
    assert_eq!(shown("opt/thing/bin"), [machine.path("opt/thing")]);
    assert_eq!(shown("home/bin"), [machine.path("home/bin/tool")]);
    machine.link("home/bin/tool", machine.path("opt/thing/bin/tool"));
    assert_eq!(
        shown("home/bin"),
        [machine.path("home/bin/tool"), machine.path("opt/thing")]
    );
}

#[test]
fn the_base_set_is_there_and_cheap_to_check() {
    let base = base_set(None);
    assert!(BASE_PROGRAMS.is_sorted());
    for name in [
        "sh", "bash", "cat", "sed", "grep", "awk", "find", "xargs", "tar", "gzip",
    ] {
        assert!(base.programs.iter().any(|(program, _)| program == name), "{name}");
    }
    assert_eq!(base.programs.len() + base.absent.len(), BASE_PROGRAMS.len());
    assert!(base.programs.iter().all(|(_, path)| is_system(path)));
    assert_eq!(base_set(Some(&base)), base);
}

#[test]
fn the_guide_names_the_base_set_and_the_system_directories() {
    let guide = include_str!("../../../docs/sandbox.md");
    for name in BASE_PROGRAMS.iter().chain(&SYSTEM_DIRECTORIES) {
        assert!(guide.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn pipes_in_the_place_of_files_do_not_block() {
    let machine = Machine::new();
    machine.program("bin/real", "#!/bin/sh\n");
    for pipe in ["bin/tool", "home/rust-toolchain", "home/.rustup"] {
        let pipe = machine.path(pipe);
        fs::create_dir_all(pipe.parent().unwrap()).unwrap();
        let made = Command::new("mkfifo").args(["-m", "777"]).arg(pipe).status();
        assert!(made.unwrap().success());
    }
    machine.link("bin/rustup", "real");
    machine.link("bin/cargo", "rustup");
    let finder = machine.finder(&["bin"]);
    assert!(matches!(
        finder.find("tool", None),
        Err(ToolError::NotFound { .. })
    ));
    assert!(matches!(finder.find("cargo", None), Err(ToolError::Proxy { .. })));
}
