//! The words of a file, with what stood between them.

use starlark_syntax::codemap::CodeMap;
use starlark_syntax::lexer::{Lexer, Token};

use super::{DIALECT, Error};

/// One word.
#[derive(Debug, Clone)]
pub struct Word {
    /// What it is.
    pub kind: Kind,
    /// As it is written.
    pub text: String,
    /// Line feeds between the word before and this one.
    pub breaks: usize,
    /// Whether backslashes hid all of those line feeds.
    pub continued: bool,
    /// Columns before it, when it is the first of its line.
    pub column: usize,
    /// Blocks that it is in.
    pub depth: usize,
}

/// What a word is, as far as its surroundings depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `(`, `[` or `{`.
    Open,
    /// Its counterpart.
    Close,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `:`
    Colon,
    /// `.`
    Dot,
    /// `=`
    Equal,
    /// `for`
    For,
    /// `lambda`
    Lambda,
    /// A keyword after which an expression follows.
    Keyword,
    /// An operator, with one side or two.
    Operator,
    /// A name, a number, a text: something that has a value, and that can be called.
    Value,
    /// From `#` to the end of the line.
    Comment,
}

/// The words of `source`.
pub fn tokens(source: &str) -> Result<Vec<Word>, Error> {
    let codemap = CodeMap::new("BUILD".to_owned(), source.to_owned());
    let mut reader = Reader {
        source,
        words: Vec::new(),
        end: 0,
        depth: 0,
        columns: vec![0],
        comments: None,
    };
    let mut nested = 0usize;
    let mut begin = 0;
    for lexeme in Lexer::new(source, &DIALECT, codemap) {
        let (start, token, end) = lexeme.map_err(|error| super::syntax(&error.into_error()))?;
        // A text with expressions in it is one word, copied as it is.
        match token {
            Token::FStringStart(_) => {
                if nested == 0 {
                    begin = start;
                }
                nested += 1;
                continue;
            }
            Token::FStringEnd => {
                nested = nested.saturating_sub(1);
                if nested == 0 {
                    reader.word(Kind::Value, begin, end);
                }
                continue;
            }
            _ if nested > 0 => continue,
            token => reader.token(&token, start, end),
        }
    }
    reader.settle_comments();
    Ok(reader.words)
}

struct Reader<'s> {
    source: &'s str,
    words: Vec<Word>,
    /// Where the last word ended.
    end: usize,
    depth: usize,
    /// Columns at which the blocks begin, the outermost first.
    columns: Vec<usize>,
    /// The first of the comments whose block is not known yet, and the columns of the blocks it was found in.
    comments: Option<(usize, Vec<usize>)>,
}

impl Reader<'_> {
    fn token(&mut self, token: &Token, start: usize, end: usize) {
        match token {
            Token::Newline => {}
            Token::Indent => {
                self.depth += 1;
                self.columns.push(end - start);
            }
            Token::Dedent => {
                self.depth = self.depth.saturating_sub(1);
                self.columns.pop();
            }
            Token::Comment(_) => self.word(Kind::Comment, start, end),
            token => {
                self.settle_comments();
                self.word(kind(token), start, end);
            }
        }
    }

    fn word(&mut self, kind: Kind, start: usize, end: usize) {
        let gap = self.source.get(self.end..start).unwrap_or_default();
        let breaks = gap.matches('\n').count();
        let line = self.source.get(..start).unwrap_or_default();
        let column = line.len() - line.rfind('\n').map_or(0, |at| at + 1);
        self.words.push(Word {
            kind,
            text: self
                .source
                .get(start..end)
                .unwrap_or_default()
                .trim_end()
                .to_owned(),
            breaks,
            continued: breaks > 0 && gap.matches("\\\n").count() == breaks,
            column,
            depth: self.depth,
        });
        if kind == Kind::Comment && (breaks > 0 || self.words.len() == 1) {
            self.comments
                .get_or_insert_with(|| (self.words.len() - 1, self.columns.clone()));
        }
        self.end = end;
    }

    /// Puts comments on their own lines into the block that their columns say, of those that ended or began since.
    fn settle_comments(&mut self) {
        let Some((first, before)) = self.comments.take() else {
            return;
        };
        let columns = if before.len() > self.columns.len() {
            &before
        } else {
            &self.columns
        };
        for comment in self.words.iter_mut().skip(first) {
            comment.depth = columns
                .iter()
                .rposition(|column| *column <= comment.column)
                .unwrap_or(0);
        }
    }
}

fn kind(token: &Token) -> Kind {
    match token {
        Token::OpeningRound | Token::OpeningSquare | Token::OpeningCurly => Kind::Open,
        Token::ClosingRound | Token::ClosingSquare | Token::ClosingCurly => Kind::Close,
        Token::Comma => Kind::Comma,
        Token::Semicolon => Kind::Semicolon,
        Token::Colon => Kind::Colon,
        Token::Dot => Kind::Dot,
        Token::Equal => Kind::Equal,
        Token::For => Kind::For,
        Token::Lambda => Kind::Lambda,
        Token::And
        | Token::Def
        | Token::Elif
        | Token::Else
        | Token::If
        | Token::In
        | Token::Not
        | Token::Or
        | Token::Return => Kind::Keyword,
        Token::Identifier(_)
        | Token::Int(_)
        | Token::Float(_)
        | Token::String(_)
        | Token::Bytes(_)
        | Token::Ellipsis
        | Token::Load
        | Token::Pass
        | Token::Break
        | Token::Continue => Kind::Value,
        _ => Kind::Operator,
    }
}
