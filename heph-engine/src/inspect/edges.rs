//! What lies between targets.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use heph_common::Address;
use heph_common::query::{Pattern, Query};
use serde::Serialize;

use super::document::role;
use super::target::{Document, Edge, defined};
use super::{Answer, Failure, VERSION, json};
use crate::definition::{Action, Role};
use crate::graph::link::is_own_outputs;
use crate::graph::{Graph, Id, Node};
use crate::select::{Selection, nothing_matched};
use crate::workspace::Workspace;

/// Direct dependencies, as they were written.
pub(super) fn dependencies(workspace: &mut Workspace, selection: &Selection) -> Answer {
    #[derive(Serialize)]
    struct Target<'a> {
        address: String,
        dependencies: Vec<Edge<'a>>,
    }
    let mut definitions = Vec::with_capacity(selection.len());
    for address in selection {
        definitions.push(defined(workspace, address)?);
    }
    let targets = definitions.iter().map(|definition| Target {
        address: definition.address.to_string(),
        dependencies: definition.dependencies.iter().map(Edge::from).collect(),
    });
    Document::answer(targets.collect())
}

/// What depends on targets directly, in the whole workspace; what inherits one through `transitive` does, too.
pub(super) fn dependants(workspace: &mut Workspace, selection: &Selection) -> Answer {
    #[derive(Serialize)]
    struct Target<'a> {
        address: String,
        dependants: BTreeSet<Dependant<'a>>,
    }
    /// Sorted by address.
    #[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
    struct Dependant<'a> {
        #[serde(skip)]
        sort: &'a Address,
        role: &'static str,
        group: &'a str,
        address: String,
    }
    let everything = workspace.select(&Query::Pattern(Pattern::Below(String::new())))?;
    let all: Vec<Address> = everything.iter().chain(selection).cloned().collect();
    workspace.link(&all)?;
    let graph = workspace.graph();
    let mut found: HashMap<Id, BTreeSet<Dependant<'_>>> = HashMap::new();
    for (_, node) in graph.iter() {
        let sort = &node.definition.address;
        for link in &node.links {
            let dependant = Dependant {
                sort,
                role: role(link.role),
                group: &link.group,
                address: sort.to_string(),
            };
            found.entry(link.target).or_default().insert(dependant);
        }
    }
    let targets = selection.iter().map(|address| Target {
        address: address.to_string(),
        dependants: graph
            .find(address)
            .and_then(|id| found.remove(&id))
            .unwrap_or_default(),
    });
    Document::answer(targets.collect())
}

/// What a node itself names: its own dependencies and those that it hands on.
///
/// What it inherits is left out, so that a path shows where that comes from.
fn declared(graph: &Graph, node: &Node) -> Vec<Id> {
    let definition = &*node.definition;
    let is_expanded = matches!(definition.action, Action::Query { .. })
        || definition
            .dependencies
            .iter()
            .any(|need| is_own_outputs(&need.address));
    if is_expanded {
        return node.links.iter().map(|link| link.target).collect();
    }
    let handed = &definition.transitive.dependencies;
    let all = definition.dependencies.iter().chain(handed);
    all.filter_map(|need| graph.find(&need.address)).collect()
}

/// One shortest path along dependencies.
pub(super) fn path(workspace: &mut Workspace, from: &Address, to: &Address) -> Answer {
    #[derive(Serialize)]
    struct Path {
        version: u32,
        from: String,
        to: String,
        path: Vec<String>,
    }
    let (start, end) = (one(workspace, from)?, one(workspace, to)?);
    let graph = workspace.graph();
    let path = shortest(graph, start, end);
    json(&Path {
        version: VERSION,
        from: graph.node(start).definition.address.to_string(),
        to: graph.node(end).definition.address.to_string(),
        path: path
            .into_iter()
            .map(|id| graph.node(id).definition.address.to_string())
            .collect(),
    })
}

/// Links one target, which must exist.
fn one(workspace: &mut Workspace, address: &Address) -> Result<Id, Failure> {
    let query = Query::Addr(address.without_output());
    let selection = workspace.select(&query)?;
    let linked = workspace.link(&selection.into_iter().collect::<Vec<_>>())?;
    match linked.first() {
        Some(id) => Ok(*id),
        None => {
            let nearest = workspace.nearest_targets(&query);
            Err(nothing_matched(&address.to_string(), &nearest).into())
        }
    }
}

fn shortest(graph: &Graph, start: Id, end: Id) -> Vec<Id> {
    let mut came_from: HashMap<Id, Id> = HashMap::from([(start, start)]);
    let mut pending = VecDeque::from([start]);
    while let Some(id) = pending.pop_front() {
        if id == end {
            let mut path = vec![end];
            let mut last = end;
            while let Some(&before) = came_from.get(&last).filter(|before| **before != last) {
                path.push(before);
                last = before;
            }
            path.reverse();
            return path;
        }
        for target in declared(graph, graph.node(id)) {
            came_from.entry(target).or_insert_with(|| {
                pending.push_back(target);
                id
            });
        }
    }
    Vec::new()
}

/// The graph below targets. Source files and programs are left out, and a query is replaced by what it selects.
pub(super) fn graph(workspace: &mut Workspace, selection: &Selection) -> Answer {
    #[derive(Serialize)]
    struct Document<'a> {
        version: u32,
        nodes: Vec<Target<'a>>,
        edges: Vec<Line>,
    }
    #[derive(Serialize)]
    struct Target<'a> {
        address: String,
        driver: &'a str,
        labels: &'a [String],
        selected: bool,
    }
    #[derive(Serialize)]
    struct Line {
        from: String,
        to: String,
        role: &'static str,
    }
    let selected = workspace.link(&selection.iter().cloned().collect::<Vec<_>>())?;
    let graph = workspace.graph();
    let nodes: BTreeMap<&Address, Id> = graph
        .closure(&selected)
        .into_iter()
        .map(|id| (&graph.node(id).definition.address, id))
        .filter(|(address, id)| !graph.node(*id).is_leaf() || selection.contains(*address))
        .collect();
    let mut edges = Vec::new();
    for (from, id) in &nodes {
        for (to, role) in shown_needs(graph, *id, &nodes) {
            edges.push(Line {
                from: from.to_string(),
                to: to.to_string(),
                role,
            });
        }
    }
    let described = nodes.iter().map(|(address, id)| {
        let definition = &graph.node(*id).definition;
        Target {
            address: address.to_string(),
            driver: &definition.driver,
            labels: &definition.labels,
            selected: selection.contains(*address),
        }
    });
    json(&Document {
        version: VERSION,
        nodes: described.collect(),
        edges,
    })
}

/// The nodes that a node needs, looking through those that are not shown.
fn shown_needs<'a>(
    graph: &'a Graph,
    id: Id,
    shown: &BTreeMap<&Address, Id>,
) -> BTreeSet<(&'a Address, &'static str)> {
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut pending: Vec<(Id, Role)> = graph
        .node(id)
        .links
        .iter()
        .map(|link| (link.target, link.role))
        .collect();
    while let Some((target, through)) = pending.pop() {
        let node = graph.node(target);
        let address = &node.definition.address;
        if shown.contains_key(address) {
            found.insert((address, role(through)));
        } else if seen.insert((target, through)) {
            pending.extend(node.links.iter().map(|link| (link.target, through)));
        }
    }
    found
}
