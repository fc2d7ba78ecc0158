//! `plugins`: what is registered, by where it comes from.

use serde::{Deserialize, Serialize};

use super::layer::{Layer, Outcome};
use super::value::Data;
use super::{Fields, Place, Problem, Problems, Value};
use crate::package::printable;

/// One entry of `plugins`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plugin {
    /// Where it comes from; what entries of several files are matched by.
    pub source: PluginSource,
    /// Where the identifier stands.
    pub place: Place,
    /// `options`, a mapping that the plugin reads with [`Fields`].
    pub options: Option<Value>,
}

/// Where a plugin comes from.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PluginSource {
    /// `builtin: <name>`
    Builtin(String),
    /// `path: <manifest>`, as it is written: relative to the workspace root, absolute, or behind `~/`.
    Path(String),
    /// `url: <manifest>`
    Url {
        /// Where the manifest is fetched.
        url: String,
        /// SHA-256 of the manifest, 64 lower-case hex digits.
        checksum: Option<String>,
    },
}

impl PluginSource {
    /// The value of `builtin`, `path` or `url`.
    pub fn identifier(&self) -> &str {
        match self {
            Self::Builtin(text) | Self::Path(text) | Self::Url { url: text, .. } => text,
        }
    }

    /// The key of the identifier: `builtin`, `path` or `url`.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Builtin(_) => "builtin",
            Self::Path(_) => "path",
            Self::Url { .. } => "url",
        }
    }

    fn same(&self, other: &Self) -> bool {
        self.key() == other.key() && self.identifier() == other.identifier()
    }
}

/// The entries in order; matching ones are replaced in place, new ones come behind.
#[derive(Clone, Debug, Default)]
pub(super) struct PluginsLayer(Vec<Plugin>);

impl PluginsLayer {
    /// What one file has.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.0.iter()
    }
}

impl Layer for PluginsLayer {
    type Resolved = Vec<Plugin>;

    fn decode(value: &Value, problems: &mut Problems) -> Self {
        let mut plugins: Vec<Plugin> = Vec::new();
        let items = match &value.data {
            Data::Null => &[],
            Data::List(items) => items.as_slice(),
            Data::Scalar { .. } | Data::Map(_) => {
                problems.add(
                    value
                        .unexpected("a list of plugins")
                        .hint("each begins with '- builtin:'"),
                );
                &[]
            }
        };
        for item in items {
            let Some(plugin) = plugin(item, problems) else {
                continue;
            };
            match plugins.iter().find(|other| other.source.same(&plugin.source)) {
                Some(first) => {
                    let message = format!(
                        "{} '{}' is given twice, first in line {}",
                        plugin.source.key(),
                        printable(plugin.source.identifier()),
                        first.place.line
                    );
                    problems.add(Problem::at(&plugin.place, message));
                }
                None => plugins.push(plugin),
            }
        }
        Self(plugins)
    }

    fn merge(&mut self, over: Self) {
        for plugin in over.0 {
            match self.0.iter_mut().find(|own| own.source.same(&plugin.source)) {
                Some(own) => *own = plugin,
                None => self.0.push(plugin),
            }
        }
    }

    fn resolve(self, key: &str, outcome: &mut Outcome) -> Vec<Plugin> {
        for (index, plugin) in self.0.iter().enumerate() {
            let path = format!("{key}[{index}]");
            let identifier = plugin.source.identifier().to_owned();
            outcome.leaf(
                &format!("{path}.{}", plugin.source.key()),
                identifier,
                Some(&plugin.place),
            );
            if let PluginSource::Url {
                checksum: Some(checksum),
                ..
            } = &plugin.source
            {
                outcome.leaf(
                    &format!("{path}.checksum"),
                    format!("sha256:{checksum}"),
                    Some(&plugin.place),
                );
            }
            if let Some(Value {
                data: Data::Map(entries),
                ..
            }) = &plugin.options
            {
                for entry in entries {
                    let path = format!("{path}.options.{}", entry.key);
                    outcome.leaf(&path, entry.value.show(), Some(&entry.value.place));
                }
            }
        }
        self.0
    }
}

fn plugin(item: &Value, problems: &mut Problems) -> Option<Plugin> {
    if !matches!(item.data, Data::Map(_)) {
        let problem = item.unexpected("a plugin with one of the keys builtin, path and url");
        problems.add(match item.text() {
            Some(text) => problem.hint(format!("write 'builtin: {text}'")),
            None => problem,
        });
        return None;
    }
    let mut fields = Fields::of(item, problems);
    let [builtin, path, url] = ["builtin", "path", "url"].map(|key| fields.entry(key));
    let checksum = fields.entry("checksum");
    let options = fields.entry("options").map(|entry| &entry.value);
    let given: Vec<_> = [builtin, path, url].into_iter().flatten().collect();
    let identifier = match given.as_slice() {
        [only] => super::decode::text(
            &only.value,
            &format!("the {} of a plugin", noun(&only.key)),
            fields.problems(),
        ),
        [first, second, ..] => {
            let message = format!(
                "a plugin has one of builtin, path and url: '{}' is there too",
                first.key
            );
            fields.problems().add(Problem::at(&second.place, message));
            None
        }
        [] => {
            let message = "a plugin needs one of the keys builtin, path and url";
            fields.problems().add(Problem::at(&item.place, message));
            None
        }
    };
    if let (Some(url), Some(text)) = (url, identifier)
        && !text.starts_with("https://")
        && !text.starts_with("http://")
    {
        fields
            .problems()
            .add(url.value.unexpected("a URL that begins with https:// or http://"));
    }
    let hex = checksum.and_then(|entry| {
        if url.is_none() {
            let message = "a checksum is for a 'url' only";
            fields.problems().add(Problem::at(&entry.place, message));
            return None;
        }
        let hex = sha256(entry.value.text().unwrap_or_default());
        if hex.is_none() {
            let expected = "sha256: and 64 lower-case hex digits";
            fields.problems().add(entry.value.unexpected(expected));
        }
        hex
    });
    if let Some(options) = options
        && !matches!(options.data, Data::Map(_) | Data::Null)
    {
        fields.problems().add(options.unexpected("a mapping of options"));
    }
    fields.finish();
    let text = identifier?.to_owned();
    let source = match (builtin, path) {
        (Some(_), _) => PluginSource::Builtin(text),
        (None, Some(_)) => PluginSource::Path(text),
        (None, None) => PluginSource::Url {
            url: text,
            checksum: hex,
        },
    };
    Some(Plugin {
        source,
        place: given.first()?.value.place.clone(),
        options: options.filter(|options| options.data != Data::Null).cloned(),
    })
}

fn noun(key: &str) -> &str {
    match key {
        "builtin" => "name",
        other => other,
    }
}

/// The digits of `sha256:<hex>`.
fn sha256(text: &str) -> Option<String> {
    let hex = text.strip_prefix("sha256:")?;
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (hex.len() == 64 && hex.bytes().all(digit)).then(|| hex.to_owned())
}
