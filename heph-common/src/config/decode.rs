//! Values to typed settings, with every problem collected.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::value::{Data, Entry, Value};
use super::{Problem, Problems};
use crate::package::printable;
use crate::{ByteSize, duration};

/// A type that a value of a configuration can be.
pub trait Decode: Sized {
    /// The value as this type, or `None` after adding what is wrong with it.
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self>;
}

/// The keys of a mapping, taken one by one. What is left at the end is unknown.
#[derive(Debug)]
pub struct Fields<'v, 'p> {
    entries: &'v [Entry],
    known: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'v, 'p> Fields<'v, 'p> {
    /// The keys of `value`. Nothing counts as an empty mapping; anything else adds a problem and is one too.
    pub fn of(value: &'v Value, problems: &'p mut Problems) -> Self {
        let entries = match &value.data {
            Data::Map(entries) => entries.as_slice(),
            Data::Null => &[],
            Data::Scalar { .. } | Data::List(_) => {
                problems.add(value.unexpected("a mapping of keys"));
                &[]
            }
        };
        Self {
            entries,
            known: Vec::new(),
            problems,
        }
    }

    /// The entry of a key, which is known from now on.
    pub fn entry(&mut self, key: &'static str) -> Option<&'v Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The decoded value of a key; `None` when it is absent or wrong.
    pub fn get<T: Decode>(&mut self, key: &'static str) -> Option<T> {
        let entry = self.entry(key)?;
        T::decode(&entry.value, self.problems)
    }

    /// The problems so far.
    pub fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        for entry in self.entries {
            if !self.known.contains(&entry.key.as_str()) {
                let message = format!("unknown key '{}'", printable(&entry.key));
                let problem = Problem::at(&entry.place, message);
                self.problems
                    .add(problem.nearest_hint(&entry.key, self.known.iter().copied()));
            }
        }
    }
}

/// The text of a scalar that is not empty, with a problem otherwise.
pub(super) fn text<'v>(value: &'v Value, expected: &str, problems: &mut Problems) -> Option<&'v str> {
    match value.text() {
        Some(text) if !text.is_empty() => Some(text),
        _ => {
            problems.add(value.unexpected(expected));
            None
        }
    }
}

/// Runs `check` on every text of a list; what it returns is added at the place of that text.
pub(super) fn check_each(value: &Value, problems: &mut Problems, check: impl Fn(&str) -> Result<(), String>) {
    let Data::List(items) = &value.data else { return };
    for item in items {
        if let Some(Err(message)) = item.text().map(&check) {
            problems.add(Problem::at(&item.place, message));
        }
    }
}

impl Decode for Value {
    fn decode(value: &Value, _: &mut Problems) -> Option<Self> {
        Some(value.clone())
    }
}

impl Decode for String {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.data {
            Data::Scalar { text, quoted: false } if matches!(text.as_str(), "true" | "false") => {
                problems.add(value.unexpected("a text").hint(format!("quote it: \"{text}\"")));
                None
            }
            _ => text(value, "a text", problems).map(str::to_owned),
        }
    }
}

impl Decode for bool {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let problem = match &value.data {
            Data::Scalar { text, quoted: false } => match text.as_str() {
                "true" => return Some(true),
                "false" => return Some(false),
                _ => value.unexpected("true or false"),
            },
            _ => value.unexpected("true or false"),
        };
        problems.add(with_truth_hint(problem, value.text()));
        None
    }
}

/// Names the truth value that other dialects of YAML would have read.
pub(super) fn with_truth_hint(problem: Problem, text: Option<&str>) -> Problem {
    let cure = match text.unwrap_or_default().to_ascii_lowercase().as_str() {
        "yes" | "y" | "on" | "true" | "1" => "true",
        "no" | "n" | "off" | "false" | "0" => "false",
        _ => return problem,
    };
    problem.hint(format!("write {cure}, without quotes"))
}

/// A number that is not quoted.
fn number(value: &Value, expected: &str, problems: &mut Problems) -> Option<u64> {
    match &value.data {
        Data::Scalar { text, quoted: false } => match text.parse() {
            Ok(number) => return Some(number),
            Err(_) => problems.add(value.unexpected(expected)),
        },
        _ => problems.add(value.unexpected(expected)),
    }
    None
}

impl Decode for u64 {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        number(value, "a whole number", problems)
    }
}

impl Decode for u32 {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let wide = number(value, "a whole number", problems)?;
        let narrow = Self::try_from(wide).ok();
        if narrow.is_none() {
            problems.add(value.unexpected("a smaller number"));
        }
        narrow
    }
}

impl Decode for NonZeroU32 {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let number = Self::new(u32::decode(value, problems)?);
        if number.is_none() {
            problems.add(value.unexpected("a number above 0"));
        }
        number
    }
}

impl Decode for ByteSize {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = text(value, "a size such as 65536 or 20 GiB", problems)?;
        let size = text.parse().ok();
        if size.is_none() {
            problems.add(value.unexpected("a size such as 65536, 512 KiB, 1.5 MB or 20 GiB"));
        }
        size
    }
}

impl Decode for Duration {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        const EXPECTED: &str = "a duration such as 250ms, 30s, 5m, 1h30m or 7d";
        let text = text(value, EXPECTED, problems)?;
        match duration::parse(text) {
            Ok(duration) => Some(duration),
            Err(_) => {
                let problem = value.unexpected(EXPECTED);
                problems.add(match text.bytes().all(|b| b.is_ascii_digit()) {
                    true => problem.hint(format!("the unit is missing: {text}s, {text}m or {text}h")),
                    false => problem,
                });
                None
            }
        }
    }
}

/// Absolute: `~` and relative paths are resolved against the base of the problems.
impl Decode for PathBuf {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let text = text(value, "a path", problems)?;
        let resolved = if text == "~" || text.starts_with("~/") {
            let below = text.trim_start_matches('~').trim_start_matches('/');
            match &problems.base.home {
                Some(home) => Ok(if below.is_empty() {
                    home.clone()
                } else {
                    home.join(below)
                }),
                None => Err("there is no home directory that '~' could stand for"),
            }
        } else if text.starts_with('~') {
            Err("'~' stands for the own home directory only, as in ~/cache")
        } else if text.starts_with('/') {
            Ok(Self::from(text))
        } else {
            let relative = text.trim_start_matches("./");
            match &problems.base.root {
                Some(root) => Ok(root.join(relative)),
                None => Err("a path outside of a workspace is absolute or begins with '~/'"),
            }
        };
        resolved
            .map_err(|message| problems.add(Problem::at(&value.place, message)))
            .ok()
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        T::decode(value, problems).map(Some)
    }
}

/// Nothing is an empty list.
impl<T: Decode> Decode for Vec<T> {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        match &value.data {
            Data::Null => Some(Self::new()),
            Data::List(items) => {
                let decoded: Vec<Option<T>> = items.iter().map(|item| T::decode(item, problems)).collect();
                decoded.into_iter().collect()
            }
            Data::Scalar { text, .. } => {
                problems.add(value.unexpected("a list").hint(format!("write [{text}]")));
                None
            }
            Data::Map(_) => {
                problems.add(value.unexpected("a list"));
                None
            }
        }
    }
}

/// Nothing is an empty mapping.
impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        let entries = match &value.data {
            Data::Null => &[],
            Data::Map(entries) => entries.as_slice(),
            Data::Scalar { .. } | Data::List(_) => {
                problems.add(value.unexpected("a mapping of keys"));
                return None;
            }
        };
        let decoded: Vec<Option<(String, T)>> = entries
            .iter()
            .map(|entry| Some((entry.key.clone(), T::decode(&entry.value, problems)?)))
            .collect();
        decoded.into_iter().collect()
    }
}
