//! Text to query.

use super::{Form, Function, ParseQueryError, Pattern, Query};
use crate::package::{Flaw, found, printable, quoted};
use crate::{Address, nearest, package, quote};

/// Expressions nested deeper than this are refused, so that the stack suffices.
const MAX_DEPTH: usize = 100;

pub(super) fn parse(text: &str, current: &str) -> Result<Query, ParseQueryError> {
    let mut parser = Parser {
        text,
        offset: 0,
        current,
        depth: 0,
    };
    let query = parser.or()?;
    if parser.offset < text.len() {
        return Err(parser.expected("'&&', '||' or the end"));
    }
    Ok(query)
}

/// Whether `word` is read back as itself without quotes, as a pattern or as an argument.
pub(super) fn is_plain_word(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(['!', '"'])
        && !word.contains(char::is_control)
        && scan_word(word) == (word.len(), false)
}

fn word_length(rest: &str) -> usize {
    scan_word(rest).0
}

/// How many bytes of `rest` form one word, and whether a quote within it is still open at its end. Quotes, as the
/// values of addresses have, keep a word together.
fn scan_word(rest: &str) -> (usize, bool) {
    let mut quoted = false;
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, c)| *c);
        match c {
            '\\' if quoted => {
                chars.next();
            }
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | ')' => return (at, false),
            '&' | '|' if next == Some(c) => return (at, false),
            c if c.is_whitespace() => return (at, false),
            _ => {}
        }
    }
    (rest.len(), quoted)
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes, always at the beginning of a character.
    offset: usize,
    current: &'a str,
    depth: usize,
}

/// A word or quoted text, and where it began.
struct Word {
    text: String,
    start: usize,
    quoted: bool,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Query, ParseQueryError> {
        self.chain("||", Self::and, Query::Or)
    }

    fn and(&mut self) -> Result<Query, ParseQueryError> {
        self.chain("&&", Self::unary, Query::And)
    }

    fn chain(
        &mut self,
        operator: &str,
        operand: impl Fn(&mut Self) -> Result<Query, ParseQueryError>,
        make: impl Fn(Vec<Query>) -> Query,
    ) -> Result<Query, ParseQueryError> {
        let first = operand(self)?;
        if !self.eat(operator) {
            return Ok(first);
        }
        let mut all = vec![first, operand(self)?];
        while self.eat(operator) {
            all.push(operand(self)?);
        }
        Ok(make(all))
    }

    fn unary(&mut self) -> Result<Query, ParseQueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.flawed(Flaw::new(self.offset, "expressions are nested too deeply")));
        }
        let query = if self.eat("!") {
            Query::Not(Box::new(self.unary()?))
        } else if self.eat("(") {
            let query = self.or()?;
            self.close()?;
            query
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(query)
    }

    fn primary(&mut self) -> Result<Query, ParseQueryError> {
        let Some(word) = self.word()? else {
            return Err(self.expected("a pattern, a function, '!' or '('"));
        };
        if !word.quoted && self.rest().starts_with('(') {
            return self.call(&word);
        }
        Pattern::parse(&word.text, self.current)
            .map(Query::Pattern)
            .map_err(|error| self.not_a_pattern(&word, error))
    }

    fn not_a_pattern(&self, word: &Word, error: ParseQueryError) -> ParseQueryError {
        let looks_like_pattern = word.text.starts_with(['/', '.']) || word.text.contains(':');
        let offset = error.offset;
        let error = self.part(word, error);
        if looks_like_pattern || offset > 0 {
            return error;
        }
        let functions = Function::ALL.map(Function::name);
        match nearest(&word.text, functions).and_then(Function::named) {
            Some(function) => error.hint(format!("did you mean {}(…)?", function.name())),
            None => error.hint(format!(
                "targets with a label are label({0}), those of a package //{0}",
                printable(&word.text)
            )),
        }
    }

    fn call(&mut self, name: &Word) -> Result<Query, ParseQueryError> {
        let Some(function) = Function::named(&name.text) else {
            let functions = Function::ALL.map(Function::name);
            let problem = format!("there is no function '{}'", printable(&name.text));
            let error = self.flawed(Flaw::new(name.start, problem));
            return Err(match nearest(&name.text, functions) {
                Some(near) => error.hint(format!("did you mean '{near}'?")),
                None => error.hint(format!("functions are {}", functions.join(", "))),
            });
        };
        self.eat("(");
        let query = match function {
            Function::Deps => Query::Deps(Box::new(self.or()?)),
            Function::Rdeps => Query::Rdeps(Box::new(self.or()?)),
            Function::Label
            | Function::Addr
            | Function::Package
            | Function::PackagePrefix
            | Function::TreeOutput
            | Function::Changed => {
                let word = match self.word()? {
                    Some(word) if !word.text.is_empty() => word,
                    Some(word) => {
                        let problem = format!("expected {}, found an empty one", function.argument());
                        return Err(self.flawed(Flaw::new(word.start, problem)));
                    }
                    None => return Err(self.expected(function.argument())),
                };
                self.argument(function, word)?
            }
        };
        self.close()?;
        Ok(query)
    }

    fn argument(&self, function: Function, word: Word) -> Result<Query, ParseQueryError> {
        match function {
            Function::Addr => Address::parse_relative(&word.text, self.current)
                .map(Query::Addr)
                .map_err(|error| self.part(&word, ParseQueryError::from_address(error))),
            Function::Package => self.package(&word).map(Query::Package),
            Function::PackagePrefix => self.package(&word).map(Query::PackagePrefix),
            Function::TreeOutput => self.path(&word).map(Query::TreeOutput),
            Function::Changed if word.text.starts_with('-') => {
                let problem = "expected a git ref, found '-'";
                Err(self.flawed(Flaw::new(word.start, problem)))
            }
            Function::Changed => Ok(Query::Changed(word.text)),
            Function::Label | Function::Deps | Function::Rdeps => Ok(Query::Label(word.text)),
        }
    }

    /// A package as `//p`, `p`, `.`, `./s` or `../s`.
    fn package(&self, word: &Word) -> Result<String, ParseQueryError> {
        let relative = matches!(word.text.split('/').next(), Some("." | ".."));
        let package = if relative || word.text.starts_with("//") {
            Pattern::package(&word.text, self.current)
        } else {
            package::check(&word.text).map(|()| word.text.clone())
        };
        package.map_err(|flaw| self.part(word, ParseQueryError::new(Form::Pattern, &word.text, flaw)))
    }

    /// A path of the workspace as `//dir/file`, `dir/file` (both from the root), `./file` or `../file`.
    fn path(&self, word: &Word) -> Result<String, ParseQueryError> {
        let text = word.text.strip_prefix("//").unwrap_or(&word.text);
        let relative = text.len() == word.text.len() && matches!(text.split('/').next(), Some("." | ".."));
        let mut segments: Vec<&str> = Vec::new();
        if relative {
            segments.extend(self.current.split('/').filter(|segment| !segment.is_empty()));
        }
        for segment in text.trim_end_matches('/').split('/') {
            let fine = match segment {
                "." => relative,
                ".." => relative && segments.pop().is_some(),
                "" => text.is_empty(),
                _ => {
                    segments.push(segment);
                    true
                }
            };
            if !fine {
                let problem = format!("'{}' is not a path within the workspace", printable(&word.text));
                return Err(self.flawed(Flaw::new(word.start, problem)));
            }
        }
        Ok(segments.join("/"))
    }

    /// The next word or quoted text; `None` where an operator, a parenthesis or the end is.
    fn word(&mut self) -> Result<Option<Word>, ParseQueryError> {
        self.skip_space();
        let start = self.offset;
        if self.rest().starts_with('"') {
            let (text, end) = quote::read(self.text, start + 1).map_err(|flaw| self.flawed(flaw))?;
            self.offset = end;
            return Ok(Some(Word {
                text,
                start,
                quoted: true,
            }));
        }
        let rest = self.rest();
        let length = if rest.starts_with('!') {
            0
        } else {
            word_length(rest)
        };
        self.offset += length;
        Ok(match rest.get(..length) {
            None | Some("") => None,
            Some(word) => Some(Word {
                text: word.to_owned(),
                start,
                quoted: false,
            }),
        })
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.offset += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_space();
        let there = self.rest().starts_with(token);
        if there {
            self.offset += token.len();
        }
        self.skip_space();
        there
    }

    fn close(&mut self) -> Result<(), ParseQueryError> {
        if self.eat(")") {
            Ok(())
        } else {
            Err(self.expected("')'"))
        }
    }

    fn expected(&self, what: &str) -> ParseQueryError {
        let there = match self.rest().chars().next() {
            Some(c @ ('&' | '|')) if self.rest().chars().nth(1) == Some(c) => format!("'{c}{c}'"),
            Some(c) if c.is_alphanumeric() => {
                let word = self.rest().get(..word_length(self.rest())).unwrap_or_default();
                format!("'{}'", printable(word))
            }
            Some(c) => quoted(c),
            None => found(self.text, self.offset),
        };
        self.flawed(Flaw::new(self.offset, format!("expected {what}, found {there}")))
    }

    fn flawed(&self, flaw: Flaw) -> ParseQueryError {
        ParseQueryError::new(Form::Query, self.text, flaw)
    }

    /// The error of a word as an error of the whole text. Places within quotes are those of the quoted text.
    fn part(&self, word: &Word, error: ParseQueryError) -> ParseQueryError {
        let start = word.start + usize::from(word.quoted);
        let offset = if word.quoted { 0 } else { error.offset };
        ParseQueryError { offset, ..error }.within(self.text, start)
    }
}
