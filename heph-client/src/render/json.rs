//! One JSON event a line, as docs/json.md describes them.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heph_proto::{
    EntryKind, Failed, FailureKind, NoticeLevel, Outputs, RunError, SandboxMode, Summary, TargetDone,
};
use serde_json::{Value, json};

use super::{Event, Observer, summary};

/// Version of the documents and events.
pub const VERSION: u32 = 1;

/// Writes a run as JSON lines.
pub struct Json<W> {
    out: W,
}

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    fn say(&mut self, event: &Value) {
        // A reader that is gone must not end the build.
        let _ = writeln!(self.out, "{event}").and_then(|()| self.out.flush());
    }
}

impl<W: Write> Observer for Json<W> {
    fn see(&mut self, at: Duration, event: &Event<'_>) {
        let time_us = micros(at);
        let event = match event {
            Event::Begin(selector) => json!({
                "event": "start", "version": VERSION, "heph": env!("CARGO_PKG_VERSION"), "selector": selector,
                "started_unix_ms": unix_ms(SystemTime::now()),
            }),
            Event::Planned(planned) => json!({
                "event": "planned", "time_us": time_us, "selected": planned.selected, "total": planned.total,
            }),
            Event::Started(address) => json!({"event": "started", "time_us": time_us, "address": address}),
            Event::Waiting(address, pid) => json!({
                "event": "waiting", "time_us": time_us, "address": address,
                "pid": Some(*pid).filter(|pid| *pid != 0),
            }),
            Event::Target(target) => {
                let mut value = target_value(target);
                value["event"] = json!("target");
                value["time_us"] = json!(time_us);
                value
            }
            Event::Notice(notice) => json!({
                "event": "notice", "time_us": time_us,
                "level": match notice.level() {
                    NoticeLevel::Warning => "warning",
                    NoticeLevel::Info | NoticeLevel::Unspecified => "info",
                },
                "code": notice.code, "message": notice.message, "hint": filled(&notice.hint),
            }),
            Event::WouldRun(would) => json!({
                "event": "would-run", "time_us": time_us, "address": would.address, "reason": would.reason,
            }),
            Event::Wrote(address, files) => json!({
                "event": "wrote", "time_us": time_us, "address": address, "files": files,
            }),
            Event::Outputs(outputs) => {
                for value in output_values(outputs) {
                    let mut event =
                        json!({"event": "output", "time_us": time_us, "address": outputs.address});
                    merge(&mut event, value);
                    self.say(&event);
                }
                return;
            }
            Event::Finished(finished) => {
                for error in finished.error.iter().flat_map(error_values) {
                    let mut event = json!({"event": "error", "time_us": time_us});
                    merge(&mut event, error);
                    self.say(&event);
                }
                let summary = finished.summary.unwrap_or_default();
                json!({
                    "event": "finished", "time_us": time_us, "exit_code": finished.exit_code,
                    "summary": summary_value(&summary),
                })
            }
            // Every target has its own event: the run is asked for details when JSON is wanted.
            Event::UpToDate(_) | Event::Cancelling | Event::Suspended | Event::Resumed => return,
        };
        self.say(&event);
    }
}

/// Microseconds, as all `_us` fields have them.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970; 0 for times before.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A target's end, as in a `target` event.
pub fn target_value(target: &TargetDone) -> Value {
    json!({
        "address": target.address,
        "outcome": summary::outcome_name(target.outcome()),
        "wall_us": target.wall_us,
        "key": filled(&target.key),
        "sandbox": sandbox_name(target.sandbox()),
        "labels": target.labels,
        "selected": target.selected,
        "retries": target.retries,
        "failure": target.failed.as_ref().map(failure_value),
    })
}

fn failure_value(failed: &Failed) -> Value {
    json!({
        "kind": match failed.kind() {
            FailureKind::Command => "command",
            FailureKind::Timeout => "timeout",
            FailureKind::Output => "output",
            FailureKind::Staging => "staging",
            FailureKind::Approval => "approval",
            FailureKind::Program => "program",
            FailureKind::Fetch => "fetch",
            FailureKind::Codegen => "codegen",
            FailureKind::Definition => "definition",
            FailureKind::Interrupted => "interrupted",
            FailureKind::Internal | FailureKind::Unspecified => "internal",
        },
        "message": failed.message,
        "hint": filled(&failed.hint),
        "exit_code": failed.exit_code,
        "signal": failed.signal,
        "command": filled(&failed.command),
        "log": failed.log_tail,
        "log_file": filled(&failed.log_file),
        "sandbox": filled(&failed.sandbox),
    })
}

/// The counts of a run.
pub fn summary_value(summary: &Summary) -> Value {
    json!({
        "total": summary.total, "up_to_date": summary.up_to_date, "local": summary.local,
        "remote": summary.remote, "executed": summary.executed, "failed": summary.failed,
        "skipped": summary.skipped, "cancelled": summary.cancelled,
    })
}

/// The problems of a run as a whole.
pub fn error_values(error: &RunError) -> Vec<Value> {
    let value = |problem: &heph_proto::Problem| json!({"message": problem.message, "place": filled(&problem.place), "hint": filled(&problem.hint)});
    error.problems.iter().map(value).collect()
}

/// The files of a target, as in `output` events.
fn output_values(outputs: &Outputs) -> impl Iterator<Item = Value> {
    outputs.files.iter().enumerate().map(|(index, file)| {
        let group = outputs.groups.get(index).map_or("", String::as_str);
        json!({
            "group": group, "path": file.path, "kind": kind_name(file.kind()), "size": file.size,
            "digest": hex(&file.digest),
        })
    })
}

/// The name of what lies at a path.
pub fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Executable => "executable",
        EntryKind::Symlink => "symlink",
        EntryKind::Directory => "directory",
        EntryKind::File | EntryKind::Unspecified => "file",
    }
}

fn sandbox_name(mode: SandboxMode) -> Option<&'static str> {
    match mode {
        SandboxMode::Unspecified => None,
        SandboxMode::Strict => Some("strict"),
        SandboxMode::Standard => Some("standard"),
        SandboxMode::Off => Some("off"),
    }
}

fn hex(digest: &[u8]) -> Option<String> {
    (!digest.is_empty()).then(|| digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn filled(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heph_proto::{Finished, Input, Planned, Problem, TargetOutcome};

    #[test]
    fn events_are_lines_of_the_documented_shape() {
        let mut bytes = Vec::new();
        let mut json = Json::new(&mut bytes);
        let at = Duration::from_micros(2100);
        json.see(
            at,
            &Event::Planned(&Planned {
                selected: 5,
                total: 7,
            }),
        );
        json.see(at, &Event::Started("//a:b"));
        let failed = Failed {
            kind: FailureKind::Command.into(),
            message: "exit code 2".into(),
            exit_code: Some(2),
            log_tail: vec!["no".into()],
            ..Default::default()
        };
        json.see(
            at,
            &Event::Target(&TargetDone {
                address: "//a:b".into(),
                outcome: TargetOutcome::Failed.into(),
                failed: Some(failed),
                sandbox: SandboxMode::Strict.into(),
                selected: true,
                ..Default::default()
            }),
        );
        let file = Input {
            path: "a/b.txt".into(),
            kind: EntryKind::File.into(),
            digest: vec![0xc0, 0xde].into(),
            size: 12,
            ..Default::default()
        };
        json.see(
            at,
            &Event::Outputs(&Outputs {
                address: "//a:b".into(),
                files: vec![file],
                groups: vec![],
            }),
        );
        let problem = Problem {
            message: "no".into(),
            place: "a/BUILD:1:1".into(),
            hint: String::new(),
        };
        json.see(
            at,
            &Event::Finished(&Finished {
                exit_code: 2,
                summary: None,
                error: Some(RunError {
                    exit_code: 2,
                    problems: vec![problem],
                }),
            }),
        );

        insta::assert_snapshot!(String::from_utf8(bytes).unwrap(), @r#"
        {"event":"planned","selected":5,"time_us":2100,"total":7}
        {"address":"//a:b","event":"started","time_us":2100}
        {"address":"//a:b","event":"target","failure":{"command":null,"exit_code":2,"hint":null,"kind":"command","log":["no"],"log_file":null,"message":"exit code 2","sandbox":null,"signal":null},"key":null,"labels":[],"outcome":"failed","retries":0,"sandbox":"strict","selected":true,"time_us":2100,"wall_us":0}
        {"address":"//a:b","digest":"c0de","event":"output","group":"","kind":"file","path":"a/b.txt","size":12,"time_us":2100}
        {"event":"error","hint":null,"message":"no","place":"a/BUILD:1:1","time_us":2100}
        {"event":"finished","exit_code":2,"summary":{"cancelled":0,"executed":0,"failed":0,"local":0,"remote":0,"skipped":0,"total":0,"up_to_date":0},"time_us":2100}
        "#);
    }
}
