//! Targets by themselves: as they were written, what drivers made of them, which settings act on them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use heph_common::Address;
use serde::Serialize;

use super::document::{Entries, Passed, declared_kind, place, role};
use super::{Answer, Failure, VERSION, json};
use crate::build_file::ProviderState;
use crate::definition::{
    Action, CachePolicy, Codegen, CommandAction, Definition, Dependency, GroupAction, Isolation, OutputKind,
};
use crate::problem::Problems;
use crate::select::Selection;
use crate::spec::{Approval, Spec, Value};
use crate::workspace::Workspace;

/// A document about several targets.
#[derive(Serialize)]
pub(super) struct Document<T> {
    version: u32,
    targets: Vec<T>,
}

impl<T: Serialize> Document<T> {
    /// The document as an answer.
    pub(super) fn answer(targets: Vec<T>) -> Answer {
        json(&Self {
            version: VERSION,
            targets,
        })
    }
}

#[derive(Serialize)]
struct Written<'a> {
    address: String,
    driver: &'a str,
    place: Option<String>,
    labels: &'a [String],
    description: Option<&'a str>,
    timeout_ms: Option<u64>,
    approval: Option<&'a Approval>,
    transitive: Entries<'a>,
    config: Entries<'a>,
}

/// Targets as they were written.
pub(super) fn specs(workspace: &mut Workspace, selection: &Selection) -> Answer {
    let mut specs: BTreeMap<&Address, Spec> = BTreeMap::new();
    let mut packages: HashMap<&str, Vec<&Address>> = HashMap::new();
    for address in selection {
        match address.is_provided() {
            true => drop(specs.insert(address, provided_spec(workspace, address)?)),
            false => packages.entry(&address.package).or_default().push(address),
        }
    }
    for (package, addresses) in packages {
        for spec in workspace.specs(package)? {
            if let Some(&address) = addresses.iter().find(|address| ***address == spec.address) {
                specs.insert(address, spec);
            }
        }
    }
    Document::answer(specs.values().map(written).collect())
}

fn written(spec: &Spec) -> Written<'_> {
    Written {
        address: spec.address.to_string(),
        driver: &spec.driver,
        place: place(spec.place.as_ref()),
        labels: &spec.labels,
        description: spec.description.as_deref(),
        timeout_ms: spec.timeout.map(milliseconds),
        approval: spec.approval.as_ref(),
        transitive: Entries(&spec.transitive),
        config: Entries(&spec.config),
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What is written of a target that is made from its address: the arguments.
fn provided_spec(workspace: &Workspace, address: &Address) -> Result<Spec, Failure> {
    let definition = defined(workspace, address)?;
    let value = |(key, value): (&String, &String)| (key.clone(), Value::String(value.clone()));
    Ok(Spec {
        address: address.clone(),
        place: None,
        callers: Vec::new(),
        driver: definition.driver.clone(),
        labels: Vec::new(),
        description: None,
        timeout: None,
        approval: None,
        transitive: Vec::new(),
        config: address.args.iter().map(value).collect(),
    })
}

/// The definition of a target of an evaluated package, or of a provider.
pub(super) fn defined(workspace: &Workspace, address: &Address) -> Result<Arc<Definition>, Failure> {
    if address.is_provided() {
        let generated = workspace.generated(address);
        return match generated {
            Some(definition) => Ok(Arc::new(definition?)),
            None => Err(super::nothing(address)),
        };
    }
    match workspace
        .package(&address.package)
        .and_then(|package| package.targets.get(&address.name))
    {
        Some(Ok(definition)) => Ok(Arc::clone(definition)),
        Some(Err(problems)) => Err(problems.clone().into()),
        None => Err(super::nothing(address)),
    }
}

#[derive(Serialize)]
struct Defined<'a> {
    address: String,
    driver: &'a str,
    place: Option<String>,
    labels: &'a [String],
    description: Option<&'a str>,
    dependencies: Vec<Edge<'a>>,
    outputs: Vec<Declared<'a>>,
    transitive: Transitive<'a>,
    cache: CachePolicy,
    timeout_ms: Option<u64>,
    retries: u32,
    exclusive: bool,
    slots: u32,
    approval: Option<&'a Approval>,
    action: &'static str,
    #[serde(flatten)]
    details: Details<'a>,
}

/// A dependency, or what depends.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge<'a> {
    pub role: &'static str,
    pub group: &'a str,
    pub address: String,
}

impl<'a> From<&'a Dependency> for Edge<'a> {
    fn from(dependency: &'a Dependency) -> Self {
        Self {
            role: role(dependency.role),
            group: &dependency.group,
            address: dependency.address.to_string(),
        }
    }
}

#[derive(Serialize)]
struct Declared<'a> {
    group: &'a str,
    path: &'a str,
    kind: &'static str,
    support: bool,
}

#[derive(Serialize)]
struct Transitive<'a> {
    dependencies: Vec<Edge<'a>>,
    env: &'a BTreeMap<String, String>,
    pass_env: Passed<'a>,
    runtime_pass_env: Passed<'a>,
}

/// What only some kinds of targets have, under the name of the kind.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Details<'a> {
    Command(Command<'a>),
    Group(&'a GroupAction),
    Textfile {
        text: &'a str,
        out: &'a str,
        executable: bool,
    },
    Fetch {
        url: &'a str,
        sha256: &'a str,
        out: &'a str,
        executable: bool,
    },
    File {
        path: &'a str,
    },
    Glob {
        patterns: &'a [String],
        exclude: &'a [String],
    },
    Program {
        name: &'a str,
    },
    Query {
        expression: &'a str,
    },
    OwnOutputs {},
}

#[derive(Serialize)]
struct Command<'a> {
    argv: &'a [String],
    script: Option<&'a str>,
    env: &'a BTreeMap<String, String>,
    pass_env: Passed<'a>,
    runtime_env: &'a BTreeMap<String, String>,
    runtime_pass_env: Passed<'a>,
    network: bool,
    sandbox: Option<&'static str>,
    codegen: Option<&'static str>,
    read_only: &'a [String],
    extra_path: &'a [String],
    jobserver: bool,
}

/// What drivers made of targets.
pub(super) fn definitions(workspace: &mut Workspace, selection: &Selection) -> Answer {
    let mut found = Vec::with_capacity(selection.len());
    let mut problems = Problems::new();
    for address in selection {
        match defined(workspace, address) {
            Ok(definition) => found.push(definition),
            Err(Failure::Wrong(wrong)) => problems.extend(wrong),
            Err(failure) => return Err(failure),
        }
    }
    if !problems.is_empty() {
        return Err(problems.into());
    }
    Document::answer(found.iter().map(|definition| describe(definition)).collect())
}

fn describe(definition: &Definition) -> Defined<'_> {
    let transitive = &definition.transitive;
    Defined {
        address: definition.address.to_string(),
        driver: &definition.driver,
        place: place(definition.place.as_ref()),
        labels: &definition.labels,
        description: definition.description.as_deref(),
        dependencies: definition.dependencies.iter().map(Edge::from).collect(),
        outputs: declared(&definition.action),
        transitive: Transitive {
            dependencies: transitive.dependencies.iter().map(Edge::from).collect(),
            env: &transitive.env,
            pass_env: Passed(&transitive.pass_env),
            runtime_pass_env: Passed(&transitive.runtime_pass_env),
        },
        cache: definition.cache,
        timeout_ms: definition.timeout.map(milliseconds),
        retries: definition.retries,
        exclusive: definition.exclusive,
        slots: definition.slots,
        approval: definition.approval.as_ref(),
        action: action_name(&definition.action),
        details: details(&definition.action),
    }
}

/// The outputs that an action declares.
fn declared(action: &Action) -> Vec<Declared<'_>> {
    outputs(action)
        .into_iter()
        .map(|(group, path, kind, support)| Declared {
            group,
            path,
            kind: declared_kind(kind),
            support,
        })
        .collect()
}

/// Group, path, kind and whether they are support files, of the outputs that an action declares.
pub(super) fn outputs(action: &Action) -> Vec<(&str, &str, OutputKind, bool)> {
    match action {
        Action::Command(command) => {
            let own = command.outputs.iter().map(|output| (output, false));
            let all = own.chain(command.support_files.iter().map(|output| (output, true)));
            all.map(|(output, support)| (output.group.as_str(), output.path.as_str(), output.kind, support))
                .collect()
        }
        Action::TextFile(file) => vec![("", &file.out, OutputKind::File, false)],
        Action::Fetch(fetch) => vec![("", &fetch.out, OutputKind::File, false)],
        _ => Vec::new(),
    }
}

fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Command(_) => "command",
        Action::Group(_) => "group",
        Action::TextFile(_) => "textfile",
        Action::Fetch(_) => "fetch",
        Action::File { .. } => "file",
        Action::Glob { .. } => "glob",
        Action::HostProgram { .. } => "program",
        Action::Query { .. } => "query",
        Action::OwnOutputs => "own-outputs",
    }
}

fn details(action: &Action) -> Details<'_> {
    match action {
        Action::Command(action) => Details::Command(command(action)),
        Action::Group(group) => Details::Group(group),
        Action::TextFile(file) => Details::Textfile {
            text: &file.text,
            out: &file.out,
            executable: file.executable,
        },
        Action::Fetch(fetch) => Details::Fetch {
            url: &fetch.url,
            sha256: &fetch.sha256,
            out: &fetch.out,
            executable: fetch.executable,
        },
        Action::File { path } => Details::File { path },
        Action::Glob { patterns, exclude } => Details::Glob { patterns, exclude },
        Action::HostProgram { name } => Details::Program { name },
        Action::Query { expression } => Details::Query { expression },
        Action::OwnOutputs => Details::OwnOutputs {},
    }
}

fn command(action: &CommandAction) -> Command<'_> {
    Command {
        argv: &action.argv,
        script: action.script.as_deref(),
        env: &action.env,
        pass_env: Passed(&action.pass_env),
        runtime_env: &action.runtime_env,
        runtime_pass_env: Passed(&action.runtime_pass_env),
        network: action.network,
        sandbox: action.sandbox.map(|isolation| match isolation {
            Isolation::Auto => "auto",
            Isolation::Strict => "strict",
            Isolation::Standard => "standard",
            Isolation::Off => "off",
        }),
        codegen: action.codegen.map(|codegen| match codegen {
            Codegen::Copy => "copy",
            Codegen::InPlace => "in_place",
        }),
        read_only: &action.read_only,
        extra_path: &action.extra_path,
        jobserver: action.jobserver,
    }
}

/// Settings of providers that act on targets, outermost first.
pub(super) fn states(workspace: &mut Workspace, selection: &Selection) -> Answer {
    #[derive(Serialize)]
    struct Target<'a> {
        address: String,
        states: Vec<State<'a>>,
    }
    #[derive(Serialize)]
    struct State<'a> {
        provider: &'a str,
        package: &'a str,
        place: Option<String>,
        values: Entries<'a>,
    }
    fn state(state: &ProviderState) -> State<'_> {
        State {
            provider: &state.provider,
            package: &state.package,
            place: place(Some(&state.place)),
            values: Entries(&state.config),
        }
    }
    let mut above: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for address in selection.iter().filter(|address| !address.is_provided()) {
        if above.contains_key(address.package.as_str()) {
            continue;
        }
        let mut packages = Vec::new();
        for package in packages_above(&address.package) {
            if workspace.is_package(package)? {
                packages.push(package.to_owned());
            }
        }
        above.insert(&address.package, packages);
    }
    let mut needed: Vec<String> = above.values().flatten().cloned().collect();
    needed.sort_unstable();
    needed.dedup();
    workspace.evaluate_packages(&needed)?;
    let workspace = &*workspace;
    let targets = selection.iter().map(|address| {
        let packages = above.get(address.package.as_str()).into_iter().flatten();
        let states = packages
            .filter_map(|package| workspace.package(package))
            .flat_map(|package| &package.states);
        Target {
            address: address.to_string(),
            states: states.map(state).collect(),
        }
    });
    Document::answer(targets.collect())
}

/// A package and all that it lies below, outermost first.
fn packages_above(package: &str) -> impl Iterator<Item = &str> {
    let inner = package.match_indices('/').filter_map(|(at, _)| package.get(..at));
    let root = (!package.is_empty()).then_some("");
    root.into_iter().chain(inner).chain(std::iter::once(package))
}

#[cfg(test)]
mod tests {
    use super::packages_above;

    #[test]
    fn a_package_lies_below_its_parents_and_the_root() {
        assert_eq!(
            packages_above("a/b/c").collect::<Vec<_>>(),
            ["", "a", "a/b", "a/b/c"]
        );
        assert_eq!(packages_above("a").collect::<Vec<_>>(), ["", "a"]);
        assert_eq!(packages_above("").collect::<Vec<_>>(), [""]);
    }
}
