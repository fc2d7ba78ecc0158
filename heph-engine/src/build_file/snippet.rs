//! Lines of source that messages show, and places within calls.

use std::ops::Range;

use crate::problem::Place;

/// Characters of a source line that a message shows.
const WIDTH: usize = 120;

/// The line of `range` with the range marked below it, two lines without a line break at the end:
///
/// ```text
///  3 | target(nme = "x")
///    |        ^^^
/// ```
pub fn snippet(source: &str, range: Range<usize>) -> String {
    let (place, line) = locate(source, range.start);
    let number = place.0.to_string();
    let before = place.1.saturating_sub(1);
    let shown: String = line.chars().take(WIDTH).collect();
    let length = source.get(range).map_or(1, |text| {
        text.lines().next().unwrap_or_default().trim_end().chars().count()
    });
    let length = length.clamp(1, shown.chars().count().saturating_sub(before).max(1));
    let indent = " ".repeat(number.len());
    let mut text = format!(" {number} | {}", shown.trim_end());
    if before < WIDTH {
        // Tabs stay tabs, so that the mark stands below what it marks.
        let gap: String = line
            .chars()
            .take(before)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        text += &format!("\n {indent} | {gap}{}", "^".repeat(length));
    }
    text
}

/// The place of an offset in a file.
pub fn place(file: &str, source: &str, offset: usize) -> Place {
    let ((line, column), _) = locate(source, offset);
    Place {
        file: file.to_owned(),
        line: to_u32(line),
        column: to_u32(column),
    }
}

/// The offset of a place in its file; `None` when the file no longer has that line.
pub fn offset(source: &str, place: &Place) -> Option<usize> {
    let mut start = 0;
    for _ in 1..place.line {
        start += source.get(start..)?.find('\n')? + 1;
    }
    let line = source.get(start..)?.lines().next()?;
    let column = usize::try_from(place.column.max(1)).ok()? - 1;
    let within: usize = line.chars().take(column).map(char::len_utf8).sum();
    Some(start + within)
}

/// The name of the argument `name` in the call that begins at `call`; `None` when the call does not name it, as with `**kw`.
pub fn argument(source: &str, call: usize, name: &str) -> Option<Range<usize>> {
    let mut depth = 0u32;
    let mut expects_name = false;
    let bytes = source.as_bytes();
    let mut at = call;
    while let Some(&byte) = bytes.get(at) {
        let was_expecting = expects_name;
        match byte {
            b'#' => at += source.get(at..)?.find('\n').unwrap_or(source.len()),
            b'"' | b'\'' => {
                at = string_end(bytes, at);
                expects_name = false;
                continue;
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                expects_name = depth == 1;
            }
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return None;
                }
                expects_name = false;
            }
            b',' => expects_name = depth == 1,
            byte if byte.is_ascii_whitespace() => {}
            byte if byte == b'_' || byte.is_ascii_alphanumeric() => {
                let rest = source.get(at..)?;
                let length = rest
                    .find(|c: char| c != '_' && !c.is_ascii_alphanumeric())
                    .unwrap_or(rest.len());
                let word = rest.get(..length)?;
                let mut after = rest.get(length..)?.trim_start().chars();
                if was_expecting && word == name && after.next() == Some('=') && after.next() != Some('=') {
                    return Some(at..at + length);
                }
                expects_name = false;
                at += length;
                continue;
            }
            _ => expects_name = false,
        }
        at += 1;
    }
    None
}

/// The end of the string that begins at `start`, behind its closing quote.
pub(super) fn string_end(bytes: &[u8], start: usize) -> usize {
    let Some(&quote) = bytes.get(start) else {
        return start + 1;
    };
    let triple = bytes
        .get(start..start + 3)
        .is_some_and(|quotes| quotes.iter().all(|q| *q == quote));
    let closing = if triple { 3 } else { 1 };
    let raw = start.checked_sub(1).and_then(|at| bytes.get(at)) == Some(&b'r');
    let mut at = start + closing;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'\\' && !raw {
            at += 2;
            continue;
        }
        if bytes
            .get(at..at + closing)
            .is_some_and(|quotes| quotes.iter().all(|q| *q == quote))
        {
            return at + closing;
        }
        at += 1;
    }
    bytes.len()
}

/// Line and column of an offset, counted from 1, and the text of the line.
fn locate(source: &str, offset: usize) -> ((usize, usize), &str) {
    let offset = (0..=offset.min(source.len()))
        .rev()
        .find(|at| source.is_char_boundary(*at))
        .unwrap_or(0);
    let (head, tail) = source.split_at(offset);
    let start = head.rfind('\n').map_or(0, |at| at + 1);
    let line = head.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = head.get(start..).map_or(0, |text| text.chars().count()) + 1;
    let end = tail.find('\n').map_or(source.len(), |at| offset + at);
    ((line, column), source.get(start..end).unwrap_or_default())
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "x = 1\nf(\n    a = g(b = \"),b=\", c = 2),  # b = 3,\n    b = [1], d == 4,\n)\n\té = h(kéy = 1)\n";

    fn argument_at(call: &str, name: &str) -> Option<Place> {
        let found = argument(SOURCE, SOURCE.find(call).unwrap(), name)?;
        Some(place("F", SOURCE, found.start))
    }

    #[test]
    fn arguments_are_found_in_their_own_call() {
        assert_eq!(argument_at("f(", "b").unwrap().to_string(), "F:4:5");
        assert_eq!(argument_at("g(", "b").unwrap().to_string(), "F:3:11");
        assert_eq!(argument_at("f(", "a").unwrap().to_string(), "F:3:5");
        assert_eq!(argument_at("f(", "c"), None);
        assert_eq!(argument_at("f(", "d"), None);
        assert_eq!(argument_at("x", "b"), argument_at("f(", "b"));
    }

    #[test]
    fn a_snippet_marks_its_range() {
        let range = argument(SOURCE, SOURCE.find("f(").unwrap(), "b").unwrap();
        assert_eq!(snippet(SOURCE, range), " 4 |     b = [1], d == 4,\n   |     ^");
        let call = SOURCE.find("h(").unwrap();
        assert_eq!(
            snippet(SOURCE, call..SOURCE.len()),
            " 6 | \té = h(kéy = 1)\n   | \t    ^^^^^^^^^^"
        );
        assert_eq!(snippet("", 5..9), " 1 | \n   | ^");
        let long = "a".repeat(500);
        assert!(snippet(&long, 0..500).len() < 300);
        assert!(!snippet(&long, 400..500).contains('^'));
    }

    #[test]
    fn offsets_and_places_are_inverse() {
        for (offset_wanted, _) in SOURCE.char_indices() {
            assert_eq!(
                offset(SOURCE, &place("F", SOURCE, offset_wanted)),
                Some(offset_wanted)
            );
        }
        assert_eq!(
            offset(
                "a\nb",
                &Place {
                    file: String::new(),
                    line: 9,
                    column: 1
                }
            ),
            None
        );
    }
}
