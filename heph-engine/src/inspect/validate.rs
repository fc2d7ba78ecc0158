//! Everything that is wrong in a selection, at once.
//!
//! Each step goes on with what the one before it found right: evaluation, definitions, links, producers, inputs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::MutexGuard;

use heph_common::Address;
use heph_common::query::{Query, Reach};
use heph_proto::InspectQuery;
use serde::Serialize;

use super::document::Remark;
use super::walk::{Knowledge, Known, Walk};
use super::{Answer, VERSION, json, names_something, parse};
use crate::definition::{Action, Definition};
use crate::graph::{Graph, Id};
use crate::problem::{Problem, Problems};
use crate::run::Prepared;
use crate::select::{Selection, nothing_matched};
use crate::workspace::{Request, Workspace};

/// Checks all that a query selects and needs, without running anything. The workspace is given back as soon as it was read.
pub(super) fn validate(
    mut guard: MutexGuard<'_, Workspace>,
    known: &Known<'_>,
    asked: &InspectQuery,
    request: &Request,
) -> Answer {
    #[derive(Serialize)]
    struct Validated {
        version: u32,
        targets: usize,
        packages: usize,
        problems: Vec<Remark>,
        notes: Vec<Remark>,
    }
    let workspace = &mut *guard;
    let query = parse(&asked.query)?;
    let mut found = Found::default();
    let selection = select(workspace, &query, &asked.since, &mut found);
    if selection.is_empty() && found.problems.is_empty() && asked.since.is_empty() && names_something(&query)
    {
        let nearest = workspace.nearest_targets(&query);
        return Err(nothing_matched(&asked.selector, &nearest).into());
    }
    refused(workspace, &selection, &mut found);
    let linked = link(workspace, &selection, &mut found);
    let mut notes = Vec::new();
    let prepared = prepare(workspace, &linked, request, &mut found);
    drop(guard);
    if let Some(prepared) = prepared {
        let walk = Walk::new(&prepared, known)?;
        for &id in prepared.order.iter() {
            inputs(&prepared.graph, &walk, id, &mut found);
        }
        notes = worth_knowing(&prepared);
    }
    let packages: BTreeSet<&str> = selection.iter().map(|address| address.package.as_str()).collect();
    json(&Validated {
        version: VERSION,
        targets: selection.len(),
        packages: packages.len(),
        problems: found.sorted().into_iter().map(Remark::from).collect(),
        notes: notes.into_iter().map(Remark::from).collect(),
    })
}

/// Problems, each once.
#[derive(Default)]
struct Found {
    problems: Problems,
    /// Members of the cycles that were found: one cycle looks different from each of them.
    cycles: HashSet<BTreeSet<String>>,
}

impl Found {
    fn add(&mut self, problems: impl IntoIterator<Item = Problem>) {
        for problem in problems {
            let is_new = match cycle_members(&problem) {
                Some(members) => self.cycles.insert(members),
                None => !self.problems.contains(&problem),
            };
            if is_new {
                self.problems.push(problem);
            }
        }
    }

    /// By place; those without one come last.
    fn sorted(mut self) -> Problems {
        self.problems.sort_by(|a, b| {
            (a.place.is_none(), &a.place, &a.message).cmp(&(b.place.is_none(), &b.place, &b.message))
        });
        self.problems
    }
}

/// The lines of a cycle, in whatever order.
fn cycle_members(problem: &Problem) -> Option<BTreeSet<String>> {
    let members = problem.message.strip_prefix("dependency cycle:\n")?;
    Some(
        members
            .lines()
            .filter(|line| line.contains(" needs"))
            .map(|line| line.trim().to_owned())
            .collect(),
    )
}

/// The targets that are selected; where packages are wrong, all targets of the others that the query can reach.
fn select(workspace: &mut Workspace, query: &Query, since: &str, found: &mut Found) -> Selection {
    let selected = match since {
        "" => workspace.select(query),
        since => workspace.select_since(query, since),
    };
    let problems = match selected {
        Ok(selection) => return selection,
        Err(problems) => problems,
    };
    found.add(problems);
    let packages = match workspace.all_packages() {
        Ok(packages) => packages,
        Err(problems) => {
            found.add(problems);
            return Selection::new();
        }
    };
    let reached: Vec<String> = packages
        .into_iter()
        .filter(|package| query.reach_in(package) != Reach::Nothing)
        .collect();
    if let Err(problems) = workspace.evaluate_packages(&reached) {
        found.add(problems);
    }
    reached
        .iter()
        .flat_map(|package| workspace.addresses_of(package))
        .collect()
}

/// Targets that their drivers refused.
fn refused(workspace: &Workspace, selection: &Selection, found: &mut Found) {
    for address in selection {
        let target = workspace
            .package(&address.package)
            .and_then(|package| package.targets.get(&address.name));
        if let Some(Err(problems)) = target {
            found.add(problems.iter().cloned());
        }
    }
}

/// The targets that can be linked.
fn link(workspace: &mut Workspace, selection: &Selection, found: &mut Found) -> Selection {
    let all: Vec<Address> = selection.iter().cloned().collect();
    if workspace.link(&all).is_ok() {
        return selection.clone();
    }
    // One at a time: of those that are linked together, only the first cycle is told.
    let mut linked = Selection::new();
    for address in all {
        match workspace.link(std::slice::from_ref(&address)) {
            Ok(_) => drop(linked.insert(address)),
            Err(problems) => found.add(problems),
        }
    }
    linked
}

/// The graph with its sources. Outputs that collide are told, and the rest is looked at all the same.
fn prepare(
    workspace: &mut Workspace,
    linked: &Selection,
    request: &Request,
    found: &mut Found,
) -> Option<Prepared> {
    let addresses: Vec<Address> = linked.iter().cloned().collect();
    let prepared = workspace.link(&addresses).and_then(|selected| {
        let order = workspace.graph().closure(&selected);
        found.add(workspace.refuse_two_producers(&order).err().into_iter().flatten());
        workspace.prepare_linked(selected, order, request)
    });
    match prepared {
        Ok(prepared) => Some(prepared),
        Err(problems) => {
            found.add(problems);
            None
        }
    }
}

/// What is wrong with what a target itself is given: sources that are not there, paths that collide.
fn inputs(graph: &Graph, walk: &Walk<'_>, id: Id, found: &mut Found) {
    let definition = &graph.node(id).definition;
    let mut missing = false;
    for (need, problem) in walk.wrong_needs(id) {
        missing = true;
        found.add([about(definition, &graph.node(need).definition, problem)]);
    }
    match walk.knowledge(id) {
        Knowledge::Wrong(problem) if !graph.node(id).is_leaf() => {
            found.add([naming(definition, problem.clone())])
        }
        // What is known may collide already, whatever the rest will be.
        Knowledge::Unknown if !missing => {
            if let Err(problem) = walk.key(id) {
                found.add([naming(definition, problem)]);
            }
        }
        _ => {}
    }
}

/// The problem with the target's name in it.
fn naming(definition: &Definition, problem: Problem) -> Problem {
    let address = definition.address.to_string();
    match problem.message.contains(&address) {
        true => problem,
        false => Problem {
            message: format!("{address}: {}", problem.message),
            ..problem
        },
    }
}

fn about(definition: &Definition, need: &Definition, problem: &Problem) -> Problem {
    let what = match &need.action {
        Action::HostProgram { .. } => "a program",
        _ => "an input",
    };
    let told = Problem::new(format!(
        "{} has {what} that cannot be used: {}",
        definition.address, problem.message
    ));
    Problem {
        hint: problem.hint.clone(),
        ..told.at(definition.place.clone())
    }
}

/// What is no error, but should be known.
fn worth_knowing(prepared: &Prepared) -> Problems {
    let mut whole: BTreeMap<&str, usize> = BTreeMap::new();
    let mut notes = Problems::new();
    for &id in prepared.order.iter() {
        let definition = &prepared.graph.node(id).definition;
        match &definition.action {
            Action::Command(command) => {
                for directory in &command.extra_path {
                    *whole.entry(directory).or_default() += 1;
                }
            }
            Action::Fetch(fetch) if fetch.sha256.is_empty() => {
                let note = Problem::new(format!(
                    "{} has no sha256: a run stops there and tells the digest",
                    definition.address
                ));
                notes.push(note.at(definition.place.clone()));
            }
            _ => {}
        }
    }
    notes.extend(whole.into_iter().map(|(directory, targets)| {
        let who = if targets == 1 { "1 target".to_owned() } else { format!("{targets} targets") };
        Problem::new(format!("{directory} is on the PATH of {who} as a whole: a program that changes there changes no key"))
            .hint("list the programs that are used under tools, as //@heph/bin:NAME, and take the directory out of the plugin's option 'path'")
    }));
    notes
}
