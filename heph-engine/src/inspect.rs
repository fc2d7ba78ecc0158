//! Looking without running: answers to `heph query`, `heph inspect`, `heph why-miss` and `heph validate`.
//!
//! Each answer is one JSON document; `docs/json.md` says what is in it.

mod complete;
mod document;
mod edges;
mod function;
mod listing;
mod miss;
mod result;
mod target;
mod validate;
pub mod walk;

pub(crate) use document::Output;
pub(crate) use result::Part;

use std::sync::{Mutex, MutexGuard};

use heph_cache::StoreError;
use heph_common::query::{Pattern, Query};
use heph_common::{Address, Exit};
use heph_proto::inspect_request::What;
use heph_proto::{InspectRequest, RunError, SandboxMode};
use serde::Serialize;

use crate::engine::{Asked, Engine, exit_of, lock, wire_error};
use crate::problem::{Problem, Problems};
use crate::run::Prepared;
use crate::select::{Selection, nothing_matched};
use crate::workspace::{Request, Workspace};
use walk::Known;

/// Version of the documents: raised when a field changes its meaning or goes away.
pub const VERSION: u32 = 1;

/// Answers one request with a JSON document, UTF-8.
///
/// Fails with what is wrong in the workspace or the request (exit code 2), when a target that is named does not exist (1),
/// or when the store cannot be read (3).
pub fn answer(engine: &Engine, request: &InspectRequest) -> Result<Vec<u8>, RunError> {
    let asked = Asked::read(request.workspace.as_ref())
        .map_err(|problems| wire_error(exit_of(&problems), problems))?;
    let what = request
        .what
        .as_ref()
        .ok_or_else(|| usage("the request asks for nothing"))?;
    let look = Look {
        engine,
        asked: &asked,
    };
    let answered = look.at(what).map_err(Failure::into_wire);
    if !engine.stays() {
        // What was evaluated serves the next process too.
        engine.rest(&asked);
    }
    answered
}

/// A JSON document.
type Answer = Result<Vec<u8>, Failure>;

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// Something in the workspace or the request is wrong.
    Wrong(Problems),
    /// The store cannot be read.
    Store(StoreError),
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Wrong(problems)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Wrong(vec![problem])
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    fn into_wire(self) -> RunError {
        match self {
            Self::Wrong(problems) => wire_error(exit_of(&problems), problems),
            Self::Store(error) => store_error(&error),
        }
    }
}

fn usage(message: &str) -> RunError {
    wire_error(Exit::Usage, vec![Problem::new(message)])
}

/// A failure of the store as the wire has it.
pub(crate) fn store_error(error: &StoreError) -> RunError {
    let problem = Problem {
        hint: error.hint(),
        ..Problem::new(format!("failed to {error}"))
    };
    wire_error(Exit::Fault, vec![problem])
}

/// One request.
struct Look<'a> {
    engine: &'a Engine,
    asked: &'a Asked,
}

impl Look<'_> {
    fn at(&self, what: &What) -> Answer {
        let shared = self.engine.workspace(self.asked)?;
        match what {
            What::Query(query) => {
                let mut workspace = self.fresh(&shared);
                let selection = select(&mut workspace, &query.query, &query.since)?;
                listing::targets(&selection)
            }
            What::Targets(targets) => self.targets(&shared, &targets.view, &targets.query, &targets.selector),
            What::Packages(_) => listing::packages(&mut self.fresh(&shared)),
            What::Labels(_) => listing::labels(&mut self.fresh(&shared)),
            What::Functions(_) => function::functions(),
            What::Path(path) => {
                let (from, to) = (address(&path.from)?, address(&path.to)?);
                edges::path(&mut self.fresh(&shared), &from, &to)
            }
            What::Graph(query) => {
                let mut workspace = self.fresh(&shared);
                let selection = select_named(&mut workspace, &query.query, &query.selector, &query.since)?;
                edges::graph(&mut workspace, &selection)
            }
            What::Miss(miss) => {
                let query = Query::Addr(address(&miss.address)?);
                let prepared = self.prepare(&shared, &query.to_string(), &miss.address)?;
                miss::miss(&prepared, &self.known(), self.engine.history())
            }
            What::Validate(query) => {
                let request = self.request(&query.selector);
                validate::validate(self.fresh(&shared), &self.known(), query, &request)
            }
            What::Complete(complete) => {
                complete::complete(&mut self.fresh(&shared), &complete.prefix, &self.asked.package)
            }
        }
    }

    fn targets(&self, shared: &Mutex<Workspace>, view: &str, query: &str, selector: &str) -> Answer {
        if let "hashin" | "hashout" | "outputs" = view {
            let prepared = self.prepare(shared, query, selector)?;
            let known = self.known();
            return match view {
                "hashin" => result::hashin(&prepared, &known),
                "hashout" => result::hashout(&prepared, &known),
                _ => result::outputs(&prepared, &known),
            };
        }
        let mut workspace = self.fresh(shared);
        let workspace = &mut *workspace;
        let selection = select_named(workspace, query, selector, "")?;
        match view {
            "spec" => target::specs(workspace, &selection),
            "def" => target::definitions(workspace, &selection),
            "states" => target::states(workspace, &selection),
            "deps" => edges::dependencies(workspace, &selection),
            "revdeps" => edges::dependants(workspace, &selection),
            other => Err(Problem::new(format!("there is no view '{other}' of targets")).into()),
        }
    }

    /// The results that a run would use.
    fn known(&self) -> Known<'_> {
        Known {
            store: self.engine.store(),
            origins: self.engine.origins(self.asked),
        }
    }

    /// Everything that keys and results of the selected targets rest on. The workspace is free again afterwards.
    fn prepare(&self, shared: &Mutex<Workspace>, query: &str, selector: &str) -> Result<Prepared, Failure> {
        let mut workspace = self.fresh(shared);
        let selection = select_named(&mut workspace, query, selector, "")?;
        Ok(workspace.prepare_selection(&selection, &self.request(selector))?)
    }

    /// The workspace, with everything dropped that is not provably current.
    fn fresh<'s>(&self, shared: &'s Mutex<Workspace>) -> MutexGuard<'s, Workspace> {
        let mut workspace = lock(shared);
        workspace.asked_by(&self.asked.environment);
        workspace.refresh();
        workspace
    }

    fn request(&self, selector: &str) -> Request {
        self.engine
            .request(self.asked, selector.to_owned(), "", SandboxMode::Unspecified)
    }
}

/// The targets that a query selects.
fn select(workspace: &mut Workspace, query: &str, since: &str) -> Result<Selection, Failure> {
    let query = parse(query)?;
    Ok(match since {
        "" => workspace.select(&query)?,
        since => workspace.select_since(&query, since)?,
    })
}

/// The same; that nothing is selected is an error when the query names a target or a package.
fn select_named(
    workspace: &mut Workspace,
    query: &str,
    selector: &str,
    since: &str,
) -> Result<Selection, Failure> {
    let selection = select(workspace, query, since)?;
    let parsed = parse(query)?;
    if selection.is_empty() && since.is_empty() && names_something(&parsed) {
        let nearest = workspace.nearest_targets(&parsed);
        return Err(nothing_matched(selector, &nearest).into());
    }
    Ok(selection)
}

fn names_something(query: &Query) -> bool {
    let mut names = false;
    query.visit(&mut |part| {
        names |= matches!(
            part,
            Query::Addr(_) | Query::Package(_) | Query::Pattern(Pattern::Target(_) | Pattern::Package(_))
        );
    });
    names
}

fn parse(query: &str) -> Result<Query, Problem> {
    Query::parse(query, "").map_err(|error| Problem {
        hint: error.hint.clone(),
        ..Problem::new(error.to_string())
    })
}

fn address(text: &str) -> Result<Address, Problem> {
    Address::parse(text).map_err(|error| Problem {
        hint: error.hint.clone(),
        ..Problem::new(error.to_string())
    })
}

fn json<T: Serialize>(document: &T) -> Answer {
    serde_json::to_vec(document)
        .map_err(|error| Problem::new(format!("the answer cannot be written as JSON: {error}")).into())
}

/// The failure to find a target that was selected before.
fn nothing(address: &Address) -> Failure {
    nothing_matched(&address.to_string(), &[]).into()
}
