//! Small state of one build of heph that may be lost: keys and values.
//!
//! Nothing that matters is only there. What is found damaged is set aside, and begun anew.

mod sled;

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

pub use sled::SledState;

/// Keys and values that survive the process.
pub trait State {
    /// Keeps a value, in the place of an earlier one.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), StateError>;
    /// Forgets a key.
    fn remove(&self, key: &[u8]) -> Result<(), StateError>;
    /// Shows keys and values, the greatest key first, for as long as `visit` says so.
    fn descend(&self, visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StateError>;
    /// Returns when everything would survive a power cut.
    fn sync(&self) -> Result<(), StateError>;
}

/// Why there is no state. Messages fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refuses: a full disk, a read-only file system.
    #[error("use {}: {source}", path.display())]
    Io {
        /// The directory of the state.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// What is there cannot be understood.
    #[error("read {}: {message}", path.display())]
    Damaged {
        /// The directory of the state.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// Work with the state in `directory`, which is made if it is not there.
///
/// Damage, also such that the database dies of, has it set aside as `<directory>.damaged`, and the work begins again with an empty one;
/// `problems` then gets a sentence for the log.
pub fn with_state<T>(
    directory: &Path,
    problems: &mut Vec<String>,
    work: impl Fn(&dyn State) -> Result<T, StateError>,
) -> Result<T, StateError> {
    let attempt = || {
        let attempted = catch_unwind(AssertUnwindSafe(|| work(&SledState::open(directory)?)));
        attempted.unwrap_or_else(|fault| {
            let text = fault.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| fault.downcast_ref::<&str>().copied());
            Err(StateError::Damaged {
                path: directory.to_owned(),
                message: first_line(text.unwrap_or("its database broke off")),
            })
        })
    };
    match attempt() {
        Err(StateError::Damaged { message, .. }) => {
            set_aside(directory)?;
            problems.push(format!(
                "the history in {} was damaged ({message}); it begins anew, and the old one is {}",
                directory.display(),
                aside(directory).display()
            ));
            attempt()
        }
        other => other,
    }
}

/// Has the state begin anew; what there was stays beside it, in the place of what was set aside before.
pub fn set_aside(directory: &Path) -> Result<(), StateError> {
    let aside = aside(directory);
    let removed = match fs::remove_dir_all(&aside) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(&aside),
        other => other,
    };
    let moved = match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::rename(directory, &aside),
    };
    match moved {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StateError::Io {
            path: directory.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn aside(directory: &Path) -> PathBuf {
    directory.with_extension("damaged")
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
