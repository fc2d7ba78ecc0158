//! One form for BUILD and `.star` files.
//!
//! Line breaks stay where the author put them, as gofmt keeps them; everything between is set: indentation by four
//! spaces, one space around operators and `=`, double quotes, a comma after the last item of a bracket that closes on its own
//! line, no blank space at ends of lines, at most two blank lines. Comments stay. Formatting twice is formatting once.
//!
//! Invariant: the result means what the source meant. Both are parsed, and unequal syntax trees or comments are an
//! error instead of a result.

use starlark_syntax::syntax::{AstModule, Dialect};

mod layout;
mod tokens;

/// Why a file was not formatted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// It is no Starlark: what is wrong, and where as `line:column`.
    Syntax {
        /// A fragment.
        message: String,
        /// Both counted from 1.
        place: Option<(usize, usize)>,
    },
    /// The formatted text would mean something else; nothing was changed.
    Changed,
}

/// Everything that any file of a workspace may use: formatting is not where features are refused.
const DIALECT: Dialect = Dialect {
    enable_top_level_stmt: true,
    enable_f_strings: true,
    enable_keyword_only_arguments: true,
    enable_positional_only_arguments: true,
    enable_types: starlark_syntax::dialect::DialectTypes::Enable,
    ..Dialect::Standard
};

/// The text in heph's form.
pub fn format(text: &str) -> Result<String, Error> {
    let source = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n");
    let before = meaning(&source)?;
    let formatted = layout::lay_out(&tokens::tokens(&source)?);
    match meaning(&formatted) {
        Ok(after) if after == before => Ok(formatted),
        _ => Err(Error::Changed),
    }
}

/// The syntax tree and the comments, in a form that can be compared.
fn meaning(source: &str) -> Result<(String, Vec<String>), Error> {
    let module = AstModule::parse("BUILD", source.to_owned(), &DIALECT).map_err(|error| syntax(&error))?;
    let comment = |span: &starlark_syntax::codemap::Span| {
        let (begin, end) = (span.begin().get() as usize, span.end().get() as usize);
        source.get(begin..end).unwrap_or_default().trim_end().to_owned()
    };
    Ok((
        module.statement().node.to_string(),
        module.comments().iter().map(comment).collect(),
    ))
}

fn syntax(error: &starlark_syntax::Error) -> Error {
    let place = error.span().map(|span| {
        let begin = span.resolve_span().begin;
        (begin.line + 1, begin.column + 1)
    });
    let message = error.without_diagnostic().to_string();
    let message = message
        .strip_prefix("Parse error: ")
        .unwrap_or(&message)
        .to_owned();
    Error::Syntax { message, place }
}

#[cfg(test)]
mod tests;
