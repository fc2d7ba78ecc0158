//! `target()`: the keys that every driver shares, and a spec of the rest.

use std::time::Duration;

use heph_common::{Address, duration};
use starlark::collections::SmallMap;
use starlark::eval::Evaluator;
use starlark::values::Value as Starlark;

use super::context::{Call, Context, context};
use super::error::{callers, place_of, raise};
use super::value::convert;
use crate::driver::Wrong;
use crate::problem::{Place, Problem};
use crate::spec::{Approval, Spec, Value};

/// Keys of every target, whatever its driver.
pub(crate) const ENGINE_KEYS: [&str; 7] = [
    "name",
    "driver",
    "labels",
    "transitive",
    "approval",
    "timeout",
    "description",
];
/// Keys of `transitive`.
pub(crate) const TRANSITIVE_KEYS: [&str; 5] = ["deps", "tools", "env", "pass_env", "runtime_pass_env"];

/// Records a target; what is wrong with its keys is reported all at once.
pub(super) fn register<'v>(
    arguments: SmallMap<String, Starlark<'v>>,
    eval: &Evaluator<'v, '_, '_>,
) -> starlark::Result<String> {
    let context = context(eval)?;
    let package = context.package("target")?;
    let call = Call::running(eval);
    let Some(name) = arguments.get("name") else {
        return Err(raise(
            Problem::new("a target needs a name").hint("write target(name = \"...\", ...)"),
        ));
    };
    let Some(name) = name.unpack_str() else {
        let found = super::value::describe(*name);
        return Err(raise(Problem::new(format!(
            "'name' of a target must be text, not {found}"
        ))));
    };
    let address = Address::new(package, name)
        .map_err(|error| raise(with_hint(Problem::new(error.to_string()), error.hint)))?;
    let span = call.span.as_ref();
    let mut reader = Reader {
        context,
        call: &call,
        address: &address,
    };
    let mut spec = Spec {
        address: address.clone(),
        place: span.map(place_of),
        callers: span.map(|span| callers(span, &call.frames)).unwrap_or_default(),
        driver: context.files.default_driver.clone().unwrap_or_default(),
        labels: Vec::new(),
        description: None,
        timeout: None,
        approval: None,
        transitive: Vec::new(),
        config: Vec::new(),
    };
    for (key, value) in arguments {
        let value = match convert(value) {
            Ok(Value::None) => continue,
            Ok(value) => value,
            Err(wrong) => {
                reader.report(&key, &format!("cannot be used: {wrong}"), None);
                continue;
            }
        };
        match key.as_str() {
            "name" => {}
            "driver" => reader.set(&key, reader.text(&key, value, "text"), &mut spec.driver),
            "description" => {
                let description = reader.text(&key, value, "text").map(Some);
                reader.set(&key, description, &mut spec.description);
            }
            "labels" => reader.set(&key, labels(value), &mut spec.labels),
            "timeout" => reader.set(&key, timeout(value).map(Some), &mut spec.timeout),
            "approval" => reader.set(&key, approval(value), &mut spec.approval),
            "transitive" => reader.set(&key, transitive(value), &mut spec.transitive),
            _ => spec.config.push((key, value)),
        }
    }
    if spec.driver.is_empty() {
        let problem = Problem::new(format!("target {address} names no driver"));
        context.report(
            &call,
            None,
            problem.hint("add 'driver', or set the option 'defaultDriver' of the buildfile plugin"),
        );
    }
    add(context, &call, spec);
    Ok(address.to_string())
}

fn with_hint(problem: Problem, hint: Option<String>) -> Problem {
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// Adds a target to those of its package, unless there is one of that name.
fn add(context: &Context<'_>, call: &Call, spec: Spec) {
    let mut specs = context.made.specs.borrow_mut();
    let mut names = context.made.names.borrow_mut();
    if let Some(first) = names.get(&spec.address.name).and_then(|index| specs.get(*index)) {
        let first_place = first
            .callers
            .last()
            .or(first.place.as_ref())
            .map(Place::to_string)
            .unwrap_or_default();
        let problem = Problem::new(format!(
            "target {} is defined twice; the first one is at {first_place}",
            spec.address
        ));
        context.report(call, None, problem.hint("give one of them another name"));
        return;
    }
    names.insert(spec.address.name.clone(), specs.len());
    specs.push(spec);
}

struct Reader<'c, 'a> {
    context: &'c Context<'a>,
    call: &'c Call,
    address: &'c Address,
}

impl Reader<'_, '_> {
    fn text(&self, _: &str, value: Value, expected: &str) -> Result<String, Wrong> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(Wrong::shape(expected, &other)),
        }
    }

    fn set<T>(&mut self, key: &str, read: Result<T, Wrong>, field: &mut T) {
        match read {
            Ok(value) => *field = value,
            Err(Wrong(problem, hint)) => self.report(key, &problem, hint),
        }
    }

    fn report(&mut self, key: &str, problem: &str, hint: Option<String>) {
        let problem = Problem::new(format!("'{key}' of {} {problem}", self.address));
        self.context
            .report(self.call, self.call.argument(key), with_hint(problem, hint));
    }
}

fn labels(value: Value) -> Result<Vec<String>, Wrong> {
    const EXPECTED: &str = "text or a list of texts";
    let values = match value {
        Value::List(values) => values,
        single => vec![single],
    };
    let mut labels = Vec::new();
    for value in values {
        let Value::String(label) = value else {
            return Err(Wrong::shape(EXPECTED, &value));
        };
        let fits = |c: char| !c.is_whitespace() && !c.is_control() && !"(),!&|\"\\".contains(c);
        if label.is_empty() || !label.chars().all(fits) {
            let problem = format!(
                "has the label '{}': a label is a word without blanks and ( ) , ! & | \" \\",
                label.escape_debug()
            );
            return Err(Wrong(problem, None));
        }
        labels.push(label);
    }
    labels.sort_unstable();
    labels.dedup();
    Ok(labels)
}

fn timeout(value: Value) -> Result<Duration, Wrong> {
    const EXPECTED: &str = "a duration such as \"30s\" or \"1h30m\", or a number of seconds";
    let timeout = match &value {
        Value::Int(seconds) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Value::Float(seconds) => Duration::try_from_secs_f64(*seconds).ok(),
        Value::String(text) => {
            Some(duration::parse(text).map_err(|error| Wrong(format!("is wrong: {error}"), None))?)
        }
        _ => return Err(Wrong::shape(EXPECTED, &value)),
    };
    match timeout {
        Some(timeout) if !timeout.is_zero() => Ok(timeout),
        _ => Err(Wrong(
            "must be more than 0".to_owned(),
            Some("leave it out for no limit".to_owned()),
        )),
    }
}

fn approval(value: Value) -> Result<Option<Approval>, Wrong> {
    const EXPECTED: &str = "True, False or {\"required\": True, \"notice\": [groups]}";
    let entries = match value {
        Value::Bool(required) => return Ok(required.then(Approval::default)),
        Value::Dict(entries) => entries,
        other => return Err(Wrong::shape(EXPECTED, &other)),
    };
    let (mut required, mut approval) = (true, Approval::default());
    for (key, value) in entries {
        match (key.as_str(), value) {
            ("required", Value::Bool(value)) => required = value,
            ("required", other) => {
                return Err(Wrong(
                    format!(
                        "has 'required', which must be True or False, not {}",
                        other.describe()
                    ),
                    None,
                ));
            }
            ("notice", Value::List(groups)) => {
                for group in groups {
                    match group {
                        Value::String(group) => approval.notice.push(group),
                        other => {
                            return Err(Wrong(
                                format!(
                                    "has 'notice', which must be a list of texts, not of {}",
                                    other.describe()
                                ),
                                None,
                            ));
                        }
                    }
                }
            }
            ("notice", other) => {
                return Err(Wrong(
                    format!(
                        "has 'notice', which must be a list of texts, not {}",
                        other.describe()
                    ),
                    None,
                ));
            }
            (unknown, _) => return Err(Wrong::unknown_key(unknown, &["required", "notice"])),
        }
    }
    Ok(required.then_some(approval))
}

fn transitive(value: Value) -> Result<Vec<(String, Value)>, Wrong> {
    let Value::Dict(entries) = value else {
        return Err(Wrong::shape("a dictionary such as {\"deps\": [...]}", &value));
    };
    match entries
        .iter()
        .find(|(key, _)| !TRANSITIVE_KEYS.contains(&key.as_str()))
    {
        Some((key, _)) => Err(Wrong::unknown_key(key, &TRANSITIVE_KEYS)),
        None => Ok(entries),
    }
}
