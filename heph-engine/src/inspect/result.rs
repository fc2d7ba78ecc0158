//! Keys and results of targets, as far as they are known without running anything.

use heph_common::key::KeyPart;
use serde::Serialize;

use super::Answer;
use super::document::{Output, declared_kind};
use super::target::{Document, outputs as declared};
use super::walk::{Known, Walk};
use crate::graph::Id;
use crate::run::Prepared;

/// One part of a key.
#[derive(Serialize)]
pub(crate) struct Part {
    label: String,
    digest: String,
}

impl From<KeyPart> for Part {
    fn from(part: KeyPart) -> Self {
        Self {
            label: part.label,
            digest: part.digest.to_hex(),
        }
    }
}

/// The parts of keys.
pub(super) fn hashin(prepared: &Prepared, known: &Known<'_>) -> Answer {
    #[derive(Serialize)]
    struct Target {
        address: String,
        key: Option<String>,
        parts: Vec<Part>,
        missing: Vec<String>,
    }
    let walk = Walk::new(prepared, known)?;
    let mut targets = Vec::with_capacity(prepared.selected.len());
    for &id in prepared.selected.iter() {
        let (key, parts) = walk.key(id)?;
        targets.push(Target {
            address: address(prepared, id),
            key: key.map(|key| key.to_hex()),
            parts: parts.into_iter().map(Part::from).collect(),
            missing: walk.missing(id).iter().map(ToString::to_string).collect(),
        });
    }
    Document::answer(targets)
}

/// The digests of what targets produced.
pub(super) fn hashout(prepared: &Prepared, known: &Known<'_>) -> Answer {
    #[derive(Serialize)]
    struct Target<'a> {
        address: String,
        digest: Option<String>,
        outputs: Vec<Output<'a>>,
    }
    let walk = Walk::new(prepared, known)?;
    let targets = prepared.selected.iter().map(|&id| {
        let product = walk.result(id);
        Target {
            address: address(prepared, id),
            digest: product.map(|product| product.digest().to_hex()),
            outputs: product.map(|product| Output::made(product)).unwrap_or_default(),
        }
    });
    Document::answer(targets.collect())
}

/// What targets produce: the files of a result, or else what is declared.
pub(super) fn outputs(prepared: &Prepared, known: &Known<'_>) -> Answer {
    #[derive(Serialize)]
    struct Target<'a> {
        address: String,
        built: bool,
        outputs: Vec<Output<'a>>,
    }
    let walk = Walk::new(prepared, known)?;
    let targets = prepared.selected.iter().map(|&id| {
        let declared = declared(&prepared.graph.node(id).definition.action)
            .into_iter()
            .map(|(group, path, kind, support)| {
                let kind = declared_kind(kind);
                Output {
                    group,
                    path,
                    kind,
                    support,
                    size: None,
                    digest: None,
                }
            });
        let made = walk.result(id).map(|product| Output::made(product));
        Target {
            address: address(prepared, id),
            built: made.is_some(),
            outputs: made.unwrap_or_else(|| declared.collect()),
        }
    });
    Document::answer(targets.collect())
}

fn address(prepared: &Prepared, id: Id) -> String {
    prepared.graph.node(id).definition.address.to_string()
}
