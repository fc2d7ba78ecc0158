//! Whether the daemon still answers while something is waited for.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use heph_daemon::Seen;
use heph_proto::heph_client::HephClient;
use heph_proto::{HelloRequest, Notice, NoticeLevel};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::transport::Channel;

use crate::connector::build;

/// Pause between two questions whether it is there.
const PAUSE: Duration = Duration::from_secs(2);

/// One that is there answers within this time.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// The same where somebody wants to leave.
const HURRIED_LIMIT: Duration = Duration::from_millis(500);

/// One that is seen to be at work has this long: a loaded machine is no reason to worry anybody.
const BUSY_LIMIT: Duration = Duration::from_secs(30);

/// What is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// It does not answer.
    Silent,
    /// It does again.
    Answers,
}

/// Asks a daemon now and then whether it is there, until this is dropped.
#[derive(Debug)]
pub struct Liveness {
    pid: u32,
    news: mpsc::Receiver<News>,
    hurry: Arc<Notify>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Liveness {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Liveness {
    /// Of the daemon with this process number at the other end; of none, there is never any news.
    pub fn of(client: &HephClient<Channel>, daemon: Option<u32>) -> Self {
        let (sender, news) = mpsc::channel(1);
        let hurry = Arc::new(Notify::new());
        let task = daemon.map(|pid| tokio::spawn(look(client.clone(), pid, Arc::clone(&hurry), sender)));
        Self {
            pid: daemon.unwrap_or(0),
            news,
            hurry,
            task,
        }
    }

    /// Waits for news; for ever when there will be none.
    pub async fn news(&mut self) -> News {
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Looks at once, and does not wait for long: somebody wants to leave.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// The news in words.
    pub fn notice(&self, news: News) -> Notice {
        let pid = self.pid;
        match news {
            News::Silent => Notice {
                level: NoticeLevel::Warning.into(),
                code: "daemon-silent".to_owned(),
                message: format!("the daemon (process {pid}) does not answer, and is waited for"),
                hint: format!(
                    "it is stopped or hangs: kill -CONT {pid} has it go on; after kill -KILL {pid} this starts over, and what was finished is kept"
                ),
            },
            News::Answers => Notice {
                level: NoticeLevel::Info.into(),
                code: "daemon-answers".to_owned(),
                message: format!("the daemon (process {pid}) answers again"),
                hint: String::new(),
            },
        }
    }
}

async fn look(mut client: HephClient<Channel>, pid: u32, hurry: Arc<Notify>, news: mpsc::Sender<News>) {
    let request = HelloRequest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: build().name.clone(),
        home: String::new(),
    };
    loop {
        let mut limit = ANSWER_LIMIT;
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = hurry.notified() => limit = HURRIED_LIMIT,
        }
        let (asked, mut seen) = (Instant::now(), Seen::now(pid));
        let mut answer = pin!(client.hello(request.clone()));
        let mut until = asked + limit;
        let is_silent = loop {
            tokio::select! {
                biased;
                // An error is an answer, too; one that is gone is noticed by whoever waits for it.
                _ = &mut answer => break false,
                () = hurry.notified() => until = until.min(Instant::now() + HURRIED_LIMIT),
                () = sleep_until(until) => match asked.elapsed() < BUSY_LIMIT && seen.is_at_work() {
                    true => {
                        // What it did before says nothing of what it does now.
                        (until, seen) = (Instant::now() + HURRIED_LIMIT, Seen::now(pid));
                    }
                    false => break true,
                },
            }
        };
        if is_silent {
            if news.send(News::Silent).await.is_err() {
                return;
            }
            let _ = answer.await;
            if news.send(News::Answers).await.is_err() {
                return;
            }
        }
    }
}
