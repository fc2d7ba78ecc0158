//! `heph tool gen-gitignore`

use std::collections::BTreeSet;
use std::path::Path;

use heph_common::Exit;
use heph_proto::InspectTargets;
use heph_proto::inspect_request::What;
use serde_json::Value;

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::service;
use crate::views::{list_of, text_of};
use crate::words;
use crate::workspace::Workspace;

/// Lists generated files (codegen = "copy") in a marked block of .gitignore.
#[derive(clap::Args, Debug)]
pub struct GenGitignoreArgs {
    /// Writes nothing; exit code 1 when the block is not what it should be.
    #[arg(long)]
    check: bool,
}

const BEGIN: &str = "# heph: generated files, written by `heph tool gen-gitignore`";
const END: &str = "# heph: end";

pub(super) fn run(context: &Context, args: &GenGitignoreArgs) -> Result<Exit> {
    let workspace = Workspace::open(context)?;
    let what = What::Targets(InspectTargets {
        query: "//...".to_owned(),
        selector: "//...".to_owned(),
        view: "def".to_owned(),
    });
    let document = service::inspect(context, &workspace, what)?;
    let files = generated(&document);
    let path = workspace.root.join(".gitignore");
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(fault("read", &path, &error)),
    };
    let after = with_block(&before, &files)
        .map_err(|message| CommandError::usage(format!("failed to change {}: {message}", path.display())))?;
    if after == before {
        return Ok(Exit::Success);
    }
    if args.check {
        return Err(CommandError::failure(format!(
            "{} does not list the generated files as they are",
            path.display()
        ))
        .hint("heph tool gen-gitignore writes it"));
    }
    std::fs::write(&path, &after).map_err(|error| fault("write", &path, &error))?;
    context.note(&format!(
        "wrote .gitignore: {}\n",
        words::counted(files.len() as u64, "generated file")
    ));
    Ok(Exit::Success)
}

fn fault(what: &str, path: &Path, error: &std::io::Error) -> CommandError {
    CommandError::fault(format!("failed to {what} {}: {error}", path.display()))
}

/// The patterns of the files that targets put into the tree, anchored at the root.
fn generated(document: &Value) -> BTreeSet<String> {
    let copies = |target: &&Value| target["command"]["codegen"] == "copy";
    let pattern = |output: &Value| {
        let mut pattern = String::from("/");
        for c in text_of(&output["path"]).chars() {
            // A glob of an output reads the same in git; in a plain path these characters stand for themselves.
            if output["kind"] != "glob" && matches!(c, '*' | '?' | '[' | '\\') {
                pattern.push('\\');
            }
            pattern.push(c);
        }
        if output["kind"] == "directory" {
            pattern.push('/');
        }
        pattern
    };
    list_of(&document["targets"])
        .iter()
        .filter(copies)
        .flat_map(|target| list_of(&target["outputs"]))
        .map(pattern)
        .collect()
}

/// The text with its block replaced, or put at the end; without files there is no block.
fn with_block(text: &str, files: &BTreeSet<String>) -> Result<String, &'static str> {
    let lines: Vec<&str> = text.lines().collect();
    let begin = lines.iter().position(|line| *line == BEGIN);
    let end = lines.iter().position(|line| *line == END);
    let (head, tail) = match (begin, end) {
        (None, None) => (lines.as_slice(), [].as_slice()),
        (Some(begin), Some(end)) if begin < end => (
            lines.get(..begin).unwrap_or_default(),
            lines.get(end + 1..).unwrap_or_default(),
        ),
        _ => return Err("one of the two lines that mark heph's block is missing"),
    };
    let mut result: Vec<&str> = head.to_vec();
    if !files.is_empty() {
        if begin.is_none() && result.last().is_some_and(|line| !line.is_empty()) {
            result.push("");
        }
        result.push(BEGIN);
        result.extend(files.iter().map(String::as_str));
        result.push(END);
    }
    result.extend(tail);
    Ok(match result.is_empty() {
        true => String::new(),
        false => result.join("\n") + "\n",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_block_is_kept_and_the_rest_left_alone() {
        let document = json!({"targets": [
            {"command": {"codegen": "copy"}, "outputs": [
                {"path": "a/gen.c", "kind": "file"}, {"path": "a/dist", "kind": "directory"},
                {"path": "a/[x].c", "kind": "file"}, {"path": "b/*.pb.c", "kind": "glob"}]},
            {"command": {"codegen": null}, "outputs": [{"path": "a/out", "kind": "file"}]},
            {"action": "group"},
        ]});
        let files = generated(&document);
        let once = with_block("/target\n", &files).unwrap();
        insta::assert_snapshot!(once, @r"
        /target

        # heph: generated files, written by `heph tool gen-gitignore`
        /a/\[x].c
        /a/dist/
        /a/gen.c
        /b/*.pb.c
        # heph: end
        ");
        assert_eq!(with_block(&once, &files).unwrap(), once);
        let longer = format!("{once}/more\n");
        let fewer = BTreeSet::from(["/z".to_owned()]);
        let changed = with_block(&longer, &fewer).unwrap();
        assert_eq!(changed, format!("/target\n\n{BEGIN}\n/z\n{END}\n/more\n"));
        assert_eq!(
            with_block(&changed, &BTreeSet::new()).unwrap(),
            "/target\n\n/more\n"
        );
        assert!(with_block(BEGIN, &files).is_err());
    }
}
