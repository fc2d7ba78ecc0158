//! Drivers: what turns a target as it was written into a checked definition.

use std::path::Path;

use crate::definition::Definition;
use crate::problem::Problems;
use crate::spec::Spec;

mod command;
mod common;
mod dependency;
mod fetch;
mod generated;
mod group;
mod keys;
mod loader;
mod options;
mod output;
mod shape;
mod textfile;

pub use loader::{Loader, check_plugin};
pub(crate) use shape::Wrong;

/// Makes definitions of the targets that name it.
///
/// What it decides depends on the spec and its own options alone; files are not read.
pub trait Driver: Send + Sync {
    /// The name that targets use.
    fn name(&self) -> &str;

    /// Checks a spec; fails with everything that is wrong with it.
    fn define(&self, spec: &Spec, context: &DriverContext<'_>) -> Result<Definition, Problems>;
}

/// What a driver knows besides the spec.
#[derive(Clone, Copy, Debug)]
pub struct DriverContext<'a> {
    /// The root of the workspace; only to show the source of what is wrong.
    pub root: &'a Path,
}

#[cfg(test)]
mod tests;
