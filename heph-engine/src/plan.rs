//! Plans: all that the client needs to run a target's command.

use std::collections::BTreeMap;
use std::path::Path;

use heph_common::Digest;
use heph_proto::{
    Approval, Command, Fetch, Input, ListFile, OutputSpec, Plan, SandboxMode, Tool, Variable, VariablePart,
    input, plan, tool, variable_part,
};

use crate::definition::{Action, Codegen, CommandAction, Isolation, OutputKind, Role};
use crate::gather::{Gathered, Given};
use crate::graph::{Id, Node};
use crate::keying::keyed_environment;
use crate::product::{Entry, Kind, SUPPORT_GROUP, Source};
use crate::surroundings::Surroundings;
use crate::tool::BaseSet;

/// The longest value of a variable that lists paths; the kernel takes 128 KiB. Longer lists are only in the list files.
const LONGEST_VARIABLE: usize = 100 << 10;

/// Where the bytes of stored files are.
pub trait Blobs {
    /// The bytes or the file of a blob; `None` when the store has it no more.
    fn locate(&self, digest: &Digest, executable: bool) -> Option<input::Source>;
}

/// The content of an input is gone: its producer has to run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The dependency that gave it.
    pub from: Id,
    /// What is missing.
    pub digest: Digest,
}

/// Makes the plan of a target that runs something.
pub fn plan(
    root: &Path,
    node: &Node,
    gathered: &Gathered<'_>,
    surroundings: &Surroundings,
    blobs: &dyn Blobs,
) -> Result<Plan, Gone> {
    let definition = &*node.definition;
    let mut plan = Plan {
        address: definition.address.to_string(),
        package: definition.address.package.clone(),
        sandbox_id: sandbox_id(root, &definition.address.to_string()),
        inputs: inputs(root, node, gathered, blobs)?,
        timeout_ms: definition.timeout.map_or(0, |timeout| timeout.as_millis() as u64),
        approval: definition.approval.as_ref().map(|approval| Approval {
            notice: approval.notice.clone(),
        }),
        workspace_root: root.to_string_lossy().into_owned(),
        sandbox: surroundings.sandbox.into(),
        ..Plan::default()
    };
    match &definition.action {
        Action::Command(command) => add_command(&mut plan, node, command, gathered, surroundings),
        Action::Fetch(fetch) => {
            plan.action = Some(plan::Action::Fetch(Fetch {
                url: fetch.url.clone(),
                sha256: fetch.sha256.clone(),
                out: fetch.out.clone(),
                executable: fetch.executable,
            }));
        }
        _ => {}
    }
    Ok(plan)
}

/// Name of the work area of a target: the same for the same target of the same workspace.
pub fn sandbox_id(root: &Path, address: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(root.as_os_str().as_encoded_bytes())
        .update(b"\0")
        .update(address.as_bytes());
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// Isolation that a target asks for.
pub fn demanded(node: &Node, surroundings: &Surroundings) -> SandboxMode {
    match &node.definition.action {
        Action::Command(command) => match command.sandbox {
            None => surroundings.sandbox,
            Some(Isolation::Auto) => SandboxMode::Unspecified,
            Some(Isolation::Strict) => SandboxMode::Strict,
            Some(Isolation::Standard) => SandboxMode::Standard,
            Some(Isolation::Off) => SandboxMode::Off,
        },
        _ => SandboxMode::Unspecified,
    }
}

/// Whether a result that was made with this isolation serves what a target asks for.
pub fn serves(node: &Node, surroundings: &Surroundings, made_with: SandboxMode) -> bool {
    let isolated = made_with == SandboxMode::Strict || !matches!(node.definition.action, Action::Command(_));
    isolated || demanded(node, surroundings) != SandboxMode::Strict
}

fn add_command(
    plan: &mut Plan,
    node: &Node,
    command: &CommandAction,
    gathered: &Gathered<'_>,
    surroundings: &Surroundings,
) {
    plan.action = Some(plan::Action::Command(Command {
        argv: command.argv.clone(),
        script: command.script.clone(),
    }));
    plan.sandbox = demanded(node, surroundings).into();
    plan.network = command.network;
    plan.jobserver = command.jobserver;
    plan.extra_path.clone_from(&command.extra_path);
    plan.in_place = command.codegen == Some(Codegen::InPlace);
    add_tools(plan, gathered);
    plan.outputs = output_specs(command);
    let mut variables: BTreeMap<String, Vec<VariablePart>> = BTreeMap::new();
    let mut set = |name: &str, value: &str| variables.insert(name.to_owned(), vec![text(value)]);
    for (name, value) in keyed_environment(command, node.inherited.as_deref(), surroundings) {
        value.map(|value| set(name, value));
    }
    let inherited = node
        .inherited
        .as_ref()
        .map(|inherited| &inherited.runtime_pass_env);
    for pass in inherited.into_iter().chain([&command.runtime_pass_env]) {
        for (name, value) in surroundings.passed(pass) {
            value.map(|value| set(name, value));
        }
    }
    command.runtime_env.iter().for_each(|(name, value)| {
        set(name, value);
    });
    add_source_variables(plan, &mut variables, node, gathered);
    add_output_variables(&mut variables, command, &plan.package);
    add_tool_variables(&mut variables, gathered);
    plan.environment = variables
        .into_iter()
        .map(|(name, parts)| Variable { name, parts })
        .collect();
}

/// The base set as plans carry it. It is large and the same for all of a run, so that it is sent once.
#[derive(Clone, Debug)]
pub struct PlanBase {
    /// Its programs.
    pub programs: Vec<Tool>,
    /// Names it together with its paths, which its digest of contents leaves out.
    pub digest: String,
}

impl PlanBase {
    /// The form of `base`.
    pub fn of(base: &BaseSet) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(base.digest.as_bytes());
        for (name, path) in &base.programs {
            hasher
                .update(name.as_bytes())
                .update(b"\0")
                .update(path.as_os_str().as_encoded_bytes())
                .update(b"\0");
        }
        Self {
            programs: base
                .programs
                .iter()
                .map(|(name, path)| host_tool(name, path))
                .collect(),
            digest: hasher.finalize().to_hex().to_string(),
        }
    }
}

fn host_tool(name: &str, path: &Path) -> Tool {
    Tool {
        name: name.to_owned(),
        program: Some(tool::Program::Host(path.to_string_lossy().into_owned())),
    }
}

fn add_tools(plan: &mut Plan, gathered: &Gathered<'_>) {
    let mut tools: BTreeMap<String, Tool> = BTreeMap::new();
    for program in gathered.tools() {
        for (name, path) in &program.brings {
            tools.entry(name.clone()).or_insert_with(|| host_tool(name, path));
        }
        plan.visible.extend(
            program
                .visible
                .iter()
                .map(|path| path.to_string_lossy().into_owned()),
        );
    }
    // What was asked for by name wins over what another tool brings along.
    for program in gathered.tools() {
        tools.insert(program.name.clone(), host_tool(&program.name, &program.resolved));
    }
    for built in &gathered.built_tools {
        let program = Some(tool::Program::Input(built.path.to_owned()));
        tools.insert(
            built.name.to_owned(),
            Tool {
                name: built.name.to_owned(),
                program,
            },
        );
    }
    plan.tools = tools.into_values().collect();
    plan.visible.sort_unstable();
    plan.visible.dedup();
}

fn inputs(root: &Path, node: &Node, gathered: &Gathered<'_>, blobs: &dyn Blobs) -> Result<Vec<Input>, Gone> {
    let read_only: &[String] = match &node.definition.action {
        Action::Command(command) => &command.read_only,
        _ => &[],
    };
    let staged = |given: &&Given<'_>| given.role != Role::Hash && !given.repeated;
    gathered
        .inputs
        .iter()
        .filter(staged)
        .map(|given| {
            let mut input = wire_input(root, given.entry, blobs).map_err(|digest| Gone {
                from: given.from,
                digest,
            })?;
            input.read_only = read_only.iter().any(|group| group == given.group);
            Ok(input)
        })
        .collect()
}

/// An entry as the wire has it; fails with the digest of content that the store has no more.
pub fn wire_input(root: &Path, entry: &Entry, blobs: &dyn Blobs) -> Result<Input, Digest> {
    let mut input = Input {
        path: entry.path.to_string(),
        kind: entry.wire_kind().into(),
        ..Input::default()
    };
    match &entry.kind {
        Kind::File {
            digest,
            size,
            executable,
        } => {
            input.digest = digest.as_bytes().to_vec().into();
            input.size = *size;
            input.source = Some(match &entry.source {
                Source::Tree(path) => {
                    input::Source::SourceFile(root.join(&**path).to_string_lossy().into_owned())
                }
                Source::Store | Source::None => blobs.locate(digest, *executable).ok_or(*digest)?,
            });
        }
        Kind::Symlink(target) => input.source = Some(input::Source::LinkTarget(target.to_string())),
        Kind::Directory => {}
    }
    Ok(input)
}

fn output_specs(command: &CommandAction) -> Vec<OutputSpec> {
    let spec = |output: &crate::definition::Output, group: &str| OutputSpec {
        group: group.to_owned(),
        path: output.path.clone(),
        glob: output.kind == OutputKind::Glob,
        directory: output.kind == OutputKind::Directory,
        optional: false,
    };
    let own = command.outputs.iter().map(|output| spec(output, &output.group));
    own.chain(
        command
            .support_files
            .iter()
            .map(|output| spec(output, SUPPORT_GROUP)),
    )
    .collect()
}

/// `$SRC`, `$SRC_<GROUP>`, `$LIST_SRC`, `$LIST_SRC_<GROUP>`.
///
/// Those of the default group and of every declared group are always there: a group may be empty, and shells end at a
/// variable that is not set.
fn add_source_variables(
    plan: &mut Plan,
    variables: &mut BTreeMap<String, Vec<VariablePart>>,
    node: &Node,
    gathered: &Gathered<'_>,
) {
    let is_source = |role: Role| matches!(role, Role::Source | Role::Runtime);
    let declared = node.definition.dependencies.iter();
    let declared = declared.filter(|dependency| is_source(dependency.role));
    let mut groups: BTreeMap<&str, Vec<String>> = declared
        .map(|dependency| (dependency.group.as_str(), Vec::new()))
        .chain([("", Vec::new())])
        .collect();
    for given in gathered.inputs.iter().filter(|given| is_source(given.role)) {
        let is_support = &*given.entry.group == SUPPORT_GROUP;
        if matches!(given.entry.kind, Kind::Directory) || is_support {
            continue;
        }
        let path = relative(&given.entry.path, &plan.package);
        let paths = groups.entry(given.group).or_default();
        if !given.repeated || !paths.contains(&path) {
            paths.push(path);
        }
    }
    for (group, lines) in groups {
        let name = grouped("SRC", group);
        let value = lines.join(" ");
        if value.len() <= LONGEST_VARIABLE {
            variables.insert(name.clone(), vec![text(&value)]);
        }
        variables.insert(format!("LIST_{name}"), vec![sandbox_path(format!("list/{name}"))]);
        plan.lists.push(ListFile { name, lines });
    }
}

/// `$OUT` and `$OUT_<GROUP>`; globs are left out, since nobody can write to one.
fn add_output_variables(
    variables: &mut BTreeMap<String, Vec<VariablePart>>,
    command: &CommandAction,
    package: &str,
) {
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::from([("", Vec::new())]);
    for output in command
        .outputs
        .iter()
        .filter(|output| output.kind != OutputKind::Glob)
    {
        groups
            .entry(&output.group)
            .or_default()
            .push(relative(&output.path, package));
    }
    for (group, paths) in groups {
        variables.insert(grouped("OUT", group), vec![text(&paths.join(" "))]);
    }
}

/// `$TOOL` and `$TOOL_<GROUP>`: absolute paths.
fn add_tool_variables(variables: &mut BTreeMap<String, Vec<VariablePart>>, gathered: &Gathered<'_>) {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let programs = gathered
        .programs
        .iter()
        .filter(|program| program.role == Role::Tool);
    let programs = programs.map(|program| (program.group, program.tool.name.as_str()));
    for (group, name) in programs.chain(gathered.built_tools.iter().map(|tool| (tool.group, tool.name))) {
        let names = groups.entry(group).or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for (group, names) in groups {
        let mut parts = Vec::new();
        for name in names {
            if !parts.is_empty() {
                parts.push(text(" "));
            }
            parts.push(sandbox_path(format!("bin/{name}")));
        }
        variables.insert(grouped("TOOL", group), parts);
    }
}

fn grouped(name: &str, group: &str) -> String {
    match group {
        "" => name.to_owned(),
        group => format!("{name}_{}", group.to_uppercase()),
    }
}

fn text(value: &str) -> VariablePart {
    VariablePart {
        part: Some(variable_part::Part::Text(value.to_owned())),
    }
}

fn sandbox_path(path: String) -> VariablePart {
    VariablePart {
        part: Some(variable_part::Part::SandboxPath(path)),
    }
}

/// A workspace-relative path as it is seen from a package's directory.
pub fn relative(path: &str, package: &str) -> String {
    if package.is_empty() {
        return path.to_owned();
    }
    let mut rest = path.split('/').peekable();
    let mut base = package.split('/').peekable();
    while rest.peek().is_some() && rest.peek() == base.peek() {
        rest.next();
        base.next();
    }
    let mut parts: Vec<&str> = base.map(|_| "..").collect();
    parts.extend(rest);
    match parts.is_empty() {
        true => ".".to_owned(),
        false => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::relative;

    #[test]
    fn paths_are_relative_to_the_package() {
        assert_eq!(relative("a/b/c.txt", ""), "a/b/c.txt");
        assert_eq!(relative("a/b/c.txt", "a/b"), "c.txt");
        assert_eq!(relative("a/x/c.txt", "a/b"), "../x/c.txt");
        assert_eq!(relative("z", "a/b"), "../../z");
        assert_eq!(relative("a/b", "a/b"), ".");
        assert_eq!(relative("ab/c", "a"), "../ab/c");
    }
}
