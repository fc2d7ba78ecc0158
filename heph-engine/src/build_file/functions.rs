//! The functions of BUILD files.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use heph_common::Address;
use heph_common::query::{Pattern, Query};
use starlark::collections::SmallMap;
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension};
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::list::ListRef;
use starlark::values::none::NoneType;
use starlark::values::range::Range;
use starlark::values::tuple::{TupleRef, UnpackTuple};
use starlark::values::{UnpackValue, Value};

use super::context::{Call, context};
use super::error::{place_of, raise, too_large};
use super::value::describe;
use super::{ProviderState, Question, limits, path, target};
use crate::problem::{Place, Problem};
use crate::tree::escape_list;

/// Everything that BUILD files know by name.
pub(super) fn globals() -> &'static Globals {
    static GLOBALS: LazyLock<Globals> = LazyLock::new(|| {
        let extensions = [
            LibraryExtension::StructType,
            LibraryExtension::Print,
            LibraryExtension::Map,
            LibraryExtension::Filter,
            LibraryExtension::Partial,
            LibraryExtension::SetType,
            LibraryExtension::Typing,
        ];
        GlobalsBuilder::extended_by(&extensions)
            .with(guarded)
            .with(package_functions)
            .with(|globals| {
                globals.namespace("json", super::json::json_functions);
                globals.namespace("heph", |heph| {
                    heph.namespace("core", |core| {
                        core_functions(core);
                        core.set("os", os());
                        core.set("arch", arch());
                        core.set("num_cpu", i32::try_from(processors()).unwrap_or(i32::MAX));
                    });
                    heph.namespace("fs", fs_functions);
                });
            })
            .build()
    });
    &GLOBALS
}

/// Name of the operating system, as in `linux` and `darwin`.
fn os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// Name of the processor architecture, as in `amd64` and `arm64`.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Processors that this process may use, as `heph.core.num_cpu` says.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// An argument that is one text or a list of texts.
fn texts(value: Value<'_>, function: &str, argument: &str) -> starlark::Result<Vec<String>> {
    let wrong = |found: Value<'_>| {
        let expected = format!("{argument} of {function}() must be text or a list of texts, not");
        raise(Problem::new(format!("{expected} {}", describe(found))))
    };
    if let Some(text) = value.unpack_str() {
        return Ok(vec![text.to_owned()]);
    }
    let elements = ListRef::from_value(value).map(|list| list.content());
    let Some(elements) = elements.or_else(|| TupleRef::from_value(value).map(|tuple| tuple.content())) else {
        return Err(wrong(value));
    };
    elements
        .iter()
        .map(|element| {
            element
                .unpack_str()
                .map(str::to_owned)
                .ok_or_else(|| wrong(*element))
        })
        .collect()
}

fn patterns(
    package: &str,
    value: Value<'_>,
    function: &str,
    argument: &str,
) -> starlark::Result<Vec<String>> {
    let texts = texts(value, function, argument)?;
    let resolved = texts
        .iter()
        .map(|text| path::resolve_pattern(package, text).map_err(|wrong| raise(Problem::new(wrong))));
    resolved.collect()
}

/// The address of a target that is made from its arguments alone.
fn generated_address(package: &str, name: &str, args: &[(&str, String)]) -> String {
    let args: BTreeMap<String, String> = args
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    Address {
        package: package.to_owned(),
        name: name.to_owned(),
        args,
        output: None,
    }
    .to_string()
}

#[starlark_module]
fn package_functions(builder: &mut GlobalsBuilder) {
    /// Registers a target and gives its address.
    fn target<'v>(
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] arguments: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<String> {
        if let Some(first) = positional.items.first() {
            let problem = Problem::new(format!(
                "target() takes named arguments only, found {}",
                describe(*first)
            ));
            return Err(raise(match first.unpack_str() {
                Some(name) => problem.hint(format!("write target(name = \"{}\", ...)", name.escape_debug())),
                None => problem.hint("write target(name = ..., driver = ..., ...)"),
            }));
        }
        target::register(arguments, eval)
    }

    /// A dependency on all files that match.
    fn glob<'v>(
        #[starlark(require = pos)] pattern: Value<'v>,
        exclude: Option<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<String> {
        let package = context(eval)?.package("glob")?;
        let include = patterns(package, pattern, "glob", "the pattern")?;
        if include.is_empty() {
            return Err(raise(Problem::new("glob() needs at least one pattern")));
        }
        let mut args = vec![("p", escape_list(&include))];
        if let Some(exclude) = exclude.filter(|exclude| !exclude.is_none()) {
            let exclude = patterns(package, exclude, "glob", "exclude")?;
            if !exclude.is_empty() {
                args.push(("e", escape_list(&exclude)));
            }
        }
        Ok(generated_address("@heph/fs", "glob", &args))
    }

    /// A dependency on one file.
    fn file<'v>(
        #[starlark(require = pos)] path: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<String> {
        let package = context(eval)?.package("file")?;
        let wrong = |message| raise(Problem::new(message));
        if path.starts_with("//@heph/") {
            return Err(raise(
                Problem::new(format!(
                    "file() takes a path, and '{path}' is a dependency already"
                ))
                .hint("use it as it is"),
            ));
        }
        let resolved = path::resolve(package, path).map_err(wrong)?;
        if matches!(path.rsplit('/').next(), Some("" | "." | "..")) {
            let problem = Problem::new(format!(
                "file() takes one file, and '{}' is a directory",
                path.escape_debug()
            ));
            let pattern = format!("{}/**", path.trim_end_matches(['/', '.']));
            let pattern = pattern.trim_start_matches('/');
            return Err(raise(
                problem.hint(format!("write glob(\"{}\")", pattern.escape_debug())),
            ));
        }
        Ok(generated_address("@heph/fs", "file", &[("f", resolved)]))
    }

    /// A dependency on every target that a query selects.
    fn query<'v>(
        #[starlark(require = pos)] expression: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<String> {
        let package = context(eval)?.package("query")?;
        let query = Query::parse(expression, package).map_err(|error| {
            let problem = Problem::new(error.to_string());
            raise(match error.hint.clone() {
                Some(hint) => problem.hint(hint),
                None => problem,
            })
        })?;
        Ok(generated_address(
            "@heph/query",
            "query",
            &[("expr", query.to_string())],
        ))
    }

    /// Settings for a provider in this package and below.
    fn provider_state<'v>(
        provider: &str,
        #[starlark(kwargs)] settings: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<NoneType> {
        let context = context(eval)?;
        let package = context.package("provider_state")?;
        let call = Call::running(eval);
        let mut config = Vec::new();
        for (key, value) in settings {
            match super::value::convert(value) {
                Ok(value) => config.push((key, value)),
                Err(wrong) => {
                    let range = call.argument(&key);
                    context.report(
                        &call,
                        range,
                        Problem::new(format!("'{key}' of provider_state(): {wrong}")),
                    );
                }
            }
        }
        let unknown = || Place {
            file: package.to_owned(),
            line: 0,
            column: 0,
        };
        let place = call.span.as_ref().map_or_else(unknown, place_of);
        let state = ProviderState {
            provider: provider.to_owned(),
            package: package.to_owned(),
            config,
            place,
        };
        context.made.provider_states.borrow_mut().push(state);
        Ok(NoneType)
    }

    /// Path of the package whose BUILD file is evaluated.
    fn get_pkg<'v>(eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<String> {
        Ok(context(eval)?.package("get_pkg")?.to_owned())
    }
}

#[starlark_module]
fn core_functions(builder: &mut GlobalsBuilder) {
    /// Path of the package whose BUILD file is evaluated.
    fn pkg<'v>(eval: &mut Evaluator<'v, '_, '_>) -> starlark::Result<String> {
        Ok(context(eval)?.package("heph.core.pkg")?.to_owned())
    }

    /// Paths of the packages that match, sorted.
    fn packages<'v>(
        #[starlark(require = pos, default = "//...")] pattern: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Vec<String>> {
        let context = context(eval)?;
        let package = context.package("heph.core.packages")?;
        let wrong = || {
            let problem = Problem::new(format!(
                "'{}' is not a pattern of packages",
                pattern.escape_debug()
            ));
            raise(problem.hint("write \"//...\", \"//pkg/...\", \"./...\" or \"//pkg\""))
        };
        let (prefix, below) = match Pattern::parse(pattern, package) {
            Ok(Pattern::Package(prefix)) => (prefix, false),
            Ok(Pattern::Below(prefix)) => (prefix, true),
            _ => return Err(wrong()),
        };
        ask(eval, Question::Packages { prefix, below })
    }
}

/// Answers a question and records that it was asked.
fn ask(eval: &Evaluator<'_, '_, '_>, question: Question) -> starlark::Result<Vec<String>> {
    let context = context(eval)?;
    let (answer, observation) = context.files.observe(question).map_err(|problems| {
        let problem = problems.into_iter().next();
        raise(problem.unwrap_or_else(|| Problem::new("the workspace cannot be read")))
    })?;
    context.made.observed.borrow_mut().push(observation);
    Ok(answer)
}

#[starlark_module]
fn fs_functions(builder: &mut GlobalsBuilder) {
    /// Paths of the matching files relative to the package, sorted.
    fn glob<'v>(
        #[starlark(require = pos)] pattern: Value<'v>,
        exclude: Option<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Vec<String>> {
        let package = context(eval)?.package("heph.fs.glob")?;
        let include = patterns(package, pattern, "heph.fs.glob", "the pattern")?;
        let exclude = match exclude.filter(|exclude| !exclude.is_none()) {
            Some(exclude) => patterns(package, exclude, "heph.fs.glob", "exclude")?,
            None => Vec::new(),
        };
        let found = ask(
            eval,
            Question::Glob {
                patterns: include,
                exclude,
            },
        )?;
        Ok(found
            .into_iter()
            .map(|path| relative_to(package, &path))
            .collect())
    }

    /// Joins paths and cleans the result: `.` and doubled slashes go, `..` takes what is before it.
    fn join(#[starlark(args)] parts: UnpackTuple<&str>) -> starlark::Result<String> {
        Ok(path::clean(&parts.items))
    }

    /// The path without its last segment; `.` when it has only one.
    fn dir(#[starlark(require = pos)] path: &str) -> starlark::Result<String> {
        let cleaned = path::clean(&[path]);
        Ok(match cleaned.rsplit_once('/') {
            Some(("", _)) => "/".to_owned(),
            Some((directory, _)) => directory.to_owned(),
            None => ".".to_owned(),
        })
    }

    /// The last segment of a path.
    fn base(#[starlark(require = pos)] path: &str) -> starlark::Result<String> {
        let cleaned = path::clean(&[path]);
        Ok(cleaned.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// The package above a package; an error for the root.
    fn parent(#[starlark(require = pos)] path: &str) -> starlark::Result<String> {
        let cleaned = path::clean(&[path]);
        match cleaned.rsplit_once('/') {
            Some((above, _)) => Ok(above.to_owned()),
            None if cleaned == "." => Err(raise(Problem::new("the root of the workspace has no parent"))),
            None => Ok(String::new()),
        }
    }
}

/// A path of the workspace as seen from a package.
fn relative_to(package: &str, path: &str) -> String {
    let below = match package {
        "" => Some(path),
        _ => path.strip_prefix(package).and_then(|rest| rest.strip_prefix('/')),
    };
    if let Some(below) = below {
        return below.to_owned();
    }
    let shared = package
        .split('/')
        .zip(path.split('/'))
        .take_while(|(a, b)| a == b)
        .count();
    let up = package.split('/').count() - shared;
    let down: Vec<&str> = path.split('/').skip(shared).collect();
    format!("{}{}", "../".repeat(up), down.join("/"))
}

/// Operators and functions that can make something large in one step.
#[starlark_module]
fn guarded(builder: &mut GlobalsBuilder) {
    fn __multiply<'v>(
        #[starlark(require = pos)] left: Value<'v>,
        #[starlark(require = pos)] right: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let heap = eval.heap();
        for (times, repeated) in [(left, right), (right, left)] {
            let Ok(Some(times)) = i64::unpack_value(times) else {
                continue;
            };
            let bytes = size(repeated).saturating_mul(usize::try_from(times).unwrap_or(0));
            if bytes.saturating_add(heap.allocated_bytes()) > context(eval)?.heap_bytes() {
                return Err(raise(too_large()));
            }
        }
        let huge =
            |value: Value<'v>| value.get_type() == "int" && !matches!(i64::unpack_value(value), Ok(Some(_)));
        if huge(left) && huge(right) {
            return Err(raise(Problem::new(
                "the product of numbers of more than 64 bits is too large",
            )));
        }
        left.mul(right, heap)
    }

    fn __add<'v>(
        #[starlark(require = pos)] left: Value<'v>,
        #[starlark(require = pos)] right: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let heap = eval.heap();
        let bytes = size(left).saturating_add(size(right));
        if bytes.saturating_add(heap.allocated_bytes()) > context(eval)?.heap_bytes() {
            return Err(raise(too_large()));
        }
        left.add(right, heap)
    }

    /// A sequence of whole numbers.
    #[starlark(as_type = Range)]
    fn range(
        #[starlark(require = pos)] a1: i32,
        #[starlark(require = pos)] a2: Option<i32>,
        #[starlark(require = pos, default = 1)] step: i32,
    ) -> starlark::Result<Range> {
        let (start, stop) = match a2 {
            Some(stop) => (a1, stop),
            None => (0, a1),
        };
        let Some(nonzero) = std::num::NonZeroI32::new(step) else {
            return Err(raise(Problem::new("the step of a range() must not be 0")));
        };
        let span = if step > 0 {
            i64::from(stop) - i64::from(start)
        } else {
            i64::from(start) - i64::from(stop)
        };
        let count = span.max(0) / i64::from(step).abs();
        if count > limits::RANGE {
            let problem = Problem::new(format!(
                "range() of {count} numbers: a BUILD file may use at most {}",
                limits::RANGE
            ));
            return Err(raise(problem));
        }
        Ok(Range::new(start, stop, nonzero))
    }
}

/// Bytes that a copy of a text or list takes, about.
fn size(value: Value<'_>) -> usize {
    if let Some(text) = value.unpack_str() {
        return text.len();
    }
    let elements = ListRef::from_value(value).map(|list| list.content().len());
    let elements = elements.or_else(|| TupleRef::from_value(value).map(|tuple| tuple.content().len()));
    elements.unwrap_or(0) * size_of::<usize>()
}
