//! The text of a query, in a form that parses to the same query.

use std::fmt::{self, Write};

use super::{Function, Pattern, Query, parse};

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => write_word(f, &pattern.to_string()),
            Self::Label(label) => call(f, Function::Label, label),
            Self::Addr(address) => call(f, Function::Addr, &address.to_string()),
            Self::Package(package) => call(
                f,
                Function::Package,
                &Pattern::Package(package.clone()).to_string(),
            ),
            Self::PackagePrefix(package) => call(
                f,
                Function::PackagePrefix,
                &Pattern::Package(package.clone()).to_string(),
            ),
            Self::TreeOutput(path) => call(f, Function::TreeOutput, &format!("//{path}")),
            Self::Changed(commit) => call(f, Function::Changed, commit),
            Self::Deps(inner) => write!(f, "{}({inner})", Function::Deps.name()),
            Self::Rdeps(inner) => write!(f, "{}({inner})", Function::Rdeps.name()),
            Self::Not(inner) => {
                f.write_char('!')?;
                operand(f, inner, matches!(**inner, Self::And(_) | Self::Or(_)))
            }
            Self::And(all) => joined(f, all, " && ", |query| {
                matches!(query, Self::And(_) | Self::Or(_))
            }),
            Self::Or(all) => joined(f, all, " || ", |query| matches!(query, Self::Or(_))),
        }
    }
}

fn joined(
    f: &mut fmt::Formatter<'_>,
    queries: &[Query],
    operator: &str,
    enclosed: impl Fn(&Query) -> bool,
) -> fmt::Result {
    for (index, query) in queries.iter().enumerate() {
        if index > 0 {
            f.write_str(operator)?;
        }
        operand(f, query, enclosed(query))?;
    }
    Ok(())
}

fn operand(f: &mut fmt::Formatter<'_>, query: &Query, enclosed: bool) -> fmt::Result {
    if enclosed {
        write!(f, "({query})")
    } else {
        write!(f, "{query}")
    }
}

fn call(f: &mut fmt::Formatter<'_>, function: Function, argument: &str) -> fmt::Result {
    write!(f, "{}(", function.name())?;
    write_word(f, argument)?;
    f.write_char(')')
}

fn write_word(f: &mut fmt::Formatter<'_>, word: &str) -> fmt::Result {
    if parse::is_plain_word(word) {
        f.write_str(word)
    } else {
        crate::quote::write(f, word)
    }
}
