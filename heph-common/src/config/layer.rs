//! Layers of settings: what each file says, one over the other, and what comes out.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::decode::{Decode, Fields};
use super::{Place, Problems, Value};
use crate::{ByteSize, duration};

/// Where a setting came from.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Source {
    /// No file sets it.
    Default,
    /// A file, as messages name it, and the line in it.
    File {
        /// Relative to the workspace root where it lies there.
        file: String,
        /// Counted from 1.
        line: u32,
    },
}

impl From<&Place> for Source {
    fn from(place: &Place) -> Self {
        Self::File {
            file: place.file.to_string(),
            line: place.line,
        }
    }
}

/// One leaf of the merged configuration.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Path of the key, such as `caches.shared.write`.
    pub key: String,
    /// The value on one line, without passwords; `unset` where nothing is set and there is no default.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// A part of the configuration as one file, or several merged ones, give it.
pub(super) trait Layer: Default {
    /// The part with all defaults filled in.
    type Resolved;

    /// Reads the part; what is wrong is added to the problems and left out.
    fn decode(value: &Value, problems: &mut Problems) -> Self;

    /// Lays another one over this one.
    fn merge(&mut self, over: Self);

    /// Fills in the defaults; `key` is the path of this part.
    fn resolve(self, key: &str, outcome: &mut Outcome) -> Self::Resolved;
}

/// What comes out of resolving, besides the values.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub origins: Vec<Origin>,
    pub problems: Problems,
}

impl Outcome {
    pub(super) fn leaf(&mut self, key: &str, value: String, place: Option<&Place>) {
        self.origins.push(Origin {
            key: key.to_owned(),
            value,
            source: place.map_or(Source::Default, Source::from),
        });
    }
}

/// The path of `key` within `parent`.
pub(super) fn joined(parent: &str, key: &str) -> String {
    if parent.is_empty() {
        key.to_owned()
    } else {
        format!("{parent}.{key}")
    }
}

/// One leaf that may be set, with the place of its value.
#[derive(Clone, Debug)]
pub(super) struct Setting<T> {
    /// What it is set to.
    pub value: Option<(T, Place)>,
    /// Whether it is set to something that was reported as wrong, and so is not missing.
    pub wrong: bool,
}

impl<T> Default for Setting<T> {
    fn default() -> Self {
        Self {
            value: None,
            wrong: false,
        }
    }
}

impl<T: Decode> Setting<T> {
    pub(super) fn take(fields: &mut Fields<'_, '_>, key: &'static str) -> Self {
        let place = fields.entry(key).map(|entry| entry.value.place.clone());
        let there = place.is_some();
        let value = fields.get(key).zip(place);
        Self {
            wrong: there && value.is_none(),
            value,
        }
    }
}

impl<T: Show> Setting<T> {
    pub(super) fn merge(&mut self, over: Self) {
        if over.value.is_some() || over.wrong {
            *self = over;
        }
    }

    pub(super) fn resolve(self, default: T, key: &str, outcome: &mut Outcome) -> T {
        let (value, place) = match self.value {
            Some((value, place)) => (value, Some(place)),
            None => (default, None),
        };
        outcome.leaf(key, value.show(), place.as_ref());
        value
    }
}

/// A value as a line of `heph inspect config`.
pub(super) trait Show {
    fn show(&self) -> String;
}

impl Show for String {
    fn show(&self) -> String {
        self.clone()
    }
}

impl Show for bool {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Show for u32 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Show for NonZeroU32 {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Show for ByteSize {
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Show for Duration {
    fn show(&self) -> String {
        duration::Shown(*self).to_string()
    }
}

impl Show for PathBuf {
    fn show(&self) -> String {
        Path::display(self).to_string()
    }
}

impl<T: Show> Show for Option<T> {
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "unset".to_owned(), Show::show)
    }
}

impl<T: Show> Show for Vec<T> {
    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(|item| format!("{:?}", item.show())).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Parts by name, as `caches` has them: merged name by name, each with the place of its first key.
#[derive(Clone, Debug)]
pub(super) struct Named<L>(pub BTreeMap<String, (L, Place)>);

impl<L> Default for Named<L> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// Defines a part of the configuration: a struct with the values, and its layer.
///
/// A line is `field: Type = "key", default;`, where `check function` before the semicolon looks at a value that is
/// there. Lines within `@sections` are `field: Type = "key", Layer;`.
macro_rules! section {
    (
        $(#[$meta:meta])*
        $name:ident from $layer:ident {
            $( $(#[$field_meta:meta])* $field:ident: $type:ty = $key:literal, $default:expr $(, check $check:path)?; )*
            $( @sections { $( $(#[$part_meta:meta])* $part:ident: $part_type:ty = $part_key:literal, $part_layer:ty; )* } )?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $( $(#[$field_meta])* #[serde(rename = $key)] pub $field: $type, )*
            $($( $(#[$part_meta])* #[serde(rename = $part_key)]
                pub $part: $part_type, )*)?
        }

        impl Default for $name {
            fn default() -> Self {
                use $crate::config::layer::Layer;
                $layer::default().resolve("", &mut $crate::config::layer::Outcome::default())
            }
        }

        #[derive(Clone, Debug, Default)]
        pub(in crate::config) struct $layer {
            $( pub(in crate::config) $field: $crate::config::layer::Setting<$type>, )*
            $($( pub(in crate::config) $part: $part_layer, )*)?
        }

        impl $crate::config::layer::Layer for $layer {
            type Resolved = $name;

            fn decode(value: &$crate::config::Value, problems: &mut $crate::config::Problems) -> Self {
                let mut fields = $crate::config::decode::Fields::of(value, problems);
                let layer = Self {
                    $( $field: {
                        $( if let Some(entry) = fields.entry($key) { $check(&entry.value, fields.problems()); } )?
                        $crate::config::layer::Setting::take(&mut fields, $key)
                    }, )*
                    $($( $part: match fields.entry($part_key) {
                        Some(entry) => $crate::config::layer::Layer::decode(&entry.value, fields.problems()),
                        None => Default::default(),
                    }, )*)?
                };
                fields.finish();
                layer
            }

            fn merge(&mut self, over: Self) {
                $( self.$field.merge(over.$field); )*
                $($( $crate::config::layer::Layer::merge(&mut self.$part, over.$part); )*)?
            }

            fn resolve(self, key: &str, outcome: &mut $crate::config::layer::Outcome) -> $name {
                use $crate::config::layer::joined;
                $name {
                    $( $field: self.$field.resolve($default, &joined(key, $key), outcome), )*
                    $($( $part: $crate::config::layer::Layer::resolve(self.$part, &joined(key, $part_key), outcome), )*)?
                }
            }
        }
    };
}

/// Defines a setting that is one of some words.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $( $(#[$variant_meta])* #[serde(rename = $word)] $variant, )*
        }

        impl $name {
            /// The words, in the order of the documentation.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word as it is written.
            pub const fn word(self) -> &'static str {
                match self { $( Self::$variant => $word, )* }
            }

            /// The choice that a word stands for.
            pub fn named(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$variant), )* _ => None }
            }
        }

        impl $crate::config::Decode for $name {
            fn decode(value: &$crate::config::Value, problems: &mut $crate::config::Problems) -> Option<Self> {
                let choice = value.text().and_then(Self::named);
                if choice.is_none() {
                    let (last, others) = Self::WORDS.split_last()?;
                    let problem = value.unexpected(&format!("{} or {last}", others.join(", ")));
                    problems.add(match value.text().and_then(|text| $crate::nearest(text, Self::WORDS.iter().copied())) {
                        Some(near) => problem.hint(format!("did you mean '{near}'?")),
                        None if Self::WORDS.contains(&"true") => {
                            $crate::config::decode::with_truth_hint(problem, value.text())
                        }
                        None => problem,
                    });
                }
                choice
            }
        }

        impl $crate::config::layer::Show for $name {
            fn show(&self) -> String {
                self.word().to_owned()
            }
        }
    };
}

pub(super) use {choice, section};
