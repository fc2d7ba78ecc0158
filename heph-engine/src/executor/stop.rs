//! Why a plan came to no good end.

use std::path::Path;

use heph_proto::{Cancelled, Failed, FailureKind, Stale, report::Outcome};
use rustix::io::Errno;

/// The end of a plan before its outputs are all there.
#[derive(Debug)]
pub(super) enum Stop {
    /// The target failed.
    Failed(Box<Failed>),
    /// An input changed after the plan was made.
    Stale(String),
    /// Somebody asked for it.
    Cancelled,
}

/// A result that may be the end of the plan.
pub(super) type Attempt<T> = Result<T, Stop>;

impl Stop {
    pub(super) fn failed(kind: FailureKind, message: impl Into<String>) -> Self {
        Self::Failed(Box::new(Failed {
            kind: kind.into(),
            message: message.into(),
            ..Failed::default()
        }))
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Failed(failed) = &mut self {
            failed.hint = hint.into();
        }
        self
    }

    /// The sandbox could not be made.
    pub(super) fn staging(action: &str, path: &Path, errno: Errno) -> Self {
        let message = format!("failed to {action} {}: {}", path.display(), cause(path, errno));
        Self::failed(FailureKind::Staging, message).hint(cure(errno))
    }

    /// heph is at fault.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::failed(FailureKind::Internal, message)
    }

    pub(super) fn into_outcome(self) -> Outcome {
        match self {
            Self::Failed(failed) => Outcome::Failed(*failed),
            Self::Stale(path) => Outcome::Stale(Stale { path }),
            Self::Cancelled => Outcome::Cancelled(Cancelled {}),
        }
    }
}

/// What an error number says; a full disk and a lack of inodes have one number but different cures.
pub(super) fn cause(path: &Path, errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
    if errno != Errno::NOSPC {
        return text;
    }
    let full = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok());
    match full {
        Some(full) if full.f_files > 0 && full.f_favail == 0 => "no inodes left on device".to_owned(),
        _ => text,
    }
}

fn cure(errno: Errno) -> &'static str {
    match errno {
        Errno::NOSPC => "free some space there, or set HEPH_HOME to a directory on another disk",
        Errno::DQUOT => "free some of your quota, or set HEPH_HOME to a directory on another disk",
        Errno::ROFS => "set HEPH_HOME to a directory that can be written",
        Errno::ACCESS | Errno::PERM => "look at owner and permissions of that path",
        Errno::MFILE | Errno::NFILE => "raise the limit of open files (ulimit -n)",
        _ => "",
    }
}

/// The error number of a standard error.
pub(super) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
