//! `options` of the plugins in `.hephconfig`.

use heph_common::config::{self, Base, Fields, Plugin, Problems, Value};
use heph_common::ignore::Skip;

use crate::problem::{Place, Problem};
use crate::tree::{BuildPatterns, pattern::Pattern};

/// Options of the buildfile plugin.
pub(super) struct BuildFileOptions {
    pub patterns: BuildPatterns,
    pub default_driver: Option<String>,
}

/// Reads the options of the buildfile plugin.
pub(super) fn build_file(plugin: &Plugin, problems: &mut Problems) -> Option<BuildFileOptions> {
    let empty = nothing(plugin);
    let mut fields = Fields::of(plugin.options.as_ref().unwrap_or(&empty), problems);
    let names = fields.entry("patterns").map(|entry| &entry.value);
    let skip = fields.entry("skip").map(|entry| &entry.value);
    let default_driver = fields.get::<String>("defaultDriver");
    let names = each(names, fields.problems(), |name| {
        if name.contains('/') {
            return Err("a pattern of file names has no '/'".to_owned());
        }
        Pattern::new(name).map(drop).map_err(|error| error.to_string())
    });
    let skip = each(skip, fields.problems(), |pattern| {
        Skip::check(pattern).map_err(|error| error.to_string())
    });
    fields.finish();
    let names = names.unwrap_or_else(|| BuildPatterns::DEFAULT.map(str::to_owned).to_vec());
    let skip = Skip::new(&skip.unwrap_or_default()).ok()?;
    Some(BuildFileOptions {
        patterns: BuildPatterns::new(&names, skip).ok()?,
        default_driver,
    })
}

/// Reads the options of the plugins that run commands: the directories that are appended to PATH.
pub(super) fn command(plugin: &Plugin, problems: &mut Problems) -> Vec<String> {
    let empty = nothing(plugin);
    let mut fields = Fields::of(plugin.options.as_ref().unwrap_or(&empty), problems);
    let path = fields.entry("path").map(|entry| &entry.value);
    let path = each(path, fields.problems(), |directory| {
        match directory.starts_with('/') && !directory.contains(':') {
            true => Ok(()),
            false => Err(format!("'{directory}' is not an absolute directory")),
        }
    });
    fields.finish();
    path.unwrap_or_default()
}

/// Refuses options of a plugin that has none.
pub(super) fn none(plugin: &Plugin, problems: &mut Problems) {
    let Some(config::Data::Map(entries)) = plugin.options.as_ref().map(|options| &options.data) else {
        return;
    };
    for entry in entries {
        let message = format!("the plugin '{}' has no options", plugin.source.identifier());
        problems.add(config::Problem::at(&entry.place, message));
    }
}

/// The texts of a list, each checked; `None` when there is no list.
fn each(
    value: Option<&Value>,
    problems: &mut Problems,
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<Vec<String>> {
    let value = value?;
    let texts = <Vec<String> as config::Decode>::decode(value, problems)?;
    let config::Data::List(items) = &value.data else {
        return Some(texts);
    };
    for (text, item) in texts.iter().zip(items) {
        if let Err(message) = check(text) {
            problems.add(config::Problem::at(&item.place, message));
        }
    }
    Some(texts)
}

fn nothing(plugin: &Plugin) -> Value {
    Value {
        data: config::Data::Null,
        place: plugin.place.clone(),
    }
}

/// An empty collection; paths in options are used as they are.
pub(super) fn collect() -> Problems {
    Problems::new(Base::default())
}

/// A problem of the configuration as one of ours: the line it shows becomes part of the message.
pub(super) fn convert(problem: config::Problem) -> Problem {
    let hint = problem.hint.clone();
    let place = problem.place.as_ref().map(|place| Place {
        file: place.file.to_string(),
        line: place.line,
        column: place.column,
    });
    let shown = config::Problem {
        hint: None,
        ..problem
    }
    .to_string();
    // The place is said by `place`.
    let message = match &place {
        Some(place) => shown
            .strip_prefix(&format!("{place}: "))
            .map(str::to_owned)
            .unwrap_or(shown),
        None => shown,
    };
    Problem { message, place, hint }
}
