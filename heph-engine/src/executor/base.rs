//! The directory of links to the programs of the POSIX base set, shared by all sandboxes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heph_proto::tool::Program;
use heph_proto::{FailureKind, Plan, Tool};
use rustix::io::{Errno, Result};

use super::relative;
use super::stop::{Attempt, Stop};

/// The base sets of the plans so far, by their digests.
#[derive(Debug, Default)]
pub(super) struct Bases {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
struct Known {
    programs: Arc<Vec<Tool>>,
    /// Whether its directory was seen or made.
    is_there: bool,
}

/// A base set that is there.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// The directory of links.
    pub(super) path: PathBuf,
    /// What the links are called and where they lead.
    pub(super) programs: Arc<Vec<Tool>>,
}

impl Bases {
    /// Takes the programs of a base set out of a plan, for this plan and those that only name the set.
    pub(super) fn learn(&self, plan: &mut Plan) {
        if plan.base.is_empty() {
            return;
        }
        let programs = Arc::new(std::mem::take(&mut plan.base));
        let known = Known {
            programs,
            is_there: false,
        };
        self.lock().entry(plan.base_digest.clone()).or_insert(known);
    }

    /// The plan's base set, with its directory below `sandboxes`, made when it is not there yet; `None` for no base set.
    pub(super) fn find(&self, sandboxes: &Path, plan: &Plan) -> Attempt<Option<Base>> {
        let digest = &plan.base_digest;
        if digest.is_empty() {
            return Ok(None);
        }
        if !relative::is_name(digest) {
            return Err(Stop::internal(format!("{digest:?} names no base set")));
        }
        let path = sandboxes.join(format!("base-{digest}"));
        let mut known = self.lock();
        let Some(base) = known.get_mut(digest) else {
            return Err(Stop::internal(format!("no plan brought the base set {digest}")));
        };
        if !base.is_there && !path.is_dir() {
            make(sandboxes, &path, &base.programs)?;
        }
        base.is_there = true;
        let programs = Arc::clone(&base.programs);
        Ok(Some(Base { path, programs }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes it whole under another name first: another process may look for it at any time.
fn make(sandboxes: &Path, path: &Path, programs: &[Tool]) -> Attempt<()> {
    let failed = |errno| Stop::staging("make", path, errno);
    std::fs::create_dir_all(sandboxes).map_err(|error| failed(super::stop::errno(&error)))?;
    let new = sandboxes.join(format!("base-new-{}", super::unique::name()));
    fill(&new, programs)?;
    match rustix::fs::rename(&new, path) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST | Errno::NOTEMPTY) => {
            let _ = std::fs::remove_dir_all(&new);
            Ok(())
        }
        Err(errno) => Err(failed(errno)),
    }
}

fn fill(directory: &Path, programs: &[Tool]) -> Attempt<()> {
    let made: Result<()> = (|| {
        rustix::fs::mkdir(directory, rustix::fs::Mode::from_raw_mode(0o755))?;
        if super::umask::takes_from(rustix::fs::Mode::from_raw_mode(0o755)) {
            rustix::fs::chmod(directory, rustix::fs::Mode::from_raw_mode(0o755))?;
        }
        for tool in programs {
            if let Some(Program::Host(host)) = &tool.program {
                rustix::fs::symlink(&**host, directory.join(&tool.name))?;
            }
        }
        Ok(())
    })();
    let wrong = programs
        .iter()
        .find(|tool| !relative::is_name(&tool.name) || !matches!(tool.program, Some(Program::Host(_))));
    if let Some(tool) = wrong {
        let message = format!("{:?} is no program of a base set", tool.name);
        return Err(Stop::failed(FailureKind::Internal, message));
    }
    made.map_err(|errno| Stop::staging("make", directory, errno))
}
