//! `heph daemon stop`

use std::time::Duration;

use heph_common::Exit;
use heph_daemon::connect::is_cut_off;
use heph_daemon::{Endpoint, Link};
use heph_proto::{StopEvent, StopRequest};
use serde_json::json;
use tokio::time::timeout;
use tonic::Streaming;

use super::found;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::render::json::VERSION;
use crate::service;
use crate::words;
use crate::workspace::Workspace;

/// Runs that a daemon finishes before it ends are waited for so long.
const STOP_LIMIT: Duration = Duration::from_secs(10 * 60);

/// A daemon that has nothing to finish, or cancels it, ends within this time.
const END_LIMIT: Duration = Duration::from_secs(30);

pub(super) fn run(context: &Context, workspace: &Workspace, all: bool, now: bool) -> Result<Exit> {
    let stopped = service::runtime()?.block_on(async {
        let mut stopped = Vec::new();
        for (place, link) in found(context, workspace, all).await? {
            let document = json!({
                "pid": link.hello.pid, "heph": link.hello.version, "build": link.hello.build,
            });
            if let Some(left) = ask(link, now).await? {
                wait(context, &place, left, now).await?;
            }
            stopped.push(document);
        }
        Ok::<_, CommandError>(stopped)
    })?;
    let document = json!({"version": VERSION, "home": workspace.home, "stopped": stopped});
    context.show(&document, |_| match stopped.as_slice() {
        [] => format!("no daemon runs for {}\n", workspace.home.display()),
        stopped => stopped
            .iter()
            .map(|one| {
                format!(
                    "stopped the daemon of heph {}, process {}\n",
                    crate::views::text_of(&one["heph"]),
                    one["pid"]
                )
            })
            .collect(),
    })?;
    Ok(Exit::Success)
}

/// Has the daemon of this build finish its runs, if there is one, and waits for its end.
pub(super) fn end(context: &Context, workspace: &Workspace) -> Result<()> {
    service::runtime()?.block_on(async {
        for (place, link) in found(context, workspace, false).await? {
            if let Some(left) = ask(link, false).await? {
                wait(context, &place, left, false).await?;
            }
        }
        Ok(())
    })
}

/// Sends the daemon of this build away, if there is one, and does not wait for its runs.
pub(super) fn send_away(context: &Context, workspace: &Workspace) -> Result<()> {
    service::runtime()?.block_on(async {
        for (_, link) in found(context, workspace, false).await? {
            ask(link, false).await?;
        }
        Ok(())
    })
}

/// What is left to do before it ends; `None` when it was gone before it could say so.
async fn ask(link: Link, cancel: bool) -> Result<Option<Streaming<StopEvent>>> {
    let mut client = link.client;
    let request = StopRequest {
        cancel,
        reason: "somebody stopped it".to_owned(),
    };
    match client.stop(request).await {
        Ok(left) => Ok(Some(left.into_inner())),
        Err(status) if is_cut_off(&status) => Ok(None),
        Err(status) => Err(status.into()),
    }
}

/// Waits until the process is gone: its connection breaks then, and not before.
async fn wait(context: &Context, place: &Endpoint, mut left: Streaming<StopEvent>, now: bool) -> Result<()> {
    let (mut waits, mut limit) = (false, END_LIMIT);
    loop {
        match timeout(limit, left.message()).await {
            Ok(Ok(Some(event))) => {
                limit = match event.left > 0 && !now {
                    true => STOP_LIMIT,
                    false => END_LIMIT,
                };
                if event.left > 0 && !std::mem::replace(&mut waits, true) {
                    let requests = words::counted(event.left.into(), "request");
                    context.note(&format!(
                        "it finishes {requests}; heph daemon stop --now cancels them\n"
                    ));
                }
            }
            Ok(Ok(None) | Err(_)) => return Ok(()),
            Err(_) => {
                return Err(CommandError::fault(format!(
                    "failed to wait for the end of the daemon: it did not come within {}",
                    words::duration(limit)
                ))
                .hint(format!("see {}", place.log_file().display())));
            }
        }
    }
}
