//! `heph tool build-fmt`

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use heph_common::Exit;

use crate::buildfmt;
use crate::context::Context;
use crate::error::{CommandError, Result, Said};
use crate::words;
use crate::workspace::Workspace;

/// Gives BUILD and .star files one form. Their meaning never changes.
#[derive(clap::Args, Debug)]
pub struct BuildFmtArgs {
    /// Files and directories; the whole workspace when there are none. '-' formats standard input.
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// Writes nothing; lists the files that would change, with exit code 1.
    #[arg(long)]
    check: bool,
}

pub(super) fn run(context: &Context, args: &BuildFmtArgs) -> Result<Exit> {
    if args.paths == [Path::new("-")] {
        return standard_input(context);
    }
    let workspace = Workspace::open(context)?;
    let here = context.directory()?;
    let mut files = Vec::new();
    let roots = match args.paths.is_empty() {
        true => vec![workspace.root.clone()],
        false => args.paths.iter().map(|path| here.join(path)).collect(),
    };
    for root in roots {
        match root.metadata() {
            Ok(metadata) if metadata.is_dir() => workspace.build_files(&root, &mut files)?,
            Ok(_) => files.push(root),
            Err(error) => {
                return Err(CommandError::usage(format!(
                    "failed to read {}: {error}",
                    root.display()
                )));
            }
        }
    }
    files.sort();
    files.dedup();
    let mut changed = 0;
    let mut problems = Vec::new();
    for file in &files {
        let shown = file.strip_prefix(&here).unwrap_or(file).display().to_string();
        match format_file(file, &shown, args.check) {
            Ok(false) => {}
            Ok(true) => {
                changed += 1;
                context.print(&format!("{shown}\n"))?;
            }
            Err(said) => problems.push(said),
        }
    }
    if !problems.is_empty() {
        return Err(CommandError {
            exit: Exit::Usage,
            problems,
        });
    }
    let verb = if args.check { "would change" } else { "changed" };
    context.note(&format!(
        "{changed} of {} {verb}\n",
        words::counted(files.len() as u64, "file")
    ));
    Ok(if args.check && changed > 0 {
        Exit::Failure
    } else {
        Exit::Success
    })
}

fn standard_input(context: &Context) -> Result<Exit> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| CommandError::usage(format!("failed to read standard input: {error}")))?;
    match buildfmt::format(&text) {
        Ok(formatted) => context.print(&formatted).map(|()| Exit::Success),
        Err(error) => Err(CommandError {
            exit: Exit::Usage,
            problems: vec![said(&error, "<standard input>")],
        }),
    }
}

/// Whether the file was, or would be, changed.
fn format_file(path: &Path, shown: &str, check: bool) -> Result<bool, Said> {
    let fault = |verb: &str, error: std::io::Error| Said {
        message: format!("failed to {verb} {shown}: {error}"),
        ..Said::default()
    };
    let before = std::fs::read_to_string(path).map_err(|error| fault("read", error))?;
    let after = buildfmt::format(&before).map_err(|error| said(&error, shown))?;
    if after == before {
        return Ok(false);
    }
    if !check {
        replace(path, &after).map_err(|error| fault("write", error))?;
    }
    Ok(true)
}

/// Replaces a file in one step, with the permissions that it had. A link stays one: what it names is replaced.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = path.canonicalize()?;
    let permissions = path.metadata()?.permissions();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".{name}.heph-{}", std::process::id()));
    let written = std::fs::File::create(&fresh)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.set_permissions(permissions))
        })
        .and_then(|()| std::fs::rename(&fresh, &path));
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written
}

fn said(error: &buildfmt::Error, file: &str) -> Said {
    match error {
        buildfmt::Error::Syntax { message, place } => Said {
            message: format!("failed to format {file}: {message}"),
            place: Some(match place {
                Some((line, column)) => format!("{file}:{line}:{column}"),
                None => file.to_owned(),
            }),
            hint: None,
        },
        buildfmt::Error::Changed => Said {
            message: format!(
                "failed to format {file}: the result would mean something else, so nothing was changed"
            ),
            place: None,
            hint: Some("please report this file".to_owned()),
        },
    }
}
