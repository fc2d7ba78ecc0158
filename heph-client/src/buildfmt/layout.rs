//! Words to lines.

use super::tokens::{Kind, Word};

const INDENT: usize = 4;

/// The text that the words make.
pub fn lay_out(words: &[Word]) -> String {
    let mut layout = Layout {
        text: String::new(),
        line: 0,
        brackets: Vec::new(),
        lambdas: 0,
    };
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| words.get(index));
        layout.word(words, index, word, before);
    }
    if !layout.text.is_empty() {
        layout.text.push('\n');
    }
    layout.text
}

struct Layout {
    text: String,
    /// Indentation of the line that is being written.
    line: usize,
    brackets: Vec<Bracket>,
    /// Lambdas outside of brackets whose colon is still to come.
    lambdas: usize,
}

/// An open bracket.
struct Bracket {
    open: char,
    /// Whether it is the bracket of a call, an index or a definition: it follows what has a value.
    call: bool,
    /// Indentation of the line on which it was opened.
    indent: usize,
    /// Directly in it: commas, `for`, lambdas whose colon is still to come.
    commas: bool,
    comprehension: bool,
    lambdas: usize,
    /// Whether the last item begins with `*`.
    starred: bool,
}

impl Layout {
    fn word(&mut self, words: &[Word], index: usize, word: &Word, before: Option<&Word>) {
        let closes = word.kind == Kind::Close;
        if closes && word.breaks > 0 && self.wants_comma(before_comments(words, index)) {
            self.add_comma(words, index);
        }
        match before {
            None => {}
            Some(_) if word.breaks > 0 => self.break_line(word),
            Some(before) if self.spaced(words, index, word, before) => self.text.push(' '),
            Some(_) => {}
        }
        if word.kind == Kind::Comment && word.breaks == 0 && before.is_some() {
            self.text.push(' ');
        }
        self.text.push_str(&restyled(word));
        self.enter(word, before);
    }

    fn break_line(&mut self, word: &Word) {
        if word.continued && self.brackets.is_empty() {
            self.line = (word.depth + 1) * INDENT;
            self.text.push_str(" \\\n");
        } else {
            let most = if self.brackets.is_empty() && word.depth == 0 {
                3
            } else {
                2
            };
            self.text.push_str(&"\n".repeat(word.breaks.min(most)));
            self.line = match self.brackets.last() {
                Some(bracket) if word.kind == Kind::Close => bracket.indent,
                Some(bracket) => bracket.indent + INDENT,
                None => word.depth * INDENT,
            };
        }
        self.text.push_str(&" ".repeat(self.line));
    }

    /// Whether the bracket that closes now gets a comma after `last`, its last word.
    fn wants_comma(&self, last: Option<&Word>) -> bool {
        let (Some(bracket), Some(last)) = (self.brackets.last(), last) else {
            return false;
        };
        if bracket.comprehension || bracket.starred || matches!(last.kind, Kind::Comma | Kind::Open) {
            return false;
        }
        match (bracket.open, bracket.call) {
            ('(', true) | ('{', _) | ('[', false) => true,
            // Parentheses around one value are no tuple, and an index is no list.
            _ => bracket.commas,
        }
    }

    /// Puts a comma after the last word that is no comment.
    fn add_comma(&mut self, words: &[Word], index: usize) {
        let comments = words.get(..index).unwrap_or_default().iter().rev();
        let mut end = self.text.len();
        for comment in comments.take_while(|word| word.kind == Kind::Comment) {
            let head = self.text.get(..end).unwrap_or_default();
            end = head.rfind(comment.text.as_str()).unwrap_or(end);
            end = self.text.get(..end).unwrap_or_default().trim_end().len();
        }
        self.text.insert(end, ',');
    }

    /// Whether a space stands between two words of one line.
    fn spaced(&self, words: &[Word], index: usize, word: &Word, before: &Word) -> bool {
        let in_lambda = self.pending_lambdas() > 0;
        let slice = self.brackets.last().is_some_and(|bracket| bracket.open == '[') && !in_lambda;
        match (before.kind, word.kind) {
            (_, Kind::Comment) => true,
            (Kind::Open | Kind::Dot, _) | (_, Kind::Close | Kind::Comma | Kind::Semicolon | Kind::Dot) => {
                false
            }
            (Kind::Comma | Kind::Semicolon, _) => true,
            (Kind::Equal, _) | (_, Kind::Equal) => true,
            (_, Kind::Colon) => false,
            (Kind::Colon, _) => !(slice && self.colon_slices(words, index)),
            (Kind::Value | Kind::Close, Kind::Open) => !is_callable(words, index),
            (Kind::Operator, _) => !is_prefix(words, index - 1),
            _ => true,
        }
    }

    /// Whether the colon before `index` was one of a slice: no lambda directly in the bracket was waiting for it.
    fn colon_slices(&self, words: &[Word], index: usize) -> bool {
        let mut depth = 0usize;
        let mut colons = 0;
        for word in words
            .get(..index.saturating_sub(1))
            .unwrap_or_default()
            .iter()
            .rev()
        {
            match word.kind {
                Kind::Close => depth += 1,
                Kind::Open if depth == 0 => return true,
                Kind::Open => depth -= 1,
                Kind::Colon if depth == 0 => colons += 1,
                Kind::Lambda if depth == 0 && colons == 0 => return false,
                Kind::Lambda if depth == 0 => colons -= 1,
                _ => {}
            }
        }
        true
    }

    fn pending_lambdas(&self) -> usize {
        self.brackets
            .last()
            .map_or(self.lambdas, |bracket| bracket.lambdas)
    }

    fn enter(&mut self, word: &Word, before: Option<&Word>) {
        let indent = self.line;
        if word.kind == Kind::Open {
            self.brackets.push(Bracket {
                open: word.text.chars().next().unwrap_or('('),
                call: before.is_some_and(|before| matches!(before.kind, Kind::Value | Kind::Close)),
                indent,
                commas: false,
                comprehension: false,
                lambdas: 0,
                starred: false,
            });
            return;
        }
        if word.kind == Kind::Close {
            self.brackets.pop();
            return;
        }
        let Some(bracket) = self.brackets.last_mut() else {
            match word.kind {
                Kind::Lambda => self.lambdas += 1,
                Kind::Colon => self.lambdas = self.lambdas.saturating_sub(1),
                _ => {}
            }
            return;
        };
        match word.kind {
            Kind::Comma => {
                bracket.commas = true;
                bracket.starred = false;
            }
            Kind::For => bracket.comprehension = true,
            Kind::Lambda => bracket.lambdas += 1,
            Kind::Colon => bracket.lambdas = bracket.lambdas.saturating_sub(1),
            Kind::Operator if word.text.starts_with('*') && begins_item(before) => bracket.starred = true,
            _ => {}
        }
    }
}

fn begins_item(before: Option<&Word>) -> bool {
    before.is_some_and(|before| matches!(before.kind, Kind::Open | Kind::Comma | Kind::Comment))
}

fn before_comments(words: &[Word], index: usize) -> Option<&Word> {
    words
        .get(..index)?
        .iter()
        .rev()
        .find(|word| word.kind != Kind::Comment)
}

/// Whether the bracket at `index` belongs to the value before it. After a keyword it does not.
fn is_callable(words: &[Word], index: usize) -> bool {
    before_comments(words, index)
        .is_some_and(|before| !matches!(before.text.as_str(), "pass" | "break" | "continue"))
}

/// Whether the operator at `index` has one side only.
fn is_prefix(words: &[Word], index: usize) -> bool {
    let Some(word) = words.get(index) else {
        return false;
    };
    if !matches!(word.text.as_str(), "-" | "+" | "~" | "*" | "**") {
        return false;
    }
    match before_comments(words, index) {
        None => true,
        Some(before) => !matches!(before.kind, Kind::Value | Kind::Close),
    }
}

/// The word as heph writes it: short texts in double quotes.
fn restyled(word: &Word) -> String {
    let text = &word.text;
    if word.kind != Kind::Value || !text.ends_with('\'') || text.contains(['"', '\\', '\n']) {
        return text.clone();
    }
    let Some(at) = text.find('\'') else {
        return text.clone();
    };
    let (prefix, quoted) = text.split_at(at);
    let inner = quoted
        .strip_prefix('\'')
        .and_then(|quoted| quoted.strip_suffix('\''));
    match inner {
        Some(inner) if !inner.contains('\'') && matches!(prefix, "" | "r" | "b" | "rb" | "br") => {
            format!("{prefix}\"{inner}\"")
        }
        _ => text.clone(),
    }
}
