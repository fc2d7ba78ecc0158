//! From a query to a graph that is ready to run.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError};

use heph_common::config::{Config, Credentials};
use heph_common::query::Query;
use heph_common::{Address, Digest};
use heph_proto::SandboxMode;

use super::trusted::Trusted;
use super::{Leaves, Settled, Workspace};
use crate::definition::{Action, OutputKind};
use crate::file_table::{FileError, FileState, FileTable};
use crate::graph::Id;
use crate::leaf;
use crate::platform::platform;
use crate::problem::{Problem, Problems};
use crate::product::Product;
use crate::run::{Last, Prepared};
use crate::select::{Selection, nothing_matched};
use crate::surroundings::Surroundings;
use crate::tool::{ToolFinder, base_set};
use crate::watch::Watched;

/// What a request says beside the query.
#[derive(Clone, Debug)]
pub struct Request {
    /// The request's own configuration: what of it does not affect evaluation differs between requests.
    pub config: Arc<Config>,
    /// Digest of the configuration, the environment and the caller's directory.
    pub identity: Digest,
    /// Query in words of the user.
    pub selector: String,
    /// Only what differs from this commit, and what depends on it.
    pub since: Option<String>,
    /// The caller's environment.
    pub environment: Arc<BTreeMap<String, String>>,
    /// Isolation that is asked for instead of the configuration's.
    pub sandbox: SandboxMode,
}

impl Workspace {
    /// Selects, links and looks at all source files: what [`crate::run::Run`] needs.
    ///
    /// Fails with everything that is wrong in BUILD files that are reached, with a cycle, with two producers of one
    /// path, or when nothing is selected.
    pub fn prepare(&mut self, query: &Query, request: &Request) -> Result<Prepared, Problems> {
        self.asked_by(&request.environment);
        self.refresh();
        let fingerprint = self.fingerprint(query, request);
        if let Some(fingerprint) = &fingerprint
            && let Some(prepared) = self.prepare_warm(fingerprint, request)?
        {
            return Ok(prepared);
        }
        let selection = match &request.since {
            None => self.select(query)?,
            Some(since) => self.select_since(query, since)?,
        };
        if selection.is_empty() && request.since.is_none() {
            let nearest = self.nearest_targets(query);
            return Err(vec![nothing_matched(&request.selector, &nearest)]);
        }
        let mut prepared = self.prepare_selection(&selection, request)?;
        if let Some(fingerprint) = fingerprint {
            self.keep_warm(fingerprint, &mut prepared);
        }
        Ok(prepared)
    }

    /// The same for targets that are known by address.
    pub fn prepare_selection(
        &mut self,
        selection: &Selection,
        request: &Request,
    ) -> Result<Prepared, Problems> {
        let addresses: Vec<Address> = selection.iter().cloned().collect();
        let selected = self.link(&addresses)?;
        let order = self.graph.closure(&selected);
        self.refuse_two_producers(&order)?;
        self.prepare_linked(selected, order, request)
    }

    /// The same for targets that are linked and do not collide.
    pub(crate) fn prepare_linked(
        &mut self,
        selected: Vec<Id>,
        order: Vec<Id>,
        request: &Request,
    ) -> Result<Prepared, Problems> {
        let surroundings = self.surroundings(request)?;
        let leaves = self.leaves(&order, request)?;
        Ok(Prepared {
            root: self.root.clone(),
            graph: self.shared_graph(),
            selected: selected.into(),
            order: order.into(),
            leaves: Arc::new(leaves),
            lasts: Arc::clone(&self.lasts),
            surroundings,
            files: Arc::clone(&self.files),
            affected: None,
        })
    }

    /// Two targets that declare one output would overwrite each other wherever both are used.
    pub(crate) fn refuse_two_producers(&self, order: &[Id]) -> Result<(), Problems> {
        let mut producers: HashMap<&str, Id> = HashMap::new();
        let mut problems = Problems::new();
        for &id in order {
            let definition = &self.graph.node(id).definition;
            let paths: Vec<&str> = match &definition.action {
                Action::Command(command) => {
                    let plain = command
                        .outputs
                        .iter()
                        .chain(&command.support_files)
                        .filter(|output| output.kind != OutputKind::Glob);
                    plain.map(|output| output.path.as_str()).collect()
                }
                Action::TextFile(file) => vec![&file.out],
                Action::Fetch(fetch) => vec![&fetch.out],
                _ => continue,
            };
            if !definition.address.args.is_empty() {
                continue;
            }
            for path in paths {
                let Some(other) = producers.insert(path, id).filter(|other| *other != id) else {
                    continue;
                };
                let other = &self.graph.node(other).definition;
                let place = other
                    .place
                    .as_ref()
                    .map(|place| format!(" ({place})"))
                    .unwrap_or_default();
                problems.push(
                    Problem::new(format!(
                        "{path} is produced by both {} and {}{place}",
                        definition.address, other.address
                    ))
                    .at(definition.place.clone())
                    .hint("give one of the outputs another name"),
                );
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    /// The machine and the caller, looked at anew where something changed.
    pub(super) fn surroundings(&mut self, request: &Request) -> Result<Surroundings, Problems> {
        let one = |problem: Problem| vec![problem];
        let base = match &self.base {
            Some(known) if known.is_current() => Arc::clone(known),
            known => {
                self.dirty = true;
                Arc::new(base_set(known.as_deref()))
            }
        };
        let platform = match &self.platform {
            Some(known) if known.is_current(&request.config.sandbox.system_inputs) => Arc::clone(known),
            known => {
                self.dirty = true;
                Arc::new(platform(&request.config.sandbox.system_inputs, known.as_deref()).map_err(one)?)
            }
        };
        self.base = Some(Arc::clone(&base));
        self.platform = Some(Arc::clone(&platform));
        let prefix = |credentials: &Credentials| match credentials {
            Credentials::EnvPrefix(prefix) => Some(prefix.clone()),
            Credentials::Environment | Credentials::Profile(_) => None,
        };
        let credential_prefixes = request
            .config
            .caches
            .values()
            .filter_map(|cache| prefix(&cache.credentials))
            .collect();
        Ok(Surroundings {
            platform,
            base,
            epoch: request.config.cache_epoch.clone(),
            native: OnceLock::new(),
            environment: Arc::clone(&request.environment),
            sandbox: match request.sandbox {
                SandboxMode::Unspecified => configured_sandbox(&request.config),
                asked => asked,
            },
            credential_prefixes,
        })
    }

    /// Products of source files, globs and programs.
    pub(super) fn leaves(&mut self, order: &[Id], request: &Request) -> Result<Leaves, Problems> {
        self.expand_globs(order)?;
        let mut paths: Vec<&str> = Vec::new();
        for &id in order {
            match &self.graph.node(id).definition.action {
                Action::File { path } => paths.push(path),
                Action::Glob { .. } => paths.extend(
                    self.globs
                        .get(&id)
                        .into_iter()
                        .flat_map(|found| &found.files)
                        .map(String::as_str),
                ),
                _ => {}
            }
        }
        paths.sort_unstable();
        paths.dedup();
        let states = states(&self.files, &mut self.trusted, &paths);
        let mut leaves = HashMap::new();
        let mut programs = Vec::new();
        for &id in order {
            match &self.graph.node(id).definition.action {
                Action::File { path } => {
                    leaves.insert(
                        id,
                        leaf::file(path, states.get(path.as_str()))
                            .map_err(|problem| self.nearest_file(problem, path)),
                    );
                }
                Action::Glob { .. } => {
                    let files = self
                        .globs
                        .get(&id)
                        .map(|found| found.files.as_slice())
                        .unwrap_or_default();
                    leaves.insert(
                        id,
                        leaf::files(
                            files
                                .iter()
                                .map(|path| (path.as_str(), states.get(path.as_str()))),
                        ),
                    );
                }
                Action::HostProgram { name } => programs.push((id, name.clone())),
                _ => {}
            }
        }
        drop(states);
        self.find_programs(programs, request, &mut leaves);
        Ok(leaves)
    }

    fn nearest_file(&self, problem: Problem, path: &str) -> Problem {
        match self.tree().nearest_file(path) {
            Some(near) if problem.hint.is_none() => problem.hint(format!("did you mean {near}?")),
            _ => problem,
        }
    }

    fn expand_globs(&mut self, order: &[Id]) -> Result<(), Problems> {
        let mut problems = Problems::new();
        let generated = Arc::clone(&self.generated.read().unwrap_or_else(PoisonError::into_inner));
        let declared = self.declared();
        let leave_out = |path: &str| generated.contains(path) || declared.holds(path);
        for &id in order {
            let Action::Glob { patterns, exclude } = &self.graph.node(id).definition.action else {
                continue;
            };
            if self.globs.contains_key(&id) {
                continue;
            }
            match self.tree().glob(patterns, exclude, &leave_out) {
                Ok(found) => {
                    let expanded = super::Expanded { files: found.files };
                    self.globs.insert(id, Arc::new(expanded));
                    self.dirty = true;
                }
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn find_programs(
        &mut self,
        programs: Vec<(Id, String)>,
        request: &Request,
        leaves: &mut HashMap<Id, Result<Arc<Product>, Problem>>,
    ) {
        if programs.is_empty() {
            return;
        }
        let path: Vec<PathBuf> = request
            .environment
            .get("PATH")
            .map(|path| std::env::split_paths(path).collect())
            .unwrap_or_default();
        let home = request.environment.get("HOME").map(Path::new);
        let finder = ToolFinder::new(&path, &request.environment, home, &self.root);
        for (id, name) in programs {
            let known = self.tools.get(&name);
            if let Some(tool) = known.filter(|tool| finder.is_current(tool)) {
                leaves.insert(id, Ok(Product::new(Vec::new(), vec![Arc::clone(tool)])));
                continue;
            }
            let product = match finder.find(&name, known.map(|tool| &**tool)) {
                Ok(tool) => {
                    self.dirty = true;
                    let tool = Arc::new(tool);
                    self.tools.insert(name, Arc::clone(&tool));
                    Ok(Product::new(Vec::new(), vec![tool]))
                }
                Err(error) => Err(error.into()),
            };
            leaves.insert(id, product);
        }
    }

    /// Takes over how the targets of a run ended.
    pub fn remember(&mut self, prepared: Prepared, lasts: Vec<(Id, Arc<Last>)>, settled: Option<Settled>) {
        if let (Some(affected), Some(settled)) = (&prepared.affected, settled) {
            self.settled(affected, settled);
        }
        let graph = prepared.graph;
        // So that this is the only one who has them, mostly.
        drop(prepared.lasts);
        for (id, last) in lasts {
            let address = &graph.node(id).definition.address;
            if let Some(id) = self.graph.find(address) {
                let known = Arc::make_mut(&mut self.lasts).insert(id, Arc::clone(&last));
                self.dirty |= known.is_none_or(|known| {
                    (known.pre_key, known.key, known.sandbox) != (last.pre_key, last.key, last.sandbox)
                        || known.product.digest() != last.product.digest()
                });
            }
        }
    }
}

/// States of files, in no order; those that are trusted are not looked at.
fn states<'a>(
    files: &FileTable,
    trusted: &mut Trusted,
    paths: &[&'a str],
) -> HashMap<&'a str, Result<FileState, FileError>> {
    let mut states = HashMap::with_capacity(paths.len());
    let mut others = Vec::new();
    for &path in paths {
        match trusted.holds(path).then(|| files.remembered(path)).flatten() {
            Some(state) => drop(states.insert(path, Ok(state))),
            None => {
                trusted.look(path, Watched::File);
                others.push(path);
            }
        }
    }
    for (path, state) in others.iter().copied().zip(files.states(&others)) {
        if state.is_ok() && files.remembered(path).is_some() {
            trusted.looked_at(path);
        } else {
            trusted.remains_open(path);
        }
        states.insert(path, state);
    }
    states
}

fn configured_sandbox(config: &Config) -> SandboxMode {
    use heph_common::config::SandboxMode as Configured;
    match config.sandbox.mode {
        Configured::Auto => SandboxMode::Unspecified,
        Configured::Strict => SandboxMode::Strict,
        Configured::Standard => SandboxMode::Standard,
        Configured::Off => SandboxMode::Off,
    }
}

/// Digest of what evaluation depends on beside the files: graphs are kept apart by it.
pub fn settings_digest(config: &Config) -> Digest {
    let settings = (
        &config.plugins,
        &config.fs,
        std::env::consts::OS,
        std::env::consts::ARCH,
        crate::build_file::processors(),
    );
    Digest::of(&serde_json::to_vec(&settings).unwrap_or_else(|_| format!("{settings:?}").into_bytes()))
}
