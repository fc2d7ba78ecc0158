//! Outputs into the source tree.

use std::sync::Arc;

use heph_common::Digest;
use heph_proto::{TargetOutcome, WriteTree, Written, run_event};

use super::action::StoredBlobs;
use super::task::State;
use super::{Run, Writing, fetch};
use crate::definition::Codegen;
use crate::file_table::FileKind;
use crate::gather::Products;
use crate::graph::Id;
use crate::plan::{Gone, wire_input};
use crate::product::{Entry, Kind, Product};

impl Run<'_> {
    /// Has the client write those outputs that the tree does not have yet. `false`: there are none.
    pub(super) fn write_tree(
        &mut self,
        id: Id,
        product: &Arc<Product>,
        codegen: Codegen,
        outcome: TargetOutcome,
    ) -> bool {
        let missing: Vec<&Entry> = product
            .entries
            .iter()
            .filter(|entry| !self.tree_has(entry))
            .collect();
        if missing.is_empty() {
            return false;
        }
        let store = StoredBlobs(&self.services.store);
        let mut request = WriteTree {
            id: self.next_plan,
            address: self.prepared.graph.node(id).definition.address.to_string(),
            in_place: codegen == Codegen::InPlace,
            frozen: self.start.frozen,
            ..WriteTree::default()
        };
        for entry in missing {
            match wire_input(&self.prepared.root, entry, &store) {
                Ok(input) => request.files.push(input),
                Err(digest) => {
                    let gone = Gone { from: id, digest };
                    let wanted = self.missing_outputs(id, product, |entry| !self.tree_has(entry));
                    let awaiting = fetch::Awaiting::Delivery(Arc::clone(product), outcome);
                    if !self.fetch(id, gone, wanted, awaiting) {
                        self.tasks.done(id, Arc::clone(product), outcome);
                        self.renew_producers(id, gone);
                    }
                    return true;
                }
            }
            request.expected.push(self.expected(id, entry));
        }
        self.next_plan += 1;
        self.tasks.set(id, State::Writing);
        self.writing.insert(
            request.id,
            Writing {
                id,
                product: Arc::clone(product),
                outcome,
            },
        );
        self.send(run_event::Event::Write(request));
        true
    }

    fn tree_has(&self, entry: &Entry) -> bool {
        let Ok(state) = self.prepared.files.state(&*entry.path) else {
            return false;
        };
        match (&entry.kind, &state.kind) {
            (
                Kind::File {
                    digest, executable, ..
                },
                FileKind::Regular { executable: found },
            ) => state.digest == *digest && executable == found,
            (Kind::Symlink(target), FileKind::Symlink { target: found }) => **target == **found,
            (Kind::Directory, FileKind::Directory) => true,
            _ => false,
        }
    }

    /// The digest that the file had when this run read it as an input; empty when it was none.
    fn expected(&self, id: Id, entry: &Entry) -> bytes::Bytes {
        let links = &self.prepared.graph.node(id).links;
        let read = links
            .iter()
            .filter_map(|link| self.tasks.product(link.target))
            .flat_map(|product| &product.entries);
        let digest = read
            .filter(|input| input.path == entry.path)
            .find_map(|input| match &input.kind {
                Kind::File { digest, .. } => Some(*digest),
                Kind::Symlink(_) | Kind::Directory => None,
            });
        digest
            .map(|digest: Digest| digest.as_bytes().to_vec().into())
            .unwrap_or_default()
    }

    /// The client has written, or not.
    pub(super) fn written(&mut self, written: Written) {
        let Some(Writing { id, product, outcome }) = self.writing.remove(&written.id) else {
            return;
        };
        match written.failed {
            None => self.done(id, product, outcome),
            Some(failed) => self.fail(id, failed, 0),
        }
    }
}
