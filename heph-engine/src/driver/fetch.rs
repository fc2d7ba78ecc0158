//! The driver `http_fetch`: a file of the net, known by its digest.

use super::keys::Keys;
use super::shape::{self, Wrong};
use super::{Driver, DriverContext, common, output};
use crate::definition::{Action, Definition, FetchAction};
use crate::problem::Problems;
use crate::spec::{Spec, Value};

pub(super) struct FetchDriver;

impl Driver for FetchDriver {
    fn name(&self) -> &str {
        "http_fetch"
    }

    fn define(&self, spec: &Spec, context: &DriverContext<'_>) -> Result<Definition, Problems> {
        let mut keys = Keys::of(spec, context);
        let package = &spec.address.package;
        let url = keys.require("url", "\"https://...\"", url);
        // What is missing is only known once the file was fetched, so that running the target is the error that tells it.
        let sha256 = keys.get("sha256", sha256).unwrap_or_default();
        let out = keys.require("out", "\"file\"", |value| output::file(package, value));
        let executable = keys.get("executable", shape::truth).unwrap_or_default();
        let action = url.zip(out).map(|(url, out)| FetchAction {
            url,
            sha256,
            out,
            executable,
        });
        let definition =
            action.map(|action| common::definition(&mut keys, Vec::new(), Action::Fetch(action)));
        keys.finish(definition)
    }
}

fn url(value: &Value) -> Result<String, Wrong> {
    let url = shape::text(value)?;
    let lower = url.to_ascii_lowercase();
    let rest = lower
        .strip_prefix("https://")
        .or_else(|| lower.strip_prefix("http://"));
    let host = rest.map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Wrong::new(format!(
            "must be a URL that begins with https:// or http://, not \"{}\"",
            url.escape_debug()
        )));
    }
    if host.contains('@') {
        return Err(Wrong::new("has a name or password in it").hint("what a BUILD file says is no secret"));
    }
    Ok(url)
}

fn sha256(value: &Value) -> Result<String, Wrong> {
    let text = shape::text(value)?;
    let digits = text.strip_prefix("sha256:").unwrap_or(&text).to_ascii_lowercase();
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) && digits.len() == 64 {
        return Ok(digits);
    }
    Err(Wrong::new(
        match digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => format!("must have 64 hex digits, not {}", digits.len()),
            false => "must be 64 hex digits".to_owned(),
        },
    ))
}
