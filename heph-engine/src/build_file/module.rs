//! Evaluating files: those of a package, and those that they load.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use starlark::codemap::{FileSpan, Pos, Span};
use starlark::environment::{FrozenModule, Module as Environment};
use starlark::eval::{BeforeStmtFunc, BeforeStmtFuncDyn, Evaluator, ReturnFileLoader};
use starlark::syntax::AstModule;
use starlark_syntax::codemap::FileSpanRef;

use super::context::{Context, Made};
use super::error::{located, place_of, problems, raise_placed, too_large};
use super::{BuildFiles, Evaluated, ReadFile, functions, limits, path, source};
use crate::problem::{Problem, Problems};
use crate::tree::{Kind, join};

/// A loaded file.
pub(super) struct Module {
    pub file: ReadFile,
    frozen: FrozenModule,
    /// The files that it loads itself.
    loads: Vec<Arc<Self>>,
    /// What was printed outside of its functions; taken by the first package that loads it.
    printed: Mutex<Vec<String>>,
}

impl Module {
    fn add_files(&self, made: &Made) {
        let known = made
            .read
            .borrow_mut()
            .insert(self.file.path.clone(), self.file.clone())
            .is_some();
        if !known {
            let printed = std::mem::take(&mut *self.printed.lock().unwrap_or_else(PoisonError::into_inner));
            made.printed.borrow_mut().extend(printed);
            self.loads.iter().for_each(|module| module.add_files(made));
        }
    }
}

impl BuildFiles {
    pub(super) fn evaluate_here(&self, package: &str) -> Result<Evaluated, Problems> {
        heph_common::Address::new(package, "x").map_err(|_| {
            let problem = Problem::new(format!(
                "the directory '{}' cannot be a package: its name has characters that an address cannot hold",
                package.escape_debug()
            ));
            vec![problem.hint("rename it, or leave it out with 'fs.skip' in .hephconfig")]
        })?;
        let made = Made::default();
        let found = self
            .tree
            .package(&self.patterns, package)
            .map_err(|problem| vec![problem])?;
        let mut wrong = Problems::new();
        for name in found.map(|found| found.build_files).unwrap_or_default() {
            made.statement.take();
            let result = catch_unwind(AssertUnwindSafe(|| {
                self.build_file(package, &join(package, &name), &made)
            }));
            match result {
                Ok(Ok(())) => {}
                Ok(Err(problems)) => wrong.extend(problems),
                Err(_) => wrong.push(Problem::new(format!(
                    "the interpreter failed in {}",
                    join(package, &name)
                ))),
            }
        }
        // In the order in which they were found: what stopped the evaluation of a file comes after the rest of it.
        let mut all = made.problems.into_inner();
        all.extend(wrong);
        if !all.is_empty() {
            return Err(all);
        }
        let mut printed = made.printed.into_inner();
        if made.unprinted.get() > 0 {
            printed.push(format!("(and {} more lines)", made.unprinted.get()));
        }
        Ok(Evaluated {
            package: package.to_owned(),
            files: made.read.into_inner().into_values().collect(),
            specs: made.specs.into_inner(),
            provider_states: made.provider_states.into_inner(),
            observed: made.observed.into_inner(),
            printed,
        })
    }

    fn build_file(&self, package: &str, file: &str, made: &Made) -> Result<(), Problems> {
        let (text, read) = source::read(self.tree.root(), file)
            .map_err(|error| vec![Problem::new(format!("cannot read {file}: {error}"))])?;
        made.read.borrow_mut().insert(file.to_owned(), read);
        let ast = source::parse(file, text)?;
        let loads = self.loads(&ast, package, &[file.to_owned()])?;
        loads.iter().for_each(|(_, module)| module.add_files(made));
        let context = Context {
            files: self,
            package: Some(package),
            made,
        };
        Environment::with_temp_heap(|environment| run(&environment, ast, &loads, &context))
            .map_err(|error| problems(error, made.statement.take()))
    }

    /// The files that a file loads, by the text in its load statements. `chain` are the files that are being loaded, this one last.
    fn loads(
        &self,
        ast: &AstModule,
        package: &str,
        chain: &[String],
    ) -> Result<Vec<(String, Arc<Module>)>, Problems> {
        let mut loaded = Vec::new();
        let mut wrong = Problems::new();
        for load in ast.loads() {
            let result = self
                .resolve_load(load.module_id, package)
                .and_then(|path| self.module(&path, chain, &load.span));
            match result {
                Ok(module) => {
                    let names = module
                        .frozen
                        .names()
                        .map(|name| name.as_str().to_owned())
                        .collect::<Vec<_>>();
                    for (_, wanted) in load.symbols {
                        if let Some(problem) = missing_symbol(wanted, &module.file.path, &names) {
                            wrong.push(located(problem, Some(&symbol_span(&load.span, wanted)), &[]));
                        }
                    }
                    loaded.push((load.module_id.to_owned(), module));
                }
                Err(Failure::Here(problem)) => wrong.push(located(problem, Some(&load.span), &[])),
                Err(Failure::There(problems)) => wrong.extend(problems),
            }
        }
        match wrong.is_empty() {
            true => Ok(loaded),
            false => Err(wrong),
        }
    }

    /// The path of the file that a load statement of a package names.
    fn resolve_load(&self, text: &str, package: &str) -> Result<String, Failure> {
        let wrong = |message: String| {
            let problem = Problem::new(message).hint("write \"//pkg:file.star\" or \"./file.star\"");
            Failure::Here(problem)
        };
        let (package, name) = match text.strip_prefix("//") {
            Some(rest) => rest
                .split_once(':')
                .ok_or_else(|| wrong(format!("'{text}' names no file: expected ':' and a file name")))?,
            None if text.starts_with("./") || text.starts_with("../") => (package, text),
            None => match text.strip_prefix(':') {
                Some(name) => (package, name),
                None => return Err(wrong(format!("'{text}' is not the name of a file to load"))),
            },
        };
        path::resolve(package, name).map_err(wrong)
    }

    fn module(&self, path: &str, chain: &[String], span: &FileSpan) -> Result<Arc<Module>, Failure> {
        if let Some(known) = self
            .modules
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
        {
            return Ok(Arc::clone(known));
        }
        if let Some(at) = chain.iter().position(|file| file == path) {
            let cycle = chain
                .get(at..)
                .unwrap_or_default()
                .iter()
                .map(String::as_str)
                .chain([path]);
            let message = format!(
                "files load each other in a circle: {}",
                cycle.collect::<Vec<_>>().join(" -> ")
            );
            return Err(Failure::Here(Problem::new(message)));
        }
        if chain.len() > limits::LOAD_DEPTH {
            return Err(Failure::Here(Problem::new(format!(
                "more than {} files load each other in a row",
                limits::LOAD_DEPTH
            ))));
        }
        let module = self.load_file(path, chain).map_err(|failure| match failure {
            Failure::There(mut problems) => {
                for problem in &mut problems {
                    problem.message += &format!("\nloaded from {}", place_of(span));
                }
                Failure::There(problems)
            }
            here => here,
        })?;
        let module = Arc::new(module);
        // Two threads may have evaluated it at once; the first one counts.
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(modules.entry(path.to_owned()).or_insert(module)))
    }

    fn load_file(&self, path: &str, chain: &[String]) -> Result<Module, Failure> {
        let (text, file) = source::read(self.tree.root(), path)
            .map_err(|error| Failure::Here(self.unreadable(path, &error)))?;
        let ast = source::parse(path, text).map_err(Failure::There)?;
        let package = path.rsplit_once('/').map_or("", |(package, _)| package);
        let chain: Vec<String> = chain.iter().cloned().chain([path.to_owned()]).collect();
        let loads = self.loads(&ast, package, &chain).map_err(Failure::There)?;
        let made = Made::default();
        let context = Context {
            files: self,
            package: None,
            made: &made,
        };
        let frozen = Environment::with_temp_heap(|environment| {
            run(&environment, ast, &loads, &context)?;
            environment
                .freeze()
                .map_err(|error| raise_placed(vec![Problem::new(format!("{path}: {error:?}"))]))
        });
        let frozen = frozen.map_err(|error| Failure::There(problems(error, made.statement.take())))?;
        Ok(Module {
            file,
            frozen,
            loads: loads.into_iter().map(|(_, module)| module).collect(),
            printed: Mutex::new(made.printed.into_inner()),
        })
    }

    fn unreadable(&self, path: &str, error: &std::io::Error) -> Problem {
        if error.kind() != std::io::ErrorKind::NotFound {
            return Problem::new(format!("cannot read {path}: {error:?}"));
        }
        let problem = Problem::new(format!("there is no file {path}"));
        match self.tree.nearest_file(path) {
            Some(nearest) => problem.hint(format!("did you mean '{nearest}'?")),
            None => match self.star_files(path) {
                names if names.is_empty() => problem,
                names => problem.hint(format!("its directory has {names}")),
            },
        }
    }

    /// The files beside a missing one that could be loaded.
    fn star_files(&self, path: &str) -> String {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let Ok(listing) = self.tree.list(directory) else {
            return String::new();
        };
        let names = listing
            .entries
            .iter()
            .filter(|e| e.kind == Kind::File && e.name.ends_with(".star"));
        names
            .take(5)
            .map(|entry| &*entry.name)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// A load that did not succeed.
enum Failure {
    /// The load statement is wrong.
    Here(Problem),
    /// The loaded file is; its problems have their places.
    There(Problems),
}

/// Where a load statement names a symbol: behind the name of the file.
fn symbol_span(file: &FileSpan, symbol: &str) -> FileSpan {
    let start = file.span.end().get() as usize;
    let rest = file.file.source().get(start..).unwrap_or_default();
    let found = ['"', '\'']
        .into_iter()
        .find_map(|quote| rest.find(&format!("{quote}{symbol}{quote}")));
    let Some(offset) = found.and_then(|at| u32::try_from(start + at).ok()) else {
        return file.clone();
    };
    let length = u32::try_from(symbol.len() + 2).unwrap_or(0);
    FileSpan {
        file: file.file.clone(),
        span: Span::new(Pos::new(offset), Pos::new(offset + length)),
    }
}

fn missing_symbol(wanted: &str, path: &str, names: &[String]) -> Option<Problem> {
    if wanted.starts_with('_') {
        return Some(Problem::new(format!(
            "'{wanted}' is private to {path}: its name begins with '_'"
        )));
    }
    if names.iter().any(|name| name == wanted) {
        return None;
    }
    let problem = Problem::new(format!("{path} does not define '{wanted}'"));
    Some(
        match heph_common::nearest(wanted, names.iter().map(String::as_str)) {
            Some(nearest) => problem.hint(format!("did you mean '{nearest}'?")),
            None => problem,
        },
    )
}

/// Runs a file with all bounds in place.
fn run<'v>(
    environment: &Environment<'v>,
    ast: AstModule,
    loads: &[(String, Arc<Module>)],
    context: &Context<'_>,
) -> starlark::Result<()> {
    let modules: HashMap<&str, &FrozenModule> = loads
        .iter()
        .map(|(name, module)| (name.as_str(), &module.frozen))
        .collect();
    let loader = ReturnFileLoader { modules: &modules };
    let mut eval = Evaluator::new(environment);
    eval.set_loader(&loader);
    eval.set_print_handler(context.made);
    eval.extra = Some(context);
    // Values live as long as the file's evaluation, which is bounded; collecting them would descend into nested ones.
    eval.disable_gc();
    let bounds = eval
        .set_max_callstack_size(limits::CALL_DEPTH)
        .and_then(|()| eval.set_max_heap_size(context.heap_bytes()))
        .and_then(|()| eval.set_max_tick_count(limits::TICKS));
    bounds.map_err(starlark::Error::new_other)?;
    eval.set_check_cancelled(Box::new(limits::deadline()));
    eval.before_stmt_for_dap(BeforeStmtFunc::Dyn(Box::new(Statement)));
    eval.eval_module(ast, functions::globals()).map(drop)
}

/// Remembers the statement that runs, for errors that have no place, and looks at the size of the heap: the interpreter itself
/// looks only every so many rounds of a loop.
struct Statement;

impl<'e> BeforeStmtFuncDyn<'e> for Statement {
    fn call<'v>(
        &mut self,
        span: FileSpanRef,
        _: bool,
        eval: &mut Evaluator<'v, '_, 'e>,
    ) -> starlark::Result<()> {
        let context = super::context::context(eval)?;
        context.made.statement.replace(Some(span.to_file_span()));
        match eval.heap().allocated_bytes() > context.heap_bytes() {
            true => Err(super::error::raise(too_large())),
            false => Ok(()),
        }
    }
}
