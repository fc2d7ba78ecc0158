//! `heph tool clean`

use heph_common::Exit;
use heph_proto::StoreClean;
use heph_proto::maintain_request::What;

use crate::context::Context;
use crate::error::Result;
use crate::service;
use crate::views::number_of;
use crate::words;
use crate::workspace::Workspace;

/// Removes sandboxes and work areas that no run uses. Results stay.
#[derive(clap::Args, Debug)]
pub struct CleanArgs {}

pub(super) fn run(context: &Context, _: &CleanArgs) -> Result<Exit> {
    let workspace = Workspace::open_or_home(context)?;
    let document = service::maintain(context, &workspace, What::Clean(StoreClean {}))?;
    context.show(&document, |document| {
        let sandboxes =
            words::counted(number_of(&document["removed_sandboxes"]), "sandbox").replace("xs", "xes");
        format!(
            "removed {sandboxes}, {} in all\n",
            words::size(number_of(&document["freed_bytes"]))
        )
    })?;
    Ok(Exit::Success)
}
