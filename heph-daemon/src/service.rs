//! The gRPC service over one engine.

use std::pin::Pin;
use std::sync::Arc;

use heph_common::Exit;
use heph_engine::engine::Engine;
use heph_engine::run::Message;
use heph_proto::heph_server::Heph;
use heph_proto::{
    HelloReply, HelloRequest, InspectReply, InspectRequest, MaintainReply, MaintainRequest, Problem,
    RunError, RunEvent, RunRequest, run_request,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

/// Events that may wait for a client that reads slowly; then the run waits for it.
const EVENTS_IN_FLIGHT: usize = 256;

/// Answers requests with one engine.
#[derive(Clone, Debug)]
pub struct Service {
    engine: Arc<Engine>,
}

impl Service {
    /// A service over this engine.
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Work that reads files, away from the threads that serve connections. A fault in it fails its request alone.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let engine = Arc::clone(&self.engine);
        let done = tokio::task::spawn_blocking(move || work(&engine)).await;
        done.map_err(|error| Status::internal(format!("the request failed inside heph: {error}")))
    }
}

#[tonic::async_trait]
impl Heph for Service {
    async fn hello(&self, _request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Ok(Response::new(HelloReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        }))
    }

    type RunStream = Pin<Box<dyn Stream<Item = Result<RunEvent, Status>> + Send>>;

    async fn run(
        &self,
        request: Request<Streaming<RunRequest>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.request);
        let Some(run_request::Request::Start(start)) = first else {
            return Err(Status::invalid_argument(
                "the first message of a run is its start",
            ));
        };
        // Not bounded by itself: a client has as many plans and writes under way as it was sent, and answers each once.
        let (own, inbox) = crossbeam_channel::unbounded();
        let (events, stream) = mpsc::channel(EVENTS_IN_FLIGHT);
        let to_run = own.clone();
        tokio::spawn(async move {
            while let Some(Ok(message)) = requests.next().await {
                if to_run.send(Message::Request(message)).is_err() {
                    return;
                }
            }
            // A run that has ended does not mind.
            drop(to_run.send(Message::Closed));
        });
        let engine = Arc::clone(&self.engine);
        std::thread::Builder::new()
            .name("run".to_owned())
            .spawn(move || run(&engine, &start, own, &inbox, events))
            .map_err(|error| Status::internal(format!("no thread for the run: {error}")))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectReply>, Status> {
        let request = request.into_inner();
        let workspace = self.engine.stays().then(|| request.workspace.clone());
        let answer = self
            .blocking(move |engine| heph_engine::inspect::answer(engine, &request))
            .await?;
        if let Some(workspace) = workspace {
            let engine = Arc::clone(&self.engine);
            tokio::task::spawn_blocking(move || {
                if let Ok(asked) = heph_engine::engine::Asked::read(workspace.as_ref()) {
                    engine.rest(&asked);
                }
            });
        }
        let (json, error) = split(answer);
        Ok(Response::new(InspectReply {
            json: json.into(),
            error,
        }))
    }

    async fn maintain(&self, request: Request<MaintainRequest>) -> Result<Response<MaintainReply>, Status> {
        let request = request.into_inner();
        let answer = self
            .blocking(move |engine| heph_engine::maintain::answer(engine, &request))
            .await?;
        let (json, error) = split(answer);
        Ok(Response::new(MaintainReply {
            json: json.into(),
            error,
        }))
    }
}

/// A document, which is empty when there is an error instead.
fn split(answer: Result<Vec<u8>, RunError>) -> (Vec<u8>, Option<RunError>) {
    match answer {
        Ok(json) => (json, None),
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// One run on its own thread. A fault in it ends this run with an event, and nothing else.
fn run(
    engine: &Engine,
    start: &heph_proto::Start,
    own: crossbeam_channel::Sender<Message>,
    inbox: &crossbeam_channel::Receiver<Message>,
    events: mpsc::Sender<Result<RunEvent, Status>>,
) {
    // A client that is gone is heard of through the inbox.
    let send = |event| drop(events.blocking_send(Ok(event)));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        engine.run(start, own, inbox, &send)
    }));
    if let Err(fault) = ended {
        let text = fault
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| fault.downcast_ref::<String>().map(String::as_str));
        let message = format!("a fault inside heph: {}", text.unwrap_or("unknown"));
        let problem = Problem {
            message,
            hint: "run again with HEPH_LOG=debug and report what it prints".to_owned(),
            ..Problem::default()
        };
        let exit_code = i32::from(Exit::Fault.code());
        let error = RunError {
            exit_code,
            problems: vec![problem],
        };
        let finished = heph_proto::Finished {
            exit_code,
            error: Some(error),
            ..heph_proto::Finished::default()
        };
        send(RunEvent {
            event: Some(heph_proto::run_event::Event::Finished(finished)),
        });
    }
    // The client waits for the end of the stream: until what was learnt is on disk, where this process ends with it.
    let events = (!engine.stays()).then_some(events);
    if let Ok(asked) = heph_engine::engine::Asked::read(start.workspace.as_ref()) {
        engine.rest(&asked);
    }
    drop(events);
}
