//! The warm state of one workspace: packages, graph, digests, how targets ended.
//!
//! Invariant: whatever is used in a run was proved current in that run, by the stat of every file and directory it came from.

mod declared;
mod prepare;
mod refresh;
mod since;
pub mod snapshot;
mod trusted;
mod warm;

pub use prepare::{Request, settings_digest};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use heph_common::config::Config;
use heph_common::query::{Pattern, Query};
use heph_common::{Address, Digest};

use crate::build_file::{Evaluated, Observation, ProviderState, ReadFile};
use crate::definition::{Action, Definition};
use crate::driver::Loader;
use crate::file_table::FileTable;
use crate::graph::link::{Definitions, link};
use crate::graph::{Graph, Id};
use crate::platform::Platform;
use crate::problem::{Problem, Problems};
use crate::run::Last;
use crate::spec::Spec;
use crate::tool::{BaseSet, Tool};
use crate::tree::{DirStat, Tree};
use crate::watch::Watching;
use declared::Declared;
use trusted::Trusted;
use warm::Warm;

pub use warm::{Affected, Leaves, Settled};

/// One workspace with one set of settings.
#[derive(Debug)]
pub struct Workspace {
    root: PathBuf,
    /// See [`settings_digest`].
    settings: Digest,
    home: PathBuf,
    loader: Loader,
    /// Files that heph has put into the tree: no glob matches them.
    generated: Arc<RwLock<Arc<BTreeSet<String>>>>,
    /// What the evaluated packages say that they put there; `None` until it is asked for.
    declared: Option<Arc<Declared>>,
    files: Arc<FileTable>,
    packages: HashMap<String, Arc<Package>>,
    /// All packages, once the whole tree was looked at.
    discovered: Option<Vec<String>>,
    /// Directories that were listed, in this process or in the one that wrote the snapshot.
    directories: HashMap<String, Directory>,
    graph: Arc<Graph>,
    globs: HashMap<Id, Arc<Expanded>>,
    /// How targets ended that the graph does not have now.
    orphans: HashMap<Address, Arc<Last>>,
    lasts: Arc<HashMap<Id, Arc<Last>>>,
    tools: HashMap<String, Arc<Tool>>,
    base: Option<Arc<BaseSet>>,
    platform: Option<Arc<Platform>>,
    /// Whether anything is known that the snapshot on disk does not say.
    dirty: bool,
    /// What need not be looked at.
    trusted: Trusted,
    /// What earlier requests prepared, the last one at the end.
    warm: Vec<Warm>,
    preparations: u64,
    /// Environment of who asks at the moment: git is run in it.
    caller: Option<Arc<BTreeMap<String, String>>>,
}

/// A directory that was listed.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Directory {
    stat: DirStat,
    /// Digest of its entries.
    entries: Digest,
}

/// The files that a glob found.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Expanded {
    /// Relative to the workspace root, sorted.
    pub files: Vec<String>,
}

/// One evaluated package.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Package {
    /// Names of its BUILD files.
    pub build_files: Vec<String>,
    /// BUILD files and everything they load.
    pub files: Vec<ReadFile>,
    /// What the evaluation asked of the file system.
    pub observed: Vec<Observation>,
    /// Its targets by name; what is wrong with those whose driver refused them.
    pub targets: BTreeMap<String, Result<Arc<Definition>, Problems>>,
    /// Settings for providers.
    pub states: Vec<ProviderState>,
}

impl Workspace {
    /// The workspace at `root`, with nothing known yet. Fails when its plugins are wrong or the root cannot be read.
    pub fn open(root: &Path, home: &Path, config: &Config) -> Result<Self, Problems> {
        let files = FileTable::open(root).map_err(|error| vec![error.into()])?;
        let generated: Arc<RwLock<Arc<BTreeSet<String>>>> = Arc::default();
        let known = Arc::clone(&generated);
        let is_generated = move |path: &str| {
            known
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(path)
        };
        Ok(Self {
            loader: Loader::new(root, config, Some(home), Arc::new(is_generated))?,
            generated,
            declared: None,
            root: root.to_owned(),
            home: home.to_owned(),
            settings: settings_digest(config),
            files: Arc::new(files),
            packages: HashMap::new(),
            discovered: None,
            directories: HashMap::new(),
            graph: Arc::default(),
            orphans: HashMap::new(),
            globs: HashMap::new(),
            lasts: Arc::default(),
            tools: HashMap::new(),
            base: None,
            platform: None,
            dirty: false,
            trusted: Trusted::default(),
            warm: Vec::new(),
            preparations: 0,
            caller: None,
        })
    }

    /// What is asked from now on is asked by somebody with this environment.
    pub fn asked_by(&mut self, environment: &Arc<BTreeMap<String, String>>) {
        self.caller = Some(Arc::clone(environment));
    }

    /// Environment of who asks; `None`: that of this process.
    pub(crate) fn caller(&self) -> Option<&BTreeMap<String, String>> {
        self.caller.as_deref()
    }

    /// From now on changes of the workspace are told by a watcher, where there can be one.
    pub fn watched_by(&mut self, watching: Arc<dyn Watching>) {
        self.trusted = Trusted::new(&self.root, watching);
    }

    /// Its root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Digest of the settings that evaluation depends on.
    pub fn settings(&self) -> Digest {
        self.settings
    }

    /// What is linked.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    fn tree(&self) -> &Tree {
        self.loader.tree()
    }

    /// Every package of the workspace.
    pub fn all_packages(&mut self) -> Result<Vec<String>, Problems> {
        if let Some(known) = &self.discovered {
            return Ok(known.clone());
        }
        let packages: Vec<String> = self
            .loader
            .packages("")?
            .into_iter()
            .map(|found| found.package)
            .collect();
        self.discovered = Some(packages.clone());
        self.dirty = true;
        Ok(packages)
    }

    /// Every package at a path and below.
    pub fn packages_below(&mut self, prefix: &str) -> Result<Vec<String>, Problems> {
        match &self.discovered {
            Some(known) => Ok(known
                .iter()
                .filter(|package| heph_common::package::is_below(package, prefix))
                .cloned()
                .collect()),
            None if prefix.is_empty() => self.all_packages(),
            None => Ok(self
                .loader
                .packages(prefix)?
                .into_iter()
                .map(|found| found.package)
                .collect()),
        }
    }

    /// Whether a directory is a package.
    pub fn is_package(&mut self, package: &str) -> Result<bool, Problems> {
        if self.packages.contains_key(package) {
            return Ok(true);
        }
        self.loader
            .package(package)
            .map(|found| found.is_some())
            .map_err(|problem| vec![problem])
    }

    /// Evaluates the packages that are not yet, in parallel. Fails with the problems of all that are wrong.
    pub fn evaluate_packages(&mut self, packages: &[String]) -> Result<(), Problems> {
        let missing: Vec<&String> = packages
            .iter()
            .filter(|package| !self.packages.contains_key(*package))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        let evaluated = self.loader.evaluate_all(&missing);
        let work: Vec<_> = missing.iter().zip(evaluated).collect();
        let defined = in_parallel(&work, |(package, evaluated)| match evaluated {
            Ok(evaluated) => self.define(package, evaluated),
            Err(problems) => Err(problems.clone()),
        });
        drop(work);
        let mut problems = Problems::new();
        let mut found = Vec::new();
        for (package, result) in missing.into_iter().zip(defined) {
            match result {
                Ok(result) => found.push((package.clone(), Arc::new(result))),
                Err(new) => {
                    for problem in new {
                        if !problems.contains(&problem) {
                            problems.push(problem);
                        }
                    }
                }
            }
        }
        self.add_packages(found);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }

    fn define(&self, package: &str, evaluated: &Evaluated) -> Result<Package, Problems> {
        for line in &evaluated.printed {
            tracing::info!(package, "{line}");
        }
        let define = |spec: &Spec| (spec.address.name.clone(), self.loader.define(spec).map(Arc::new));
        let build_files = self.loader.package(package).map_err(|problem| vec![problem])?;
        Ok(Package {
            build_files: build_files.map(|found| found.build_files).unwrap_or_default(),
            files: evaluated.files.clone(),
            observed: evaluated.observed.clone(),
            targets: evaluated.specs.iter().map(define).collect(),
            states: evaluated.provider_states.clone(),
        })
    }

    /// The targets of a package as they were written.
    pub fn specs(&self, package: &str) -> Result<Vec<Spec>, Problems> {
        Ok(self.loader.evaluate(package)?.specs)
    }

    /// An evaluated package.
    pub fn package(&self, package: &str) -> Option<&Arc<Package>> {
        self.packages.get(package)
    }

    pub(crate) fn addresses_of(&self, package: &str) -> Vec<Address> {
        let names = self
            .packages
            .get(package)
            .map(|found| found.targets.keys())
            .into_iter()
            .flatten();
        names
            .map(|name| Address {
                package: package.to_owned(),
                name: name.clone(),
                args: BTreeMap::new(),
                output: None,
            })
            .collect()
    }

    pub(crate) fn is_target(&self, address: &Address) -> bool {
        address.args.is_empty()
            && self
                .packages
                .get(&address.package)
                .is_some_and(|package| package.targets.contains_key(&address.name))
    }

    pub(crate) fn defined_target(&self, address: &Address) -> Option<Arc<Definition>> {
        self.packages
            .get(&address.package)?
            .targets
            .get(&address.name)?
            .as_ref()
            .ok()
            .map(Arc::clone)
    }

    pub(crate) fn generated(&self, address: &Address) -> Option<Result<Definition, Problem>> {
        self.loader.generated(address)
    }

    /// Links these targets and all they need; gives their numbers in order.
    pub fn link(&mut self, addresses: &[Address]) -> Result<Vec<Id>, Problems> {
        let missing: Vec<Address> = addresses
            .iter()
            .filter(|address| self.graph.find(address).is_none())
            .cloned()
            .collect();
        if missing.is_empty() {
            return Ok(addresses
                .iter()
                .filter_map(|address| self.graph.find(address))
                .collect());
        }
        self.dirty = true;
        self.preload(missing)?;
        // What is known by number of the nodes stays, since a graph only grows; but it is shared no more.
        self.warm.clear();
        let mut graph = std::mem::take(&mut self.graph);
        // A run that still holds the graph keeps its own copy.
        let linked = link(Arc::make_mut(&mut graph), &Known(self), addresses);
        self.graph = graph;
        self.adopt_orphans();
        linked
    }

    fn adopt_orphans(&mut self) {
        let (graph, lasts) = (&self.graph, Arc::make_mut(&mut self.lasts));
        self.orphans.retain(|address, last| match graph.find(address) {
            Some(id) => {
                lasts.entry(id).or_insert_with(|| Arc::clone(last));
                false
            }
            None => true,
        });
    }

    fn shared_graph(&self) -> Arc<Graph> {
        Arc::clone(&self.graph)
    }

    /// Evaluates all packages that linking these addresses will ask for, many at a time.
    fn preload(&mut self, mut frontier: Vec<Address>) -> Result<(), Problems> {
        let mut seen: HashSet<Address> = HashSet::new();
        while !frontier.is_empty() {
            let mut packages: HashSet<String> = HashSet::new();
            for address in &frontier {
                if !address.is_provided()
                    && !self.packages.contains_key(&address.package)
                    && !packages.contains(&address.package)
                    && self.is_package(&address.package)?
                {
                    packages.insert(address.package.clone());
                }
            }
            self.evaluate_packages(&packages.into_iter().collect::<Vec<_>>())?;
            let mut next = Vec::new();
            for address in frontier.drain(..) {
                let address = address.without_output();
                if self.graph.find(&address).is_some() || !seen.insert(address.clone()) {
                    continue;
                }
                if address.is_provided() {
                    if let Some(Ok(Definition {
                        action: Action::Query { expression },
                        ..
                    })) = self.generated(&address)
                    {
                        self.load_query(&expression)?;
                        next.extend(self.selected_by(&expression).unwrap_or_default());
                    }
                } else if let Some(definition) = self.defined_target(&address) {
                    let all = definition
                        .dependencies
                        .iter()
                        .chain(&definition.transitive.dependencies);
                    next.extend(all.map(|dependency| dependency.address.clone()));
                }
            }
            frontier = next;
        }
        Ok(())
    }

    /// Evaluates the packages in which a query of a BUILD file can find targets.
    fn load_query(&mut self, expression: &str) -> Result<(), Problems> {
        let Ok(query) = Query::parse(expression, "") else {
            return Ok(());
        };
        let reach = |package: &String| query.reach_in(package) != heph_common::query::Reach::Nothing;
        let packages: Vec<String> = self.all_packages()?.into_iter().filter(reach).collect();
        self.evaluate_packages(&packages)
    }

    /// The targets that a query of a BUILD file selects, out of those that are loaded.
    fn selected_by(&self, expression: &str) -> Result<Vec<Address>, Problem> {
        let query = Query::parse(expression, "").map_err(|error| Problem::new(error.to_string()))?;
        let mut graph_query = false;
        query.visit(&mut |part| {
            graph_query |= matches!(part, Query::Deps(_) | Query::Rdeps(_) | Query::Changed(_))
        });
        if graph_query {
            return Err(Problem::new(format!(
                "the query {query} needs the linked graph, which depends on its answer"
            ))
            .hint("in BUILD files, use patterns, label, addr, package, package_prefix and tree_output"));
        }
        let mut addresses: Vec<Address> = self
            .packages
            .keys()
            .flat_map(|package| self.addresses_of(package))
            .collect();
        addresses.retain(|address| self.holds(&query, address));
        addresses.sort_unstable();
        Ok(addresses)
    }

    fn holds(&self, query: &Query, address: &Address) -> bool {
        let defined = |keep: &dyn Fn(&Definition) -> bool| {
            self.defined_target(address)
                .is_some_and(|definition| keep(&definition))
        };
        match query {
            Query::Pattern(pattern) => pattern.matches(address),
            Query::Addr(wanted) => Pattern::Target(wanted.clone()).matches(address),
            Query::Package(package) => address.package == *package,
            Query::PackagePrefix(package) => heph_common::package::is_below(&address.package, package),
            Query::Label(label) => defined(&|definition| definition.labels.contains(label)),
            Query::TreeOutput(path) => defined(&|definition| crate::select::writes_below(definition, path)),
            Query::Not(inner) => !self.holds(inner, address),
            Query::And(parts) => parts.iter().all(|part| self.holds(part, address)),
            Query::Or(parts) => parts.iter().any(|part| self.holds(part, address)),
            Query::Deps(_) | Query::Rdeps(_) | Query::Changed(_) => false,
        }
    }
}

/// What linking asks, answered from the packages that are loaded.
struct Known<'a>(&'a Workspace);

impl Definitions for Known<'_> {
    fn definition(&self, address: &Address, from: Option<&Definition>) -> Result<Arc<Definition>, Problem> {
        let workspace = self.0;
        let needed = |what: String| match from {
            Some(from) => Problem::new(format!("{} depends on {what}", from.address)).at(from.place.clone()),
            None => Problem::new(what),
        };
        if address.is_provided() {
            return match workspace.generated(address) {
                Some(Ok(definition)) => Ok(Arc::new(definition)),
                Some(Err(problem)) => Err(problem.at(from.and_then(|from| from.place.clone()))),
                None => Err(needed(format!("{address}, which no provider knows"))),
            };
        }
        let Some(package) = workspace.packages.get(&address.package) else {
            let problem = needed(format!(
                "{address}, but {} has no BUILD file",
                display_package(&address.package)
            ));
            return Err(problem);
        };
        match package.targets.get(&address.name) {
            Some(Ok(definition)) if address.args.is_empty() => Ok(Arc::clone(definition)),
            Some(Ok(_)) => Err(needed(format!(
                "{address}, but {} takes no arguments",
                Address {
                    args: BTreeMap::new(),
                    ..address.clone()
                }
            ))),
            Some(Err(problems)) => Err(problems
                .first()
                .cloned()
                .unwrap_or_else(|| Problem::new("unknown"))),
            None => {
                let problem = needed(format!("{address}, which does not exist"));
                let nearest = heph_common::nearest(&address.name, package.targets.keys().map(String::as_str));
                Err(match nearest {
                    Some(name) => problem.hint(format!("did you mean //{}:{name}?", address.package)),
                    None => problem,
                })
            }
        }
    }

    fn selected(&self, query: &Definition) -> Result<Vec<Address>, Problem> {
        match &query.action {
            Action::Query { expression } => self.0.selected_by(expression),
            _ => Ok(Vec::new()),
        }
    }
}

fn display_package(package: &str) -> String {
    match package {
        "" => "the root package".to_owned(),
        package => format!("//{package}"),
    }
}

/// Applies `work` to all items on as many threads as pay.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    const WORTH_A_THREAD: usize = 64;
    let threads = std::thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(items.len() / WORTH_A_THREAD + 1);
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let results: Mutex<Vec<(usize, Vec<R>)>> = Mutex::new(Vec::new());
    let next = std::sync::atomic::AtomicUsize::new(0);
    let chunk = (items.len() / (threads * 8)).max(1);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let start = next.fetch_add(chunk, std::sync::atomic::Ordering::Relaxed);
                    let Some(part) = items
                        .get(start..items.len().min(start + chunk))
                        .filter(|part| !part.is_empty())
                    else {
                        return;
                    };
                    let done = part.iter().map(&work).collect();
                    results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((start, done));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(start, _)| *start);
    results.into_iter().flat_map(|(_, done)| done).collect()
}
