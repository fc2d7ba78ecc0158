//! `heph daemon status`, and what other commands show of it.

use std::fmt::Write as _;
use std::time::Duration;

use heph_common::{Exit, clock};
use heph_proto::{CacheRest, CacheStatus, RunStatus, StatusReply, StatusRequest, UploadStatus};
use serde_json::{Value, json};

use super::found;
use crate::connector::build;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::render::json::VERSION;
use crate::service;
use crate::words;
use crate::workspace::Workspace;

pub(super) fn run(context: &Context, workspace: &Workspace, all: bool) -> Result<Exit> {
    let replies = service::runtime()?.block_on(async {
        let mut replies = Vec::new();
        for (_, mut link) in found(context, workspace, all).await? {
            replies.push(link.client.status(StatusRequest {}).await?.into_inner());
        }
        Ok::<_, CommandError>(replies)
    })?;
    let daemons: Vec<Value> = replies.iter().map(document).collect();
    let document = json!({"version": VERSION, "home": workspace.home, "daemons": daemons});
    context.show(&document, |_| match replies.is_empty() {
        true => format!("no daemon runs for {}\n", workspace.home.display()),
        false => replies.iter().map(text).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(match replies.is_empty() {
        true => Exit::Failure,
        false => Exit::Success,
    })
}

/// A daemon as docs/json.md describes it.
pub fn document(status: &StatusReply) -> Value {
    let problems: Vec<Value> = status
        .problems
        .iter()
        .map(|problem| json!({"at_unix_ms": problem.at_unix_ms, "message": problem.message}))
        .collect();
    json!({
        "pid": status.pid, "heph": status.version, "build": status.build, "own": status.build == build().name,
        "going": status.going, "started_unix_ms": status.started_unix_ms,
        "uptime_ms": u64::try_from(since(status.started_unix_ms).as_millis()).unwrap_or(u64::MAX),
        "memory_bytes": status.memory_bytes, "warm": status.warm,
        "socket": status.socket, "log": status.log, "clients": status.clients, "workspaces": status.workspaces,
        "runs": runs_document(&status.runs), "problems": problems,
        "uploads": status.uploads.iter().map(upload_document).collect::<Value>(),
        "caches": status.caches.iter().map(cache_document).collect::<Value>(),
    })
}

fn upload_document(upload: &UploadStatus) -> Value {
    json!({"cache": upload.cache, "results": upload.results, "bytes": upload.bytes, "known": upload.known})
}

fn cache_document(cache: &CacheStatus) -> Value {
    let rest = |rest: &CacheRest| json!({"cause": rest.cause, "left_ms": rest.left_ms});
    json!({
        "name": cache.name, "uri": cache.uri, "scope": cache.scope,
        "latency_us": Some(cache.latency_us).filter(|latency| *latency > 0),
        "reading": cache.reading.as_ref().map(rest), "writing": cache.writing.as_ref().map(rest),
    })
}

/// What waits to be uploaded, a line for each cache.
pub fn uploads_text(uploads: &[UploadStatus]) -> Vec<String> {
    let text = |upload: &UploadStatus| {
        let results = words::counted(upload.results, "result");
        let (bytes, cache) = (words::size(upload.bytes), &upload.cache);
        let until = match upload.known {
            true => "",
            false => ", when somebody uses it",
        };
        format!("{results}, {bytes}, for cache '{cache}'{until}")
    };
    uploads.iter().map(text).collect()
}

/// How remote caches are, a line for each.
pub fn caches_text(caches: &[CacheStatus]) -> Vec<String> {
    let mut lines = Vec::new();
    for cache in caches {
        let latency = match cache.latency_us {
            0 => String::new(),
            micros => format!(", answers in {}", words::duration(Duration::from_micros(micros))),
        };
        let place = format!("{} ({}), scope {}", cache.name, cache.uri, cache.scope);
        let rests = [("read", &cache.reading), ("written", &cache.writing)];
        let rests: Vec<String> = rests
            .into_iter()
            .filter_map(|(what, rest)| {
                let rest = rest.as_ref()?;
                let when = match rest.left_ms {
                    0 => "until the next try".to_owned(),
                    left => format!("for {}", words::duration(Duration::from_millis(left))),
                };
                Some(format!("not {what} {when}: {}", rest.cause))
            })
            .collect();
        match rests.is_empty() {
            true => lines.push(format!("{place}{latency}")),
            false => lines.push(format!("{place}; {}", rests.join("; "))),
        }
    }
    lines
}

/// Runs as docs/json.md describes them.
pub fn runs_document(runs: &[RunStatus]) -> Value {
    let run = |run: &RunStatus| {
        json!({
            "id": run.id, "root": run.root, "selector": run.selector, "started_unix_ms": run.started_unix_ms,
            "done": run.done, "total": run.total, "client_pid": Some(run.client_pid).filter(|pid| *pid != 0),
        })
    };
    runs.iter().map(run).collect()
}

fn text(status: &StatusReply) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<11} {value}");
    };
    let going = if status.going { ", finishes its runs" } else { "" };
    let since = words::duration(since(status.started_unix_ms));
    line("daemon", &format!("process {}, up {since}{going}", status.pid));
    line("heph", &format!("{} ({})", status.version, status.build));
    line("home", &status.home);
    line("memory", &words::size(status.memory_bytes));
    line("socket", &status.socket);
    line("log", &status.log);
    line("clients", &status.clients.to_string());
    let workspaces = status
        .workspaces
        .iter()
        .map(|root| match status.warm.contains(root) {
            true => root.clone(),
            false => format!("{root} (not in memory)"),
        });
    several(&mut line, "workspaces", &workspaces.collect::<Vec<_>>());
    let runs: Vec<String> = status.runs.iter().map(run_text).collect();
    several(&mut line, "runs", &runs);
    several(&mut line, "caches", &caches_text(&status.caches));
    several(&mut line, "uploads", &uploads_text(&status.uploads));
    let problems = status.problems.iter().map(|problem| {
        let ago = words::duration(self::since(problem.at_unix_ms));
        format!("{ago} ago: {}", problem.message)
    });
    several(&mut line, "problems", &problems.collect::<Vec<_>>());
    text
}

/// A name before the first of several lines.
fn several(line: &mut impl FnMut(&str, &str), name: &str, values: &[String]) {
    for (number, value) in values.iter().enumerate() {
        line(if number == 0 { name } else { "" }, value);
    }
}

/// A run on one line.
pub fn run_text(run: &RunStatus) -> String {
    let progress = match run.total {
        0 => "preparing".to_owned(),
        total => format!("{} of {}", run.done, words::counted(total, "target")),
    };
    let client = match run.client_pid {
        0 => String::new(),
        pid => format!(" (process {pid})"),
    };
    let since = words::duration(since(run.started_unix_ms));
    format!(
        "{} in {}: {progress}, for {since}{client}",
        run.selector, run.root
    )
}

fn since(unix_ms: u64) -> Duration {
    // Whole milliseconds: finer ones are not known.
    Duration::from_millis(clock::unix_ms().saturating_sub(unix_ms))
}

#[cfg(test)]
mod tests {
    use heph_proto::BackgroundProblem;

    use super::*;

    #[test]
    fn a_status_reads_well() {
        let status = StatusReply {
            pid: 4711,
            version: "0.1.0".into(),
            build: "0.1.0-00ff".into(),
            home: "/home/ada/.heph".into(),
            memory_bytes: 24 << 20,
            socket: "/run/user/1000/heph/00ff.sock".into(),
            log: "/home/ada/.heph/run/0.1.0-00ff/1/log".into(),
            workspaces: vec!["/a".into(), "/b".into()],
            warm: vec!["/a".into()],
            clients: 1,
            runs: vec![RunStatus {
                id: 3,
                root: "/a".into(),
                selector: "//...".into(),
                done: 3,
                total: 10,
                client_pid: 99,
                started_unix_ms: u64::MAX,
            }],
            problems: vec![BackgroundProblem {
                at_unix_ms: u64::MAX,
                message: "a client could not be let in".into(),
            }],
            started_unix_ms: u64::MAX,
            uploads: vec![UploadStatus {
                cache: "far".into(),
                results: 2,
                bytes: 3 << 20,
                known: true,
            }],
            caches: vec![
                CacheStatus {
                    name: "far".into(),
                    uri: "s3://far/x".into(),
                    scope: "main".into(),
                    writing: Some(CacheRest {
                        cause: "it cannot be reached: connection refused".into(),
                        left_ms: 4000,
                    }),
                    ..CacheStatus::default()
                },
                CacheStatus {
                    name: "near".into(),
                    uri: "s3://near/x".into(),
                    scope: "main".into(),
                    latency_us: 1200,
                    ..CacheStatus::default()
                },
            ],
            ..StatusReply::default()
        };
        insta::assert_snapshot!(text(&status), @"
        daemon      process 4711, up 0us
        heph        0.1.0 (0.1.0-00ff)
        home        /home/ada/.heph
        memory      24.0 MiB
        socket      /run/user/1000/heph/00ff.sock
        log         /home/ada/.heph/run/0.1.0-00ff/1/log
        clients     1
        workspaces  /a
                    /b (not in memory)
        runs        //... in /a: 3 of 10 targets, for 0us (process 99)
        caches      far (s3://far/x), scope main; not written for 4.0s: it cannot be reached: connection refused
                    near (s3://near/x), scope main, answers in 1ms
        uploads     2 results, 3.0 MiB, for cache 'far'
        problems    0us ago: a client could not be let in
        ");
    }
}
