//! Text in double quotes, as addresses and queries have it: `\"`, `\\`, `\n`, `\r`, `\t` and `\u{hex}` inside.

use std::fmt;

use crate::package::{Flaw, found};

/// Writes `text` in quotes.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    use fmt::Write;
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

/// Reads what follows an opening quote at the end of `text[..start]`, up to the closing one.
///
/// Returns the text and the offset behind the closing quote.
pub(crate) fn read(text: &str, start: usize) -> Result<(String, usize), Flaw> {
    let mut value = String::new();
    let mut chars = text.get(start..).unwrap_or_default().char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, start + at + 1)),
            '\\' => match escape(&mut chars) {
                Some(c) => value.push(c),
                None => {
                    let problem = "expected one of the escapes \\\" \\\\ \\n \\r \\t \\u{hex}";
                    return Err(Flaw::new(start + at, problem));
                }
            },
            c => value.push(c),
        }
    }
    let problem = format!("expected a closing '\"', found {}", found(text, text.len()));
    Err(Flaw::new(text.len(), problem))
}

/// The character that stands for what follows a backslash.
fn escape(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    match chars.next()?.1 {
        c @ ('"' | '\\') => Some(c),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'u' => {
            let (hex, _) = chars.as_str().strip_prefix('{')?.split_once('}')?;
            let valid = (1..=6).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
            let c = char::from_u32(u32::from_str_radix(hex, 16).ok().filter(|_| valid)?)?;
            chars.nth(hex.len() + 1)?;
            Some(c)
        }
        _ => None,
    }
}
