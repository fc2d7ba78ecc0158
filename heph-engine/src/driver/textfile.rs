//! The driver `textfile`: a file with a given text.

use super::keys::Keys;
use super::shape::{self, Wrong};
use super::{Driver, DriverContext, common, output};
use crate::definition::{Action, Definition, TextFileAction};
use crate::problem::Problems;
use crate::spec::{Spec, Value};

pub(super) struct TextFileDriver;

impl Driver for TextFileDriver {
    fn name(&self) -> &str {
        "textfile"
    }

    fn define(&self, spec: &Spec, context: &DriverContext<'_>) -> Result<Definition, Problems> {
        let mut keys = Keys::of(spec, context);
        let package = &spec.address.package;
        let text = keys.require("text", "\"...\"", text);
        let out = keys.require("out", "\"file.txt\"", |value| output::file(package, value));
        let executable = keys.get("executable", shape::truth).unwrap_or_default();
        let action = text.zip(out).map(|(text, out)| TextFileAction {
            text,
            out,
            executable,
        });
        let definition =
            action.map(|action| common::definition(&mut keys, Vec::new(), Action::TextFile(action)));
        keys.finish(definition)
    }
}

fn text(value: &Value) -> Result<String, Wrong> {
    let wrong = |wrong: Wrong| match value {
        Value::List(_) => wrong.hint("join lines with \"\\n\".join([...])"),
        _ => wrong,
    };
    shape::text(value).map_err(wrong)
}
