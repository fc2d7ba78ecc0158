//! What the functions of BUILD files know while a file is evaluated.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use starlark::any::ProvidesStaticType;
use starlark::codemap::FileSpan;
use starlark::errors::Frame;
use starlark::eval::Evaluator;

use super::error::{located, raise};
use super::{BuildFiles, Observation, ProviderState, ReadFile, limits};
use crate::problem::Problem;
use crate::spec::Spec;

/// The file that is evaluated and what it has made so far.
#[derive(ProvidesStaticType)]
pub(super) struct Context<'a> {
    pub files: &'a BuildFiles,
    /// `None` while a loaded file itself is evaluated: it belongs to no package.
    pub package: Option<&'a str>,
    pub made: &'a Made,
}

/// What a package has made so far.
#[derive(Default)]
pub(super) struct Made {
    pub specs: RefCell<Vec<Spec>>,
    /// Place of each target in `specs`.
    pub names: RefCell<HashMap<String, usize>>,
    pub provider_states: RefCell<Vec<ProviderState>>,
    pub observed: RefCell<Vec<Observation>>,
    /// What is wrong but did not stop evaluation.
    pub problems: RefCell<Vec<Problem>>,
    pub printed: RefCell<Vec<String>>,
    /// The statement that runs.
    pub statement: RefCell<Option<FileSpan>>,
    /// Lines that were printed beyond the limit.
    pub unprinted: Cell<usize>,
    pub read: RefCell<BTreeMap<String, ReadFile>>,
}

impl starlark::PrintHandler for Made {
    fn println(&self, text: &str) -> starlark::Result<()> {
        let mut printed = self.printed.borrow_mut();
        if printed.len() >= limits::PRINTED_LINES {
            self.unprinted.set(self.unprinted.get() + 1);
            return Ok(());
        }
        printed.extend(text.split('\n').take(limits::PRINTED_LINES).map(str::to_owned));
        Ok(())
    }
}

/// The context of the running evaluation.
pub(super) fn context<'a, 'e>(eval: &Evaluator<'_, 'a, 'e>) -> starlark::Result<&'a Context<'e>> {
    eval.extra
        .and_then(|extra| extra.downcast_ref::<Context<'e>>())
        .ok_or_else(|| raise(Problem::new("the interpreter has lost its context")))
}

impl<'a> Context<'a> {
    /// The package whose BUILD file is evaluated; an error while a loaded file itself is.
    pub fn package(&self, function: &str) -> starlark::Result<&'a str> {
        self.package.ok_or_else(|| {
            raise(
                Problem::new(format!(
                    "{function}() needs a package, and a loaded file belongs to none"
                ))
                .hint("call it in a function that BUILD files call"),
            )
        })
    }

    /// Bytes that the values of this file may take.
    pub fn heap_bytes(&self) -> usize {
        match self.package {
            Some(_) => limits::HEAP_BYTES,
            None => limits::LOADED_HEAP_BYTES,
        }
    }

    /// Records a problem of the running call and goes on, so that more can be found.
    pub fn report(&self, call: &Call, range: Option<std::ops::Range<usize>>, problem: Problem) {
        let span = call.span.as_ref().map(|span| match range {
            None => span.clone(),
            Some(range) => FileSpan {
                file: span.file.clone(),
                span: to_span(range),
            },
        });
        self.made
            .problems
            .borrow_mut()
            .push(located(problem, span.as_ref(), &call.frames));
    }
}

fn to_span(range: std::ops::Range<usize>) -> starlark::codemap::Span {
    let pos = |offset: usize| starlark::codemap::Pos::new(u32::try_from(offset).unwrap_or(u32::MAX));
    starlark::codemap::Span::new(pos(range.start), pos(range.end.max(range.start)))
}

/// The call of a function of ours: where it stands, and through which others it came.
pub(super) struct Call {
    pub span: Option<FileSpan>,
    pub frames: Vec<Frame>,
}

impl Call {
    pub fn running(eval: &Evaluator<'_, '_, '_>) -> Self {
        let mut frames = eval.call_stack().frames;
        // The innermost frame is the function itself; its location is the call.
        let span = frames.pop().and_then(|frame| frame.location);
        Self { span, frames }
    }

    /// Where an argument is written, if it is.
    pub fn argument(&self, name: &str) -> Option<std::ops::Range<usize>> {
        let span = self.span.as_ref()?;
        super::snippet::argument(span.file.source(), span.span.begin().get() as usize, name)
    }
}
