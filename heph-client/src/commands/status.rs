//! `heph status`

use heph_common::Exit;
use heph_proto::maintain_request::What;
use heph_proto::{CacheStatus, StatusReply, StatusRequest, StoreStatistics, UploadStatus};
use serde_json::{Value, json};

use crate::commands::daemon::status::{
    caches_text, document as daemon_document, run_text, runs_document, uploads_text,
};
use crate::connector::{Connection, Connector};
use crate::context::Context;
use crate::error::Result;
use crate::render::json::VERSION;
use crate::service;
use crate::views::{list_of, number_of, text_of};
use crate::words;
use crate::workspace::Workspace;

/// Shows which workspace, configuration and home are in use, and what runs in all workspaces.
#[derive(clap::Args, Debug)]
pub struct StatusArgs {}

pub(super) fn run(context: &Context, _: &StatusArgs) -> Result<Exit> {
    let workspace = Workspace::open(context)?;
    let (store, daemon) = service::runtime()?.block_on(look(context, &workspace))?;
    let runs = daemon.as_ref().map_or(&[][..], |daemon| &daemon.runs);
    let bytes = number_of(&store["blob_bytes"]) + number_of(&store["index_bytes"]);
    let document = json!({
        "version": VERSION, "heph": env!("CARGO_PKG_VERSION"), "root": workspace.root,
        "package": workspace.package, "home": workspace.home, "profiles": workspace.profiles,
        "files": workspace.files, "daemon": daemon.as_ref().map(daemon_document),
        "runs": runs_document(runs),
        "store": {
            "results": store["results"], "blobs": store["blobs"], "bytes": bytes,
            "max_bytes": store["max_bytes"], "live_runs": store["live_runs"],
        },
        "uploads": store["waiting"],
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
        if let Some(daemon) = &daemon {
            let memory = words::size(daemon.memory_bytes);
            text += &line("daemon", &format!("process {}, {memory}", daemon.pid));
        }
        let uploads: Vec<UploadStatus> = list_of(&store["waiting"]).iter().map(upload).collect();
        let caches = daemon.as_ref().map_or(&[][..], |daemon| &daemon.caches);
        // Of those that are well there is nothing to tell.
        let resting = caches
            .iter()
            .filter(|cache| cache.reading.is_some() || cache.writing.is_some());
        let resting: Vec<CacheStatus> = resting.cloned().collect();
        for (name, values) in [
            ("runs", runs.iter().map(run_text).collect()),
            ("caches", caches_text(&resting)),
            ("uploads", uploads_text(&uploads)),
        ] {
            for (number, value) in values.iter().enumerate() {
                text += &line(if number == 0 { name } else { "" }, value);
            }
        }
        text
    })?;
    Ok(Exit::Success)
}

fn upload(waiting: &Value) -> UploadStatus {
    UploadStatus {
        cache: text_of(&waiting["cache"]).to_owned(),
        results: number_of(&waiting["results"]),
        bytes: number_of(&waiting["bytes"]),
        known: true,
    }
}

/// Statistics of the store; and what the daemon does, if there is one. None is started to be looked at.
async fn look(context: &Context, workspace: &Workspace) -> Result<(Value, Option<StatusReply>)> {
    let connector = Connector::new(context)?.without_starting();
    let Connection { mut client, daemon } = connector.connect(context, workspace).await?;
    let store = service::work(&mut client, workspace, What::Statistics(StoreStatistics {})).await?;
    let daemon = match daemon {
        Some(_) => Some(client.status(StatusRequest {}).await?.into_inner()),
        None => None,
    };
    Ok((store, daemon))
}
