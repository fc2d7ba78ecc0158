//! `--profile FILE`: what ran when, in the trace event format that chrome://tracing and Perfetto read.
//!
//! <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::record::{Ran, Record};
use crate::error::Result;
use crate::render::json::micros;
use crate::render::summary::outcome_name;

/// The thread that shows the critical path; commands are on those after it.
const CRITICAL: usize = 0;

/// Writes the profile of a run.
pub fn write(record: &Record, path: &Path) -> Result<()> {
    std::fs::write(path, format!("{}\n", trace(record)))
        .with_context(|| format!("failed to write the profile {}", path.display()))?;
    Ok(())
}

fn trace(record: &Record) -> Value {
    let mut ran: Vec<(&Ran, Duration)> = record
        .targets
        .iter()
        .filter_map(|ran| ran.began.map(|began| (ran, began)))
        .collect();
    ran.sort_by_key(|(_, began)| *began);
    let mut events = vec![
        json!({"name": "process_name", "ph": "M", "pid": 1, "args": {"name": format!("heph run {}", record.selector)}}),
        json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": CRITICAL, "args": {"name": "critical path"}}),
    ];
    let mut lanes: Vec<Duration> = Vec::new();
    for (ran, began) in &ran {
        let lane = match lanes.iter().position(|free| free <= began) {
            Some(lane) => lane,
            None => {
                lanes.push(Duration::ZERO);
                lanes.len() - 1
            }
        };
        if let Some(free) = lanes.get_mut(lane) {
            *free = ran.ended;
        }
        events.push(slice(ran, *began, lane + 1));
    }
    for lane in 1..=lanes.len() {
        let name = format!("commands {lane}");
        events.push(json!({"name": "thread_name", "ph": "M", "pid": 1, "tid": lane, "args": {"name": name}}));
    }
    let path = critical_path(&record.targets);
    for ran in &path {
        if let Some(began) = ran.began {
            events.push(slice(ran, began, CRITICAL));
        }
    }
    let names: Vec<&str> = path.iter().map(|ran| ran.target.address.as_str()).collect();
    let length: u64 = path.iter().map(|ran| ran.target.wall_us).sum();
    json!({
        "displayTimeUnit": "ms",
        "otherData": {
            "version": env!("CARGO_PKG_VERSION"), "wall_us": micros(record.took),
            "critical_path": names, "critical_path_us": length,
        },
        "traceEvents": events,
    })
}

fn slice(ran: &Ran, began: Duration, thread: usize) -> Value {
    json!({
        "name": ran.target.address, "cat": "target", "ph": "X", "pid": 1, "tid": thread,
        "ts": micros(began), "dur": micros(ran.ended.saturating_sub(began)),
        "args": {"outcome": outcome_name(ran.target.outcome()), "wall_us": ran.target.wall_us, "key": ran.target.key},
    })
}

/// The chain of dependencies whose commands took longest, from its first target to its last.
fn critical_path(targets: &[Ran]) -> Vec<&Ran> {
    // A target ends after its dependencies, so one pass in this order is enough.
    let mut longest: HashMap<&str, (u64, Option<&str>, &Ran)> = HashMap::new();
    let mut last: Option<&str> = None;
    for ran in targets {
        let before = ran
            .target
            .dependencies
            .iter()
            .filter_map(|address| {
                longest
                    .get_key_value(address.as_str())
                    .map(|(name, (us, ..))| (*us, *name))
            })
            .max();
        let us = before.map_or(0, |(us, _)| us) + ran.target.wall_us;
        let address = ran.target.address.as_str();
        longest.insert(address, (us, before.map(|(_, name)| name), ran));
        if last
            .and_then(|last| longest.get(last))
            .is_none_or(|(most, ..)| us > *most)
        {
            last = Some(address);
        }
    }
    let mut path = Vec::new();
    while let Some((_, before, ran)) = last.and_then(|address| longest.get(address)) {
        if ran.target.wall_us > 0 {
            path.push(*ran);
        }
        last = *before;
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use heph_proto::TargetDone;

    fn ran(address: &str, began: u64, ended: u64, dependencies: &[&str]) -> Ran {
        Ran {
            began: Some(Duration::from_micros(began)),
            ended: Duration::from_micros(ended),
            target: TargetDone {
                address: address.into(),
                wall_us: ended - began,
                dependencies: dependencies.iter().map(|&name| name.to_owned()).collect(),
                ..Default::default()
            },
        }
    }

    #[test]
    fn the_critical_path_is_the_longest_chain() {
        let targets = [
            ran("//:a", 0, 10, &[]),
            ran("//:b", 0, 50, &[]),
            ran("//:c", 10, 90, &["//:a"]),
            ran("//:d", 90, 100, &["//:b", "//:c"]),
        ];
        let names: Vec<&str> = critical_path(&targets)
            .iter()
            .map(|ran| ran.target.address.as_str())
            .collect();
        assert_eq!(names, ["//:a", "//:c", "//:d"]);
    }

    #[test]
    fn commands_at_the_same_time_are_on_threads_of_their_own() {
        let record = Record {
            targets: vec![
                ran("//:a", 0, 10, &[]),
                ran("//:b", 0, 50, &[]),
                ran("//:c", 10, 90, &[]),
            ],
            ..Record::default()
        };
        let trace = trace(&record);
        let threads: Vec<(&str, u64)> = trace["traceEvents"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["ph"] == "X" && event["tid"] != 0)
            .map(|event| (event["name"].as_str().unwrap(), event["tid"].as_u64().unwrap()))
            .collect();
        assert_eq!(threads, [("//:a", 1), ("//:b", 2), ("//:c", 1)]);
    }
}
