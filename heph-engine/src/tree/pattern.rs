//! Glob patterns over paths of the workspace.
//!
//! `*` matches any characters but `/`, `?` one of them, `[a-z]` and `[!a-z]` a class, `{a,b}` alternatives (which may hold `/`),
//! a segment `**` any number of directories, `\` takes the next character as it is. Names that begin with a dot are like others.

use std::fmt::Write as _;

/// Alternatives that the braces of one pattern may expand to.
const MAX_ALTERNATIVES: usize = 256;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    alternatives: Vec<Vec<Segment>>,
}

/// A text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{pattern}' is not a glob pattern: {problem}")]
pub struct PatternError {
    /// The text.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// What one segment of a path has to look like.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of directories.
    Directories,
    Literal(String),
    Wild(Vec<Piece>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Places in a pattern that a directory on the way down may have reached; see [`Patterns::enter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reached(Vec<(usize, usize)>);

/// Whether `text` holds a character that is special in patterns.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{', '\\'])
}

/// `text` as a pattern that matches nothing but itself.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\' | ',') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

impl Pattern {
    /// Compiles a pattern: relative, with `/` between segments, without `.` and `..` segments.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let fail = |problem| PatternError {
            pattern: text.to_owned(),
            problem,
        };
        let mut expanded = Vec::new();
        expand(&text.chars().collect::<Vec<_>>(), &mut expanded).map_err(fail)?;
        let mut alternatives = Vec::new();
        for alternative in expanded {
            let mut segments = Vec::new();
            for part in alternative.split(|c| *c == '/') {
                let segment = segment(part).map_err(fail)?;
                // Two in a row say no more than one, and cost time.
                if segment != Segment::Directories || segments.last() != Some(&Segment::Directories) {
                    segments.push(segment);
                }
            }
            alternatives.push(segments);
        }
        Ok(Self { alternatives })
    }

    /// Whether a path relative to the workspace root matches.
    pub fn matches(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        self.alternatives
            .iter()
            .any(|segments| matches_segments(segments, &parts))
    }
}

fn matches_segments(segments: &[Segment], parts: &[&str]) -> bool {
    let mut reached = vec![0];
    let (Some(name), directories) = (
        parts.last(),
        parts.get(..parts.len().saturating_sub(1)).unwrap_or_default(),
    ) else {
        return false;
    };
    for directory in directories {
        reached = reached
            .into_iter()
            .flat_map(|at| step(segments, at, directory))
            .collect();
        reached.dedup();
    }
    reached.into_iter().any(|at| ends(segments, at, name))
}

/// Where a directory `name` leads from position `at`.
fn step(segments: &[Segment], at: usize, name: &str) -> impl Iterator<Item = usize> {
    let mut next = [None, None];
    match segments.get(at) {
        Some(Segment::Directories) => {
            next[0] = Some(at);
            if segments.get(at + 1).is_some_and(|segment| segment.matches(name)) {
                next[1] = Some(at + 2);
            }
        }
        Some(segment) if segment.matches(name) => next[0] = Some(at + 1),
        _ => {}
    }
    next.into_iter().flatten()
}

/// Whether a file `name` completes the pattern from position `at`.
fn ends(segments: &[Segment], at: usize, name: &str) -> bool {
    match (segments.get(at), segments.get(at + 1)) {
        (Some(Segment::Directories), None) => true,
        (Some(Segment::Directories), Some(segment)) => at + 2 == segments.len() && segment.matches(name),
        (Some(segment), None) => segment.matches(name),
        _ => false,
    }
}

impl Segment {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Directories => true,
            Self::Literal(literal) => literal == name,
            Self::Wild(pieces) => matches_pieces(pieces, name),
        }
    }
}

/// Linear in practice: a mismatch goes back to the last `*` only.
fn matches_pieces(pieces: &[Piece], name: &str) -> bool {
    let (mut at, mut rest) = (0, name.chars());
    let mut star: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let mut ahead = rest.clone();
        match (pieces.get(at), ahead.next()) {
            (None, None) => return true,
            (Some(Piece::Any), _) => {
                at += 1;
                star = Some((at, rest.clone()));
                continue;
            }
            (Some(piece), Some(c)) if piece.matches(c) => {
                at += 1;
                rest = ahead;
                continue;
            }
            _ => {}
        }
        let Some((after, mut from)) = star.take() else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        at = after;
        rest = from.clone();
        star = Some((after, from));
    }
}

impl Piece {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Char(wanted) => *wanted == c,
            Self::One | Self::Any => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

/// Expands braces; an escape stays as it is, for [`segment`].
fn expand(text: &[char], out: &mut Vec<Vec<char>>) -> Result<(), &'static str> {
    let Some((open, close, commas)) = braces(text)? else {
        out.push(text.to_vec());
        return match out.len() > MAX_ALTERNATIVES {
            true => Err("its braces expand to more than 256 patterns"),
            false => Ok(()),
        };
    };
    let head = text.get(..open).unwrap_or_default();
    let tail = text.get(close + 1..).unwrap_or_default();
    let mut start = open + 1;
    for end in commas.into_iter().chain([close]) {
        let choice = text.get(start..end).unwrap_or_default();
        expand(&[head, choice, tail].concat(), out)?;
        start = end + 1;
    }
    Ok(())
}

/// The first outermost pair of braces and the commas directly inside.
#[expect(clippy::type_complexity, reason = "three positions, used once")]
fn braces(text: &[char]) -> Result<Option<(usize, usize, Vec<usize>)>, &'static str> {
    let (mut depth, mut open, mut commas) = (0u32, 0, Vec::new());
    let mut at = 0;
    while let Some(c) = text.get(at) {
        match c {
            '\\' => at += 1,
            '{' => {
                if depth == 0 {
                    open = at;
                }
                depth += 1;
            }
            '}' if depth == 1 => return Ok(Some((open, at, commas))),
            '}' if depth == 0 => return Err("a '}' has no '{' before it (write '\\}' for the character)"),
            '}' => depth -= 1,
            ',' if depth == 1 => commas.push(at),
            _ => {}
        }
        at += 1;
    }
    match depth {
        0 => Ok(None),
        _ => Err("a '{' is not closed"),
    }
}

fn segment(text: &[char]) -> Result<Segment, &'static str> {
    match text {
        [] => return Err("a name between slashes is missing"),
        ['.'] => return Err("it has a '.' segment"),
        ['.', '.'] => return Err("'..' leaves the directory"),
        ['*', '*'] => return Ok(Segment::Directories),
        _ => {}
    }
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        at += 1;
        pieces.push(match c {
            '*' if pieces.last() == Some(&Piece::Any) => return Err("'**' must stand alone between slashes"),
            '*' => Piece::Any,
            '?' => Piece::One,
            '[' => class(text, &mut at)?,
            '\\' => {
                let &escaped = text.get(at).ok_or("it ends with a backslash")?;
                at += 1;
                Piece::Char(escaped)
            }
            c => Piece::Char(c),
        });
    }
    let literal: Option<String> = pieces
        .iter()
        .map(|p| if let Piece::Char(c) = p { Some(*c) } else { None })
        .collect();
    Ok(match literal {
        Some(literal) => Segment::Literal(literal),
        None => Segment::Wild(pieces),
    })
}

/// A class, behind its opening bracket.
fn class(text: &[char], at: &mut usize) -> Result<Piece, &'static str> {
    const OPEN: &str = "a '[' is not closed";
    let negated = matches!(text.get(*at), Some('!' | '^'));
    *at += usize::from(negated);
    let mut ranges = Vec::new();
    let first = *at;
    loop {
        let &c = text.get(*at).ok_or(OPEN)?;
        if c == ']' && *at > first {
            *at += 1;
            return Ok(Piece::Class { negated, ranges });
        }
        *at += if c == '\\' { 2 } else { 1 };
        let &low = text.get(*at - 1).ok_or(OPEN)?;
        let high = match (text.get(*at), text.get(*at + 1)) {
            (Some('-'), Some(&high)) if high != ']' => {
                *at += 2;
                high
            }
            _ => low,
        };
        if high < low {
            return Err("a range in brackets runs backwards");
        }
        ranges.push((low, high));
    }
}

/// Several patterns that are matched while walking down.
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    alternatives: Vec<Vec<Segment>>,
}

impl Patterns {
    pub(super) fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut alternatives = Vec::new();
        for text in texts {
            alternatives.extend(Pattern::new(text)?.alternatives);
        }
        Ok(Self { alternatives })
    }

    /// Directories to begin with: for each alternative the longest path without wildcards, and where it leads.
    pub(super) fn starts(&self) -> Vec<(String, Reached)> {
        let mut starts: Vec<(String, Reached)> = Vec::new();
        for (index, segments) in self.alternatives.iter().enumerate() {
            let mut directory = String::new();
            let mut at = 0;
            while let (Some(Segment::Literal(name)), true) = (segments.get(at), at + 1 < segments.len()) {
                let slash = if at == 0 { "" } else { "/" };
                let _ = write!(directory, "{slash}{name}");
                at += 1;
            }
            match starts.iter_mut().find(|(known, _)| *known == directory) {
                Some((_, reached)) => reached.0.push((index, at)),
                None => starts.push((directory, Reached(vec![(index, at)]))),
            }
        }
        starts
    }

    /// Where the directory `name` leads; `None` when nothing below it can match.
    pub(super) fn enter(&self, from: &Reached, name: &str) -> Option<Reached> {
        let mut reached = Vec::new();
        for (index, at) in &from.0 {
            let Some(segments) = self.alternatives.get(*index) else {
                continue;
            };
            for next in step(segments, *at, name) {
                if next < segments.len() && !reached.contains(&(*index, next)) {
                    reached.push((*index, next));
                }
            }
        }
        (!reached.is_empty()).then_some(Reached(reached))
    }

    /// Whether the file `name` matches.
    pub(super) fn accepts(&self, from: &Reached, name: &str) -> bool {
        from.0.iter().any(|(index, at)| {
            self.alternatives
                .get(*index)
                .is_some_and(|segments| ends(segments, *at, name))
        })
    }

    /// Whether a path matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        if self.alternatives.is_empty() {
            return false;
        }
        let parts: Vec<&str> = path.split('/').collect();
        self.alternatives
            .iter()
            .any(|segments| matches_segments(segments, &parts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matching(pattern: &str, paths: &[&str]) -> Vec<String> {
        let pattern = Pattern::new(pattern).unwrap();
        paths
            .iter()
            .filter(|path| pattern.matches(path))
            .map(|path| (*path).to_owned())
            .collect()
    }

    #[test]
    fn wildcards_stay_in_their_segment() {
        let paths = ["a.c", "b.h", ".c", "s/a.c", "s/t/a.c", "s/t/u/b.c"];
        assert_eq!(matching("*.c", &paths), ["a.c", ".c"]);
        assert_eq!(matching("?.c", &paths), ["a.c"]);
        assert_eq!(matching("s/*.c", &paths), ["s/a.c"]);
        assert_eq!(
            matching("**/*.c", &paths),
            ["a.c", ".c", "s/a.c", "s/t/a.c", "s/t/u/b.c"]
        );
        assert_eq!(matching("s/**", &paths), ["s/a.c", "s/t/a.c", "s/t/u/b.c"]);
        assert_eq!(matching("s/**/b.c", &paths), ["s/t/u/b.c"]);
        assert_eq!(matching("**/t/**/*.c", &paths), ["s/t/a.c", "s/t/u/b.c"]);
        assert_eq!(matching("**", &["a", "a/b"]), ["a", "a/b"]);
        assert_eq!(matching("s/**/**/a.c", &paths), ["s/a.c", "s/t/a.c"]);
        assert!(matching("s/**", &["s"]).is_empty());
    }

    #[test]
    fn classes_braces_and_escapes() {
        let paths = ["a.c", "b.c", "c.h", "x/a.c", "x/y/b.h", "[a]", "a,b", "-"];
        assert_eq!(matching("[ab].c", &paths), ["a.c", "b.c"]);
        assert_eq!(matching("[!a].?", &paths), ["b.c", "c.h"]);
        assert_eq!(matching("[a-b].c", &paths), ["a.c", "b.c"]);
        assert_eq!(matching("[a-]", &paths), ["-"]);
        assert_eq!(matching("*.{c,h}", &paths), ["a.c", "b.c", "c.h"]);
        assert_eq!(matching("{x/,}a.c", &paths), ["a.c", "x/a.c"]);
        assert_eq!(matching("x/{a,y/{b,c}}.{c,h}", &paths), ["x/a.c", "x/y/b.h"]);
        assert_eq!(matching(&escape("[a]"), &paths), ["[a]"]);
        assert_eq!(matching("a\\,b", &paths), ["a,b"]);
        assert_eq!(matching(&escape("a,b"), &paths), ["a,b"]);
        assert_eq!(
            matching("*a*b*", &["aab", "abc", "xaxbx", "ba"]),
            ["aab", "abc", "xaxbx"]
        );
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let mut shown = String::new();
        for text in [
            "",
            "a//b",
            "../x",
            "a/./b",
            "a**",
            "[a",
            "{a",
            "a}",
            "[z-a]",
            "a\\",
            &"{a,b}".repeat(9),
        ] {
            shown += &format!("{}\n", Pattern::new(text).unwrap_err());
        }
        insta::assert_snapshot!(shown, @r#"
            '' is not a glob pattern: a name between slashes is missing
            'a//b' is not a glob pattern: a name between slashes is missing
            '../x' is not a glob pattern: '..' leaves the directory
            'a/./b' is not a glob pattern: it has a '.' segment
            'a**' is not a glob pattern: '**' must stand alone between slashes
            '[a' is not a glob pattern: a '[' is not closed
            '{a' is not a glob pattern: a '{' is not closed
            'a}' is not a glob pattern: a '}' has no '{' before it (write '\}' for the character)
            '[z-a]' is not a glob pattern: a range in brackets runs backwards
            'a\' is not a glob pattern: it ends with a backslash
            '{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}' is not a glob pattern: its braces expand to more than 256 patterns
            "#);
    }

    #[test]
    fn walking_reaches_what_matching_accepts() {
        let patterns = Patterns::new(["src/**/x/*.c", "a/b/c.h", "*.h", "src/lib/*"]).unwrap();
        let starts = patterns.starts();
        let names: Vec<&str> = starts.iter().map(|(directory, _)| directory.as_str()).collect();
        assert_eq!(names, ["src", "a/b", "", "src/lib"]);
        let src = &starts[0].1;
        assert!(!patterns.accepts(src, "a.c"));
        let deeper = patterns.enter(src, "x").unwrap();
        assert!(patterns.accepts(&deeper, "a.c"));
        assert!(patterns.enter(&starts[3].1, "sub").is_none());
    }
}
