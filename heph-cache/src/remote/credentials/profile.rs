//! Profiles: the files that `aws configure` writes.
//!
//! <https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{problem, read};
use crate::remote::access::Access;
use crate::remote::backend::RemoteError;

/// Keys and values of one section.
pub(super) type Section = BTreeMap<String, String>;

/// All profiles and sessions of both files.
#[derive(Clone, Default)]
pub(super) struct Profiles {
    profiles: BTreeMap<String, Section>,
    sessions: BTreeMap<String, Section>,
    /// The files, for messages.
    pub places: String,
}

impl Profiles {
    /// Reads `~/.aws/config` and `~/.aws/credentials`, or what is named instead. One that is not there is empty, unless it is named.
    pub(super) fn read(access: &Access) -> Result<Self, RemoteError> {
        let place = |variable: &str, name: &str| match access.setting(variable) {
            Some(path) => (Some(PathBuf::from(path)), true),
            None => (
                access
                    .variable("HOME")
                    .map(|home| PathBuf::from(home).join(".aws").join(name)),
                false,
            ),
        };
        let mut all = Self::default();
        let mut places = Vec::new();
        for (variable, name) in [
            ("AWS_CONFIG_FILE", "config"),
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        ] {
            let (Some(path), named) = place(variable, name) else {
                continue;
            };
            places.push(path.display().to_string());
            if !named && !path.exists() {
                continue;
            }
            all.add(&read(variable, &path)?, name == "credentials");
        }
        all.places = places.join(" and ");
        Ok(all)
    }

    /// What is in the file of credentials wins over the other one, which is read first.
    fn add(&mut self, text: &str, credentials: bool) {
        let mut section: Option<&mut Section> = None;
        for line in text.lines() {
            let nested = line.starts_with([' ', '\t']);
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                let words: Vec<&str> = header.split_whitespace().collect();
                let (kind, name) = match words.as_slice() {
                    ["default"] | ["profile", "default"] => (&mut self.profiles, "default"),
                    ["profile", name] if !credentials => (&mut self.profiles, *name),
                    ["sso-session", name] => (&mut self.sessions, *name),
                    [name] if credentials => (&mut self.profiles, *name),
                    _ => {
                        section = None;
                        continue;
                    }
                };
                section = Some(kind.entry(name.trim_matches(['"', '\'']).to_owned()).or_default());
            } else if let (Some(section), Some((key, value)), false) =
                (section.as_mut(), line.split_once('='), nested)
            {
                let value = value
                    .split(" #")
                    .next()
                    .unwrap_or_default()
                    .split(" ;")
                    .next()
                    .unwrap_or_default();
                section.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
            }
        }
    }

    /// The profile of that name.
    pub(super) fn profile(&self, name: &str) -> Option<&Section> {
        self.profiles.get(name)
    }

    /// The profile of that name, which somebody asked for.
    pub(super) fn named(&self, name: &str) -> Result<&Section, RemoteError> {
        self.profile(name)
            .ok_or_else(|| problem(format!("find the profile '{name}': it is not in {}", self.places)))
    }

    /// The session (`sso-session`) of that name.
    pub(super) fn session(&self, name: &str) -> Option<&Section> {
        self.sessions.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_of_both_files_become_one() {
        let mut all = Profiles::default();
        all.add(
            "[default]\nregion = eu-west-1 # here\n[profile ci]\nrole_arn=arn:x\nsource_profile = default\ns3 =\n  addressing_style = path\n[sso-session work]\nsso_region = us-east-2\n[services x]\nregion = no\n",
            false,
        );
        all.add(
            "; keys\n[default]\naws_access_key_id = AK\n[ci]\nrole_arn = arn:y\n",
            true,
        );
        let default = all.profile("default").unwrap();
        assert_eq!(
            (default["region"].as_str(), default["aws_access_key_id"].as_str()),
            ("eu-west-1", "AK")
        );
        let ci = all.profile("ci").unwrap();
        assert_eq!(
            (ci["role_arn"].as_str(), ci.get("addressing_style")),
            ("arn:y", None)
        );
        assert_eq!(all.session("work").unwrap()["sso_region"], "us-east-2");
        assert!(all.named("nobody").is_err());
    }
}
