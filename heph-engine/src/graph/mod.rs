//! The linked graph: every target that was reached, with what it depends on.
//!
//! Invariant: links point at nodes of the same graph, each node comes after everything that it links to, and so the graph
//! has no cycle; [`link`] sees to it, and [`Graph::is_sound`] says whether it holds for nodes from elsewhere.

pub mod link;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use heph_common::{Address, Digest};
use serde::{Deserialize, Serialize};

use crate::definition::{Action, Definition, PassEnv, Role};

/// Number of a node within its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id(pub u32);

impl Id {
    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A target with its resolved dependencies.
#[derive(Clone, Debug)]
pub struct Node {
    /// What its driver made of it.
    pub definition: Arc<Definition>,
    /// Digest of the definition and of what was inherited; changes when anything about the target itself does.
    pub digest: Digest,
    /// Dependencies, its own and inherited ones, in order.
    pub links: Vec<Link>,
    /// Variables that dependencies handed over; `None` for most targets.
    pub inherited: Option<Box<Inherited>>,
    /// Whether its command says `native` where that means the CPU it runs on.
    pub native: bool,
}

/// Variables that dependencies handed over through `transitive`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inherited {
    /// Values.
    pub env: BTreeMap<String, String>,
    /// Names taken from the caller.
    pub pass_env: PassEnv,
    /// Names taken from the caller that stay out of the key.
    pub runtime_pass_env: PassEnv,
}

/// One resolved dependency.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    /// What it is for.
    pub role: Role,
    /// Group it was declared in.
    pub group: String,
    /// The node.
    pub target: Id,
    /// The one output group that is meant.
    pub output: Option<String>,
}

/// Nodes by number and by address.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    index: HashMap<Address, Id>,
}

impl Graph {
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node of this number; numbers come from this graph.
    pub fn node(&self, id: Id) -> &Node {
        #[expect(
            clippy::indexing_slicing,
            reason = "an Id is only made for a node of this graph"
        )]
        &self.nodes[id.index()]
    }

    /// The node of an address; its output part is ignored.
    pub fn find(&self, address: &Address) -> Option<Id> {
        match address.output {
            None => self.index.get(address).copied(),
            Some(_) => self.index.get(&address.without_output()).copied(),
        }
    }

    /// All nodes with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (Id(index as u32), node))
    }

    /// The graph of these nodes; they are numbered in their order.
    pub fn of_nodes(nodes: Vec<Node>) -> Self {
        let index = nodes
            .iter()
            .zip(0..)
            .map(|(node, index)| (node.definition.address.clone(), Id(index)))
            .collect();
        Self { nodes, index }
    }

    /// Whether links point at earlier nodes only, and no address occurs twice.
    pub fn is_sound(&self) -> bool {
        let looks_back =
            |(id, node): (Id, &Node)| node.links.iter().all(|link| link.target.index() < id.index());
        self.index.len() == self.nodes.len() && self.iter().all(looks_back)
    }

    fn push(&mut self, node: Node) -> Id {
        let id = Id(self.nodes.len() as u32);
        self.index.insert(node.definition.address.clone(), id);
        self.nodes.push(node);
        id
    }

    /// Everything that the given nodes need, themselves included: dependencies before dependants.
    pub fn closure(&self, roots: &[Id]) -> Vec<Id> {
        let mut order = Vec::new();
        let mut seen = vec![false; self.nodes.len()];
        let mut stack: Vec<(Id, usize)> = Vec::new();
        for &root in roots {
            if std::mem::replace(&mut seen[root.index()], true) {
                continue;
            }
            stack.push((root, 0));
            while let Some((id, next)) = stack.pop() {
                match self.node(id).links.get(next) {
                    Some(link) => {
                        stack.push((id, next + 1));
                        if !std::mem::replace(&mut seen[link.target.index()], true) {
                            stack.push((link.target, 0));
                        }
                    }
                    None => order.push(id),
                }
            }
        }
        order
    }

    /// Nodes that depend on each node, by its number.
    pub fn dependants(&self) -> Vec<Vec<Id>> {
        let mut dependants = vec![Vec::new(); self.nodes.len()];
        for (id, node) in self.iter() {
            for link in &node.links {
                let list: &mut Vec<Id> = &mut dependants[link.target.index()];
                if list.last() != Some(&id) {
                    list.push(id);
                }
            }
        }
        dependants
    }
}

impl Node {
    /// Whether it is a source file, a program or a query: something that belongs to no package of the workspace.
    pub fn is_leaf(&self) -> bool {
        matches!(
            self.definition.action,
            Action::File { .. }
                | Action::Glob { .. }
                | Action::HostProgram { .. }
                | Action::Query { .. }
                | Action::OwnOutputs
        )
    }

    /// Whether it has results of its own in the store.
    pub fn is_action(&self) -> bool {
        matches!(
            self.definition.action,
            Action::Command(_) | Action::Fetch(_) | Action::TextFile(_)
        )
    }
}
