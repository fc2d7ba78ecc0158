//! `--report FILE`: what a run did, as JSON or JUnit.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use heph_proto::TargetOutcome;
use serde_json::{Value, json};

use super::record::{Ran, Record};
use crate::error::{CommandError, Result};
use crate::render::failure::in_short;
use crate::render::json::{VERSION, error_values, micros, summary_value, target_value, unix_ms};

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON document.
    Json,
    /// JUnit's XML, one test case a target.
    JUnit,
}

/// The form that the name of a report asks for.
pub fn form(path: &Path) -> Result<Form> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Ok(Form::Json),
        Some("xml") => Ok(Form::JUnit),
        _ => Err(CommandError::usage(format!(
            "failed to choose the form of the report '{}': its name ends in neither .json nor .xml",
            path.display()
        ))
        .hint("report.json is JSON, report.xml is JUnit")),
    }
}

/// Writes the report of a run.
pub fn write(record: &Record, path: &Path) -> Result<()> {
    let text = match form(path)? {
        Form::Json => format!("{}\n", as_json(record)),
        Form::JUnit => as_junit(record),
    };
    std::fs::write(path, text).with_context(|| format!("failed to write the report {}", path.display()))?;
    Ok(())
}

fn sorted(record: &Record) -> Vec<&Ran> {
    let mut targets: Vec<&Ran> = record.targets.iter().collect();
    targets.sort_by(|a, b| a.target.address.cmp(&b.target.address));
    targets
}

fn as_json(record: &Record) -> Value {
    let target = |ran: &&Ran| {
        let mut value = target_value(&ran.target);
        value["dependencies"] = json!(ran.target.dependencies);
        value
    };
    json!({
        "version": VERSION,
        "heph": env!("CARGO_PKG_VERSION"),
        "selector": record.selector,
        "started_unix_ms": unix_ms(record.started),
        "wall_us": micros(record.took),
        "exit_code": record.finished.exit_code,
        "summary": summary_value(&record.finished.summary.unwrap_or_default()),
        "targets": sorted(record).iter().map(target).collect::<Vec<_>>(),
        "errors": record.finished.error.iter().flat_map(error_values).collect::<Vec<_>>(),
    })
}

fn as_junit(record: &Record) -> String {
    let targets = sorted(record);
    let count = |outcomes: &[TargetOutcome]| {
        targets
            .iter()
            .filter(|ran| outcomes.contains(&ran.target.outcome()))
            .count()
    };
    let errors = record
        .finished
        .error
        .iter()
        .flat_map(|error| &error.problems)
        .collect::<Vec<_>>();
    let failures = count(&[TargetOutcome::Failed]);
    let skipped = count(&[TargetOutcome::Skipped, TargetOutcome::Cancelled]);
    let tests = targets.len() + errors.len();
    let seconds = record.took.as_secs_f64();
    let totals = format!(
        "tests=\"{tests}\" failures=\"{failures}\" errors=\"{}\" skipped=\"{skipped}\" time=\"{seconds:.3}\"",
        errors.len()
    );
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a String cannot fail.
    let _ = writeln!(xml, "<testsuites name=\"heph\" {totals}>");
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{}\" {totals}>",
        escaped(&record.selector)
    );
    for ran in targets {
        junit_case(&mut xml, ran);
    }
    for problem in errors {
        let place = if problem.place.is_empty() {
            "heph"
        } else {
            &problem.place
        };
        let _ = writeln!(
            xml,
            "    <testcase classname=\"heph\" name=\"{}\" time=\"0.000\">",
            escaped(place)
        );
        let _ = writeln!(xml, "      <error message=\"{}\"/>", escaped(&problem.message));
        xml.push_str("    </testcase>\n");
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn junit_case(xml: &mut String, ran: &Ran) {
    let target = &ran.target;
    let (package, name) = target
        .address
        .split_once(':')
        .unwrap_or((target.address.as_str(), ""));
    let seconds = Duration::from_micros(target.wall_us).as_secs_f64();
    let _ = write!(
        xml,
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{seconds:.3}\"",
        escaped(package),
        escaped(name)
    );
    match (target.outcome(), &target.failed) {
        (TargetOutcome::Failed, failed) => {
            let failed = failed.clone().unwrap_or_default();
            let body = failed.log_tail.join("\n");
            let _ = write!(
                xml,
                ">\n      <failure message=\"{}\">{}</failure>\n    </testcase>\n",
                escaped(&in_short(&failed)),
                escaped(&format!("{}\n{}\n{body}", failed.message, failed.command))
            );
        }
        (TargetOutcome::Skipped, _) => {
            xml.push_str(">\n      <skipped message=\"a dependency failed\"/>\n    </testcase>\n");
        }
        (TargetOutcome::Cancelled, _) => {
            xml.push_str(">\n      <skipped message=\"cancelled\"/>\n    </testcase>\n");
        }
        _ => xml.push_str("/>\n"),
    }
}

/// Text for XML; characters that XML 1.0 cannot hold become U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use heph_proto::{Failed, Finished, Summary, TargetDone};

    fn record() -> Record {
        let ran = |address: &str, outcome: TargetOutcome, failed| Ran {
            began: Some(Duration::ZERO),
            ended: Duration::from_millis(1500),
            target: TargetDone {
                address: address.into(),
                outcome: outcome.into(),
                wall_us: 1_500_000,
                failed,
                ..Default::default()
            },
        };
        let failed = Failed {
            message: "exit code 1".into(),
            exit_code: Some(1),
            command: "test 1 < 0 && echo \"a\"".into(),
            log_tail: vec!["no\u{7}".into()],
            ..Default::default()
        };
        Record {
            selector: "test //...".into(),
            took: Duration::from_millis(2000),
            targets: vec![
                ran("//b:test", TargetOutcome::Failed, Some(failed)),
                ran("//a:test", TargetOutcome::Executed, None),
                ran("//c:test", TargetOutcome::Skipped, None),
            ],
            finished: Finished {
                exit_code: 1,
                summary: Some(Summary {
                    total: 3,
                    executed: 1,
                    failed: 1,
                    skipped: 1,
                    ..Default::default()
                }),
                error: None,
            },
            ..Record::default()
        }
    }

    #[test]
    fn junit_has_one_case_a_target() {
        insta::assert_snapshot!(as_junit(&record()), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="heph" tests="3" failures="1" errors="0" skipped="1" time="2.000">
          <testsuite name="test //..." tests="3" failures="1" errors="0" skipped="1" time="2.000">
            <testcase classname="//a" name="test" time="1.500"/>
            <testcase classname="//b" name="test" time="1.500">
              <failure message="exit code 1">exit code 1
        test 1 &lt; 0 &amp;&amp; echo &quot;a&quot;
        no�</failure>
            </testcase>
            <testcase classname="//c" name="test" time="1.500">
              <skipped message="a dependency failed"/>
            </testcase>
          </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn json_is_sorted_by_address() {
        let value = as_json(&record());
        let addresses: Vec<&str> = value["targets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|target| target["address"].as_str().unwrap())
            .collect();
        assert_eq!(addresses, ["//a:test", "//b:test", "//c:test"]);
        assert_eq!(value["exit_code"], 1);
    }

    #[test]
    fn the_name_chooses_the_form() {
        assert_eq!(form(Path::new("a/report.json")).unwrap(), Form::Json);
        assert_eq!(form(Path::new("r.xml")).unwrap(), Form::JUnit);
        assert!(form(Path::new("report")).is_err());
    }
}
