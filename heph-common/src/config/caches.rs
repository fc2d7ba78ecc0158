//! `caches`: remote caches by name.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::layer::{Layer, Named, Outcome, Show, joined, section};
use super::value::Data;
use super::{CacheUri, Decode, Fields, Problem, Problems, Value, decode};
use crate::package::printable;

/// The trust scope of a cache that names none.
pub const DEFAULT_SCOPE: &str = "main";

section! {
    /// One remote cache.
    RemoteCache from RemoteCacheLayer {
        /// `uri`: where it is. A loaded configuration always has it.
        uri: Option<CacheUri> = "uri", None;
        /// `read`: whether it is asked on a local miss. Acts per request.
        read: bool = "read", true;
        /// `write`: whether results are sent there. Acts per request.
        write: bool = "write", true;
        /// `concurrency`: requests at once; unset, 10, and growing up to 64 on s3, gs and az.
        concurrency: Option<NonZeroU32> = "concurrency", None;
        /// `scope`: the trust scope that is written to; `${branch}` in it stands for the branch.
        scope: String = "scope", DEFAULT_SCOPE.to_owned(), check scope;
        /// `readScopes`: the trust scopes that are read, in order; the own one when none are given.
        read_scopes: Vec<String> = "readScopes", Vec::new(), check scopes;
        /// `credentials`: whose they are.
        credentials: Credentials = "credentials", Credentials::Environment;
        /// `region` of the bucket.
        region: Option<String> = "region", None;
        /// `endpoint`: the server that speaks the protocol of the scheme, where it is not the usual one.
        endpoint: Option<String> = "endpoint", None, check endpoint;
        /// `pathStyle`: whether the bucket is part of the path instead of the host.
        path_style: Option<bool> = "pathStyle", None;
        /// `caFile`: certificates that the server's is checked against, beside the system's.
        ca_file: Option<PathBuf> = "caFile", None;
        /// `ttl`: how long the server is asked to keep an entry, where it can be asked.
        #[serde(with = "optional_duration")]
        ttl: Option<Duration> = "ttl", None;
        /// `readTimeout`: how long a read may take.
        #[serde(with = "crate::duration::text")]
        read_timeout: Duration = "readTimeout", Duration::from_secs(5);
        /// `retries`: how often a failed request is repeated.
        retries: u32 = "retries", 2;
        /// `pause`: how long it is left alone when it has failed; doubled each time it fails again, up to five minutes.
        #[serde(with = "crate::duration::text")]
        pause: Duration = "pause", Duration::from_secs(5);
        @sections {
            /// `signing`: who signs and whose signatures are accepted.
            signing: Signing = "signing", SigningLayer;
        }
    }
}

section! {
    /// `caches.<name>.signing`: signatures over manifests.
    Signing from SigningLayer {
        /// `keyFile`: the private key that what is written is signed with.
        key_file: Option<PathBuf> = "keyFile", None;
        /// `publicKeys`: the keys whose signatures are accepted.
        public_keys: Vec<String> = "publicKeys", Vec::new();
        /// `revoked`: ids of keys whose signatures are not accepted any more.
        revoked: Vec<String> = "revoked", Vec::new();
        /// `required`: whether unsigned manifests are refused.
        required: bool = "required", false;
    }
}

/// `caches.<name>.credentials`: where the credentials of a cache come from.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Credentials {
    /// The usual variables of the environment.
    Environment,
    /// A named profile of the backend's own configuration.
    Profile(String),
    /// Variables whose names begin with this.
    EnvPrefix(String),
}

impl Decode for Credentials {
    fn decode(value: &Value, problems: &mut Problems) -> Option<Self> {
        if !matches!(value.data, Data::Map(_)) {
            problems.add(value.unexpected("a mapping with 'profile' or 'envPrefix'"));
            return None;
        }
        let mut fields = Fields::of(value, problems);
        let given = [fields.entry("profile"), fields.entry("envPrefix")];
        let (profile, prefix) = (fields.get("profile"), fields.get("envPrefix"));
        if given.iter().flatten().count() != 1 {
            let message = "credentials have one of the keys profile and envPrefix";
            fields.problems().add(Problem::at(&value.place, message));
        }
        fields.finish();
        profile.map(Self::Profile).or(prefix.map(Self::EnvPrefix))
    }
}

impl Show for Credentials {
    fn show(&self) -> String {
        match self {
            Self::Environment => "environment".to_owned(),
            Self::Profile(name) => format!("{{profile: {name}}}"),
            Self::EnvPrefix(prefix) => format!("{{envPrefix: {prefix}}}"),
        }
    }
}

impl Layer for Named<RemoteCacheLayer> {
    type Resolved = BTreeMap<String, RemoteCache>;

    fn decode(value: &Value, problems: &mut Problems) -> Self {
        let entries = match &value.data {
            Data::Map(entries) => entries.as_slice(),
            Data::Null => &[],
            Data::Scalar { .. } | Data::List(_) => {
                problems.add(value.unexpected("a mapping of caches by name"));
                &[]
            }
        };
        let mut caches = BTreeMap::new();
        for entry in entries {
            if !is_name(&entry.key) {
                let message = format!("'{}' is not a name of a cache", printable(&entry.key));
                let problem = Problem::at(&entry.place, message);
                problems.add(problem.hint("names are made of letters, digits, '-', '_' and '.'"));
            }
            let cache = RemoteCacheLayer::decode(&entry.value, problems);
            caches.insert(entry.key.clone(), (cache, entry.place.clone()));
        }
        Self(caches)
    }

    fn merge(&mut self, over: Self) {
        for (name, (cache, place)) in over.0 {
            match self.0.get_mut(&name) {
                Some((own, _)) => own.merge(cache),
                None => {
                    self.0.insert(name, (cache, place));
                }
            }
        }
    }

    fn resolve(self, key: &str, outcome: &mut Outcome) -> Self::Resolved {
        let mut caches = BTreeMap::new();
        for (name, (layer, place)) in self.0 {
            let uri_wrong = layer.uri.wrong;
            let keys_wrong = layer.signing.public_keys.wrong;
            let mut cache = layer.resolve(&joined(key, &name), outcome);
            if cache.uri.is_none() && !uri_wrong {
                let problem = Problem::at(&place, format!("cache '{name}' has no uri"));
                outcome.problems.add(problem);
            }
            if cache.signing.required && cache.signing.public_keys.is_empty() && !keys_wrong {
                let message =
                    format!("cache '{name}' requires signatures but has no publicKeys to check them");
                outcome.problems.add(Problem::at(&place, message));
            }
            if cache.read_scopes.is_empty() {
                cache.read_scopes.push(cache.scope.clone());
                let key = joined(&joined(key, &name), "readScopes");
                if let Some(origin) = outcome.origins.iter_mut().rev().find(|origin| origin.key == key) {
                    origin.value = cache.read_scopes.show();
                }
            }
            caches.insert(name, cache);
        }
        caches
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A scope is part of every object's name in the bucket.
fn scope_problem(text: &str) -> Result<(), String> {
    let fixed = text.replace("${branch}", "branch");
    let fine = fixed
        .split('/')
        .all(|segment| is_name(segment) && !matches!(segment, "." | ".."));
    match fine {
        true => Ok(()),
        false => Err(format!(
            "'{text}' is not a scope: expected letters, digits, '-', '_', '.' and '/', and ${{branch}} for the branch"
        )),
    }
}

fn scope(value: &Value, problems: &mut Problems) {
    if let Some(Err(message)) = value.text().map(scope_problem) {
        problems.add(Problem::at(&value.place, message));
    }
}

fn scopes(value: &Value, problems: &mut Problems) {
    decode::check_each(value, problems, scope_problem);
}

fn endpoint(value: &Value, problems: &mut Problems) {
    if let Some(text) = value.text()
        && !text.starts_with("https://")
        && !text.starts_with("http://")
    {
        problems.add(value.unexpected("a URL that begins with https:// or http://"));
    }
}

mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use crate::duration;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = value.map(|duration| duration::Shown(duration).to_string());
        text.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| duration::parse(&text).map_err(D::Error::custom))
            .transpose()
    }
}
