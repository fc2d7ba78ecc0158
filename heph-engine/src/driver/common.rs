//! What targets of several drivers have in common.

use std::collections::BTreeMap;

use super::dependency::dependencies;
use super::keys::Keys;
use super::shape::{self, Wrong};
use crate::build_file::TRANSITIVE_KEYS;
use crate::definition::{Action, CachePolicy, Definition, Dependency, PassEnv, Role, Transitive};
use crate::spec::{Spec, Value};

/// A definition with what every spec says, and an action.
pub(super) fn definition(keys: &mut Keys<'_>, dependencies: Vec<Dependency>, action: Action) -> Definition {
    let spec = keys.spec();
    Definition {
        address: spec.address.clone(),
        place: spec.place.clone(),
        driver: spec.driver.clone(),
        labels: spec.labels.clone(),
        description: spec.description.clone(),
        dependencies,
        action,
        transitive: transitive(keys, spec),
        approval: spec.approval.clone(),
        timeout: spec.timeout,
        cache: CachePolicy::default(),
        retries: 0,
        exclusive: false,
        slots: 1,
    }
}

fn transitive(keys: &mut Keys<'_>, spec: &Spec) -> Transitive {
    let mut transitive = Transitive::default();
    let package = &spec.address.package;
    for (key, value) in &spec.transitive {
        let within = |Wrong(problem, hint): Wrong| Wrong(format!("has '{key}', which {problem}"), hint);
        let wrong = match key.as_str() {
            "deps" | "tools" => {
                let role = if key == "deps" { Role::Source } else { Role::Tool };
                dependencies(package, role, value)
                    .map(|more| transitive.dependencies.extend(more))
                    .err()
            }
            "env" => environment(value).map(|env| transitive.env = env).err(),
            "pass_env" => pass_env(value).map(|env| transitive.pass_env = env).err(),
            "runtime_pass_env" => names(value)
                .map(|names| transitive.runtime_pass_env = PassEnv::Names(names))
                .err(),
            other => Some(Wrong::unknown_key(other, &TRANSITIVE_KEYS)),
        };
        if let Some(wrong) = wrong {
            keys.wrong("transitive", within(wrong));
        }
    }
    transitive
}

/// `cache`: a truth value, or a dictionary of its parts.
pub(super) fn cache(value: &Value) -> Result<CachePolicy, Wrong> {
    let mut policy = CachePolicy::default();
    let entries = match value {
        Value::Bool(enabled) => {
            return Ok(CachePolicy {
                enabled: *enabled,
                remote: *enabled,
                ..policy
            });
        }
        Value::Dict(entries) => entries,
        other => {
            return Err(Wrong::shape(
                "True, False or {\"enabled\": True, \"remote\": True, \"history\": 10}",
                other,
            ));
        }
    };
    for (key, value) in entries {
        let within = |Wrong(problem, hint): Wrong| Wrong(format!("has '{key}', which {problem}"), hint);
        match key.as_str() {
            "enabled" => policy.enabled = shape::truth(value).map_err(within)?,
            "remote" => policy.remote = shape::truth(value).map_err(within)?,
            "history" => policy.history = Some(shape::number(value, 1, 1_000_000).map_err(within)?),
            other => return Err(Wrong::unknown_key(other, &["enabled", "remote", "history"])),
        }
    }
    policy.remote &= policy.enabled;
    Ok(policy)
}

/// `env`: variables and their values.
pub(super) fn environment(value: &Value) -> Result<BTreeMap<String, String>, Wrong> {
    let mut environment = BTreeMap::new();
    for (name, value) in shape::dictionary(value)? {
        check_name(&name)?;
        if value.contains('\0') {
            return Err(Wrong::new(format!(
                "has '{name}', whose value has a NUL character"
            )));
        }
        environment.insert(name, value);
    }
    Ok(environment)
}

/// `pass_env`: names of variables, or `"*"`.
pub(super) fn pass_env(value: &Value) -> Result<PassEnv, Wrong> {
    match value {
        Value::String(text) if text == "*" => Ok(PassEnv::All),
        Value::String(_) | Value::List(_) => {
            names(value).map(PassEnv::Names).map_err(|Wrong(problem, hint)| {
                Wrong(
                    problem.replace("must be a list of texts", "must be a list of names or \"*\""),
                    hint,
                )
            })
        }
        other => Err(Wrong::shape("a list of names or \"*\"", other)),
    }
}

/// Names of variables, sorted.
pub(super) fn names(value: &Value) -> Result<Vec<String>, Wrong> {
    if matches!(value, Value::String(text) if text == "*") {
        return Err(Wrong::new("must be a list of names, not \"*\"").hint("only 'pass_env' takes \"*\""));
    }
    let mut names = shape::list(value)?;
    names.iter().try_for_each(|name| check_name(name))?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn check_name(name: &str) -> Result<(), Wrong> {
    let fits = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    if name == "*" {
        return Err(Wrong::new("has '*' in a list").hint("write \"*\" alone for all variables"));
    }
    match !name.is_empty() && name.bytes().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        true => Ok(()),
        false => Err(Wrong::new(format!(
            "has '{}', which is no name of a variable",
            name.escape_debug()
        ))),
    }
}
