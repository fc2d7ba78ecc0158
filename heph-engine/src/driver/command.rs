//! The drivers that run commands: `exec`, `bash`, `sh`.

use std::collections::BTreeMap;

use super::dependency::{dependencies, known_groups};
use super::keys::Keys;
use super::shape::{self, Wrong};
use super::{Driver, DriverContext, common, output};
use crate::definition::{Action, Codegen, CommandAction, Definition, Dependency, Isolation, PassEnv, Role};
use crate::problem::Problems;
use crate::spec::{Spec, Value};

/// Bytes of a script that is handed over as an argument; Linux takes 128 KiB.
const ARGUMENT_BYTES: usize = 64 << 10;

/// What interprets `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interpreter {
    /// Nothing: it is program and arguments.
    None,
    Bash,
    Sh,
}

/// A driver that runs commands.
#[derive(Clone, Debug)]
pub(super) struct CommandDriver {
    pub interpreter: Interpreter,
    /// Directories that are appended to PATH.
    pub extra_path: Vec<String>,
}

impl Driver for CommandDriver {
    fn name(&self) -> &str {
        match self.interpreter {
            Interpreter::None => "exec",
            Interpreter::Bash => "bash",
            Interpreter::Sh => "sh",
        }
    }

    fn define(&self, spec: &Spec, context: &DriverContext<'_>) -> Result<Definition, Problems> {
        let mut keys = Keys::of(spec, context);
        let run = match self.interpreter {
            Interpreter::None => keys.require("run", "[\"program\", \"argument\"]", |value| {
                arguments(value).map(|argv| (argv, None))
            }),
            Interpreter::Bash | Interpreter::Sh => {
                keys.require("run", "\"command\"", |value| script(self.interpreter, value))
            }
        };
        let (argv, script) = run.unwrap_or_default();
        let mut dependencies = Vec::new();
        for (key, role) in [
            ("deps", Role::Source),
            ("hash_deps", Role::Hash),
            ("runtime_deps", Role::Runtime),
            ("tools", Role::Tool),
        ] {
            dependencies.extend(self.dependencies(&mut keys, key, role));
        }
        let mut action = CommandAction {
            argv,
            script,
            outputs: Vec::new(),
            support_files: Vec::new(),
            env: BTreeMap::new(),
            pass_env: PassEnv::default(),
            runtime_env: BTreeMap::new(),
            runtime_pass_env: PassEnv::default(),
            network: keys.get("network", shape::truth).unwrap_or_default(),
            sandbox: keys.get("sandbox", isolation),
            codegen: keys.get("codegen", codegen),
            read_only: Vec::new(),
            extra_path: self.extra_path.clone(),
            jobserver: keys.get("jobserver", shape::truth).unwrap_or_default(),
        };
        read_outputs(&mut keys, &mut action);
        read_environment(&mut keys, &mut action);
        let staged = dependencies
            .iter()
            .filter(|dependency| matches!(dependency.role, Role::Source | Role::Runtime));
        let mut groups: Vec<&str> = staged.map(|dependency| dependency.group.as_str()).collect();
        groups.dedup();
        action.read_only = keys
            .get("read_only_deps", |value| known_groups(value, &groups))
            .unwrap_or_default();
        let cache = keys.get("cache", common::cache).unwrap_or_default();
        let retries = keys
            .get("retries", |value| shape::number(value, 0, 100))
            .unwrap_or_default();
        let exclusive = keys.get("exclusive", shape::truth).unwrap_or_default();
        let slots = keys
            .get("slots", |value| shape::number(value, 1, 1024))
            .unwrap_or(1);
        let definition = common::definition(&mut keys, dependencies, Action::Command(Box::new(action)));
        keys.finish(Some(Definition {
            cache,
            retries,
            exclusive,
            slots,
            ..definition
        }))
    }
}

impl CommandDriver {
    fn dependencies(&self, keys: &mut Keys<'_>, key: &'static str, role: Role) -> Vec<Dependency> {
        let package = &keys.spec().address.package;
        keys.get(key, |value| dependencies(package, role, value))
            .unwrap_or_default()
    }
}

fn read_outputs(keys: &mut Keys<'_>, action: &mut CommandAction) {
    let package = &keys.spec().address.package;
    action.outputs = keys
        .get("out", |value| output::outputs(package, value))
        .unwrap_or_default();
    let support = |value: &Value| {
        let paths = shape::list(value)?;
        paths
            .iter()
            .map(|path| output::output(package, "", path))
            .collect::<Result<Vec<_>, _>>()
    };
    action.support_files = keys.get("support_files", support).unwrap_or_default();
    if let Some(wrong) = output::duplicate(action.outputs.iter()) {
        keys.wrong("out", wrong);
    }
    if let Some(wrong) = output::duplicate(action.support_files.iter()) {
        keys.wrong("support_files", wrong);
    }
    let both = action
        .support_files
        .iter()
        .find(|support| action.outputs.iter().any(|out| out.path == support.path));
    if let Some(both) = both {
        keys.wrong(
            "support_files",
            Wrong::new(format!("declares '{}', which 'out' declares too", both.path)),
        );
    }
    if action.codegen.is_some() && action.outputs.is_empty() && keys.take("out").is_none() {
        keys.wrong(
            "codegen",
            Wrong::new("needs outputs to put into the source tree").hint("add out = \"file\""),
        );
    }
}

fn read_environment(keys: &mut Keys<'_>, action: &mut CommandAction) {
    action.env = keys.get("env", common::environment).unwrap_or_default();
    action.pass_env = keys.get("pass_env", common::pass_env).unwrap_or_default();
    action.runtime_env = keys.get("runtime_env", common::environment).unwrap_or_default();
    let names = keys.get("runtime_pass_env", common::names).unwrap_or_default();
    let sources: [(&'static str, Vec<&String>); 4] = [
        ("env", action.env.keys().collect()),
        (
            "pass_env",
            if let PassEnv::Names(names) = &action.pass_env {
                names.iter().collect()
            } else {
                Vec::new()
            },
        ),
        ("runtime_env", action.runtime_env.keys().collect()),
        ("runtime_pass_env", names.iter().collect()),
    ];
    let mut twice = Vec::new();
    for (index, (key, names)) in sources.iter().enumerate() {
        for (earlier, others) in sources.iter().take(index) {
            if let Some(name) = names.iter().find(|name| others.contains(name)) {
                twice.push((
                    *key,
                    Wrong::new(format!("sets '{name}', which '{earlier}' sets too")),
                ));
            }
        }
    }
    for (key, wrong) in twice {
        keys.wrong(key, wrong);
    }
    action.runtime_pass_env = PassEnv::Names(names);
}

fn arguments(value: &Value) -> Result<Vec<String>, Wrong> {
    if let Value::String(text) = value {
        let words: Vec<String> = text
            .split_whitespace()
            .take(8)
            .map(|word| format!("\"{}\"", word.escape_debug()))
            .collect();
        let more = if text.split_whitespace().nth(8).is_some() {
            ", ..."
        } else {
            ""
        };
        let wrong = Wrong::new("must be a list of program and arguments, not text");
        return Err(wrong.hint(format!(
            "write [{}{more}], or use the driver 'bash'",
            words.join(", ")
        )));
    }
    let argv = shape::list(value)?;
    if argv.iter().any(|argument| argument.contains('\0')) {
        return Err(Wrong::new("has a NUL character"));
    }
    match argv.first() {
        Some(program) if !program.is_empty() => Ok(argv),
        _ => Err(Wrong::new("names no program")),
    }
}

fn script(interpreter: Interpreter, value: &Value) -> Result<(Vec<String>, Option<String>), Wrong> {
    let text = shape::texts(value)
        .map_err(|_| Wrong::shape("text or a list of lines", value))?
        .join("\n");
    if text.trim().is_empty() {
        return Err(Wrong::new("is empty").hint("a target without a command is a 'group'"));
    }
    if text.contains('\0') {
        return Err(Wrong::new("has a NUL character"));
    }
    let options: &[&str] = match interpreter {
        Interpreter::Bash => &["bash", "--noprofile", "--norc", "-euo", "pipefail"],
        Interpreter::Sh | Interpreter::None => &["sh", "-eu"],
    };
    let mut argv: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    if text.len() > ARGUMENT_BYTES {
        return Ok((argv, Some(text)));
    }
    argv.extend(["-c".to_owned(), text]);
    Ok((argv, None))
}

fn isolation(value: &Value) -> Result<Isolation, Wrong> {
    let words = [
        ("auto", Isolation::Auto),
        ("strict", Isolation::Strict),
        ("standard", Isolation::Standard),
        ("off", Isolation::Off),
    ];
    shape::word(value, &words)
}

fn codegen(value: &Value) -> Result<Codegen, Wrong> {
    shape::word(value, &[("copy", Codegen::Copy), ("in_place", Codegen::InPlace)])
}
