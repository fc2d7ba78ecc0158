//! What is known without running anything: the products and keys that a run would begin with.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use heph_cache::{Manifest, OriginFilter, Store, StoreError};
use heph_common::key::KeyPart;
use heph_common::{Address, Digest};

use crate::definition::{Action, TextFileAction};
use crate::gather::{Products, gather, owner_names, pass_on, pre_key};
use crate::graph::{Id, Node};
use crate::keying::{GROUPS, action_key, passed_digest};
use crate::plan::serves;
use crate::problem::Problem;
use crate::product::{Entry, Kind, Product, Source};
use crate::run::Prepared;

/// What is known of one target.
#[derive(Clone, Debug)]
pub enum Knowledge {
    /// It is not part of what was prepared.
    Absent,
    /// It has a product: a source, a group of what is known, or a stored result for the present key.
    Known,
    /// All it needs is known, and the store has no result for its key.
    Unbuilt,
    /// Something it needs has to be built first.
    Unknown,
    /// It cannot be made.
    Wrong(Problem),
}

/// The results that may be looked at.
#[derive(Clone, Debug)]
pub struct Known<'a> {
    /// Where they are.
    pub store: &'a Store,
    /// Those of which origins.
    pub origins: OriginFilter,
}

/// All targets of a prepared graph, looked at in order.
#[derive(Debug)]
pub struct Walk<'a> {
    prepared: &'a Prepared,
    store: &'a Store,
    origins: OriginFilter,
    /// Stored results that are there, of those that the last run left.
    present: HashSet<Digest>,
    surroundings: Digest,
    products: Vec<Option<Arc<Product>>>,
    knowledge: Vec<Knowledge>,
}

impl Products for Walk<'_> {
    fn product(&self, id: Id) -> Option<&Arc<Product>> {
        self.products.get(id.index())?.as_ref()
    }
}

impl<'a> Walk<'a> {
    /// Looks at everything that is prepared, and at stored results of these origins. Nothing is written, neither in the store nor in the
    /// workspace.
    pub fn new(prepared: &'a Prepared, known: &Known<'a>) -> Result<Self, StoreError> {
        let (store, origins) = (known.store, known.origins.clone());
        let keys: Vec<Digest> = prepared
            .order
            .iter()
            .filter_map(|id| prepared.lasts.get(id))
            .map(|last| last.key)
            .collect();
        let there = store.contains_all(&keys, &origins)?;
        let mut walk = Self {
            present: keys
                .into_iter()
                .zip(there)
                .filter(|(_, there)| *there)
                .map(|(key, _)| key)
                .collect(),
            surroundings: prepared.surroundings.digest(),
            products: vec![None; prepared.graph.len()],
            knowledge: vec![Knowledge::Absent; prepared.graph.len()],
            prepared,
            store,
            origins,
        };
        for &id in prepared.order.iter() {
            let (knowledge, product) = walk.look(id)?;
            if let (Some(known), Some(place)) = (
                walk.knowledge.get_mut(id.index()),
                walk.products.get_mut(id.index()),
            ) {
                *known = knowledge;
                *place = product;
            }
        }
        Ok(walk)
    }

    /// What is known of a target.
    pub fn knowledge(&self, id: Id) -> &Knowledge {
        self.knowledge.get(id.index()).unwrap_or(&Knowledge::Absent)
    }

    /// The product that a target has now; `None` also for one that could be made without running anything, but was not.
    pub fn result(&self, id: Id) -> Option<&Arc<Product>> {
        matches!(self.knowledge(id), Knowledge::Known)
            .then(|| self.product(id))
            .flatten()
    }

    /// Key of a target, and its parts; of a target that needs what is not known, the parts that are. The key is `None` then,
    /// and for targets without results of their own.
    ///
    /// Fails when what it needs does not go together.
    pub fn key(&self, id: Id) -> Result<(Option<Digest>, Vec<KeyPart>), Problem> {
        let node = self.prepared.graph.node(id);
        if !node.is_action() {
            return Ok((None, Vec::new()));
        }
        let names = owner_names(&self.prepared.graph, node);
        let gathered = gather(&self.prepared.graph, node, self, &names)?;
        let (key, mut parts) = action_key(node, &gathered, &self.prepared.surroundings);
        if self.has_all_needs(node) {
            return Ok((Some(key), parts));
        }
        parts.retain(|part| part.label != GROUPS);
        Ok((None, parts))
    }

    /// The targets that have to be built before the key of this one is known, nearest ones only.
    pub fn missing(&self, id: Id) -> BTreeSet<Address> {
        let graph = &self.prepared.graph;
        let mut missing = BTreeSet::new();
        let mut seen = HashSet::new();
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            for link in &graph.node(id).links {
                let target = graph.node(link.target);
                if self.product(link.target).is_some() || !seen.insert(link.target) {
                    continue;
                }
                // Groups and queries are made of what they name; what cannot be made itself is named itself.
                match self.knowledge(link.target) {
                    Knowledge::Unknown if !target.is_action() => pending.push(link.target),
                    _ => drop(missing.insert(target.definition.address.clone())),
                }
            }
        }
        missing
    }

    /// What is wrong with the sources and programs that a target itself names.
    pub fn wrong_needs(&self, id: Id) -> impl Iterator<Item = (Id, &Problem)> {
        let links = self.prepared.graph.node(id).links.iter();
        links.filter_map(|link| match self.knowledge(link.target) {
            Knowledge::Wrong(problem) if self.prepared.graph.node(link.target).is_leaf() => {
                Some((link.target, problem))
            }
            _ => None,
        })
    }

    fn look(&self, id: Id) -> Result<(Knowledge, Option<Arc<Product>>), StoreError> {
        let node = self.prepared.graph.node(id);
        Ok(match &node.definition.action {
            Action::File { .. } | Action::Glob { .. } | Action::HostProgram { .. } | Action::OwnOutputs => {
                match self.prepared.leaves.get(&id) {
                    Some(Ok(product)) => (Knowledge::Known, Some(Arc::clone(product))),
                    Some(Err(problem)) => (Knowledge::Wrong(problem.clone()), None),
                    None => {
                        let message = format!("{} is nothing that can be an input", node.definition.address);
                        (Knowledge::Wrong(Problem::new(message)), None)
                    }
                }
            }
            Action::Group(_) | Action::Query { .. } if !self.has_all_needs(node) => {
                (Knowledge::Unknown, None)
            }
            Action::Group(_) | Action::Query { .. } => match pass_on(node, self) {
                Ok(product) => (Knowledge::Known, Some(product)),
                Err(problem) => (Knowledge::Wrong(problem.at(node.definition.place.clone())), None),
            },
            Action::TextFile(file) => match self.stored(id, node)? {
                (Knowledge::Unbuilt, None) => (Knowledge::Unbuilt, Some(text_product(file))),
                stored => stored,
            },
            Action::Command(_) | Action::Fetch(_) => self.stored(id, node)?,
        })
    }

    fn has_all_needs(&self, node: &Node) -> bool {
        node.links.iter().all(|link| self.product(link.target).is_some())
    }

    /// The stored result for the present key.
    fn stored(&self, id: Id, node: &Node) -> Result<(Knowledge, Option<Arc<Product>>), StoreError> {
        if !self.has_all_needs(node) {
            return Ok((Knowledge::Unknown, None));
        }
        let surroundings = &self.prepared.surroundings;
        if node.definition.cache.enabled
            && let Some(last) = self.prepared.lasts.get(&id)
            && last.pre_key == pre_key(node, self.surroundings, passed_digest(node, surroundings), self)
            && self.present.contains(&last.key)
            && serves(node, surroundings, last.made_with())
        {
            return Ok((Knowledge::Known, Some(Arc::clone(&last.product))));
        }
        Ok(match self.key(id) {
            Err(problem) => (Knowledge::Wrong(problem), None),
            Ok((Some(key), _)) if node.definition.cache.enabled => match self.look_up(node, &key)? {
                Some(manifest) => (Knowledge::Known, Some(Product::of(&manifest))),
                None => (Knowledge::Unbuilt, None),
            },
            Ok(_) => (Knowledge::Unbuilt, None),
        })
    }

    fn look_up(&self, node: &Node, key: &Digest) -> Result<Option<Arc<Manifest>>, StoreError> {
        let found = self.store.lookup(key, &self.origins)?;
        Ok(found.filter(|manifest| serves(node, &self.prepared.surroundings, manifest.sandbox)))
    }
}

/// What a target gives that only writes a text: known before it is written.
fn text_product(file: &TextFileAction) -> Arc<Product> {
    let digest = Digest::of(file.text.as_bytes());
    let kind = Kind::File {
        digest,
        size: file.text.len() as u64,
        executable: file.executable,
    };
    Product::new(
        vec![Entry {
            group: "".into(),
            path: file.out.as_str().into(),
            kind,
            source: Source::Store,
        }],
        Vec::new(),
    )
}
