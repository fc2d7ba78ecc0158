//! `heph why-miss`

use clap_complete::ArgValueCompleter;
use heph_common::{Address, Exit};
use heph_proto::InspectMiss;
use heph_proto::inspect_request::What;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::service;
use crate::views;
use crate::workspace::Workspace;

/// Says why a target would run.
///
/// Shows which parts of its key differ from those of the nearest earlier result, down to the file or variable.
#[derive(clap::Args, Debug)]
pub struct WhyMissArgs {
    /// The target.
    #[arg(value_name = "ADDRESS", add = ArgValueCompleter::new(super::complete::selectors))]
    address: String,
}

pub(super) fn run(context: &Context, args: &WhyMissArgs) -> Result<Exit> {
    let workspace = Workspace::open(context)?;
    let address = address(&args.address, &workspace.package)?;
    let what = What::Miss(InspectMiss { address });
    let document = service::inspect(context, &workspace, what)?;
    context.show(&document, |document| {
        views::why_miss(document, context.terminal.out)
    })?;
    Ok(Exit::Success)
}

/// The canonical form of an address that was typed in the package `current`.
pub(super) fn address(text: &str, current: &str) -> Result<String> {
    match Address::parse_relative(text, current) {
        Ok(address) => Ok(address.to_string()),
        Err(error) => {
            let said = CommandError::usage(error.to_string());
            Err(match error.hint {
                Some(hint) => said.hint(hint),
                None => said,
            })
        }
    }
}
