//! The gRPC service over one engine.

use std::pin::Pin;
use std::sync::Arc;

use heph_common::clock::unix_ms;
use heph_common::{Build, Exit};
use heph_engine::engine::{Asked, Engine};
use heph_engine::run::Message;
use heph_proto::heph_server::Heph;
use heph_proto::{
    HelloReply, HelloRequest, HistoryReply, HistoryRequest, InspectReply, InspectRequest, MaintainReply,
    MaintainRequest, Notice, NoticeLevel, Problem, RunError, RunEvent, RunRequest, StatusReply,
    StatusRequest, StopEvent, StopRequest, run_event, run_request,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::activity::{Activity, Counted, Running, Wish};
use crate::connect::GOING_AWAY;
use crate::memory::Ceiling;
use crate::peer::Peer;
use crate::status;

/// Events that may wait for a client that reads slowly; then the run waits for it.
const EVENTS_IN_FLIGHT: usize = 256;

/// Who answers.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The build of heph.
    pub build: Build,
    /// The pinned release that it is, if any.
    pub pinned: Option<String>,
    /// When it was started, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Path of the socket; empty when there is none.
    pub socket: String,
    /// Path of the log; empty when there is none.
    pub log: String,
}

/// Answers requests with one engine.
#[derive(Clone, Debug)]
pub struct Service {
    engine: Arc<Engine>,
    activity: Arc<Activity>,
    identity: Arc<Identity>,
    /// Of a daemon.
    ceiling: Option<Ceiling>,
}

impl Service {
    /// The service of a process that ends with its one client.
    pub fn in_process(engine: Arc<Engine>) -> Self {
        let identity = Identity {
            build: Build::own(),
            pinned: None,
            started_unix_ms: unix_ms(),
            socket: String::new(),
            log: String::new(),
        };
        Self {
            engine,
            activity: Activity::new(false),
            identity: Arc::new(identity),
            ceiling: None,
        }
    }

    /// The service of a daemon, which counts in `activity` what it does.
    pub(crate) fn of_daemon(
        engine: Arc<Engine>,
        activity: Arc<Activity>,
        identity: Identity,
        ceiling: Ceiling,
    ) -> Self {
        Self {
            engine,
            activity,
            identity: Arc::new(identity),
            ceiling: Some(ceiling),
        }
    }

    /// What goes on in it.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    fn admit(&self) -> Result<Counted, Status> {
        self.activity.admit().ok_or_else(|| Status::aborted(GOING_AWAY))
    }

    /// Work that reads files, away from the threads that serve connections. A fault in it fails its request alone.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let admitted = self.admit()?;
        let engine = Arc::clone(&self.engine);
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&engine);
            // Counted until the work is done, also when nobody waits for it any more.
            drop(admitted);
            done
        });
        done.await
            .map_err(|error| Status::internal(format!("the request failed inside heph: {error}")))
    }
}

#[tonic::async_trait]
impl Heph for Service {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        if self.activity.is_going() {
            return Err(Status::aborted(GOING_AWAY));
        }
        let identity = &self.identity;
        tracing::debug!(
            "client {} of heph {}",
            client_pid(&request),
            request.get_ref().build
        );
        Ok(Response::new(HelloReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            build: identity.build.name.clone(),
            home: self.engine.home().to_string_lossy().into_owned(),
            built_unix_ms: identity.build.built_unix_ms,
            pinned: identity.pinned.clone().unwrap_or_default(),
        }))
    }

    type RunStream = Pin<Box<dyn Stream<Item = Result<RunEvent, Status>> + Send>>;

    async fn run(
        &self,
        request: Request<Streaming<RunRequest>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let admitted = self.admit()?;
        let client = client_pid(&request);
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|message| message.request);
        let Some(run_request::Request::Start(mut start)) = first else {
            return Err(Status::invalid_argument(
                "the first message of a run is its start",
            ));
        };
        start.client_pid = client;
        // Not bounded by itself: a client has as many plans and writes under way as it was sent, and answers each once.
        let (own, inbox) = crossbeam_channel::unbounded();
        let (events, stream) = mpsc::channel(EVENTS_IN_FLIGHT);
        let running = self
            .activity
            .begin(admitted, &start, client, canceller(own.clone(), events.clone()));
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
        let service = self.clone();
        std::thread::Builder::new()
            .name("run".to_owned())
            .spawn(move || service.run_to_end(&start, (own, &inbox), events, running))
            .map_err(|error| Status::internal(format!("no thread for the run: {error}")))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectReply>, Status> {
        let request = request.into_inner();
        if let Some(workspace) = &request.workspace {
            self.activity.visited(&workspace.root);
        }
        let workspace = self.engine.stays().then(|| request.workspace.clone());
        let answer = self
            .blocking(move |engine| heph_engine::inspect::answer(engine, &request))
            .await?;
        if let Some(workspace) = workspace {
            let service = self.clone();
            tokio::task::spawn_blocking(move || service.rest(workspace.as_ref()));
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

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryReply>, Status> {
        let request = request.into_inner();
        let answer = self
            .blocking(move |engine| engine.history().ask(&request))
            .await?;
        Ok(Response::new(answer.unwrap_or_else(|error| HistoryReply {
            failure: error.to_string(),
            ..HistoryReply::default()
        })))
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let service = self.clone();
        // Answered also by one that goes.
        let made = tokio::task::spawn_blocking(move || {
            status::reply(&service.engine, &service.activity, &service.identity)
        });
        let reply = made
            .await
            .map_err(|error| Status::internal(format!("no status: {error}")))?;
        Ok(Response::new(reply))
    }

    type StopStream = Pin<Box<dyn Stream<Item = Result<StopEvent, Status>> + Send>>;

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<Self::StopStream>, Status> {
        if !self.engine.stays() {
            return Err(Status::unimplemented(
                "a service inside its client's process ends with it",
            ));
        }
        let client = client_pid(&request);
        let StopRequest { cancel, reason } = request.into_inner();
        // At once, so that who asks again is not taken in by a daemon that has not begun to go.
        self.activity.go();
        let why = format!("{reason} (process {client})");
        self.activity.ask(match cancel {
            true => Wish::Cancel(why),
            false => Wish::Finish(why),
        });
        let farewell = self.activity.farewell();
        let left = WatchStream::new(self.activity.load()).map(move |load| {
            // Counted for as long as the stream lives: it breaks off with the process.
            let _ = &farewell;
            Ok(StopEvent {
                left: u32::try_from(load.requests).unwrap_or(u32::MAX),
            })
        });
        Ok(Response::new(Box::pin(left)))
    }
}

/// The process at the other end; 0 where unknown.
fn client_pid<T>(request: &Request<T>) -> u32 {
    request.extensions().get::<Peer>().map_or(0, |peer| peer.pid)
}

/// A document, which is empty when there is an error instead.
fn split(answer: Result<Vec<u8>, RunError>) -> (Vec<u8>, Option<RunError>) {
    match answer {
        Ok(json) => (json, None),
        Err(error) => (Vec::new(), Some(error)),
    }
}

/// Stops a run whose daemon goes, and tells its client why.
fn canceller(
    run: crossbeam_channel::Sender<Message>,
    events: mpsc::Sender<Result<RunEvent, Status>>,
) -> impl Fn() + Send + 'static {
    move || {
        let why = "the daemon is being stopped, and its runs with it";
        // A client that reads so slowly learns it from the end of its run.
        drop(events.try_send(Ok(warning("daemon-stopped", why.to_owned()))));
        let cancel = RunRequest {
            request: Some(run_request::Request::Cancel(heph_proto::CancelRun {})),
        };
        drop(run.send(Message::Request(cancel)));
    }
}

impl Service {
    /// One run on its own thread. A fault in it ends this run with an event, and nothing else.
    fn run_to_end(
        &self,
        start: &heph_proto::Start,
        (own, inbox): (
            crossbeam_channel::Sender<Message>,
            &crossbeam_channel::Receiver<Message>,
        ),
        events: mpsc::Sender<Result<RunEvent, Status>>,
        running: Running,
    ) {
        let send = |event: RunEvent| {
            let is_last = matches!(event.event, Some(run_event::Event::Finished(_)));
            if is_last && self.engine.stays() && running.has_results() {
                self.keep_results();
            }
            running.see(&event);
            // A client that is gone is heard of through the inbox.
            drop(events.blocking_send(Ok(event)));
        };
        for message in self.activity.take_untold() {
            send(warning(
                "background",
                format!("in the background of the daemon, {message}"),
            ));
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.engine.run(start, own, inbox, &send)
        }));
        if let Err(fault) = ended {
            send(faulty(fault.as_ref()));
        }
        if !self.engine.stays() {
            // The client waits for the end of the stream: until what was learnt is on disk.
            self.rest(start.workspace.as_ref());
            self.engine.history().write_down();
            return;
        }
        drop(events);
        // Still counted: its client is done, its daemon is not.
        self.engine.history().write_down_and_gather();
        self.rest(start.workspace.as_ref());
        drop(running);
    }

    /// What a client takes for done outlives the daemon.
    fn keep_results(&self) {
        if let Err(error) = self.engine.store().flush() {
            self.activity
                .problem(format!("results could not be written to the store: {error}"));
        }
    }

    /// For the time after an answer.
    fn rest(&self, workspace: Option<&heph_proto::Workspace>) {
        if let Ok(asked) = Asked::read(workspace) {
            self.engine.rest(&asked);
        }
        if let Some(ceiling) = &self.ceiling {
            ceiling.keep(&self.engine);
        }
    }
}

fn warning(code: &str, message: String) -> RunEvent {
    let notice = Notice {
        level: NoticeLevel::Warning.into(),
        code: code.to_owned(),
        message,
        hint: String::new(),
    };
    RunEvent {
        event: Some(run_event::Event::Notice(notice)),
    }
}

fn faulty(fault: &(dyn std::any::Any + Send)) -> RunEvent {
    let text = fault
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| fault.downcast_ref::<String>().map(String::as_str));
    let message = format!("a fault inside heph: {}", text.unwrap_or("unknown"));
    let problem = Problem {
        message,
        hint: "run again with HEPH_DAEMON=off HEPH_LOG=debug and report what it prints".to_owned(),
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
    RunEvent {
        event: Some(run_event::Event::Finished(finished)),
    }
}
