//! A cache as its user defines it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use heph_cache::remote::{Access, Backend, Location, RemoteError, connect, credential_variables};
use heph_common::config::{CacheUri, Credentials};

/// The entry of a cache and the environment that it is used in.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub name: String,
    uri: String,
    environment: BTreeMap<String, String>,
    endpoint: Option<String>,
    authority: Option<PathBuf>,
    credentials: Credentials,
    pub ttl: Option<Duration>,
    /// Whether the server keeps the first of two objects when it is asked to.
    pub conditional: bool,
    /// Whether the server forgets uploads that break off.
    pub whole: bool,
    /// Whether the server has faults of its own when it is asked for much at once.
    pub weak: bool,
    /// Largest object that its checks write.
    pub largest: u64,
}

impl Subject {
    pub(super) fn new(name: &str, uri: &str) -> Self {
        Self {
            name: name.to_owned(),
            uri: uri.to_owned(),
            environment: BTreeMap::new(),
            endpoint: None,
            authority: None,
            credentials: Credentials::Environment,
            ttl: None,
            conditional: name == "file",
            whole: true,
            weak: false,
            largest: 64 << 20,
        }
    }

    pub(super) fn at(mut self, uri: &str) -> Self {
        self.uri = uri.to_owned();
        self
    }

    pub(super) fn endpoint(mut self, endpoint: &str) -> Self {
        self.endpoint = Some(endpoint.to_owned());
        self
    }

    pub(super) fn with(mut self, variable: &str, value: &str) -> Self {
        self.environment.insert(variable.to_owned(), value.to_owned());
        self
    }

    pub(super) fn without(mut self, variable: &str) -> Self {
        self.environment.remove(variable);
        self
    }

    /// With `credentials: {envPrefix}`, and a variable of that prefix alone.
    pub(super) fn prefixed(mut self, prefix: &str, variable: &str, value: &str) -> Self {
        self.credentials = Credentials::EnvPrefix(prefix.to_owned());
        self.environment
            .insert(format!("{prefix}{variable}"), value.to_owned());
        self.environment.remove(variable);
        self
    }

    pub(super) fn authority(mut self, certificate: &Path) -> Self {
        self.authority = Some(certificate.to_owned());
        self
    }

    pub(super) fn without_authority(mut self) -> Self {
        self.authority = None;
        self
    }

    pub(super) fn conditional(mut self) -> Self {
        self.conditional = true;
        self
    }

    /// With a server that keeps what it got of an upload that breaks off.
    pub(super) fn keeping_halves(mut self) -> Self {
        self.whole = false;
        self
    }

    /// With a server that has faults of its own when it is asked for much at once.
    pub(super) fn weak(mut self) -> Self {
        self.weak = true;
        self
    }

    pub(super) fn location(&self) -> Location {
        Location::parse(&CacheUri::parse(&self.uri).unwrap()).unwrap()
    }

    /// What no message may contain.
    pub(super) fn secrets(&self) -> Vec<String> {
        let secret = |name: &str| {
            ["KEY", "PASSWORD", "TOKEN", "SECRET", "AUTH"]
                .iter()
                .any(|part| name.contains(part))
        };
        let named = self
            .environment
            .iter()
            .filter(|(name, _)| secret(name) && !name.ends_with("_ID"));
        let in_uri = self
            .uri
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('@'));
        let password = in_uri
            .and_then(|(login, _)| login.split_once(':'))
            .map(|(_, password)| password.to_owned());
        let proxies = ["HTTP_PROXY", "all_proxy"].iter().filter_map(|name| {
            let (login, _) = self.environment.get(*name)?.rsplit_once('@')?;
            Some(login.rsplit_once(':')?.1.to_owned())
        });
        let named = named.map(|(_, value)| value.clone());
        named.chain(password).chain(proxies).collect()
    }

    pub(super) fn connect(&self) -> Result<Arc<dyn Backend>, RemoteError> {
        let location = self.location();
        // Only what the client would send.
        let names = credential_variables(&location, &self.credentials);
        let mut environment = self.environment.clone();
        environment.retain(|name, _| names.contains(name));
        let access = Access {
            environment,
            credentials: self.credentials.clone(),
            region: None,
            endpoint: self.endpoint.clone(),
            path_style: None,
            ca_file: self.authority.clone(),
            ttl: self.ttl,
            concurrency: None,
        };
        connect(&location, &access)
    }

    pub(super) fn backend(&self) -> Arc<dyn Backend> {
        let backend = self
            .connect()
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let shown = format!("{backend:?}");
        for secret in self.secrets() {
            assert!(!shown.contains(&secret), "{shown}");
        }
        backend
    }
}
