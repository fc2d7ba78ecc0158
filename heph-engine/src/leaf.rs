//! Products of what is not built: source files, globs, programs of the host.

use std::sync::Arc;

use crate::file_table::{FileError, FileKind, FileState, FileTable};
use crate::problem::Problem;
use crate::product::{Entry, Kind, Product, Source};

/// The product of one file of the workspace, read anew where it changed.
pub fn file_product(files: &FileTable, path: &str) -> Result<Arc<Product>, Problem> {
    file(path, Some(&files.state(path)))
}

/// The product of these files of the workspace, read anew where they changed.
pub fn glob_product(files: &FileTable, paths: &[&str]) -> Result<Arc<Product>, Problem> {
    let states = paths.iter().map(|path| (*path, files.state(path)));
    // What is gone no longer matches.
    let states: Vec<_> = states
        .filter(|(_, state)| !matches!(state, Err(FileError::Missing { .. })))
        .collect();
    self::files(states.iter().map(|(path, state)| (*path, Some(state))))
}

/// The product of one file whose state is known.
///
/// A directory is no input by itself: it says to use a glob.
pub fn file(path: &str, state: Option<&Result<FileState, FileError>>) -> Result<Arc<Product>, Problem> {
    let entry = entry(path, state)?;
    match entry.kind {
        Kind::Directory => Err(Problem::new(format!("{path} is a directory, not a file"))
            .hint(format!("use glob(\"{path}/**\") for the files below it"))),
        _ => Ok(Product::new(vec![entry], Vec::new())),
    }
}

/// The product of files whose states are known, in this order.
pub fn files<'a>(
    files: impl Iterator<Item = (&'a str, Option<&'a Result<FileState, FileError>>)>,
) -> Result<Arc<Product>, Problem> {
    let entries = files
        .map(|(path, state)| entry(path, state))
        .collect::<Result<_, _>>()?;
    Ok(Product::new(entries, Vec::new()))
}

fn entry(path: &str, state: Option<&Result<FileState, FileError>>) -> Result<Entry, Problem> {
    let state = match state {
        Some(Ok(state)) => state,
        Some(Err(error)) => {
            return Err(Problem {
                hint: error.hint(),
                ..Problem::new(error.to_string())
            });
        }
        None => return Err(Problem::new(format!("{path} was not looked at"))),
    };
    let path: Arc<str> = path.into();
    let (kind, source) = match &state.kind {
        FileKind::Regular { executable } => (
            Kind::File {
                digest: state.digest,
                size: state.size,
                executable: *executable,
            },
            Source::Tree(Arc::clone(&path)),
        ),
        FileKind::Symlink { target } => (Kind::Symlink(Arc::from(&**target)), Source::None),
        FileKind::Directory => (Kind::Directory, Source::None),
    };
    Ok(Entry {
        group: Arc::from(""),
        path,
        kind,
        source,
    })
}
