//! Action keys of targets: everything that may influence a result, as labelled parts.

use std::collections::BTreeMap;

use heph_common::Digest;
use heph_common::key::{KeyBuilder, KeyPart};

use crate::definition::{Action, Codegen, CommandAction, Output, OutputKind, PassEnv, Role};
use crate::gather::{Gathered, Given};
use crate::graph::{Inherited, Node};
use crate::platform::mentions_native;
use crate::product::SUPPORT_GROUP;
use crate::surroundings::Surroundings;

/// The key of an action, and its parts for `heph why-miss`.
pub fn action_key(
    node: &Node,
    gathered: &Gathered<'_>,
    surroundings: &Surroundings,
) -> (Digest, Vec<KeyPart>) {
    let definition = &*node.definition;
    let mut key = KeyBuilder::new("target");
    key.part("address", definition.address.to_string().as_bytes());
    if let Some(epoch) = &surroundings.epoch {
        key.part("cacheEpoch", epoch.as_bytes());
    }
    match &definition.action {
        Action::Command(command) => {
            add_platform(&mut key, surroundings);
            add_command(&mut key, command);
            add_environment(&mut key, command, node.inherited.as_deref(), surroundings);
        }
        Action::Fetch(fetch) => {
            key.part("url", fetch.url.as_bytes())
                .part("sha256", fetch.sha256.as_bytes());
            key.part("out", fetch.out.as_bytes())
                .part("executable", &[u8::from(fetch.executable)]);
        }
        Action::TextFile(file) => {
            key.part("text", file.text.as_bytes())
                .part("out", file.out.as_bytes());
            key.part("executable", &[u8::from(file.executable)]);
        }
        // These have no results of their own.
        Action::Group(_)
        | Action::File { .. }
        | Action::Glob { .. }
        | Action::HostProgram { .. }
        | Action::Query { .. }
        | Action::OwnOutputs => {}
    }
    add_inputs(&mut key, gathered);
    key.finish()
}

fn add_platform(key: &mut KeyBuilder, surroundings: &Surroundings) {
    let platform = &surroundings.platform;
    key.part("os", platform.os.as_bytes())
        .part("arch", platform.arch.as_bytes());
    key.digest("system", platform.system)
        .digest("base programs", surroundings.base.digest);
}

fn add_command(key: &mut KeyBuilder, command: &CommandAction) {
    key.list("run", &command.argv);
    if let Some(script) = &command.script {
        key.part("script", script.as_bytes());
    }
    key.part("network", &[u8::from(command.network)]);
    key.list("out", command.outputs.iter().map(describe_output));
    key.list("support_files", command.support_files.iter().map(describe_output));
    key.list("path", &command.extra_path);
    if let Some(codegen) = command.codegen {
        key.part(
            "codegen",
            match codegen {
                Codegen::Copy => b"copy".as_slice(),
                Codegen::InPlace => b"in_place",
            },
        );
    }
}

/// Whether a command may ask for the CPU it runs on, as far as its arguments, its script and these values tell.
pub fn says_native<'a>(command: &'a CommandAction, values: impl Iterator<Item = &'a str>) -> bool {
    mentions_native(
        command
            .argv
            .iter()
            .map(String::as_str)
            .chain(command.script.as_deref())
            .chain(values),
    )
}

fn describe_output(output: &Output) -> String {
    let kind = match output.kind {
        OutputKind::File => "file",
        OutputKind::Directory => "directory",
        OutputKind::Glob => "glob",
    };
    format!("{} {kind} {}", output.group, output.path)
}

/// Variables of the key: inherited ones first, so that the target's own win.
fn add_environment(
    key: &mut KeyBuilder,
    command: &CommandAction,
    inherited: Option<&Inherited>,
    surroundings: &Surroundings,
) {
    let environment = keyed_environment(command, inherited, surroundings);
    for (name, value) in &environment {
        match value {
            Some(value) => key.part(&format!("env {name}"), value.as_bytes()),
            None => key.list(&format!("env {name}"), [] as [&str; 0]),
        };
    }
    if says_native(command, environment.values().flatten().copied()) {
        key.digest("native cpu", surroundings.native());
    }
}

/// The variables that enter the key, by name; `None` for one that the caller does not set.
pub fn keyed_environment<'a>(
    command: &'a CommandAction,
    inherited: Option<&'a Inherited>,
    surroundings: &'a Surroundings,
) -> BTreeMap<&'a str, Option<&'a str>> {
    let mut environment = BTreeMap::new();
    if let Some(inherited) = inherited {
        environment.extend(surroundings.passed(&inherited.pass_env));
        environment.extend(
            inherited
                .env
                .iter()
                .map(|(name, value)| (name.as_str(), Some(value.as_str()))),
        );
    }
    environment.extend(surroundings.passed(&command.pass_env));
    environment.extend(
        command
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), Some(value.as_str()))),
    );
    environment
}

/// Digest of the caller's values that a node may see and that its definition does not tell: all that enter the key.
pub fn passed_digest(node: &Node, surroundings: &Surroundings) -> Digest {
    let none = PassEnv::default();
    let Action::Command(command) = &node.definition.action else {
        return Digest::from_bytes([0; 32]);
    };
    let handed = node
        .inherited
        .as_ref()
        .map_or(&none, |inherited| &inherited.pass_env);
    let passes = command.pass_env != none || *handed != none;
    if !passes && !node.native {
        return Digest::from_bytes([0; 32]);
    }
    let passed: Vec<_> = surroundings
        .passed(&command.pass_env)
        .into_iter()
        .chain(surroundings.passed(handed))
        .collect();
    let mut hasher = blake3::Hasher::new();
    for (name, value) in &passed {
        for text in [Some(*name), *value] {
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            hasher
                .update(&length.to_le_bytes())
                .update(text.unwrap_or_default().as_bytes());
        }
    }
    if node.native
        || says_native(
            command,
            keyed_environment(command, node.inherited.as_deref(), surroundings)
                .into_values()
                .flatten(),
        )
    {
        hasher.update(surroundings.native().as_bytes());
    }
    hasher.finalize().into()
}

/// Whether a part of this label is what a dependency gives.
pub fn is_input(label: &str) -> bool {
    label == GROUPS
        || ["input ", "hash input ", "tool file ", "hash tool ", "tool "]
            .iter()
            .any(|role| label.starts_with(role))
}

/// Label of the part that covers the groups of all inputs: it means nothing while some of them are not known.
pub const GROUPS: &str = "groups";

fn add_inputs(key: &mut KeyBuilder, gathered: &Gathered<'_>) {
    let mut label = String::new();
    for given in &gathered.inputs {
        let role = match given.role {
            Role::Source => "input",
            Role::Hash => "hash input",
            Role::Tool => "tool file",
            Role::Runtime => continue,
        };
        label.clear();
        label.push_str(role);
        for part in [given.group, &given.entry.path] {
            if !part.is_empty() {
                label.push(' ');
                label.push_str(part);
            }
        }
        key.digest(&label, given.entry.content_digest());
    }
    add_groups(key, gathered);
    for program in &gathered.programs {
        let role = if program.role == Role::Hash {
            "hash tool"
        } else {
            "tool"
        };
        let separator = if program.group.is_empty() { "" } else { " " };
        let label = format!("{role}{separator}{} {}", program.group, program.tool.name);
        key.digest(&label, program.tool.digest);
    }
}

/// Groups and support files decide what `$SRC` and its like say. Labels are for people; this part leaves no doubt where a
/// group ends and a path begins. Most targets have only the default group, and no such part.
fn add_groups(key: &mut KeyBuilder, gathered: &Gathered<'_>) {
    let is_support = |given: &Given<'_>| &*given.entry.group == SUPPORT_GROUP;
    let inputs = || gathered.inputs.iter().filter(|given| given.role != Role::Runtime);
    let is_plain = inputs().all(|given| given.group.is_empty() && !is_support(given));
    if is_plain && gathered.programs.iter().all(|program| program.group.is_empty()) {
        return;
    }
    let described = inputs().map(|given| {
        format!(
            "{}{}",
            if is_support(given) { "support " } else { "" },
            given.group
        )
    });
    let programs = gathered
        .programs
        .iter()
        .map(|program| format!("program {}", program.group));
    key.list(GROUPS, described.chain(programs));
}
