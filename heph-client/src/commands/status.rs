//! `heph status`

use heph_common::Exit;
use heph_proto::StoreStatistics;
use heph_proto::maintain_request::What;
use serde_json::json;

use crate::context::Context;
use crate::error::Result;
use crate::render::json::VERSION;
use crate::service::Service;
use crate::views::number_of;
use crate::words;
use crate::workspace::Workspace;

/// Shows which workspace, configuration and home are in use.
#[derive(clap::Args, Debug)]
pub struct StatusArgs {}

pub(super) fn run(context: &Context, _: &StatusArgs) -> Result<Exit> {
    let workspace = Workspace::open(context)?;
    let store = Service::connect(&workspace)?.maintain(&workspace, What::Statistics(StoreStatistics {}))?;
    let bytes = number_of(&store["blob_bytes"]) + number_of(&store["index_bytes"]);
    let document = json!({
        "version": VERSION, "heph": env!("CARGO_PKG_VERSION"), "root": workspace.root,
        "package": workspace.package, "home": workspace.home, "profiles": workspace.profiles,
        "files": workspace.files, "daemon": null,
        "store": {
            "results": store["results"], "blobs": store["blobs"], "bytes": bytes,
            "max_bytes": store["max_bytes"], "live_runs": store["live_runs"],
        },
    });
    context.show(&document, |_| {
        let line = |name: &str, value: &str| format!("{name:<11} {value}\n");
        let mut text = line("heph", env!("CARGO_PKG_VERSION"));
        text += &line("workspace", &workspace.root.display().to_string());
        text += &line("package", &format!("//{}", workspace.package));
        let files: Vec<String> = workspace
            .files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        text += &line("config", &files.join(", "));
        if !workspace.profiles.is_empty() {
            text += &line("profiles", &workspace.profiles.join(", "));
        }
        text += &line(
            "home",
            &format!("{} ({})", workspace.home.display(), workspace.home_from),
        );
        let results = words::counted(number_of(&store["results"]), "result");
        let most = words::size(number_of(&store["max_bytes"]));
        text += &line(
            "store",
            &format!("{results}, {} of at most {most}", words::size(bytes)),
        );
        text
    })?;
    Ok(Exit::Success)
}
