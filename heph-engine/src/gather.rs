//! Collects what a target's dependencies give it.

use std::sync::Arc;

use heph_common::Digest;

use crate::definition::{Action, Output, OutputKind, Role};
use crate::graph::{Graph, Id, Link, Node};
use crate::problem::Problem;
use crate::product::{Claims, Entry, Kind, Product, SUPPORT_GROUP};
use crate::tool::Tool;

/// Everything that a target's dependencies give it, in the order they were written.
#[derive(Debug, Default)]
pub struct Gathered<'a> {
    /// Files in the sandbox, in the key, or both.
    pub inputs: Vec<Given<'a>>,
    /// Programs of the host.
    pub programs: Vec<GivenProgram<'a>>,
    /// Programs among the inputs.
    pub built_tools: Vec<BuiltTool<'a>>,
}

/// A file that a dependency gives.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// What the dependency is for.
    pub role: Role,
    /// Group it was declared in.
    pub group: &'a str,
    /// The node it comes from.
    pub from: Id,
    /// The file.
    pub entry: &'a Entry,
    /// Whether an equal entry came before, so that it need not be staged again.
    pub repeated: bool,
}

/// A program of the host that a dependency gives.
#[derive(Clone, Copy, Debug)]
pub struct GivenProgram<'a> {
    /// What the dependency is for: a tool, or only part of the key.
    pub role: Role,
    /// Group it was declared in.
    pub group: &'a str,
    /// The program.
    pub tool: &'a Arc<Tool>,
}

/// A program that another target built.
#[derive(Clone, Copy, Debug)]
pub struct BuiltTool<'a> {
    /// Group it was declared in.
    pub group: &'a str,
    /// Its name on PATH.
    pub name: &'a str,
    /// Where it lies below the workspace root.
    pub path: &'a str,
}

impl<'a> Gathered<'a> {
    /// The programs of the host that are on the command's PATH.
    pub fn tools(&self) -> impl Iterator<Item = &'a Arc<Tool>> {
        let tools = self.programs.iter().filter(|program| program.role == Role::Tool);
        tools.map(|program| program.tool)
    }
}

/// Gives the product of every dependency that is done.
pub trait Products {
    /// The product of a node.
    fn product(&self, id: Id) -> Option<&Arc<Product>>;
}

/// Collects the inputs of `node`.
///
/// Fails when two things claim one path, a tool has no program, or an output would overwrite an input.
pub fn gather<'a>(
    graph: &'a Graph,
    node: &'a Node,
    products: &'a dyn Products,
    names: &'a [String],
) -> Result<Gathered<'a>, Problem> {
    let mut gathered = Gathered::default();
    let mut claims = Claims::default();
    for (link, owner) in node.links.iter().zip(names) {
        let Some(product) = products.product(link.target) else {
            continue;
        };
        collect(&mut gathered, &mut claims, link, owner, product)
            .map_err(|problem| problem.at(node.definition.place.clone()))?;
    }
    refuse_overwrites(graph, node, &gathered)?;
    Ok(gathered)
}

/// Addresses of a node's dependencies, in the order of its links.
pub fn owner_names(graph: &Graph, node: &Node) -> Vec<String> {
    node.links
        .iter()
        .map(|link| graph.node(link.target).definition.address.to_string())
        .collect()
}

fn collect<'a>(
    gathered: &mut Gathered<'a>,
    claims: &mut Claims<'a>,
    link: &'a Link,
    owner: &'a str,
    product: &'a Arc<Product>,
) -> Result<(), Problem> {
    let mut programs = 0;
    for entry in product.select(link.output.as_deref()) {
        let repeated = link.role != Role::Hash && !claims.claim(entry, owner)?;
        if link.role == Role::Tool && is_program(entry) {
            programs += 1;
            let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
            gathered.built_tools.push(BuiltTool {
                group: &link.group,
                name,
                path: &entry.path,
            });
        }
        gathered.inputs.push(Given {
            role: link.role,
            group: &link.group,
            from: link.target,
            entry,
            repeated,
        });
    }
    match link.role {
        Role::Tool | Role::Hash => {
            gathered
                .programs
                .extend(product.programs.iter().map(|tool| GivenProgram {
                    role: link.role,
                    group: &link.group,
                    tool,
                }))
        }
        Role::Source | Role::Runtime if !product.programs.is_empty() => {
            return Err(
                Problem::new(format!("{owner} is a program of the host, not a file"))
                    .hint("list it under tools"),
            );
        }
        Role::Source | Role::Runtime => {}
    }
    if link.role == Role::Tool && programs == 0 && product.programs.is_empty() {
        return Err(Problem::new(format!(
            "{owner} is listed under tools but has no executable output"
        ))
        .hint("make its output executable (chmod +x \"$OUT\"), or list it under deps"));
    }
    Ok(())
}

/// The product of a group or query, which only passes on what its dependencies give.
///
/// Fails when a group's patterns keep nothing or put two files at one path.
pub fn pass_on(node: &Node, products: &dyn Products) -> Result<Arc<Product>, Problem> {
    let mut entries = Vec::new();
    let mut programs = Vec::new();
    for link in &node.links {
        let Some(product) = products.product(link.target) else {
            continue;
        };
        // A name for several targets says nothing about groups of its own; support files stay what they are.
        entries.extend(product.select(link.output.as_deref()).map(|entry| {
            let group = if &*entry.group == SUPPORT_GROUP {
                Arc::clone(&entry.group)
            } else {
                link.group.as_str().into()
            };
            Entry {
                group,
                ..entry.clone()
            }
        }));
        programs.extend(product.programs.iter().cloned());
    }
    if let Action::Group(group) = &node.definition.action {
        let placed = group.apply(
            entries
                .into_iter()
                .map(|entry| (entry.path.to_string(), entry))
                .collect(),
        )?;
        entries = placed
            .into_iter()
            .map(|(path, entry)| Entry {
                path: path.into(),
                ..entry
            })
            .collect();
    }
    Ok(Product::new(entries, programs))
}

fn is_program(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::File { executable: true, .. }) && &*entry.group != SUPPORT_GROUP
}

fn refuse_overwrites(graph: &Graph, node: &Node, gathered: &Gathered<'_>) -> Result<(), Problem> {
    let Action::Command(command) = &node.definition.action else {
        return Ok(());
    };
    if command.codegen == Some(crate::definition::Codegen::InPlace) {
        return Ok(());
    }
    let is_output = |path: &str| {
        let is = |output: &&Output| output.kind == OutputKind::File && output.path == path;
        command
            .outputs
            .iter()
            .chain(&command.support_files)
            .any(|output| is(&output))
    };
    match gathered
        .inputs
        .iter()
        .find(|given| given.role != Role::Hash && is_output(&given.entry.path))
    {
        None => Ok(()),
        Some(given) => {
            let owner = &graph.node(given.from).definition.address;
            Err(Problem::new(format!("{} declares the output {}, which is also its input from {owner}", node.definition.address, given.entry.path))
                .at(node.definition.place.clone())
                .hint("give the output another name; a target that rewrites its inputs needs codegen = \"in_place\""))
        }
    }
}

/// Digest of all that can change a target's key while its definition stays: cheap, so that it is computed in every run.
///
/// Equal digests mean equal keys: it covers the node, the surroundings, the caller's values and every product.
pub fn pre_key(node: &Node, surroundings: Digest, passed: Digest, products: &dyn Products) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(node.digest.as_bytes())
        .update(surroundings.as_bytes())
        .update(passed.as_bytes());
    for link in &node.links {
        hasher.update(&[link.role as u8, u8::from(link.output.is_some())]);
        for text in [Some(&link.group), link.output.as_ref()].into_iter().flatten() {
            hasher
                .update(&(text.len() as u64).to_le_bytes())
                .update(text.as_bytes());
        }
        match products.product(link.target) {
            Some(product) => hasher.update(product.digest().as_bytes()),
            None => hasher.update(b"absent"),
        };
    }
    hasher.finalize().into()
}
