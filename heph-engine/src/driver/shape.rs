//! Values of BUILD files as Rust types, with words for what does not fit.

use crate::spec::Value;

/// What is wrong with the value of a key: the end of a sentence that begins with `'key' of //a:b`, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong(pub String, pub Option<String>);

impl Wrong {
    /// Something that has no cure but the obvious one.
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into(), None)
    }

    /// A value of another shape than expected.
    pub fn shape(expected: &str, found: &Value) -> Self {
        Self(format!("must be {expected}, not {}", show(found)), None)
    }

    /// The same with advice.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self(self.0, Some(hint.into()))
    }

    /// A key of a dictionary that is none of `known`.
    pub fn unknown_key(key: &str, known: &[&str]) -> Self {
        let hint = match heph_common::nearest(key, known.iter().copied()) {
            Some(nearest) => format!("did you mean '{nearest}'?"),
            None => format!("it takes {}", known.join(", ")),
        };
        Self::new(format!("has no key '{}'", key.escape_debug())).hint(hint)
    }
}

/// A value in few words: a short one as it is, of others the kind.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= 30 => format!("\"{}\"", text.escape_debug()),
        other => other.describe().to_owned(),
    }
}

/// A text.
pub(crate) fn text(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(Wrong::shape("text", other)),
    }
}

/// A truth value.
pub(super) fn truth(value: &Value) -> Result<bool, Wrong> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        other => Err(Wrong::shape("True or False", other)),
    }
}

/// A whole number between two others, both included.
pub(super) fn number(value: &Value, least: u32, most: u32) -> Result<u32, Wrong> {
    let fits = match value {
        Value::Int(number) => u32::try_from(*number)
            .ok()
            .filter(|number| (least..=most).contains(number)),
        _ => None,
    };
    fits.ok_or_else(|| Wrong::shape(&format!("a whole number from {least} to {most}"), value))
}

/// One text or a list of texts.
pub(crate) fn texts(value: &Value) -> Result<Vec<String>, Wrong> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::List(_) => list(value),
        other => Err(Wrong::shape("text or a list of texts", other)),
    }
}

/// A list of texts.
pub(super) fn list(value: &Value) -> Result<Vec<String>, Wrong> {
    let Value::List(elements) = value else {
        let wrong = Wrong::shape("a list of texts", value);
        return Err(match value {
            Value::String(text) => wrong.hint(format!("write [\"{}\"]", text.escape_debug())),
            _ => wrong,
        });
    };
    let element = |element: &Value| match element {
        Value::String(text) => Ok(text.clone()),
        Value::List(_) => {
            Err(Wrong::new("must be a list of texts, and has a list in it").hint("join lists with '+'"))
        }
        other => Err(Wrong::new(format!(
            "must be a list of texts, and has {} in it",
            show(other)
        ))),
    };
    elements.iter().map(element).collect()
}

/// Groups of texts: one text or a list is the default group, whose name is empty; a dictionary names its groups.
pub(super) fn groups(value: &Value) -> Result<Vec<(String, Vec<String>)>, Wrong> {
    let Value::Dict(entries) = value else {
        return match value {
            Value::String(_) | Value::List(_) => Ok(vec![(String::new(), texts(value)?)]),
            other => Err(Wrong::shape(
                "text, a list of texts or a dictionary of groups",
                other,
            )),
        };
    };
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in entries {
        if !name.is_empty() && !is_group_name(name) {
            let wrong = Wrong::new(format!(
                "has a group '{}', which is no name for variables",
                name.escape_debug()
            ));
            return Err(wrong.hint("a group is named with letters, digits and '_'"));
        }
        if let Some((other, _)) = groups.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(Wrong::new(format!(
                "has the groups '{other}' and '{name}', which would set the same variable"
            )));
        }
        let texts = texts(value).map_err(|Wrong(problem, hint)| {
            Wrong(format!("has the group '{name}', which {problem}"), hint)
        })?;
        groups.push((name.clone(), texts));
    }
    Ok(groups)
}

fn is_group_name(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// A dictionary from texts to texts.
pub(super) fn dictionary(value: &Value) -> Result<Vec<(String, String)>, Wrong> {
    let Value::Dict(entries) = value else {
        return Err(Wrong::shape("a dictionary of texts", value));
    };
    let entry = |(key, value): &(String, Value)| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        Value::Int(number) => Err(Wrong::new(format!(
            "has '{key}', which must be text, not the number {number}"
        ))
        .hint(format!("write \"{number}\""))),
        other => Err(Wrong::new(format!(
            "has '{key}', which must be text, not {}",
            show(other)
        ))),
    };
    entries.iter().map(entry).collect()
}

/// One of several words.
pub(super) fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Result<T, Wrong> {
    let text = text(value)?;
    if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*meaning);
    }
    let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let wrong = Wrong::new(format!(
        "must be one of {}, not \"{}\"",
        all.join(", "),
        text.escape_debug()
    ));
    Err(match heph_common::nearest(&text, all) {
        Some(nearest) => wrong.hint(format!("did you mean \"{nearest}\"?")),
        None => wrong,
    })
}
