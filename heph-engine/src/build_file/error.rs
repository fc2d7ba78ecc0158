//! What the interpreter reports, as problems with places.

use std::fmt;

use starlark::ErrorKind;
use starlark::codemap::FileSpan;
use starlark::errors::Frame;

use super::{limits, snippet};
use crate::problem::{Place, Problem, Problems};

/// Characters of a message; those of the interpreter may show whole values.
const MESSAGE_CHARS: usize = 1000;

/// Problems on their way through the interpreter.
#[derive(Debug)]
pub(super) struct Raised {
    /// Never empty.
    problems: Problems,
    /// Whether they already have their places.
    placed: bool,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "{problem}"))
    }
}

impl std::error::Error for Raised {}

/// A problem of the call that is running.
pub(super) fn raise(problem: Problem) -> starlark::Error {
    starlark::Error::new_other(Raised {
        problems: vec![problem],
        placed: false,
    })
}

/// Problems that already say where they are.
pub(super) fn raise_placed(problems: Problems) -> starlark::Error {
    starlark::Error::new_other(Raised {
        problems,
        placed: true,
    })
}

/// The problems that an error of the interpreter stands for; at least one. `last` is the statement that ran last, for errors
/// without a place of their own.
pub(super) fn problems(error: starlark::Error, last: Option<FileSpan>) -> Problems {
    let span = error.span().cloned().or(last);
    let frames = error.call_stack().frames.clone();
    let problem = match error.into_kind() {
        ErrorKind::Other(inner) | ErrorKind::Native(inner) => match inner.downcast::<Raised>() {
            Ok(raised) if raised.placed => return raised.problems,
            Ok(raised) => raised
                .problems
                .into_iter()
                .next()
                .unwrap_or_else(|| Problem::new("evaluation failed")),
            Err(other) => describe(&format!("{other:#}")),
        },
        ErrorKind::Fail(inner) => Problem::new(inner.to_string().trim()),
        ErrorKind::StackOverflow(_) => {
            let culprit = frames.last().map_or("a function", |frame| frame.name.as_str());
            let culprit = culprit.rsplit_once('.').map_or(culprit, |(_, name)| name);
            Problem::new(format!(
                "calls are nested more than {} deep: '{culprit}' calls itself without end",
                limits::CALL_DEPTH
            ))
        }
        ErrorKind::Internal(inner) => Problem::new(format!("the interpreter failed: {inner}")),
        kind => describe(&kind.to_string()),
    };
    // An error of the file itself has no span when it stands in a place without code.
    vec![located(
        problem,
        span.or_else(|| frames.last().and_then(|frame| frame.location.clone()))
            .as_ref(),
        &frames,
    )]
}

/// The problem at a place, with the line of source and the calls that led there.
pub(super) fn located(mut problem: Problem, span: Option<&FileSpan>, frames: &[Frame]) -> Problem {
    let Some(span) = span else { return problem };
    problem.place = Some(place_of(span));
    if let Some((end, _)) = problem.message.char_indices().nth(MESSAGE_CHARS) {
        problem.message.truncate(end);
        problem.message += " ...";
    }
    problem.message = format!(
        "{}\n{}{}",
        problem.message,
        snippet_of(span),
        called_from(&callers(span, frames))
    );
    problem
}

/// Where a span begins.
pub(super) fn place_of(span: &FileSpan) -> Place {
    snippet::place(
        span.file.filename(),
        span.file.source(),
        span.span.begin().get() as usize,
    )
}

fn snippet_of(span: &FileSpan) -> String {
    snippet::snippet(
        span.file.source(),
        span.span.begin().get() as usize..span.span.end().get() as usize,
    )
}

/// The places of the calls that led to `span`, innermost first.
pub(super) fn callers(span: &FileSpan, frames: &[Frame]) -> Vec<Place> {
    let here = place_of(span);
    let mut places: Vec<Place> = Vec::new();
    for location in frames.iter().rev().filter_map(|frame| frame.location.as_ref()) {
        if location.file.filename().is_empty() || location.file.filename().ends_with(".rs") {
            continue;
        }
        let place = place_of(location);
        if place != here && places.last() != Some(&place) {
            places.push(place);
        }
    }
    places
}

/// Lines that name the calls, each with a line break before it.
pub(crate) fn called_from(callers: &[Place]) -> String {
    /// More than these at either end say nothing new.
    const SHOWN: usize = 4;
    let mut text = String::new();
    for (index, place) in callers.iter().enumerate() {
        if index == SHOWN && callers.len() > 2 * SHOWN + 1 {
            text += &format!("\n(and {} more calls)", callers.len() - 2 * SHOWN);
        } else if index < SHOWN || index + SHOWN >= callers.len() || callers.len() <= 2 * SHOWN + 1 {
            text += &format!("\ncalled from {place}");
        }
    }
    text
}

/// A message of the interpreter in the house's words.
fn describe(text: &str) -> Problem {
    let text = text.trim();
    if text.starts_with("Execution duration limit") || text.starts_with("Evaluation cancelled") {
        return endless();
    }
    if text.starts_with("Heap memory limit") {
        return too_large();
    }
    if let Some(problem) = wrong_call(text) {
        return problem;
    }
    let text = text.strip_prefix("Parse error: ").unwrap_or(text);
    if text == "tabs are not allowed" {
        return Problem::new("tabs are not allowed here").hint("indent with blanks");
    }
    let (text, hint) = match text.split_once(", did you mean `") {
        Some((head, meant)) => (
            head,
            meant
                .split('`')
                .next()
                .map(|word| format!("did you mean '{word}'?")),
        ),
        None => (text, None),
    };
    let mut chars = text.chars();
    let first = chars.next().map(|c| {
        if text.starts_with("Type ") || chars.as_str().starts_with(char::is_lowercase) {
            c.to_ascii_lowercase()
        } else {
            c
        }
    });
    let message: String = first
        .into_iter()
        .chain(chars)
        .map(|c| if c == '`' { '\'' } else { c })
        .collect();
    let problem = Problem::new(message);
    match hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// A function was called with arguments that it does not take.
fn wrong_call(text: &str) -> Option<Problem> {
    let function = |name: &str| {
        let name = name.trim_matches('`');
        name.rsplit_once('.').map_or(name, |(_, name)| name).to_owned()
    };
    if let Some((arguments, name)) = text
        .strip_prefix("Found ")
        .and_then(|rest| rest.split_once(" extra named parameter(s) for call to "))
    {
        return Some(Problem::new(format!(
            "{}() has no parameter {}",
            function(name),
            arguments.replace('`', "'")
        )));
    }
    if let Some((argument, name)) = text
        .strip_prefix("Missing parameter `")
        .and_then(|rest| rest.split_once("` for call to "))
    {
        return Some(Problem::new(format!(
            "{}() needs the argument '{argument}'",
            function(name)
        )));
    }
    if let Some((argument, name)) = text
        .strip_prefix("Missing named-only parameter `")
        .and_then(|rest| rest.split_once("` for call to "))
    {
        return Some(Problem::new(format!(
            "{}() needs the argument '{argument}', given by name",
            function(name)
        )));
    }
    if let Some((argument, rest)) = text
        .strip_prefix("Type of parameter `")
        .and_then(|rest| rest.split_once("` doesn't match, expected `"))
    {
        let (expected, actual) = rest.split_once("`, actual `")?;
        return Some(Problem::new(format!(
            "the argument '{argument}' must be of type {expected}, not {}",
            actual.trim_end_matches('`')
        )));
    }
    None
}

/// A file takes too many steps.
fn endless() -> Problem {
    let limit = limits::TICKS;
    Problem::new(format!(
        "evaluation does not come to an end: it was stopped after {limit} calls and loop rounds"
    ))
    .hint("look for a loop over far too many values")
}

/// The values of a file are too large.
pub(super) fn too_large() -> Problem {
    let (own, loaded) = (limits::HEAP_BYTES >> 20, limits::LOADED_HEAP_BYTES >> 20);
    Problem::new(format!("evaluation takes too much memory: the values of a BUILD file may take {own} MiB, those of a loaded file {loaded} MiB"))
        .hint("look for a text or list that grows in a loop")
}
