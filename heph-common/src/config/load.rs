//! The files of a configuration, read, merged and resolved.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layer::{Layer, Origin, Outcome};
use super::problem::Base;
use super::{Config, ConfigErrors, ConfigLayer, HomeSettings, Place, Plugin, Problem, Problems, yaml};
use crate::nearest;

/// The file whose directory is the root of a workspace.
pub const FILE_NAME: &str = ".hephconfig";

/// Configurations are written by hand; what is larger is something else.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions<'a> {
    /// The workspace; `None` outside of any.
    pub root: Option<&'a Path>,
    /// The user's layer, under the workspace's; it need not exist.
    pub user_layer: Option<&'a Path>,
    /// Names of profiles, each laid over what comes before.
    pub profiles: &'a [String],
    /// What `~` stands for.
    pub home_directory: Option<&'a Path>,
}

/// A configuration and where its values came from.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Loaded {
    /// All layers merged, with defaults filled in.
    pub config: Config,
    /// Every leaf, in the order of the documentation.
    pub origins: Vec<Origin>,
    /// The settings of the home: those of the user's layer alone, unless the workspace names the home.
    pub home: HomeSettings,
    /// Whether the workspace names the home, and so owns it.
    pub owns_home: bool,
    /// The files that were read, in the order in which they were laid over each other.
    pub files: Vec<PathBuf>,
}

/// The nearest directory, from the absolute path `start` upwards, that has a `.hephconfig`.
pub fn find_root(start: &Path) -> Option<PathBuf> {
    start
        .ancestors()
        .find(|directory| directory.join(FILE_NAME).is_file())
        .map(Path::to_owned)
}

/// The names in the text of `HEPH_PROFILES`: separated by commas, without the white space around them.
pub fn profile_names(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Reads the user's layer, `.hephconfig` and the profiles, in this order.
///
/// Fails with all problems of all files.
pub fn load(options: &LoadOptions<'_>) -> Result<Loaded, ConfigErrors> {
    load_and_check(options, |_, _| {})
}

/// As [`load`]; `check` says what is wrong with an entry of `plugins`, which only those know who have plugins.
pub fn load_and_check(
    options: &LoadOptions<'_>,
    check: impl Fn(&Plugin, &mut Problems),
) -> Result<Loaded, ConfigErrors> {
    let mut reader = Reader {
        check: &check,
        problems: Problems::default(),
        files: Vec::new(),
        unreadable: false,
    };
    let home = options.home_directory.map(Path::to_owned);
    let user_base = Base {
        root: None,
        home: home.clone(),
    };
    let user = options
        .user_layer
        .filter(|path| may_exist(path))
        .and_then(|path| reader.read(path, &path.display().to_string(), &user_base))
        .unwrap_or_default();

    let mut layers = Vec::new();
    if let Some(root) = options.root {
        let base = Base {
            root: Some(root.to_owned()),
            home,
        };
        layers.extend(reader.read(&root.join(FILE_NAME), FILE_NAME, &base));
        for name in options.profiles {
            layers.extend(reader.profile(root, name, &base));
        }
    }
    resolve(user, layers, reader)
}

/// Reads one text as a whole configuration; for tests of files that lie nowhere.
///
/// `file` is what messages call it.
pub fn parse(file: &str, text: &str, base: Base) -> Result<Loaded, ConfigErrors> {
    let mut reader = Reader {
        check: &|_, _| {},
        problems: Problems::default(),
        files: Vec::new(),
        unreadable: false,
    };
    let layer = reader.decode(file, text, &base);
    resolve(ConfigLayer::default(), vec![layer], reader)
}

fn resolve(user: ConfigLayer, layers: Vec<ConfigLayer>, reader: Reader<'_>) -> Result<Loaded, ConfigErrors> {
    let opted_out = user
        .telemetry
        .enabled
        .value
        .clone()
        .filter(|(enabled, _)| !enabled);
    let owns_home = layers.iter().any(|layer| layer.home_dir.value.is_some());
    let mut outcome = Outcome {
        origins: Vec::new(),
        problems: reader.problems,
    };
    let user_home = HomeSettings::of(&user.clone().resolve("", &mut Outcome::default()));
    let mut merged = user;
    for layer in layers {
        merged.merge(layer);
    }
    if opted_out.is_some() {
        merged.telemetry.enabled.value = opted_out;
    }
    if reader.unreadable {
        // What a file would have said is not missing.
        return outcome.problems.into_result(Loaded::default());
    }
    let config = merged.resolve("", &mut outcome);
    let home = if owns_home {
        HomeSettings::of(&config)
    } else {
        user_home
    };
    outcome.problems.into_result(Loaded {
        config,
        origins: outcome.origins,
        home,
        owns_home,
        files: reader.files,
    })
}

struct Reader<'a> {
    check: &'a dyn Fn(&Plugin, &mut Problems),
    problems: Problems,
    files: Vec<PathBuf>,
    /// Whether a file could not be read at all.
    unreadable: bool,
}

impl Reader<'_> {
    fn fail(&mut self, problem: Problem) {
        self.unreadable = true;
        self.problems.add(problem);
    }

    fn profile(&mut self, root: &Path, name: &str, base: &Base) -> Option<ConfigLayer> {
        if name.contains('/') || name.is_empty() || name.starts_with('.') {
            let message = format!("'{name}' is not the name of a profile");
            let problem =
                Problem::nowhere(message).hint("a profile <name> is the file <name>.hephconfig in the root");
            self.fail(problem);
            return None;
        }
        let file = format!("{name}{FILE_NAME}");
        let path = root.join(&file);
        if may_exist(&path) {
            return self.read(&path, &file, base);
        }
        let problem = Problem::nowhere(format!(
            "profile '{name}' does not exist: there is no {}",
            path.display()
        ));
        let there = profiles_in(root);
        self.problems
            .add(match nearest(name, there.iter().map(String::as_str)) {
                Some(near) => problem.hint(format!("did you mean '{near}'?")),
                None if there.is_empty() => problem,
                None => problem.hint(format!("profiles here: {}", there.join(", "))),
            });
        None
    }

    fn read(&mut self, path: &Path, name: &str, base: &Base) -> Option<ConfigLayer> {
        match read_file(path) {
            Ok(bytes) => {
                self.files.push(path.to_owned());
                match std::str::from_utf8(&bytes) {
                    Ok(text) => Some(self.decode(name, text, base)),
                    Err(error) => {
                        let place = bad_byte(name, &bytes, error.valid_up_to());
                        self.fail(Problem::at(&place, "this is not UTF-8"));
                        None
                    }
                }
            }
            Err(error) => {
                self.fail(Problem::nowhere(format!(
                    "cannot read {}: {error}",
                    path.display()
                )));
                None
            }
        }
    }

    fn decode(&mut self, name: &str, text: &str, base: &Base) -> ConfigLayer {
        let since = self.problems.count();
        self.problems.base = base.clone();
        let layer = match yaml::read(&Arc::from(name), text, &mut self.problems) {
            Ok(Some(value)) => ConfigLayer::decode(&value, &mut self.problems),
            Ok(None) => ConfigLayer::default(),
            Err(problem) => {
                self.fail(*problem);
                ConfigLayer::default()
            }
        };
        for plugin in layer.plugins.iter() {
            (self.check)(plugin, &mut self.problems);
        }
        self.problems.sort_since(since);
        layer
    }
}

/// What cannot be looked at is there: reading it tells why.
fn may_exist(path: &Path) -> bool {
    path.try_exists().unwrap_or(true)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > MAX_FILE_BYTES {
        let message = format!("it has {length} bytes, more than a configuration can have");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    fs::read(path)
}

fn bad_byte(file: &str, bytes: &[u8], at: usize) -> Place {
    let head = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default()).into_owned();
    let line = head.rsplit('\n').next().unwrap_or_default();
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place {
        file: file.into(),
        line: small(head.matches('\n').count() + 1),
        column: small(line.chars().count() + 1),
        length: 1,
        text: format!("{line}\u{fffd}").into(),
    }
}

fn profiles_in(root: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(FILE_NAME).map(str::to_owned))
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names
}
