//! The words of a command line as a query.
//!
//! Several patterns are an OR. A first word that is no pattern (no `//`, `:` or `.` in it) is a label, and the
//! others say where it is looked for: everywhere, when there are none. No words are the current package.

use crate::query::{ParseQueryError, Pattern, Query};

/// The query that the words `words` of a command line mean in the package `current`.
///
/// Expressions are not read here: see [`Query::parse`].
pub fn from_words<W: AsRef<str>>(words: &[W], current: &str) -> Result<Query, ParseQueryError> {
    let Some((first, rest)) = words.split_first() else {
        return Ok(Query::Pattern(Pattern::Package(current.to_owned())));
    };
    if !is_label(first.as_ref()) {
        return Ok(patterns(words, current)?.unwrap_or(EVERYWHERE));
    }
    let place = patterns(rest, current)?.unwrap_or(EVERYWHERE);
    Ok(Query::And(vec![Query::Label(first.as_ref().to_owned()), place]))
}

const EVERYWHERE: Query = Query::Pattern(Pattern::Below(String::new()));

/// Whether a first word is a label.
pub fn is_label(word: &str) -> bool {
    !word.is_empty() && !word.contains("//") && !word.contains([':', '.', '(', ')', '!', '&', '|', ' '])
}

fn patterns<W: AsRef<str>>(words: &[W], current: &str) -> Result<Option<Query>, ParseQueryError> {
    let pattern = |word: &W| {
        let word = word.as_ref();
        Pattern::parse(word, current)
            .map(Query::Pattern)
            .map_err(|error| match Query::parse(word, current) {
                Ok(_) => ParseQueryError {
                    hint: Some(format!("it is a query: -e '{word}'")),
                    ..error
                },
                Err(_) => error,
            })
    };
    let queries = words.iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
    Ok(Query::any(queries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &[&str]) -> String {
        match from_words(words, "cmd") {
            Ok(query) => query.to_string(),
            Err(error) => match &error.hint {
                Some(hint) => format!("{error}\n  hint: {hint}"),
                None => error.to_string(),
            },
        }
    }

    #[test]
    fn words_are_patterns_or_a_label_and_places() {
        assert_eq!(shown(&[]), "//cmd");
        assert_eq!(shown(&[":bin"]), "//cmd:bin");
        assert_eq!(shown(&["//a:x", "./b/..."]), "//a:x || //cmd/b/...");
        assert_eq!(shown(&["test"]), "label(test) && //...");
        assert_eq!(shown(&["test", "//..."]), "label(test) && //...");
        assert_eq!(
            shown(&["test", "//a/...", "."]),
            "label(test) && (//a/... || //cmd)"
        );
        assert_eq!(shown(&["..."]), "//cmd/...");
    }

    #[test]
    fn errors_name_the_cure() {
        let all = [
            shown(&["//a", "test"]),
            shown(&["test", "cmd/x"]),
            shown(&["cmd:bin"]),
            shown(&["//a && label(slow)"]),
            shown(&["label(slow)"]),
            shown(&[""]),
            shown(&["../../x"]),
        ];
        insta::assert_snapshot!(all.join("\n"), @"
        'test' is not a pattern, at column 1: expected '//', ':', './', '../', '.' or '...', found 't'
          hint: write './test' or '//test'
        'cmd/x' is not a pattern, at column 1: expected '//', ':', './', '../', '.' or '...', found 'c'
          hint: write './cmd/x' or '//cmd/x'
        'cmd:bin' is not a pattern, at column 1: expected '//', ':', './' or '../', found 'c'
          hint: write './cmd:bin' or '//cmd:bin'
        '//a && label(slow)' is not a pattern, at column 4: ' ' cannot be part of a directory name
          hint: it is a query: -e '//a && label(slow)'
        'label(slow)' is not a pattern, at column 1: expected '//', ':', './', '../', '.' or '...', found 'l'
          hint: it is a query: -e 'label(slow)'
        '' is not a pattern, at column 1: expected '//', ':', './', '../', '.' or '...', found the end
        '../../x' is not a pattern, at column 4: '..' leaves the workspace
        ");
    }
}
