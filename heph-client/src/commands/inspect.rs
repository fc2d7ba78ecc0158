//! `heph inspect …`

use clap::Subcommand;
use clap_complete::ArgValueCompleter;
use heph_common::Exit;
use heph_common::config::Source;
use heph_proto::inspect_request::What;
use heph_proto::{
    InspectFunctions, InspectLabels, InspectPackages, InspectPath, InspectQuery, InspectTargets,
};
use serde_json::{Value, json};

use super::why_miss::address;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::render::json::VERSION;
use crate::selection::{Selected, Selection};
use crate::service;
use crate::views;
use crate::workspace::Workspace;

/// Looks into packages, targets, keys, outputs, and the configuration.
#[derive(clap::Args, Debug)]
pub struct InspectArgs {
    #[command(subcommand)]
    view: View,
}

#[derive(Subcommand, Debug)]
enum View {
    /// Lists the packages.
    Packages,
    /// Lists the labels.
    Labels,
    /// Shows targets as they were written.
    Spec(Selection),
    /// Shows what drivers made of targets.
    Def(Selection),
    /// Lists what targets depend on directly.
    Deps(Selection),
    /// Lists what depends on targets directly.
    Revdeps(Selection),
    /// Shows a way along dependencies from one target to another.
    Path {
        /// Where it begins.
        #[arg(value_name = "FROM", add = ArgValueCompleter::new(super::complete::selectors))]
        from: String,
        /// What it depends on.
        #[arg(value_name = "TO", add = ArgValueCompleter::new(super::complete::selectors))]
        to: String,
    },
    /// Shows the parts of the keys of targets.
    Hashin(Selection),
    /// Shows the digests of what targets produced.
    Hashout(Selection),
    /// Lists what targets produce.
    Outputs(Selection),
    /// Shows the provider settings that act on targets.
    States(Selection),
    /// Lists what BUILD files can call.
    Functions,
    /// Shows the merged configuration, and where each value came from.
    Config,
    /// Prints the graph below targets as DOT.
    Graph(Selection),
}

pub(super) fn run(context: &Context, args: InspectArgs) -> Result<Exit> {
    let workspace = Workspace::open(context)?;
    let style = context.terminal.out;
    let package = workspace.package.clone();
    let ask = |what| service::inspect(context, &workspace, what);
    let targets = |selection: &Selection, view: &str| {
        let Selected { query, selector } = selection.resolve_leniently(&package)?;
        let what = InspectTargets {
            query,
            selector: selector.clone(),
            view: view.to_owned(),
        };
        let document = ask(What::Targets(what))?;
        match views::list_of(&document["targets"]).is_empty() {
            true => Err(CommandError::failure(format!("no targets matched {selector}"))
                .hint("heph query //... lists all targets")),
            false => Ok(document),
        }
    };
    match &args.view {
        View::Packages => context.show(&ask(What::Packages(InspectPackages {}))?, views::packages)?,
        View::Labels => context.show(&ask(What::Labels(InspectLabels {}))?, views::labels)?,
        View::Functions => {
            context.show(&ask(What::Functions(InspectFunctions {}))?, |d| {
                views::functions(d, style)
            })?;
        }
        View::Spec(selection) => context.show(&targets(selection, "spec")?, |d| views::spec(d, style))?,
        View::Def(selection) => context.show(&targets(selection, "def")?, |d| views::definition(d, style))?,
        View::Deps(selection) => {
            context.show(&targets(selection, "deps")?, |d| {
                views::edges(d, "dependencies", style)
            })?;
        }
        View::Revdeps(selection) => {
            context.show(&targets(selection, "revdeps")?, |d| {
                views::edges(d, "dependants", style)
            })?;
        }
        View::Hashin(selection) => {
            context.show(&targets(selection, "hashin")?, |d| views::hashin(d, style))?
        }
        View::Hashout(selection) => {
            context.show(&targets(selection, "hashout")?, |d| views::hashout(d, style))?
        }
        View::Outputs(selection) => {
            context.show(&targets(selection, "outputs")?, |d| views::outputs(d, style))?
        }
        View::States(selection) => {
            context.show(&targets(selection, "states")?, |d| views::states(d, style))?
        }
        View::Config => context.show(&config(&workspace), |d| views::config(d, style))?,
        View::Graph(selection) => {
            let Selected { query, selector } = selection.resolve_leniently(&package)?;
            context.show(
                &ask(What::Graph(InspectQuery {
                    query,
                    selector,
                    since: String::new(),
                }))?,
                views::dot,
            )?;
        }
        View::Path { from, to } => {
            let (from, to) = (address(from, &package)?, address(to, &package)?);
            let document = ask(What::Path(InspectPath { from, to }))?;
            context.show(&document, views::path)?;
            if views::list_of(&document["path"]).is_empty() {
                return Ok(Exit::Failure);
            }
        }
    }
    Ok(Exit::Success)
}

fn config(workspace: &Workspace) -> Value {
    let values: Vec<Value> = workspace
        .origins
        .iter()
        .map(|origin| {
            let from = match &origin.source {
                Source::Default => "default".to_owned(),
                Source::File { file, line } => format!("{file}:{line}"),
            };
            json!({"key": origin.key, "value": origin.value, "from": from})
        })
        .collect();
    json!({
        "version": VERSION, "root": workspace.root, "home": workspace.home,
        "home_from": workspace.home_from, "profiles": workspace.profiles, "files": workspace.files, "values": values,
    })
}
