//! From definitions to nodes: resolves dependencies, hands on what is transitive, refuses cycles.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use heph_common::{Address, Digest};

use super::{Graph, Id, Inherited, Link, Node};
use crate::definition::{Action, Definition, Dependency, Output, OutputKind, PassEnv, Role};
use crate::keying::says_native;
use crate::problem::{Problem, Problems};

/// Gives the definition of every address that may be reached.
pub trait Definitions {
    /// The definition of a target; `from` is the target that depends on it, for messages.
    fn definition(&self, address: &Address, from: Option<&Definition>) -> Result<Arc<Definition>, Problem>;

    /// Addresses that a query target stands for, in order.
    fn selected(&self, query: &Definition) -> Result<Vec<Address>, Problem>;
}

/// Adds the targets of these addresses, and all they need, to the graph. Gives their numbers in order.
///
/// Fails with every target that could not be linked, or with the first cycle; what was linked before stays.
pub fn link(
    graph: &mut Graph,
    definitions: &dyn Definitions,
    roots: &[Address],
) -> Result<Vec<Id>, Problems> {
    let mut linker = Linker {
        graph,
        definitions,
        problems: Vec::new(),
        on_path: HashMap::new(),
        broken: HashSet::new(),
    };
    for root in roots {
        linker.visit(root);
    }
    if !linker.problems.is_empty() {
        return Err(linker.problems);
    }
    Ok(roots.iter().filter_map(|root| graph.find(root)).collect())
}

struct Linker<'a> {
    graph: &'a mut Graph,
    definitions: &'a dyn Definitions,
    problems: Problems,
    /// Targets between a root and the one being visited, with their depth.
    on_path: HashMap<Address, usize>,
    broken: HashSet<Address>,
}

struct Frame {
    definition: Arc<Definition>,
    /// Its own dependencies.
    needs: Vec<Dependency>,
    next: usize,
    /// Targets that its dependencies hand over and that were not linked yet.
    handed: Vec<Address>,
    /// How many of `handed` were visited.
    visited: usize,
}

impl Linker<'_> {
    fn visit(&mut self, root: &Address) {
        let mut stack: Vec<Frame> = Vec::new();
        self.enter(&root.without_output(), &mut stack);
        while let Some(frame) = stack.last_mut() {
            if let Some(need) = frame.needs.get(frame.next) {
                let address = need.address.without_output();
                frame.next += 1;
                self.enter(&address, &mut stack);
                continue;
            }
            if frame.visited == frame.handed.len() {
                let missing = missing_handed(self.graph, frame);
                frame.handed.extend(missing);
            }
            if let Some(address) = frame.handed.get(frame.visited).cloned() {
                frame.visited += 1;
                self.enter(&address, &mut stack);
            } else if let Some(frame) = stack.pop() {
                self.leave(frame);
            }
        }
    }

    fn enter(&mut self, address: &Address, stack: &mut Vec<Frame>) {
        if self.graph.find(address).is_some() || self.broken.contains(address) {
            return;
        }
        if let Some(&depth) = self.on_path.get(address) {
            if self.problems.is_empty() {
                let cycle = stack.get(depth..).unwrap_or_default();
                self.problems.push(cycle_problem(cycle, address));
            }
            return;
        }
        let from = stack.last().map(|frame| Arc::clone(&frame.definition));
        match self.needs(address, from.as_deref()) {
            Ok((definition, needs)) => {
                self.on_path.insert(address.clone(), stack.len());
                stack.push(Frame {
                    definition,
                    needs,
                    next: 0,
                    handed: Vec::new(),
                    visited: 0,
                });
            }
            Err(problem) => {
                self.broken.insert(address.clone());
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            }
        }
    }

    fn needs(
        &self,
        address: &Address,
        from: Option<&Definition>,
    ) -> Result<(Arc<Definition>, Vec<Dependency>), Problem> {
        let definition = self.definitions.definition(address, from)?;
        let mut needs = own_dependencies(&definition);
        if matches!(definition.action, Action::Query { .. }) {
            let source = |address| Dependency {
                role: Role::Source,
                group: String::new(),
                address,
            };
            needs.extend(self.definitions.selected(&definition)?.into_iter().map(source));
        }
        Ok((definition, needs))
    }

    fn leave(&mut self, frame: Frame) {
        let address = frame.definition.address.clone();
        self.on_path.remove(&address);
        let mut links = Vec::with_capacity(frame.needs.len());
        let mut seen = HashSet::new();
        for need in &frame.needs {
            let Some(target) = self.graph.find(&need.address) else {
                self.broken.insert(address);
                return;
            };
            if let Err(problem) = self.graph.node(target).definition.check_output(&need.address) {
                let message = format!("{address} depends on {}, but {}", need.address, problem.message);
                let problem = Problem { message, ..problem };
                self.problems.push(problem.at(frame.definition.place.clone()));
                self.broken.insert(address);
                return;
            }
            push(
                &mut links,
                &mut seen,
                Link {
                    role: need.role,
                    group: need.group.clone(),
                    target,
                    output: need.address.output.clone(),
                },
            );
        }
        let inherited = match self.inherit(&frame.definition, &mut links, &mut seen) {
            Ok(inherited) => inherited,
            Err(problem) => {
                self.broken.insert(address);
                self.problems.push(problem.at(frame.definition.place.clone()));
                return;
            }
        };
        let digest = node_digest(&frame.definition, inherited.as_deref());
        let native = match &frame.definition.action {
            Action::Command(command) => {
                let handed = inherited.iter().flat_map(|inherited| inherited.env.values());
                says_native(command, command.env.values().chain(handed).map(String::as_str))
            }
            _ => false,
        };
        self.graph.push(Node {
            definition: frame.definition,
            digest,
            links,
            inherited,
            native,
        });
    }

    /// Adds to `links` what its targets hand over, and what that hands over in turn.
    fn inherit(
        &mut self,
        receiver: &Definition,
        links: &mut Vec<Link>,
        seen: &mut HashSet<Link>,
    ) -> Result<Option<Box<Inherited>>, Problem> {
        if !receives(receiver) {
            return Ok(None);
        }
        let mut inherited: Option<Box<Inherited>> = None;
        // What a runtime dependency hands over stays out of the key, unless something that is in the key hands it over too.
        let mut visited: HashSet<(Id, bool)> = HashSet::new();
        let mut pending: Vec<(Id, Role)> = links
            .iter()
            .rev()
            .filter(|l| l.role != Role::Hash)
            .map(|l| (l.target, l.role))
            .collect();
        pending.sort_by_key(|(_, role)| *role != Role::Runtime);
        while let Some((id, role)) = pending.pop() {
            if !visited.insert((id, role == Role::Runtime)) {
                continue;
            }
            let node = self.graph.node(id);
            // A group or query is only a name for others: what they hand over goes through it.
            if matches!(node.definition.action, Action::Group(_) | Action::Query { .. }) {
                pending.extend(node.links.iter().rev().map(|link| (link.target, role)));
            }
            let definition = Arc::clone(&node.definition);
            let transitive = &definition.transitive;
            if let Some(inherited) = hands_variables(transitive).then(|| inherited.get_or_insert_default()) {
                for (name, value) in &transitive.env {
                    inherited.env.entry(name.clone()).or_insert_with(|| value.clone());
                }
                merge(&mut inherited.pass_env, &transitive.pass_env);
                merge(&mut inherited.runtime_pass_env, &transitive.runtime_pass_env);
            }
            // What is handed over may itself be built with the target that hands it over; it is not handed to itself.
            let handed = transitive
                .dependencies
                .iter()
                .filter(|dependency| dependency.address.without_output() != receiver.address);
            for dependency in handed {
                let target = self.handed(dependency, &definition)?;
                let role = if role == Role::Runtime && dependency.role == Role::Source {
                    Role::Runtime
                } else {
                    dependency.role
                };
                push(
                    links,
                    seen,
                    Link {
                        role,
                        group: dependency.group.clone(),
                        target,
                        output: dependency.address.output.clone(),
                    },
                );
                pending.push((target, role));
            }
        }
        Ok(inherited)
    }

    /// A target that another one hands over; it was linked for this purpose, unless that failed.
    fn handed(&self, dependency: &Dependency, from: &Definition) -> Result<Id, Problem> {
        self.graph.find(&dependency.address).ok_or_else(|| {
            Problem::new(format!(
                "{} hands over {}, which could not be linked",
                from.address, dependency.address
            ))
        })
    }
}

/// Whether a target takes what its dependencies hand over: only what runs something has a use for it.
fn receives(definition: &Definition) -> bool {
    matches!(definition.action, Action::Command(_))
}

/// What the linked dependencies of `frame` hand over and the graph does not have yet.
///
/// A target may hand over what is itself built with it, so these are needs of whoever depends on it, not its own.
fn missing_handed(graph: &Graph, frame: &Frame) -> Vec<Address> {
    let mut missing = Vec::new();
    if !receives(&frame.definition) {
        return missing;
    }
    let mut visited = HashSet::new();
    let linked = |need: &Dependency| graph.find(&need.address).filter(|_| need.role != Role::Hash);
    let mut pending: Vec<Id> = frame.needs.iter().filter_map(linked).collect();
    while let Some(id) = pending.pop() {
        if !visited.insert(id) {
            continue;
        }
        let node = graph.node(id);
        if matches!(node.definition.action, Action::Group(_) | Action::Query { .. }) {
            pending.extend(node.links.iter().map(|link| link.target));
        }
        for dependency in &node.definition.transitive.dependencies {
            let address = dependency.address.without_output();
            match graph.find(&address) {
                Some(id) => pending.push(id),
                None if address == frame.definition.address => {}
                None if frame.handed.contains(&address) || missing.contains(&address) => {}
                None => missing.push(address),
            }
        }
    }
    missing
}

fn push(links: &mut Vec<Link>, seen: &mut HashSet<Link>, link: Link) {
    if seen.insert(link.clone()) {
        links.push(link);
    }
}

fn hands_variables(transitive: &crate::definition::Transitive) -> bool {
    let none = PassEnv::default();
    !transitive.env.is_empty() || transitive.pass_env != none || transitive.runtime_pass_env != none
}

fn merge(into: &mut PassEnv, from: &PassEnv) {
    match (into, from) {
        (PassEnv::All, _) => {}
        (into, PassEnv::All) => *into = PassEnv::All,
        (PassEnv::Names(into), PassEnv::Names(from)) => {
            into.extend(
                from.iter()
                    .filter(|name| !into.contains(name))
                    .cloned()
                    .collect::<Vec<_>>(),
            );
        }
    }
}

/// Dependencies as declared, with `//@heph/introspect:outputs` replaced by the files it stands for.
fn own_dependencies(definition: &Definition) -> Vec<Dependency> {
    let outputs: &[Output] = match &definition.action {
        Action::Command(command) => &command.outputs,
        _ => &[],
    };
    let mut dependencies = Vec::with_capacity(definition.dependencies.len());
    for dependency in &definition.dependencies {
        if is_own_outputs(&dependency.address) {
            let own = outputs.iter().map(|output| Dependency {
                address: source_address(output),
                ..dependency.clone()
            });
            dependencies.extend(own);
        } else {
            dependencies.push(dependency.clone());
        }
    }
    dependencies
}

/// Whether an address stands for the depending target's own outputs.
pub fn is_own_outputs(address: &Address) -> bool {
    address.package == "@heph/introspect" && address.name == "outputs"
}

fn source_address(output: &Output) -> Address {
    let (name, key, value) = match output.kind {
        OutputKind::File => ("file", "f", output.path.clone()),
        OutputKind::Glob => ("glob", "p", output.path.clone()),
        OutputKind::Directory => ("glob", "p", format!("{}/**", output.path)),
    };
    Address {
        package: "@heph/fs".into(),
        name: name.into(),
        args: [(key.to_owned(), value)].into(),
        output: None,
    }
}

fn cycle_problem(cycle: &[Frame], again: &Address) -> Problem {
    let mut message = String::from("dependency cycle:");
    for frame in cycle {
        let place = frame
            .definition
            .place
            .as_ref()
            .map(|place| format!(" ({place})"))
            .unwrap_or_default();
        message.push_str(&format!("\n  {}{place} needs", frame.definition.address));
    }
    message.push_str(&format!("\n  {again}"));
    Problem::new(message)
        .at(cycle.first().and_then(|frame| frame.definition.place.clone()))
        .hint("remove one of these dependencies; move what both need into a target of its own")
}

fn node_digest(definition: &Definition, inherited: Option<&Inherited>) -> Digest {
    // Postcard is canonical for these types: no hash maps, fixed field order. Where it was written does not matter.
    let parts = (
        &definition.action,
        &definition.dependencies,
        &definition.driver,
        &definition.address,
        definition.cache,
        inherited,
    );
    let bytes = postcard::to_stdvec(&parts).unwrap_or_else(|_| format!("{parts:?}").into_bytes());
    Digest::of(&bytes)
}
