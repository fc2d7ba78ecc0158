//! Makes texts the same on every machine and in every run.

use crate::Environment;

/// Replaces paths, times, process ids and digests.
#[derive(Clone, Debug)]
pub struct Redactor {
    paths: Vec<(String, &'static str)>,
}

impl Redactor {
    pub(crate) fn new(environment: &Environment) -> Self {
        let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        Self {
            paths: vec![
                (text(environment.root()), "<root>"),
                (text(environment.home()), "<home>"),
                (text(environment.user_home()), "<user>"),
                (
                    text(environment.beside("")).trim_end_matches('/').to_owned(),
                    "<tmp>",
                ),
            ],
        }
    }

    /// The text with `<root>`, `<home>`, `<time>`, `<digest>`, `<pid>` and the like in place of what varies.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (path, name) in &self.paths {
            text = text.replace(path.as_str(), name);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            if word == 0 {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..next]);
                rest = &rest[next..];
                continue;
            }
            let (token, after) = rest.split_at(word);
            out.push_str(&replacement(token, &out));
            rest = after;
        }
        out
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '.' || c == 'µ'
}

fn replacement(token: &str, before: &str) -> String {
    let (bare, end) = match token.strip_suffix('.') {
        Some(bare) => (bare, "."),
        None => (token, ""),
    };
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let name = if [64, 16, 12].contains(&bare.len()) && bare.chars().all(|c| c.is_ascii_hexdigit()) {
        "<digest>"
    } else if is_duration(bare) {
        "<time>"
    } else if digits(bare) && before.ends_with("pid ") {
        "<pid>"
    } else if bare == env!("CARGO_PKG_VERSION") {
        "<version>"
    } else {
        return token.to_owned();
    };
    format!("{name}{end}")
}

/// `12ms`, `1.5s`, `2m`.
fn is_duration(token: &str) -> bool {
    let number = token.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = &token[number.len()..];
    ["s", "ms", "us", "µs"].contains(&unit) && number.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_digests_and_process_ids_are_replaced_and_nothing_else() {
        let redactor = Redactor {
            paths: vec![("/x/y".to_owned(), "<root>")],
        };
        let digest = "0123456789abcdef".repeat(4);
        let text = format!("/x/y/z took 1.25s (7ms), pid 12: {digest} 3 of 4 in a.s");
        assert_eq!(
            redactor.redact(&text),
            "<root>/z took <time> (<time>), pid <pid>: <digest> 3 of 4 in a.s"
        );
    }
}
