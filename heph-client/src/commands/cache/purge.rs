//! `heph cache purge`

use heph_common::Exit;
use heph_proto::inspect_request::What as Look;
use heph_proto::maintain_request::What as Work;
use heph_proto::{InspectTargets, StorePurge};

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::selection::Selection;
use crate::service;
use crate::views;
use crate::workspace::Workspace;

/// Removes results from the store and from the remote caches that may be written.
///
/// Words of 64 hex digits are keys; of targets, all results go that are known here. A mark stays in each of these caches, so that what other machines made before and still have to upload does not come back.
/// Who has such a result in a store already keeps it.
#[derive(clap::Args, Debug)]
pub struct PurgeArgs {
    #[command(flatten)]
    what: Selection,
}

pub(super) fn run(context: &Context, workspace: &Workspace, args: &PurgeArgs) -> Result<Exit> {
    if args.what.is_empty() {
        return Err(CommandError::usage("nothing was named to be purged")
            .hint("heph cache purge //pkg:name, or a key as heph inspect hashin shows it"));
    }
    let (keys, words): (Vec<String>, Vec<String>) =
        args.what.words.iter().cloned().partition(|word| is_key(word));
    let mut wanted = StorePurge {
        keys: keys.iter().map(|key| key.to_ascii_lowercase()).collect(),
        addresses: Vec::new(),
        root: workspace.message.root.clone(),
        environment: workspace.message.environment.clone(),
    };
    let targets = Selection {
        words,
        expression: args.what.expression.clone(),
    };
    if !targets.is_empty() {
        add_targets(context, &Workspace::open(context)?, &targets, &mut wanted)?;
    }
    let document = service::maintain(context, workspace, Work::Purge(wanted))?;
    if views::list_of(&document["keys"]).is_empty() {
        return Err(CommandError::failure("no result of these targets is known here")
            .hint("a key can be purged too: heph inspect hashin shows it where the target has been built"));
    }
    context.show(&document, views::purged)?;
    let caches = views::list_of(&document["caches"]).iter();
    let mut exit = Exit::Success;
    for refused in caches.chain(views::list_of(&document["unusable"])) {
        if let Some(error) = refused["error"].as_str() {
            context.warn(error, views::text_of(&refused["hint"]));
            exit = Exit::Failure;
        }
    }
    Ok(exit)
}

/// Targets by their addresses, for what the store remembers, and by the keys that they have now.
fn add_targets(
    context: &Context,
    workspace: &Workspace,
    targets: &Selection,
    wanted: &mut StorePurge,
) -> Result<()> {
    let selected = targets.resolve_leniently(&workspace.package)?;
    let look = InspectTargets {
        query: selected.query,
        selector: selected.selector.clone(),
        view: "hashin".to_owned(),
    };
    let document = service::inspect(context, workspace, Look::Targets(look))?;
    let found = views::list_of(&document["targets"]);
    if found.is_empty() {
        return Err(
            CommandError::failure(format!("no targets matched {}", selected.selector))
                .hint("heph query //... lists all targets"),
        );
    }
    for target in found {
        wanted
            .addresses
            .push(views::text_of(&target["address"]).to_owned());
        wanted.keys.extend(target["key"].as_str().map(str::to_owned));
    }
    Ok(())
}

fn is_key(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}
