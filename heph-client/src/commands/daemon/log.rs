//! `heph daemon log`

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use heph_common::Exit;
use heph_daemon::Endpoint;

use crate::connector::build;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::workspace::Workspace;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(context: &Context, workspace: &Workspace, follow: bool) -> Result<Exit> {
    let path = Endpoint::new(&workspace.home, &build().name).log_file();
    let Some(mut file) = open(&path)? else {
        return Err(CommandError::failure(format!(
            "there is no log yet: no daemon of this build has run for {}",
            workspace.home.display()
        ))
        .hint("heph daemon start starts one"));
    };
    loop {
        copy(context, &mut file, &path)?;
        if !follow {
            return Ok(Exit::Success);
        }
        std::thread::sleep(LOOK);
        // A log that has grown begins anew, under the same name.
        if let Some(newer) = open(&path)?.filter(|newer| !is_same(&file, newer)) {
            copy(context, &mut file, &path)?;
            file = newer;
        }
    }
}

fn copy(context: &Context, file: &mut File, path: &Path) -> Result<()> {
    let mut text = Vec::new();
    file.read_to_end(&mut text)
        .map_err(|error| unreadable(path, &error))?;
    if text.is_empty() {
        return Ok(());
    }
    context.print(&String::from_utf8_lossy(&text))
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn is_same(one: &File, other: &File) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

fn unreadable(path: &Path, error: &io::Error) -> CommandError {
    CommandError::fault(format!("failed to read {}: {error}", path.display()))
}
