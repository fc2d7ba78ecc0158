//! `heph query`

use heph_common::Exit;
use heph_proto::InspectQuery;
use heph_proto::inspect_request::What;

use crate::context::Context;
use crate::error::Result;
use crate::selection::{Selection, Since};
use crate::service;
use crate::views::text_of;
use crate::workspace::Workspace;

/// Lists the targets of a selection, sorted.
///
/// A single word may be an expression: heph query 'deps(//a:b)'.
#[derive(clap::Args, Debug)]
pub struct QueryArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    since: Since,
}

pub(super) fn run(context: &Context, args: &QueryArgs) -> Result<Exit> {
    let workspace = Workspace::open(context)?;
    let selection = match args.since.commit {
        Some(_) => args.selection.or_everything(),
        None => args.selection.clone(),
    };
    let selected = selection.resolve_leniently(&workspace.package)?;
    let what = What::Query(InspectQuery {
        query: selected.query,
        selector: selected.selector,
        since: args.since.commit.clone().unwrap_or_default(),
    });
    let document = service::inspect(context, &workspace, what)?;
    context.show(&document, |document| {
        let mut text = String::new();
        for address in document["targets"].as_array().into_iter().flatten() {
            text.push_str(text_of(address));
            text.push('\n');
        }
        text
    })?;
    Ok(Exit::Success)
}
