//! `heph validate`

use heph_common::Exit;
use heph_proto::InspectQuery;
use heph_proto::inspect_request::What;
use serde_json::Value;

use crate::context::Context;
use crate::error::Result;
use crate::selection::Selection;
use crate::service;
use crate::terminal::Style;
use crate::views::{list_of, number_of, text_of};
use crate::words;
use crate::workspace::Workspace;

/// Checks targets without running any, and shows all problems.
#[derive(clap::Args, Debug)]
pub struct ValidateArgs {
    #[command(flatten)]
    selection: Selection,
}

pub(super) fn run(context: &Context, args: &ValidateArgs) -> Result<Exit> {
    let workspace = Workspace::open(context)?;
    let selected = args.selection.or_everything().resolve(&workspace.package)?;
    let what = What::Validate(InspectQuery {
        query: selected.query,
        selector: selected.selector,
        since: String::new(),
    });
    let document = service::inspect(context, &workspace, what)?;
    context.show(&document, |document| told(document, context.terminal.out))?;
    Ok(match list_of(&document["problems"]).is_empty() {
        true => Exit::Success,
        false => Exit::Usage,
    })
}

fn told(document: &Value, style: Style) -> String {
    let mut text = String::new();
    let problems = list_of(&document["problems"]);
    for (list, word) in [
        (problems, style.error("error:")),
        (list_of(&document["notes"]), style.bold("note:")),
    ] {
        for problem in list {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("{word} {}\n", text_of(&problem["message"])));
            if let Some(place) = problem["place"].as_str() {
                text.push_str(&format!("  {} {place}\n", style.dim("-->")));
            }
            if let Some(hint) = problem["hint"].as_str() {
                text.push_str(&format!("{} {hint}\n", style.hint("hint:")));
            }
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    let count = match problems.len() {
        0 => "no problems".to_owned(),
        count => words::counted(count as u64, "problem"),
    };
    let targets = words::counted(number_of(&document["targets"]), "target");
    let packages = words::counted(number_of(&document["packages"]), "package");
    text.push_str(&format!("{count} in {targets} of {packages}\n"));
    text
}
