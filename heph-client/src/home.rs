//! The home: which one, whether it can be used, and what is used when it cannot be written.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use heph_common::home::{Home, HomeError};
use rustix::fs::{Access, access};

use crate::context::Context;
use crate::error::{CommandError, Result};

/// A home that lasts as long as this value.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clean: it is in its directory for temporary files.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Where the home is, and what says so.
pub fn locate(
    context: &Context,
    configured: Option<&Path>,
    home_directory: Option<&Path>,
) -> Result<(Home, &'static str)> {
    let variable = context.variable("HEPH_HOME").map(Path::new);
    let from = match (variable, configured) {
        (Some(_), _) => "HEPH_HOME",
        (None, Some(_)) => "homeDir",
        (None, None) => "default",
    };
    let home = Home::locate(variable, configured, home_directory).map_err(said)?;
    Ok((home, from))
}

/// The home, made where it is missing. One that cannot be written is replaced by a temporary one, with a warning.
pub fn prepare(context: &Context, home: Home) -> Result<(Home, Option<Temporary>)> {
    let cause = match home.create() {
        Ok(()) => match access(home.path(), Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => return Ok((home, None)),
            Err(error) => format!(
                "cannot write {}: {}",
                home.path().display(),
                std::io::Error::from(error)
            ),
        },
        Err(error @ HomeError::Io { .. }) => error.to_string(),
        Err(error) => return Err(said(error)),
    };
    replace(context, &cause)
}

/// A temporary home in the place of one that cannot be used, for a reason that is shown as a warning.
pub fn replace(context: &Context, cause: &str) -> Result<(Home, Option<Temporary>)> {
    let temporary = temporary().map_err(|error| {
        CommandError::fault(format!(
            "failed to make a home: {cause}; nor could a temporary one be made in {}: {error}",
            std::env::temp_dir().display()
        ))
        .hint("set HEPH_HOME to a directory that you can write to")
    })?;
    let home = Home::at(&temporary.path);
    home.create()
        .map_err(|error| CommandError::fault(format!("failed to make a temporary home: {error}")))?;
    context.warn(
        &format!("{cause}; results are not kept"),
        "set HEPH_HOME to a directory that you can write to",
    );
    Ok((home, Some(temporary)))
}

fn temporary() -> std::io::Result<Temporary> {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    let path = std::env::temp_dir().join(format!("heph-{}-{nanos}", std::process::id()));
    // Fails where anything is already: nobody else can have prepared what is used.
    DirBuilder::new().mode(0o700).create(&path)?;
    let path = path.canonicalize()?;
    Ok(Temporary { path })
}

fn said(error: HomeError) -> CommandError {
    CommandError::usage(format!("failed to use the home: {error}")).hint(error.hint())
}
