//! From queries to targets.

use std::collections::{BTreeSet, HashSet};

use heph_common::Address;
use heph_common::query::{Pattern, Query, Reach};

use crate::changes::Changes;
use crate::definition::{Action, Definition};
use crate::graph::Id;
use crate::problem::{Problem, Problems};
use crate::workspace::Workspace;

/// Addresses of targets, sorted.
pub type Selection = BTreeSet<Address>;

impl Workspace {
    /// The targets that a query selects. Evaluates the packages that it may reach, and links what its functions need.
    pub fn select(&mut self, query: &Query) -> Result<Selection, Problems> {
        let universe = self.universe(query)?;
        let selection = self.evaluate_query(query, &universe)?;
        Ok(selection)
    }

    /// The targets that a query selects together with those that differ from a commit and what depends on them.
    pub fn select_since(&mut self, query: &Query, since: &str) -> Result<Selection, Problems> {
        let selected = self.select(query)?;
        let all = Query::Pattern(Pattern::Below(String::new()));
        let changed = self.select(&Query::Changed(since.to_owned()))?;
        let universe = self.universe(&all)?;
        let mut affected = self.reverse_closure(&changed, &universe)?;
        affected.extend(changed);
        Ok(selected.intersection(&affected).cloned().collect())
    }

    /// All targets of the packages in which a query can have targets.
    fn universe(&mut self, query: &Query) -> Result<Selection, Problems> {
        let mut whole = false;
        query
            .visit(&mut |part| whole |= matches!(part, Query::Rdeps(_) | Query::Deps(_) | Query::Changed(_)));
        let packages = match whole || !is_narrow(query) {
            true => {
                let all = self.all_packages()?;
                all.into_iter()
                    .filter(|package| whole || query.reach_in(package) != Reach::Nothing)
                    .collect()
            }
            false => self.named_packages(query)?,
        };
        self.evaluate_packages(&packages)?;
        Ok(packages
            .iter()
            .flat_map(|package| self.addresses_of(package))
            .collect())
    }

    /// Packages of the patterns of a narrow query.
    fn named_packages(&mut self, query: &Query) -> Result<Vec<String>, Problems> {
        let mut patterns: Vec<Pattern> = Vec::new();
        query.visit(&mut |part| match part {
            Query::Pattern(pattern) => patterns.push(pattern.clone()),
            Query::Addr(address) => patterns.push(Pattern::Target(address.clone())),
            Query::Package(package) => patterns.push(Pattern::Package(package.clone())),
            Query::PackagePrefix(package) => patterns.push(Pattern::Below(package.clone())),
            _ => {}
        });
        let mut packages = BTreeSet::new();
        for pattern in patterns {
            match pattern {
                Pattern::Target(address) if address.is_provided() => {}
                Pattern::Target(Address { package, .. }) | Pattern::Package(package) => {
                    if self.is_package(&package)? {
                        packages.insert(package);
                    }
                }
                Pattern::Below(prefix) => packages.extend(self.packages_below(&prefix)?),
            }
        }
        Ok(packages.into_iter().collect())
    }

    fn evaluate_query(&mut self, query: &Query, universe: &Selection) -> Result<Selection, Problems> {
        let filter = |keep: &dyn Fn(&Address) -> bool| {
            universe.iter().filter(|address| keep(address)).cloned().collect()
        };
        Ok(match query {
            Query::Pattern(Pattern::Target(address)) | Query::Addr(address) => self.one(address)?,
            Query::Pattern(pattern) => filter(&|address| pattern.matches(address)),
            Query::Package(package) => filter(&|address| address.package == *package),
            Query::PackagePrefix(package) => {
                filter(&|address| heph_common::package::is_below(&address.package, package))
            }
            Query::Label(label) => self.defined(universe, |definition| definition.labels.contains(label)),
            Query::TreeOutput(path) => self.defined(universe, |definition| writes_below(definition, path)),
            Query::Deps(inner) => {
                let roots = self.evaluate_query(inner, universe)?;
                let ids = self.link(&roots.iter().cloned().collect::<Vec<_>>())?;
                let mut found: Selection = HashSet::<Id>::from_iter(self.graph().closure(&ids))
                    .into_iter()
                    .map(|id| self.graph().node(id).definition.address.clone())
                    .filter(|address| !address.is_provided())
                    .collect();
                found.retain(|address| {
                    !roots.contains(address) || self.depends_on_itself_through(&roots, address)
                });
                found
            }
            Query::Rdeps(inner) => {
                let roots = self.evaluate_query(inner, universe)?;
                self.reverse_closure(&roots, universe)?
            }
            Query::Changed(reference) => self.changed(reference, universe)?,
            Query::Not(inner) => {
                let inner = self.evaluate_query(inner, universe)?;
                universe.difference(&inner).cloned().collect()
            }
            Query::And(parts) => {
                let mut parts = parts.iter();
                let mut found = match parts.next() {
                    Some(first) => self.evaluate_query(first, universe)?,
                    None => Selection::new(),
                };
                for part in parts {
                    let other = self.evaluate_query(part, universe)?;
                    found.retain(|address| other.contains(address));
                }
                found
            }
            Query::Or(parts) => {
                let mut found = Selection::new();
                for part in parts {
                    found.extend(self.evaluate_query(part, universe)?);
                }
                found
            }
        })
    }

    /// A root is among the dependencies of the roots when another root depends on it.
    fn depends_on_itself_through(&self, roots: &Selection, address: &Address) -> bool {
        let graph = self.graph();
        let Some(target) = graph.find(address) else {
            return false;
        };
        let others: Vec<Id> = roots
            .iter()
            .filter(|root| *root != address)
            .filter_map(|root| graph.find(root))
            .collect();
        graph.closure(&others).contains(&target)
    }

    fn one(&mut self, address: &Address) -> Result<Selection, Problems> {
        let exists = match address.is_provided() {
            true => self.generated(&address.without_output()).is_some(),
            false => {
                let package = address.package.clone();
                if self.is_package(&package)? {
                    self.evaluate_packages(&[package])?;
                }
                self.is_target(address)
            }
        };
        if let Some(definition) = self.defined_target(address).filter(|_| exists) {
            definition
                .check_output(address)
                .map_err(|problem| vec![problem])?;
        }
        Ok(exists.then(|| address.without_output()).into_iter().collect())
    }

    fn defined(&self, universe: &Selection, keep: impl Fn(&Definition) -> bool) -> Selection {
        let holds = |address: &&Address| {
            self.defined_target(address)
                .is_some_and(|definition| keep(&definition))
        };
        universe.iter().filter(holds).cloned().collect()
    }

    /// What depends on the targets, directly or not; the targets themselves only when another of them needs them.
    fn reverse_closure(&mut self, targets: &Selection, universe: &Selection) -> Result<Selection, Problems> {
        self.link(&universe.iter().cloned().collect::<Vec<_>>())?;
        let graph = self.graph();
        let dependants = graph.dependants();
        let mut pending: Vec<Id> = targets.iter().filter_map(|address| graph.find(address)).collect();
        let mut found = HashSet::new();
        while let Some(id) = pending.pop() {
            for &dependant in dependants.get(id.index()).into_iter().flatten() {
                if found.insert(dependant) {
                    pending.push(dependant);
                }
            }
        }
        let addresses = found
            .into_iter()
            .map(|id| graph.node(id).definition.address.clone());
        Ok(addresses.filter(|address| !address.is_provided()).collect())
    }

    /// Targets whose own inputs or BUILD files differ from a commit; all when the settings do.
    fn changed(&mut self, reference: &str, universe: &Selection) -> Result<Selection, Problems> {
        let changes =
            Changes::since(self.root(), reference, self.caller()).map_err(|problem| vec![problem])?;
        let ids = self.link(&universe.iter().cloned().collect::<Vec<_>>())?;
        if changes.has_settings() {
            return Ok(universe.clone());
        }
        let concerned = self.concerned(&changes);
        let graph = self.graph();
        let differs = |id: &Id| {
            let node = graph.node(*id);
            concerned.package(&node.definition.address.package)
                || node.links.iter().any(|link| concerned.leaf(link.target))
        };
        Ok(ids
            .into_iter()
            .filter(differs)
            .map(|id| graph.node(id).definition.address.clone())
            .collect())
    }

    /// What is close to what was asked for and not found: addresses, packages, labels.
    pub fn nearest_targets(&mut self, query: &Query) -> Vec<String> {
        let mut wanted: Vec<String> = Vec::new();
        let mut labels: Vec<String> = Vec::new();
        query.visit(&mut |part| match part {
            Query::Pattern(Pattern::Target(address)) | Query::Addr(address) => {
                wanted.push(address.without_output().to_string())
            }
            Query::Pattern(Pattern::Package(package) | Pattern::Below(package)) | Query::Package(package) => {
                wanted.push(format!("//{package}"))
            }
            Query::Label(label) => labels.push(label.clone()),
            _ => {}
        });
        let Ok(packages) = self.all_packages() else {
            return Vec::new();
        };
        // Packages that cannot be evaluated have no targets to propose.
        for package in &packages {
            drop(self.evaluate_packages(std::slice::from_ref(package)));
        }
        let addresses: Vec<Address> = packages
            .iter()
            .flat_map(|package| self.addresses_of(package))
            .collect();
        let known: BTreeSet<String> = packages
            .iter()
            .filter_map(|package| self.specs(package).ok())
            .flatten()
            .flat_map(|spec| spec.labels)
            .collect();
        // A word that is no label may be the name of a target or a package; one that is a label is right.
        let nearest_labels: Vec<String> = labels
            .iter()
            .filter(|label| !known.contains(*label))
            .filter_map(|label| {
                let named = addresses.iter().find(|address| address.name == *label);
                let package = packages.iter().find(|package| *package == label);
                named
                    .map(Address::to_string)
                    .or_else(|| package.map(|package| format!("//{package}/...")))
                    .or_else(|| {
                        heph_common::nearest(label, known.iter().map(String::as_str)).map(str::to_owned)
                    })
            })
            .collect();
        let targets: Vec<String> = addresses.iter().map(Address::to_string).collect();
        let packages: Vec<String> = packages
            .into_iter()
            .map(|package| format!("//{package}"))
            .collect();
        let nearest = wanted.iter().filter_map(|wanted| {
            let candidates = if wanted.contains(':') { &targets } else { &packages };
            heph_common::nearest(wanted, candidates.iter().map(String::as_str))
                .filter(|near| near != wanted)
                .map(str::to_owned)
        });
        nearest.chain(nearest_labels).collect()
    }
}

/// Whether the targets of a query can only be in packages that its patterns name.
fn is_narrow(query: &Query) -> bool {
    match query {
        Query::Pattern(_) | Query::Addr(_) | Query::Package(_) | Query::PackagePrefix(_) => true,
        Query::Or(parts) => parts.iter().all(is_narrow),
        Query::And(parts) => {
            parts.iter().any(is_narrow)
                && parts.iter().all(|part| {
                    is_narrow(part) || matches!(part, Query::Label(_) | Query::TreeOutput(_) | Query::Not(_))
                })
        }
        Query::Label(_)
        | Query::TreeOutput(_)
        | Query::Deps(_)
        | Query::Rdeps(_)
        | Query::Changed(_)
        | Query::Not(_) => false,
    }
}

pub(crate) fn writes_below(definition: &Definition, path: &str) -> bool {
    match &definition.action {
        Action::Command(command) if command.codegen.is_some() => command
            .outputs
            .iter()
            .any(|output| heph_common::package::is_below(&output.path, path)),
        _ => false,
    }
}

/// The problem of a query that selects nothing.
pub fn nothing_matched(selector: &str, nearest: &[String]) -> Problem {
    let problem = Problem::new(format!("no targets matched {selector}"));
    match nearest {
        [] => problem.hint("heph query //... lists all targets"),
        [one] => problem.hint(format!("did you mean {one}?")),
        several => problem.hint(format!("did you mean one of {}?", several.join(", "))),
    }
}
