//! What a remote cache is used with: the environment of who asks, and the settings of its entry.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use heph_common::config::{Credentials, RemoteCache};

/// The environment of a request and the settings of one cache, as [`super::connect`] needs them.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// Variables of the client; [`super::credential_variables`] says which are needed.
    pub environment: BTreeMap<String, String>,
    /// Which of them are this cache's.
    pub credentials: Credentials,
    /// `caches.<name>.region`
    pub region: Option<String>,
    /// `caches.<name>.endpoint`
    pub endpoint: Option<String>,
    /// `caches.<name>.pathStyle`
    pub path_style: Option<bool>,
    /// `caches.<name>.caFile`
    pub ca_file: Option<PathBuf>,
    /// `caches.<name>.ttl`
    pub ttl: Option<Duration>,
    /// `caches.<name>.concurrency`: how many requests at once there may be.
    pub concurrency: Option<NonZeroU32>,
}

impl Access {
    /// The settings of `cache` with the variables of who asks.
    pub fn new(cache: &RemoteCache, environment: BTreeMap<String, String>) -> Self {
        Self {
            environment,
            credentials: cache.credentials.clone(),
            region: cache.region.clone(),
            endpoint: cache.endpoint.clone(),
            path_style: cache.path_style,
            ca_file: cache.ca_file.clone(),
            ttl: cache.ttl,
            concurrency: cache.concurrency,
        }
    }

    /// With these variables and no settings.
    #[cfg(test)]
    pub(crate) fn with(variables: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            environment: variables.iter().map(owned).collect(),
            credentials: Credentials::Environment,
            region: None,
            endpoint: None,
            path_style: None,
            ca_file: None,
            ttl: None,
            concurrency: None,
        }
    }

    /// A variable that every cache shares: proxies, certificates, the home directory. An empty one counts as none.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A variable that is this cache's own: with `envPrefix`, the one that begins with it, and never the bare one.
    pub fn secret(&self, name: &str) -> Option<&str> {
        match &self.credentials {
            Credentials::EnvPrefix(prefix) => self.variable(&format!("{prefix}{name}")),
            Credentials::Environment | Credentials::Profile(_) => self.variable(name),
        }
    }

    /// A variable that is no secret, such as a region: this cache's own, else the bare one.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.secret(name).or_else(|| self.variable(name))
    }

    /// How many requests at once make sense, when the backend thinks of `usual`.
    pub(crate) fn parallel(&self, usual: usize) -> usize {
        self.concurrency
            .map_or(usual, |given| usize::try_from(given.get()).unwrap_or(usual))
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("environment", &self.environment.keys().collect::<Vec<_>>())
            .field("credentials", &self.credentials)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("path_style", &self.path_style)
            .field("ca_file", &self.ca_file)
            .field("ttl", &self.ttl)
            .field("concurrency", &self.concurrency)
            .finish()
    }
}
