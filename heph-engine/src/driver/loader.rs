//! Where specs and definitions come from, as `.hephconfig` says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use heph_common::config::{self, Config, Plugin, PluginSource};
use heph_common::ignore::Skip;
use heph_common::{Address, nearest};

use super::command::{CommandDriver, Interpreter};
use super::fetch::FetchDriver;
use super::group::GroupDriver;
use super::keys::placed;
use super::options::BuildFileOptions;
use super::textfile::TextFileDriver;
use super::{Driver, DriverContext, generated, options};
use crate::build_file::{BuildFiles, Evaluated, Generated, Observation, Question};
use crate::definition::Definition;
use crate::problem::{Problem, Problems};
use crate::spec::Spec;
use crate::tree::{BuildPatterns, PackageDir, Tree};

/// Plugins that are compiled in and have to be listed.
const LISTED: [&str; 6] = ["buildfile", "exec", "bash", "sh", "textfile", "http_fetch"];
/// Plugins that are always there; listing them changes nothing.
const ALWAYS: [&str; 4] = ["group", "fs", "hostbin", "query"];

/// The providers and drivers of one workspace; shared between threads.
pub struct Loader {
    tree: Arc<Tree>,
    /// `None` when the buildfile plugin is not listed: then there are no packages.
    build_files: Option<BuildFiles>,
    drivers: BTreeMap<String, Box<dyn Driver>>,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("tree", &self.tree)
            .finish_non_exhaustive()
    }
}

impl Loader {
    /// Registers the plugins of a configuration for the workspace at `root`, an absolute path. `home` is heph's home, and
    /// `generated` tells files that globs never match.
    ///
    /// Fails with everything that is wrong with the entries of `plugins` and their options.
    pub fn new(
        root: &Path,
        config: &Config,
        home: Option<&Path>,
        generated: Generated,
    ) -> Result<Self, Problems> {
        let mut problems = options::collect();
        let mut drivers: Vec<Box<dyn Driver>> = vec![Box::new(GroupDriver)];
        let mut build_file = None;
        for plugin in &config.plugins {
            match read(plugin, &mut problems) {
                Some(Registered::Driver(driver)) => drivers.push(driver),
                Some(Registered::BuildFiles(options)) => build_file = Some(options),
                None => {}
            }
        }
        let tree = Skip::new(&config.fs.skip).map(|skip| Arc::new(Tree::new(root, skip, home)));
        let tree = match (problems.into_result(()), tree) {
            (Ok(()), Ok(tree)) => tree,
            (Err(errors), _) => return Err(errors.problems.into_iter().map(options::convert).collect()),
            (_, Err(error)) => return Err(vec![Problem::new(format!("'fs.skip' is wrong: {error}"))]),
        };
        let build_files = build_file.map(|options| {
            BuildFiles::new(
                Arc::clone(&tree),
                options.patterns,
                options.default_driver,
                generated,
            )
        });
        let drivers = drivers
            .into_iter()
            .map(|driver| (driver.name().to_owned(), driver))
            .collect();
        Ok(Self {
            tree,
            build_files,
            drivers,
        })
    }

    /// Adds a driver.
    pub fn register(&mut self, driver: Box<dyn Driver>) {
        self.drivers.insert(driver.name().to_owned(), driver);
    }

    /// The directories of the workspace.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Which files are BUILD files; `None` when the buildfile plugin is not listed.
    pub fn patterns(&self) -> Option<&BuildPatterns> {
        self.build_files.as_ref().map(BuildFiles::patterns)
    }

    /// Names of the drivers that targets may use, sorted.
    pub fn drivers(&self) -> impl Iterator<Item = &str> {
        self.drivers.keys().map(String::as_str)
    }

    /// Every package at `prefix` and below, sorted; the empty prefix stands for the whole workspace.
    pub fn packages(&self, prefix: &str) -> Result<Vec<PackageDir>, Problems> {
        match &self.build_files {
            Some(files) => self.tree.packages(files.patterns(), prefix),
            None => Ok(Vec::new()),
        }
    }

    /// The package in one directory; `None` when it has no BUILD file.
    pub fn package(&self, package: &str) -> Result<Option<PackageDir>, Problem> {
        match &self.build_files {
            Some(files) => self.tree.package(files.patterns(), package),
            None => Ok(None),
        }
    }

    /// Evaluates one package (see [`BuildFiles::evaluate`]).
    pub fn evaluate(&self, package: &str) -> Result<Evaluated, Problems> {
        match &self.build_files {
            Some(files) => files.evaluate(package),
            None => Err(vec![no_build_files()]),
        }
    }

    /// Evaluates packages in parallel; results in the order of the packages.
    pub fn evaluate_all<S: AsRef<str> + Sync>(&self, packages: &[S]) -> Vec<Result<Evaluated, Problems>> {
        match &self.build_files {
            Some(files) => files.evaluate_all(packages),
            None => packages.iter().map(|_| Err(vec![no_build_files()])).collect(),
        }
    }

    /// Asks again what an evaluation has asked.
    pub fn observe(&self, question: Question) -> Result<Observation, Problems> {
        match &self.build_files {
            Some(files) => Ok(files.observe(question)?.1),
            None => Err(vec![no_build_files()]),
        }
    }

    /// Forgets what is not provably current; for a new run over the same workspace.
    pub fn refresh(&self) {
        self.tree.refresh();
        self.refresh_loaded();
    }

    /// The same, of files that BUILD files load alone: one `stat` for each.
    pub fn refresh_loaded(&self) {
        if let Some(files) = &self.build_files {
            files.refresh();
        }
    }

    /// The definition of a target that was written; fails with everything that is wrong with it.
    pub fn define(&self, spec: &Spec) -> Result<Definition, Problems> {
        let root = self.tree.root();
        match self.drivers.get(&spec.driver) {
            Some(driver) => driver.define(spec, &DriverContext { root }),
            None => Err(vec![placed(
                self.unknown_driver(&spec.driver),
                spec,
                Some("driver"),
                root,
            )]),
        }
    }

    /// The definition of a target that is made from its address alone, such as `//@heph/fs:file@f=PATH`; `None` when the
    /// package is not one of a provider.
    pub fn generated(&self, address: &Address) -> Option<Result<Definition, Problem>> {
        generated::generated(address)
    }

    fn unknown_driver(&self, name: &str) -> Problem {
        let shown = name.escape_debug();
        if LISTED.contains(&name) && name != "buildfile" {
            return Problem::new(format!("the driver '{name}' is not registered"))
                .hint(format!("add '- builtin: {name}' to 'plugins' in .hephconfig"));
        }
        if ALWAYS.contains(&name) || name == "buildfile" {
            let problem = Problem::new(format!("'{name}' is not a driver of targets"));
            return match name {
                "fs" => problem.hint("write file(\"...\") or glob(\"...\") where an address is expected"),
                "hostbin" => problem.hint("write \"//@heph/bin:PROGRAM\" where an address is expected"),
                "query" => problem.hint("write query(\"...\") where an address is expected"),
                _ => problem,
            };
        }
        let problem = Problem::new(format!("there is no driver '{shown}'"));
        let known = self
            .drivers()
            .chain(LISTED.into_iter().filter(|name| *name != "buildfile"));
        match nearest(name, known) {
            Some(nearest) => problem.hint(format!("did you mean '{nearest}'?")),
            None => problem.hint(format!(
                "registered are {}",
                self.drivers().collect::<Vec<_>>().join(", ")
            )),
        }
    }
}

/// Says what is wrong with an entry of `plugins`.
pub fn check_plugin(plugin: &Plugin, problems: &mut config::Problems) {
    drop(read(plugin, problems));
}

/// What an entry of `plugins` brings.
enum Registered {
    Driver(Box<dyn Driver>),
    BuildFiles(BuildFileOptions),
}

/// Reads an entry of `plugins`; `None` where it is wrong, and for what is there anyway.
fn read(plugin: &Plugin, problems: &mut config::Problems) -> Option<Registered> {
    let PluginSource::Builtin(name) = &plugin.source else {
        let key = plugin.source.key();
        let message = format!("{key} plugins are not loaded by this release of heph");
        problems.add(
            config::Problem::at(&plugin.place, message)
                .hint("remove the entry; every plugin of this release is builtin"),
        );
        return None;
    };
    let driver: Box<dyn Driver> = match name.as_str() {
        "buildfile" => return options::build_file(plugin, problems).map(Registered::BuildFiles),
        "textfile" => Box::new(TextFileDriver),
        "http_fetch" => Box::new(FetchDriver),
        name => {
            let Some(interpreter) = interpreter(name) else {
                if ALWAYS.contains(&name) {
                    options::none(plugin, problems);
                } else {
                    problems.add(unknown(plugin, name));
                }
                return None;
            };
            let extra_path = options::command(plugin, problems);
            return Some(Registered::Driver(Box::new(CommandDriver {
                interpreter,
                extra_path,
            })));
        }
    };
    options::none(plugin, problems);
    Some(Registered::Driver(driver))
}

fn interpreter(name: &str) -> Option<Interpreter> {
    match name {
        "exec" => Some(Interpreter::None),
        "bash" => Some(Interpreter::Bash),
        "sh" => Some(Interpreter::Sh),
        _ => None,
    }
}

fn unknown(plugin: &Plugin, name: &str) -> config::Problem {
    let message = format!("there is no builtin plugin '{}'", name.escape_debug());
    let problem = config::Problem::at(&plugin.place, message);
    match name {
        "go" => problem.hint("it is planned, and not there yet"),
        _ => problem.nearest_hint(name, LISTED.into_iter().chain(ALWAYS)),
    }
}

fn no_build_files() -> Problem {
    Problem::new("this workspace has no BUILD files: the plugin 'buildfile' is not registered")
        .hint("add '- builtin: buildfile' to 'plugins' in .hephconfig")
}
