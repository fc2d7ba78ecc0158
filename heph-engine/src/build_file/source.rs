//! Reading and parsing files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;

use heph_common::Digest;
use starlark::syntax::{AstModule, Dialect, DialectTypes};
use starlark_syntax::syntax::ast::{AssignOp, AstStmt, StmtP};

use super::error::{located, problems};
use super::{ReadFile, limits, snippet};
use crate::problem::{Problem, Problems};
use crate::stat::{Stat, now};

static DIALECT: Dialect = Dialect {
    enable_def: true,
    enable_lambda: true,
    enable_load: true,
    enable_keyword_only_arguments: true,
    enable_positional_only_arguments: true,
    enable_types: DialectTypes::Enable,
    enable_load_reexport: false,
    enable_top_level_stmt: true,
    enable_f_strings: true,
    _non_exhaustive: (),
};

/// Operators that may make something large in one step are functions that look first.
static GUARDED: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    [("*", "__multiply"), ("+", "__add")]
        .map(|(operator, function)| (operator.to_owned(), function.to_owned()))
        .into()
});

/// Reads a file of the workspace.
pub(super) fn read(root: &Path, path: &str) -> io::Result<(String, ReadFile)> {
    let mut file = File::open(root.join(path))?;
    // Before the content is read: what changes later must not look as if it had been seen.
    let reading = now();
    let stat = Stat::of(&rustix::fs::fstat(&file)?);
    if stat.size > limits::SOURCE_BYTES as u64 {
        let message = format!(
            "it has {} bytes, and at most {} are evaluated",
            stat.size,
            limits::SOURCE_BYTES
        );
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.size).unwrap_or(0) + 1);
    Read::by_ref(&mut file)
        .take(limits::SOURCE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    let digest = Digest::of(&bytes);
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error
            .as_bytes()
            .iter()
            .take(valid)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8"))
    })?;
    // Some editors begin a file with this mark, which nobody sees.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok((
        text,
        ReadFile {
            path: path.to_owned(),
            digest,
            stat,
            settled: stat.settled(reading),
        },
    ))
}

impl ReadFile {
    /// What a file is now; links are followed. Fails as reading it does, and when it is too large or not UTF-8.
    pub(crate) fn read(root: &Path, path: &str) -> io::Result<Self> {
        read(root, path).map(|(_, file)| file)
    }

    /// Whether the file provably has the content that was read: one `stat`.
    pub(crate) fn is_current(&self, root: &Path) -> bool {
        self.settled && rustix::fs::stat(root.join(&self.path)).is_ok_and(|stat| Stat::of(&stat) == self.stat)
    }
}

/// Parses a file.
pub(super) fn parse(path: &str, text: String) -> Result<AstModule, Problems> {
    if let Err((mut problem, at)) = limits::check_nesting(&text) {
        problem.message = format!("{}\n{}", problem.message, snippet::snippet(&text, at..at + 1));
        return Err(vec![problem.at(Some(snippet::place(path, &text, at)))]);
    }
    let multiplies = text.contains("*=");
    let mut ast = AstModule::parse(path, text, &DIALECT).map_err(|error| problems(error, None))?;
    let multiplication = multiplies
        .then(|| in_place_multiplication(ast.statement()))
        .flatten();
    if let Some(span) = multiplication {
        let problem = Problem::new("'*=' is not supported in BUILD files").hint("write 'x = x * y'");
        return Err(vec![located(problem, Some(&ast.file_span(span)), &[])]);
    }
    ast.replace_binary_operators(&GUARDED);
    Ok(ast)
}

/// It could make something large in one step, and no function can stand in its place.
fn in_place_multiplication(statement: &AstStmt) -> Option<starlark::codemap::Span> {
    if let StmtP::AssignModify(_, AssignOp::Multiply, _) = &statement.node {
        return Some(statement.span);
    }
    let mut found = None;
    statement.visit_stmt(|inner| found = found.or_else(|| in_place_multiplication(inner)));
    found
}
