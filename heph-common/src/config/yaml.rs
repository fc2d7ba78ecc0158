//! The text of a configuration file to a tree of values.

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::value::{Data, Entry, Value};
use super::{Place, Problem, Problems};
use crate::package::printable;

/// Values that aliases may add to one file: a small file must not unfold without bound.
const MAX_ALIASED: usize = 10_000;

/// Values within values. The parser has a limit of its own for brackets, a larger one.
const MAX_DEPTH: usize = 64;

/// Reads one document.
///
/// Duplicate keys, unknown tags and keys that are no text are problems of their own; what follows is still read.
/// `None` when the text has no content; an error when it is no YAML.
pub(super) fn read(file: &Arc<str>, text: &str, problems: &mut Problems) -> Result<Option<Value>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        file,
        lines: text.lines().map(Arc::from).collect(),
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        aliased: 0,
        problems,
    };
    reader.document()
}

pub(super) type Fault = Box<Problem>;

struct Reader<'t, 'p> {
    file: &'t Arc<str>,
    lines: Vec<Arc<str>>,
    parser: Parser<'t, serde_saphyr::granit_parser::StrInput<'t>>,
    anchors: HashMap<usize, Value>,
    aliased: usize,
    problems: &'p mut Problems,
}

impl<'t> Reader<'t, '_> {
    fn document(&mut self) -> Result<Option<Value>, Fault> {
        let mut content = None;
        let mut documents = 0;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::DocumentStart(..) => {
                    documents += 1;
                    if documents > 1 {
                        let place = self.place(&span);
                        return Err(Problem::at(
                            &place,
                            "a configuration is one document, found a second one",
                        )
                        .into());
                    }
                }
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                event => content = Some(self.value(event, span, 0)?),
            }
        }
        Ok(content.filter(|value| value.data != Data::Null))
    }

    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, Fault> {
        loop {
            match self.parser.next_event() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(event)) => return Ok(Some(event)),
                Some(Err(error)) => return Err(self.syntax(&error).into()),
            }
        }
    }

    fn syntax(&self, error: &ScanError) -> Problem {
        let mark = error.marker();
        let place = self.mark(mark.line(), mark.col(), 1);
        Problem::at(&place, format!("this is not YAML: {}", error.info()))
    }

    fn value(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Value, Fault> {
        let place = self.place(&span);
        if depth > MAX_DEPTH {
            return Err(Problem::at(&place, format!("values are nested deeper than {MAX_DEPTH}")).into());
        }
        let as_text = event.tag().is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
        if let Some(tag) = event.tag().filter(|_| !as_text) {
            let message = format!("tags such as {} have no meaning here", tag.original());
            self.problems.add(Problem::at(&place, message));
        }
        let (data, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let quoted = as_text || style != ScalarStyle::Plain;
                let data = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if !quoted => Data::Null,
                    _ => Data::Scalar {
                        text: text.into_owned(),
                        quoted,
                    },
                };
                (data, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (Data::List(self.list(depth)?), anchor),
            Event::MappingStart(_, anchor, _) => (Data::Map(self.map(depth)?), anchor),
            Event::Alias(id) => return self.alias(id, place),
            _ => return Err(Problem::at(&place, "this is not YAML: a value is missing").into()),
        };
        let value = Value { data, place };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    /// A copy of the anchored value. The places within stay those of the definition.
    fn alias(&mut self, id: usize, place: Place) -> Result<Value, Fault> {
        let Some(value) = self.anchors.get(&id) else {
            return Err(Problem::at(&place, "an alias refers to what contains it").into());
        };
        self.aliased += count(value);
        if self.aliased > MAX_ALIASED {
            return Err(Problem::at(
                &place,
                format!("aliases unfold to more than {MAX_ALIASED} values"),
            )
            .into());
        }
        Ok(value.clone())
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, Fault> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.value(event, span, depth + 1)?);
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key = self.value(event, span, depth + 1)?;
            let Some((event, span)) = self.next()? else { break };
            let value = self.value(event, span, depth + 1)?;
            match &key.data {
                Data::Scalar { text, quoted: false } if text == "<<" => merged.push(value),
                Data::Scalar { text, .. } => match entries.iter().find(|entry| entry.key == *text) {
                    Some(first) => {
                        let message = format!(
                            "key '{}' is given twice, first in line {}",
                            printable(text),
                            first.place.line
                        );
                        self.problems.add(Problem::at(&key.place, message));
                    }
                    None => entries.push(Entry {
                        key: text.clone(),
                        place: key.place,
                        value,
                    }),
                },
                Data::Null | Data::List(_) | Data::Map(_) => {
                    self.problems.add(key.unexpected("a key"));
                }
            }
        }
        for value in merged {
            self.merge(&mut entries, value);
        }
        Ok(entries)
    }

    /// `<<: *base` adds the keys of a mapping, or of each of a list of them, that are not there yet.
    fn merge(&mut self, entries: &mut Vec<Entry>, value: Value) {
        match value.data {
            Data::Map(more) => {
                for entry in more {
                    if entries.iter().all(|own| own.key != entry.key) {
                        entries.push(entry);
                    }
                }
            }
            Data::List(values) if values.iter().all(|value| matches!(value.data, Data::Map(_))) => {
                for value in values {
                    self.merge(entries, value);
                }
            }
            Data::Null | Data::Scalar { .. } | Data::List(_) => {
                self.problems.add(value.unexpected("a mapping to merge"));
            }
        }
    }

    fn place(&self, span: &Span) -> Place {
        let length = if span.start.line() == span.end.line() {
            span.end.col().saturating_sub(span.start.col())
        } else {
            1
        };
        self.mark(span.start.line(), span.start.col(), length)
    }

    /// Lines count from 1, columns from 0. A place behind the last line is moved to its end.
    fn mark(&self, line: usize, column: usize, length: usize) -> Place {
        let last = self.lines.len().max(1);
        let text = self
            .lines
            .get(line.clamp(1, last) - 1)
            .cloned()
            .unwrap_or_default();
        let column = if line > last { text.chars().count() } else { column };
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Place {
            file: self.file.clone(),
            line: small(line.clamp(1, last)),
            column: small(column.saturating_add(1)),
            length: small(length.max(1)),
            text,
        }
    }
}

fn count(value: &Value) -> usize {
    1 + match &value.data {
        Data::Null | Data::Scalar { .. } => 0,
        Data::List(items) => items.iter().map(count).sum(),
        Data::Map(entries) => entries.iter().map(|entry| count(&entry.value)).sum(),
    }
}
