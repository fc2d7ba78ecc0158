//! Targets, packages, labels, functions, settings.

use serde_json::Value;

use super::{columns, each_target, list_of, number_of, text_of};
use crate::terminal::Style;
use crate::words;

/// Packages with the number of their targets.
pub fn packages(document: &Value) -> String {
    let packages = list_of(&document["packages"]);
    let names: Vec<String> = packages
        .iter()
        .map(|package| format!("//{}", text_of(&package["package"])))
        .collect();
    columns(names.iter().zip(packages).map(|(name, package)| {
        (
            name.as_str(),
            words::counted(number_of(&package["targets"]), "target"),
        )
    }))
}

/// Labels with the number of their targets.
pub fn labels(document: &Value) -> String {
    columns(list_of(&document["labels"]).iter().map(|label| {
        (
            text_of(&label["label"]),
            words::counted(number_of(&label["targets"]), "target"),
        )
    }))
}

/// What BUILD files can call.
pub fn functions(document: &Value, style: Style) -> String {
    list_of(&document["functions"])
        .iter()
        .map(|function| {
            let mut text = format!("{}\n", style.bold(text_of(&function["signature"])));
            for line in text_of(&function["description"]).lines() {
                text.push_str(&format!("    {line}\n"));
            }
            text
        })
        .collect()
}

/// The provider settings that act on targets.
pub fn states(document: &Value, style: Style) -> String {
    each_target(document, |target| {
        let mut text = format!("{}\n", style.bold(text_of(&target["address"])));
        for state in list_of(&target["states"]) {
            let place = state["place"]
                .as_str()
                .map_or_else(String::new, |place| style.dim(&format!("  # {place}")));
            text.push_str(&format!("  {}{place}\n", text_of(&state["provider"])));
            for (key, value) in state["values"].as_object().into_iter().flatten() {
                text.push_str(&format!("    {key} = {}\n", starlark(value, 4)));
            }
        }
        text
    })
}

/// Targets as they were written, as calls of `target`.
pub fn spec(document: &Value, style: Style) -> String {
    each_target(document, |target| {
        let mut text = String::new();
        if let Some(place) = target["place"].as_str() {
            text.push_str(&style.dim(&format!("# {place}")));
            text.push('\n');
        }
        let (package, name) = text_of(&target["address"]).rsplit_once(':').unwrap_or_default();
        text.push_str(&format!("target(  # in {package}\n"));
        let mut argument = |name: &str, value: &Value| {
            let empty = matches!(value, Value::Null)
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty);
            if !empty {
                text.push_str(&format!("    {name} = {},\n", starlark(value, 4)));
            }
        };
        argument("name", &name.into());
        argument("driver", &target["driver"]);
        for (key, value) in target["config"].as_object().into_iter().flatten() {
            argument(key, value);
        }
        for key in ["labels", "transitive", "approval", "description"] {
            argument(key, &target[key]);
        }
        if let Some(ms) = target["timeout_ms"].as_u64() {
            argument("timeout", &format!("{ms}ms").into());
        }
        text + ")\n"
    })
}

/// What drivers made of targets.
pub fn definition(document: &Value, style: Style) -> String {
    each_target(document, |target| {
        let mut text = format!("{}\n", style.bold(text_of(&target["address"])));
        let mut line = |name: &str, value: String| {
            if !value.is_empty() {
                let value = value.replace('\n', &format!("\n{:18}", ""));
                text.push_str(&format!("  {} {value}\n", style.dim(&format!("{name:<15}"))));
            }
        };
        line("driver", text_of(&target["driver"]).to_owned());
        line("place", text_of(&target["place"]).to_owned());
        line("labels", joined(&target["labels"]));
        line("description", text_of(&target["description"]).to_owned());
        let edges: Vec<String> = list_of(&target["dependencies"])
            .iter()
            .map(|edge| match (text_of(&edge["role"]), text_of(&edge["group"])) {
                (role, "") => format!("{role:<8} {}", text_of(&edge["address"])),
                (role, group) => format!("{role:<8} {} ({group})", text_of(&edge["address"])),
            })
            .collect();
        line("dependencies", edges.join("\n"));
        line(
            "outputs",
            list_of(&target["outputs"])
                .iter()
                .map(declared)
                .collect::<Vec<_>>()
                .join("\n"),
        );
        let action = text_of(&target["action"]);
        line("command", argv(&target[action]["argv"]));
        for (key, value) in target[action]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != "argv")
        {
            line(&key.replace('_', " "), plainly(value));
        }
        line(
            "timeout",
            match target["timeout_ms"].as_u64() {
                Some(ms) => words::duration(std::time::Duration::from_millis(ms)),
                None => String::new(),
            },
        );
        if target["cache"]["enabled"] == false {
            line("cache", "off".to_owned());
        }
        text
    })
}

/// A command as one would type it; a script that is handed to a shell is quoted.
fn argv(argv: &Value) -> String {
    let word = |word: &Value| match text_of(word) {
        text if !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_alphanumeric() || "-_./=:,+@%".contains(c)) =>
        {
            text.to_owned()
        }
        text => format!("'{}'", text.replace('\'', "'\\''")),
    };
    list_of(argv).iter().map(word).collect::<Vec<_>>().join(" ")
}

fn declared(output: &Value) -> String {
    let mut text = text_of(&output["path"]).to_owned();
    if output["kind"] == "directory" {
        text.push('/');
    }
    match text_of(&output["group"]) {
        "" => {}
        group => text.push_str(&format!(" ({group})")),
    }
    if output["support"] == true {
        text.push_str(" (support)");
    }
    text
}

/// What targets produce, with sizes where they are known.
pub fn outputs(document: &Value, style: Style) -> String {
    each_target(document, |target| {
        let state = if target["built"] == true {
            ""
        } else {
            "  (not built; as declared)"
        };
        let mut text = format!(
            "{}{}\n",
            style.bold(text_of(&target["address"])),
            style.dim(state)
        );
        for output in list_of(&target["outputs"]) {
            let size = output["size"]
                .as_u64()
                .map_or_else(String::new, |bytes| format!("  {}", words::size(bytes)));
            text.push_str(&format!("  {}{}\n", declared(output), style.dim(&size)));
        }
        text
    })
}

/// The merged configuration with the origin of each value. Defaults come last: they are read least.
pub fn config(document: &Value, style: Style) -> String {
    let mut text = String::new();
    for (name, value) in [("root", &document["root"]), ("home", &document["home"])] {
        text.push_str(&format!("# {name}: {}\n", text_of(value)));
    }
    for file in list_of(&document["files"]) {
        text.push_str(&format!("# file: {}\n", text_of(file)));
    }
    let values = list_of(&document["values"]);
    let lines: Vec<String> = values
        .iter()
        .map(|value| format!("{}: {}", text_of(&value["key"]), plainly(&value["value"])))
        .collect();
    let width = lines
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
        .min(60);
    for (line, value) in lines.iter().zip(values) {
        text.push_str(&format!(
            "{line:<width$}  {}\n",
            style.dim(&format!("# {}", text_of(&value["from"])))
        ));
    }
    text
}

fn joined(list: &Value) -> String {
    list_of(list).iter().map(text_of).collect::<Vec<_>>().join(", ")
}

/// A value for a person: empty things are nothing, lists of words are words.
fn plainly(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(false) => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::String(text) => text.trim_end().to_owned(),
        Value::Array(items) => items.iter().map(plainly).collect::<Vec<_>>().join(" "),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| format!("{key}={}", plainly(value)))
            .collect::<Vec<_>>()
            .join("\n"),
        Value::Number(number) => number.to_string(),
    }
}

/// A value as a BUILD file would have it.
fn starlark(value: &Value, indent: usize) -> String {
    let inner = " ".repeat(indent + 4);
    let outer = " ".repeat(indent);
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text)
            if text.trim_end().contains('\n') && !text.contains("\"\"\"") && !text.contains('\\') =>
        {
            format!("\"\"\"{text}\"\"\"")
        }
        Value::String(text) => quoted(text),
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Array(items) => match items.as_slice() {
            [one] if !one.is_array() && !one.is_object() => format!("[{}]", starlark(one, indent)),
            _ => {
                let items: String = items
                    .iter()
                    .map(|item| format!("{inner}{},\n", starlark(item, indent + 4)))
                    .collect();
                format!("[\n{items}{outer}]")
            }
        },
        Value::Object(map) => {
            let items: String = map
                .iter()
                .map(|(key, value)| format!("{inner}{}: {},\n", quoted(key), starlark(value, indent + 4)))
                .collect();
            format!("{{\n{items}{outer}}}")
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
