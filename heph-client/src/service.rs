//! Requests to the service that are answered by one document.

use std::pin::pin;

use heph_daemon::connect::{is_cut_off, is_going_away};
use heph_proto::heph_client::HephClient;
use heph_proto::inspect_request::What as Look;
use heph_proto::maintain_request::What as Work;
use heph_proto::{HistoryReply, HistoryRequest, InspectRequest, MaintainRequest, RunError};
use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::connector::{Connection, Connector};
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::liveness::{Liveness, News};
use crate::workspace::Workspace;

/// Everything asynchronous of this process runs here.
///
/// The engine works on threads of its own; what is left is waiting.
pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::fault(format!("failed to start: {error}")))
}

/// Looks into the graph.
pub fn inspect(context: &Context, workspace: &Workspace, what: Look) -> Result<Value> {
    inspect_by(Connector::new(context)?, context, workspace, what)
}

/// As [`inspect`], by a certain way.
pub fn inspect_by(
    connector: Connector,
    context: &Context,
    workspace: &Workspace,
    what: Look,
) -> Result<Value> {
    let request = InspectRequest {
        workspace: Some(workspace.message.clone()),
        what: Some(what),
    };
    let reply = runtime()?.block_on(ask(connector, context, workspace, async |client| {
        client.inspect(request.clone()).await
    }))?;
    document(&reply.json, reply.error)
}

/// Works on the store.
pub fn maintain(context: &Context, workspace: &Workspace, what: Work) -> Result<Value> {
    let request = maintenance(workspace, what);
    let connector = Connector::new(context)?;
    let reply = runtime()?.block_on(ask(connector, context, workspace, async |client| {
        client.maintain(request.clone()).await
    }))?;
    document(&reply.json, reply.error)
}

/// Looks into the history.
pub fn history(context: &Context, workspace: &Workspace, request: &HistoryRequest) -> Result<HistoryReply> {
    let connector = Connector::new(context)?;
    let reply = runtime()?.block_on(ask(connector, context, workspace, async |client| {
        client.history(request.clone()).await
    }))?;
    match reply.failure.as_str() {
        "" => Ok(reply),
        failure => Err(CommandError::fault(format!("failed to {failure}"))),
    }
}

/// As [`maintain`], over a connection that is there.
pub async fn work(client: &mut HephClient<Channel>, workspace: &Workspace, what: Work) -> Result<Value> {
    let reply = client.maintain(maintenance(workspace, what)).await?.into_inner();
    document(&reply.json, reply.error)
}

fn maintenance(workspace: &Workspace, what: Work) -> MaintainRequest {
    MaintainRequest {
        home: workspace.message.home.clone(),
        config: workspace.message.config.clone(),
        what: Some(what),
    }
}

/// Asks until there is an answer: a daemon that goes away meanwhile has a successor.
async fn ask<T>(
    mut connector: Connector,
    context: &Context,
    workspace: &Workspace,
    question: impl AsyncFn(&mut HephClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
) -> Result<T> {
    loop {
        let Connection { mut client, daemon } = connector.connect(context, workspace).await?;
        let mut liveness = Liveness::of(&client, daemon);
        let mut was_silent = false;
        // Nothing is lost by asking elsewhere, so a silent daemon is only waited for where there has to be one.
        let answered = {
            let mut question = pin!(question(&mut client));
            loop {
                tokio::select! {
                    biased;
                    answer = &mut question => break Some(answer),
                    news = liveness.news() => {
                        let is_new = news == News::Silent && !std::mem::replace(&mut was_silent, true);
                        if is_new && connector.give_up_on(context, daemon.unwrap_or(0)) {
                            break None;
                        }
                        if is_new {
                            let notice = liveness.notice(news);
                            context.warn(&notice.message, &notice.hint);
                        }
                    }
                }
            }
        };
        let Some(answer) = answered else { continue };
        match answer {
            Ok(reply) => return Ok(reply.into_inner()),
            Err(status) if daemon.is_some() && (is_cut_off(&status) || is_going_away(&status)) => {
                connector.note_loss(context)?;
            }
            Err(status) => return Err(status.into()),
        }
    }
}

fn document(json: &[u8], error: Option<RunError>) -> Result<Value> {
    match error {
        Some(error) => Err(error.into()),
        None => serde_json::from_slice(json)
            .map_err(|error| CommandError::fault(format!("failed to read the service's answer: {error}"))),
    }
}
