//! The run loop against a scripted service over an in-memory channel.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use heph_proto::heph_client::HephClient;
use heph_proto::heph_server::{Heph, HephServer};
use heph_proto::run_event::Event as Told;
use heph_proto::run_request::Request as Asked;
use heph_proto::{
    Completed, Execute, Failed, Finished, HelloReply, HelloRequest, HistoryReply, HistoryRequest,
    InspectReply, InspectRequest, MaintainReply, MaintainRequest, Plan, Report, RunEvent, RunRequest, Start,
    StatusReply, StatusRequest, StopEvent, StopRequest, WriteTree, Written, report,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status, Streaming};

use super::approval::{Answer, Approver};
use super::*;
use crate::terminal::Style;

/// A service that says `events` after the start, and keeps what it is told. It says the last one when it has been told
/// `answers` times.
#[derive(Clone)]
struct Script {
    events: Vec<Told>,
    answers: usize,
    last: Option<Finished>,
    told: Arc<Mutex<Vec<Asked>>>,
}

#[tonic::async_trait]
impl Heph for Script {
    async fn hello(&self, _: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        Err(Status::unimplemented(""))
    }

    type RunStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<RunEvent, Status>> + Send>>;

    async fn run(
        &self,
        request: Request<Streaming<RunRequest>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let script = self.clone();
        let mut requests = request.into_inner();
        let (events, receiver) = mpsc::channel(16);
        tokio::spawn(async move {
            for event in script.events {
                events.send(Ok(RunEvent { event: Some(event) })).await.unwrap();
            }
            let mut left = script.answers + 1;
            while left > 0 {
                let Some(Ok(RunRequest {
                    request: Some(request),
                })) = requests.next().await
                else {
                    break;
                };
                left -= 1;
                script.told.lock().unwrap().push(request);
            }
            if let Some(last) = script.last {
                let _ = events
                    .send(Ok(RunEvent {
                        event: Some(Told::Finished(last)),
                    }))
                    .await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn inspect(&self, _: Request<InspectRequest>) -> Result<Response<InspectReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn maintain(&self, _: Request<MaintainRequest>) -> Result<Response<MaintainReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn history(&self, _: Request<HistoryRequest>) -> Result<Response<HistoryReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Err(Status::unimplemented(""))
    }

    type StopStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<StopEvent, Status>> + Send>>;

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<Self::StopStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn serve(script: Script) -> HephClient<Channel> {
    let (client, server) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let service = TowerToHyperService::new(HephServer::new(script));
        let _ = auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(server), service)
            .await;
    });
    let mut client = Some(client);
    let connector = tower::service_fn(move |_: Uri| {
        let client = client.take().map(TokioIo::new).ok_or(io::ErrorKind::NotConnected);
        async move { Ok::<_, io::Error>(client?) }
    });
    HephClient::new(Endpoint::from_static("http://heph").connect_with_connector_lazy(connector))
}

/// Succeeds at once, or waits to be killed.
struct Hands {
    approver: Approver,
    waits: bool,
    killed: Notify,
}

impl Executor for Hands {
    async fn execute(&self, _: u64, plan: Plan, _: bool, progress: Progress) -> Report {
        if let Err(failed) = self.approver.approve(&plan, &progress).await {
            return Report {
                outcome: Some(report::Outcome::Failed(failed)),
                ..Report::default()
            };
        }
        progress.spawned();
        if self.waits {
            self.killed.notified().await;
            return Report {
                outcome: Some(report::Outcome::Cancelled(heph_proto::Cancelled {})),
                ..Report::default()
            };
        }
        Report {
            outcome: Some(report::Outcome::Completed(Completed::default())),
            wall_us: 7,
            ..Report::default()
        }
    }

    async fn write_tree(&self, write: WriteTree) -> Written {
        Written {
            id: write.id,
            failed: None,
            changed: 1,
        }
    }

    fn kill(&self, _: u64) {
        self.killed.notify_one();
    }

    fn kill_all(&self) {
        self.killed.notify_one();
    }
}

/// Keeps the names of what happened.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Observer for Notes {
    fn see(&mut self, _: Duration, event: &Event<'_>) {
        let note = match event {
            Event::Begin(selector) => format!("begin {selector}"),
            Event::Started(address) => format!("started {address}"),
            Event::Wrote(address, files) => format!("wrote {files} by {address}"),
            Event::Finished(finished) => format!("finished {}", finished.exit_code),
            other => format!("{other:?}")
                .split(['(', ' '])
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        self.0.lock().unwrap().push(note);
    }
}

struct Outcome {
    ending: Result<Ending>,
    notes: Vec<String>,
    told: Vec<Asked>,
}

impl Outcome {
    fn ended(self) -> Ended {
        match self.ending.unwrap() {
            Ending::Ended(ended) => ended,
            Ending::Lost(lost) => panic!("{lost:?}"),
        }
    }
}

async fn play(
    events: Vec<Told>,
    answers: usize,
    last: Option<Finished>,
    waits: bool,
    answer: Answer,
) -> Outcome {
    play_in(true, (events, answers, last), waits, answer).await
}

/// With a service in this process, or one that may go away.
async fn play_in(
    is_here: bool,
    (events, answers, last): (Vec<Told>, usize, Option<Finished>),
    waits: bool,
    answer: Answer,
) -> Outcome {
    let told = Arc::default();
    let script = Script {
        events,
        answers,
        last,
        told: Arc::clone(&told),
    };
    let mut client = serve(script);
    let notes = Notes::default();
    let mut signals = Signals::listen().unwrap();
    let hands = Hands {
        approver: Approver::new(answer, Style::plain()),
        waits,
        killed: Notify::new(),
    };
    let start = Start {
        selector: "//...".into(),
        ..Start::default()
    };
    let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(notes.clone())];
    let notices = vec![Notice::default()];
    let ending = run(
        (&mut client, (!is_here).then(std::process::id)),
        Opening { start, notices },
        Arc::new(hands),
        &mut signals,
        &mut observers,
    )
    .await;
    let notes = notes.0.lock().unwrap().clone();
    let told = told.lock().unwrap().clone();
    Outcome { ending, notes, told }
}

fn execute(id: u64, approval: bool) -> Told {
    let approval = approval.then(heph_proto::Approval::default);
    Told::Execute(Execute {
        id,
        shell: false,
        tell_spawned: true,
        plan: Some(Plan {
            address: format!("//a:{id}"),
            approval,
            ..Plan::default()
        }),
    })
}

fn finished(exit_code: i32) -> Option<Finished> {
    Some(Finished {
        exit_code,
        ..Finished::default()
    })
}

#[tokio::test]
async fn plans_are_run_and_files_written_and_both_are_answered() {
    let write = Told::Write(WriteTree {
        id: 9,
        address: "//a:gen".into(),
        ..WriteTree::default()
    });
    let outcome = play(vec![execute(1, false), write], 3, finished(0), false, Answer::No).await;
    assert_eq!(
        outcome.notes,
        [
            "begin //...",
            "Notice",
            "started //a:1",
            "wrote 1 by //a:gen",
            "finished 0"
        ]
    );
    assert!(matches!(outcome.told.first(), Some(Asked::Start(start)) if start.selector == "//..."));
    assert!(outcome.told.contains(&Asked::Spawned(Spawned { id: 1 })));
    assert!(outcome.told.contains(&Asked::Written(Written {
        id: 9,
        failed: None,
        changed: 1
    })));
    let report = outcome.told.iter().find_map(|asked| match asked {
        Asked::Executed(executed) => executed.report.clone(),
        _ => None,
    });
    assert_eq!(report.unwrap().wall_us, 7);
    assert_eq!(outcome.ended().finished.exit_code, 0);
}

#[tokio::test]
async fn a_plan_that_nobody_needs_any_more_is_killed() {
    let kill = Told::Kill(heph_proto::KillPlan { id: 1 });
    let outcome = play(vec![execute(1, false), kill], 2, finished(1), true, Answer::No).await;
    assert!(
        outcome
            .told
            .iter()
            .any(|asked| matches!(asked, Asked::Executed(_)))
    );
    assert_eq!(outcome.ended().finished.exit_code, 1);
}

#[tokio::test]
async fn approval_is_refused_where_nobody_can_be_asked() {
    let outcome = play(vec![execute(1, true)], 1, finished(1), false, Answer::No).await;
    let failed = outcome.told.iter().find_map(|asked| match asked {
        Asked::Executed(executed) => match executed.report.clone()?.outcome? {
            report::Outcome::Failed(failed) => Some(failed),
            _ => None,
        },
        _ => None,
    });
    let Failed { message, hint, .. } = failed.unwrap();
    assert_eq!(message, "it needs approval, and there is no terminal to ask at");
    assert_eq!(hint, "heph run --auto-approve runs it without asking");
    assert!(!outcome.notes.contains(&"started //a:1".to_owned()));

    let outcome = play(vec![execute(1, true)], 2, finished(0), false, Answer::Yes).await;
    assert!(outcome.notes.contains(&"started //a:1".to_owned()));
}

#[tokio::test]
async fn a_service_that_goes_away_in_this_process_is_an_error_and_ends_the_commands() {
    let outcome = play(vec![execute(1, false)], 1, None, true, Answer::No).await;
    let error = outcome.ending.unwrap_err();
    assert_eq!(error.exit, heph_common::Exit::Fault);
    insta::assert_snapshot!(error.text(Style::plain()), @"
    error: heph itself failed: its service ended before the run did
    hint: finished results are kept: run again, with HEPH_DAEMON=off HEPH_LOG=debug to see more
    ");
}

#[tokio::test]
async fn a_daemon_that_goes_away_leaves_a_run_that_can_start_over() {
    let events = vec![execute(1, false), execute(2, true)];
    let outcome = play_in(false, (events, 1, None), true, Answer::No).await;
    match outcome.ending.unwrap() {
        Ending::Lost(lost) => {
            assert!(lost.had_begun);
            assert_eq!(lost.interrupted, ["//a:1"], "the other one was never started");
        }
        Ending::Ended(ended) => panic!("{ended:?}"),
    }
}
