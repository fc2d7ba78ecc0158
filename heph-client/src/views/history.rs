//! What was run.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{columns, list_of, number_of, text_of};
use crate::terminal::Style;
use crate::words;

/// How long ago a time in milliseconds since 1970 was.
pub(super) fn ago(unix_ms: &Value) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_millis(number_of(unix_ms));
    match SystemTime::now().duration_since(then) {
        Ok(ago) => format!(
            "{} ago",
            words::duration(Duration::from_secs(ago.as_secs().max(1)))
        ),
        Err(_) => "just now".to_owned(),
    }
}

/// Sums, the slowest targets, those that ran most often, the last runs.
pub fn history(document: &Value, style: Style) -> String {
    let runs = &document["runs"];
    if number_of(&runs["count"]) == 0 {
        return "no runs are remembered\n".to_owned();
    }
    let mut text = totals(document, style);
    for (key, title) in [
        ("slowest", "slowest targets"),
        ("most_often", "executed most often"),
    ] {
        let targets = list_of(&document[key]);
        if !targets.is_empty() {
            text += &format!("\n{title}\n");
        }
        let names_roots = document["root"].is_null();
        for target in targets {
            text += &target_line(target, names_roots);
        }
    }
    text += "\nlast runs\n";
    for run in list_of(&document["last_runs"]) {
        text += &run_line(run, document["root"].is_null(), style);
    }
    text
}

fn totals(document: &Value, style: Style) -> String {
    let (runs, targets) = (&document["runs"], &document["targets"]);
    let us = |value: &Value| words::duration(Duration::from_micros(number_of(value)));
    let hits = number_of(&targets["local"]) + number_of(&targets["remote"]);
    let hit_rate = match document["hit_rate"].as_f64() {
        Some(rate) => format!("{:.1} %", rate * 100.0),
        None => "-".to_owned(),
    };
    let rows = [
        (
            "runs",
            format!(
                "{} since {}, {} with the daemon, {} failed",
                number_of(&runs["count"]),
                ago(&runs["first_unix_ms"]),
                number_of(&runs["daemon"]),
                number_of(&runs["failed"]),
            ),
        ),
        (
            "hit rate",
            format!(
                "{} ({}, {} executed)",
                style.bold(&hit_rate),
                match hits {
                    1 => "1 hit".to_owned(),
                    hits => format!("{hits} hits"),
                },
                number_of(&targets["executed"]),
            ),
        ),
        ("up to date", number_of(&targets["up_to_date"]).to_string()),
        ("failed", number_of(&targets["failed"]).to_string()),
        ("uncached", number_of(&targets["uncached"]).to_string()),
        ("time saved", style.bold(&us(&document["saved_us"]))),
        ("commands", us(&document["command_us"])),
        ("waited", us(&runs["wall_us"])),
    ];
    columns(rows.iter().map(|(name, value)| (*name, value.clone())))
}

fn target_line(target: &Value, names_root: bool) -> String {
    let executions = number_of(&target["executions"]);
    let mean = Duration::from_micros(number_of(&target["wall_us"]) / executions.max(1));
    let failures = match number_of(&target["failures"]) {
        0 => String::new(),
        failures => format!(", {failures} failed"),
    };
    let root = match names_root {
        true => format!(" in {}", text_of(&target["root"])),
        false => String::new(),
    };
    format!(
        "  {:>8}  {}{root} ({executions} times{failures})\n",
        words::duration(mean),
        text_of(&target["address"]),
    )
    .replace("(1 times", "(once")
}

fn run_line(run: &Value, names_root: bool, style: Style) -> String {
    let targets = &run["targets"];
    let hits = number_of(&targets["local"]) + number_of(&targets["remote"]);
    let end = match run["exit_code"].as_i64() {
        Some(0) => String::new(),
        code => format!(", exit code {}", code.unwrap_or_default()),
    };
    let root = match names_root {
        true => format!(" in {}", text_of(&run["root"])),
        false => String::new(),
    };
    let executed = number_of(&targets["executed"]) + number_of(&targets["failed"]);
    format!(
        "  {}  {:>11}  {:>8}  {}{root}: {}, {executed} executed, {hits} from the store{end}{}\n",
        style.dim(text_of(&run["id"])),
        ago(&run["started_unix_ms"]),
        words::duration(Duration::from_micros(number_of(&run["wall_us"]))),
        text_of(&run["selector"]),
        words::counted(number_of(&targets["total"]), "target"),
        match text_of(&run["mode"]) {
            "daemon" => String::new(),
            mode => format!(" ({mode})"),
        },
    )
}
