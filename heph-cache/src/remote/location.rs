//! Where remote caches are: their URIs taken apart, the variables they may use, and what to do when one does not answer.

mod hint;

use std::fmt;
use std::path::PathBuf;

use heph_common::config::{CacheUri, Credentials, Scheme};

pub(crate) use hint::hint;

use super::backend::{RemoteError, RemoteErrorKind};

/// Where a remote cache is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// A bucket or container of a cloud.
    Bucket {
        /// Whose.
        provider: Provider,
        /// Its name.
        bucket: String,
        /// What the names of its objects begin with; no slash at either end.
        prefix: String,
    },
    /// A server of plain files.
    Http {
        /// URL of the directory, without a slash at its end and without user or password.
        base: String,
        /// Name and password for basic authentication.
        login: Option<Login>,
    },
    /// A directory.
    File {
        /// Absolute.
        directory: PathBuf,
    },
    /// A Redis server.
    Redis {
        /// Where it listens.
        host: Host,
        /// Whether TLS is spoken.
        tls: bool,
        /// Whether any certificate is accepted.
        insecure: bool,
        /// Number of the database.
        database: u32,
        /// Name (`default` when empty) and password.
        login: Option<Login>,
        /// What keys begin with; no slash at either end.
        prefix: String,
    },
    /// Servers of memcached, each of which has a share of the keys.
    Memcached {
        /// Where they listen.
        hosts: Vec<Host>,
        /// What keys begin with; no slash at either end.
        prefix: String,
    },
    /// A Remote Execution API cache.
    Grpc {
        /// URL without user or password.
        base: String,
    },
}

/// Whose buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provider {
    /// Amazon S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
}

/// A host and a port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Host {
    /// Name or address, without brackets.
    pub name: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

/// A user's name and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name; may be empty.
    pub user: String,
    /// The password; never shown.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({}:***)", self.user)
    }
}

/// Port of Redis where a URI names none.
const REDIS_PORT: u16 = 6379;
/// Port of memcached where a URI names none.
const MEMCACHED_PORT: u16 = 11211;

impl Location {
    /// Takes the URI of a cache apart.
    ///
    /// # Errors
    /// [`RemoteErrorKind::Config`] for one that no backend can use.
    pub fn parse(uri: &CacheUri) -> Result<Self, RemoteError> {
        let scheme = uri.scheme();
        let (rest, fragment) = split(uri.rest(), '#');
        let wrong = |what: &str| RemoteError::new(RemoteErrorKind::Config, format!("use '{uri}': {what}"));
        if !fragment.is_empty() && !matches!((scheme, fragment), (Scheme::Rediss, "insecure")) {
            return Err(wrong("only rediss:// takes a fragment, which is #insecure"));
        }
        if rest.contains('?') {
            return Err(wrong(
                "a cache's URI has no query; settings are keys of its entry in 'caches'",
            ));
        }
        let (authority, path) = split(rest, '/');
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (
                Some(parse_login(login).ok_or_else(|| wrong("name or password has a bad % escape"))?),
                hosts,
            ),
            None => (None, authority),
        };
        let path = decoded(path.trim_matches('/')).ok_or_else(|| wrong("the path has a bad % escape"))?;
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(wrong("the path has a segment '.' or '..'"));
        }
        let host = |text: &str, usual: u16| {
            parse_host(text, usual).ok_or_else(|| wrong("the host or its port is wrong"))
        };
        Ok(match scheme {
            Scheme::S3 | Scheme::Gs | Scheme::Az => {
                if login.is_some() || hosts.contains(':') {
                    return Err(wrong("a bucket has neither user nor port"));
                }
                Self::Bucket {
                    provider: match scheme {
                        Scheme::Gs => Provider::Gs,
                        Scheme::Az => Provider::Az,
                        _ => Provider::S3,
                    },
                    bucket: hosts.to_owned(),
                    prefix: path,
                }
            }
            Scheme::Https | Scheme::Http => Self::Http {
                base: format!(
                    "{}://{}",
                    scheme.name(),
                    without_login(rest).trim_end_matches('/')
                ),
                login,
            },
            Scheme::File => Self::File {
                directory: PathBuf::from(format!("/{path}")),
            },
            Scheme::Redis | Scheme::Rediss => {
                let (first, below) = split(&path, '/');
                let (database, prefix) = match first.parse() {
                    Ok(number) => (number, below.to_owned()),
                    Err(_) => (0, path.clone()),
                };
                Self::Redis {
                    host: host(hosts, REDIS_PORT)?,
                    tls: scheme == Scheme::Rediss,
                    insecure: fragment == "insecure",
                    database,
                    login,
                    prefix,
                }
            }
            Scheme::Memcached => {
                if login.is_some() {
                    return Err(wrong("memcached has no users here"));
                }
                let hosts: Result<Vec<Host>, RemoteError> =
                    hosts.split(',').map(|text| host(text, MEMCACHED_PORT)).collect();
                Self::Memcached {
                    hosts: hosts?,
                    prefix: path,
                }
            }
            Scheme::Grpc | Scheme::Grpcs => Self::Grpc {
                base: format!("{}://{}", scheme.name(), without_login(rest)),
            },
        })
    }
}

/// Names of the variables that a cache may use: credentials, regions, endpoints, proxies, certificates.
/// Of a client's environment, only these need to be sent to whoever uses the cache.
pub fn credential_variables(location: &Location, credentials: &Credentials) -> Vec<String> {
    const SHARED: &[&str] = &[
        "ALL_PROXY",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NO_PROXY",
        "SSL_CERT_DIR",
        "SSL_CERT_FILE",
        "all_proxy",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ];
    let own = own_variables(location);
    let mut names: Vec<String> = own.iter().map(|&name| name.to_owned()).collect();
    if let Credentials::EnvPrefix(prefix) = credentials {
        names.extend(own.iter().map(|name| format!("{prefix}{name}")));
    }
    if !matches!(location, Location::File { .. }) {
        names.extend(SHARED.iter().map(|&name| name.to_owned()));
    }
    names
}

fn own_variables(location: &Location) -> &'static [&'static str] {
    match location {
        Location::Bucket {
            provider: Provider::S3,
            ..
        } => &[
            "AWS_ACCESS_KEY_ID",
            "AWS_CA_BUNDLE",
            "AWS_CONFIG_FILE",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_DEFAULT_PROFILE",
            "AWS_DEFAULT_REGION",
            "AWS_EC2_METADATA_DISABLED",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "AWS_ENDPOINT_URL_SSO",
            "AWS_ENDPOINT_URL_STS",
            "AWS_PROFILE",
            "AWS_REGION",
            "AWS_ROLE_ARN",
            "AWS_ROLE_SESSION_NAME",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_SHARED_CREDENTIALS_FILE",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "PATH",
        ],
        Location::Bucket {
            provider: Provider::Gs,
            ..
        } => &[
            "CLOUDSDK_CONFIG",
            "GCE_METADATA_HOST",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "NO_GCE_CHECK",
        ],
        Location::Bucket {
            provider: Provider::Az,
            ..
        } => &[
            "AZURE_AUTHORITY_HOST",
            "AZURE_CLIENT_ID",
            "AZURE_CLIENT_SECRET",
            "AZURE_FEDERATED_TOKEN_FILE",
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_ACCOUNT",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_ACCOUNT_NAME",
            "AZURE_STORAGE_CONNECTION_STRING",
            "AZURE_STORAGE_ENDPOINT",
            "AZURE_STORAGE_KEY",
            "AZURE_STORAGE_SAS_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURE_STORAGE_TOKEN",
            "AZURE_TENANT_ID",
            "IDENTITY_ENDPOINT",
            "IDENTITY_HEADER",
            "MSI_ENDPOINT",
            "MSI_SECRET",
        ],
        Location::Http { .. } | Location::Grpc { .. } => {
            &["HEPH_CACHE_PASSWORD", "HEPH_CACHE_TOKEN", "HEPH_CACHE_USER"]
        }
        Location::Redis { .. } => &["REDISCLI_AUTH", "REDIS_PASSWORD", "REDIS_USERNAME"],
        Location::Memcached { .. } | Location::File { .. } => &[],
    }
}

fn split(text: &str, at: char) -> (&str, &str) {
    text.split_once(at).unwrap_or((text, ""))
}

fn without_login(rest: &str) -> String {
    let (authority, path) = split(rest, '/');
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{host}/{path}")
}

fn parse_login(text: &str) -> Option<Login> {
    let (user, password) = split(text, ':');
    Some(Login {
        user: decoded(user)?,
        password: decoded(password)?,
    })
}

fn parse_host(text: &str, usual: u16) -> Option<Host> {
    let (name, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (name, port) = inner.split_once(']')?;
            (name, port.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(text) => text.parse().ok().filter(|&port| port != 0)?,
        None => usual,
    };
    (!name.is_empty()).then(|| Host {
        name: name.to_owned(),
        port,
    })
}

/// The text with its `%xx` escapes replaced.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (hex, tail) = rest.split_at_checked(2)?;
        let hex = std::str::from_utf8(hex).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
