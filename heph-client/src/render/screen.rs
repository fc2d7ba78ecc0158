//! A region at the bottom of a terminal that is drawn over and over, with permanent lines above it.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// The drawn region. Produces text for the terminal; does not write it.
#[derive(Debug, Default)]
pub struct Screen {
    /// Visible columns of each line on the screen now.
    drawn: Vec<usize>,
    hidden: bool,
}

impl Screen {
    /// Text that replaces the region by `lines`, cut to `columns`, after putting `above` (whole lines) over it.
    pub fn draw(&mut self, above: &str, lines: &[String], columns: usize) -> String {
        let mut text = String::new();
        self.erase(&mut text, columns);
        text.push_str(above);
        if lines.is_empty() {
            if std::mem::take(&mut self.hidden) {
                text.push_str("\x1b[?25h");
            }
            return text;
        }
        if !std::mem::replace(&mut self.hidden, true) {
            text.push_str("\x1b[?25l");
        }
        // One column stays free: writing into the last one wraps on some terminals and not on others.
        let room = columns.saturating_sub(1).max(1);
        for line in lines {
            let (cut, width) = fit(line, room);
            let _ = writeln!(text, "{cut}");
            self.drawn.push(width);
        }
        text
    }

    /// Whether the terminal shows the region now, and hides its cursor.
    pub fn is_drawn(&self) -> bool {
        self.hidden
    }

    fn erase(&mut self, text: &mut String, columns: usize) {
        // A terminal made narrower since has wrapped the lines: count the rows that they take now.
        let rows: usize = self
            .drawn
            .drain(..)
            .map(|width| width.div_ceil(columns.max(1)).max(1))
            .sum();
        if rows > 0 {
            let _ = write!(text, "\x1b[{rows}A\r\x1b[J");
        }
    }
}

/// The part of `line` that fits into `room` columns, and its width. Colour sequences take no room and are kept.
fn fit(line: &str, room: usize) -> (String, usize) {
    let mut cut = String::with_capacity(line.len());
    let mut width = 0;
    let mut full = false;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            cut.push(c);
            for c in rest.by_ref() {
                cut.push(c);
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
            continue;
        }
        let wide = c.width().unwrap_or(0);
        full |= width + wide > room;
        if !full {
            width += wide;
            cut.push(c);
        }
    }
    (cut, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_to_the_terminal() {
        assert_eq!(fit("abcdef", 4), ("abcd".to_owned(), 4));
        assert_eq!(
            fit("\x1b[1mabc\x1b[0mdef", 4),
            ("\x1b[1mabc\x1b[0md".to_owned(), 4)
        );
        assert_eq!(fit("日本語", 5), ("日本".to_owned(), 4));
    }

    #[test]
    fn what_was_drawn_is_erased_row_by_row() {
        let mut screen = Screen::default();
        assert_eq!(
            screen.draw("", &["one".into(), "two".into()], 20),
            "\x1b[?25lone\ntwo\n"
        );
        assert_eq!(
            screen.draw("kept\n", &["three".into()], 20),
            "\x1b[2A\r\x1b[Jkept\nthree\n"
        );
        // Two columns: `three` now takes three rows.
        assert_eq!(screen.draw("", &[], 2), "\x1b[3A\r\x1b[J\x1b[?25h");
        assert_eq!(screen.draw("end\n", &[], 20), "end\n");
    }
}
