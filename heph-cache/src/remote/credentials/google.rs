//! Application default credentials of Google.
//!
//! <https://cloud.google.com/docs/authentication/application-default-credentials>, <https://google.aip.dev/auth/4117>

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use heph_common::config::Credentials;
use object_store::CredentialProvider;
use object_store::gcp::GcpCredential;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{INSTANCE, Kept, Temporary, ask, moment, problem, read, read_later};
use crate::remote::access::Access;
use crate::remote::backend::RemoteError;
use crate::remote::backends::scrub::Scrubber;
use crate::remote::backends::transport::Transport;

/// What tokens are asked for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where the service account of a machine is told.
const METADATA: &str = "169.254.169.254";

/// What there is.
pub(crate) enum Found {
    /// A service account that needs no token: that of a test server.
    Nobody { endpoint: Option<String> },
    /// A service account with its key.
    Key {
        json: String,
        endpoint: Option<String>,
        secret: Option<String>,
    },
    /// Something that tokens are got for.
    Token(Source),
}

impl Found {
    /// `gcs_base_url` of a service account.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        match self {
            Self::Nobody { endpoint } | Self::Key { endpoint, .. } => endpoint.as_deref(),
            Self::Token(_) => None,
        }
    }

    /// What must not be shown.
    pub(crate) fn secrets(&self) -> Vec<String> {
        match self {
            Self::Nobody { .. } => Vec::new(),
            Self::Key { secret, .. } => secret.iter().cloned().collect(),
            Self::Token(source) => source.secrets(),
        }
    }
}

/// What tokens are got for.
pub(crate) enum Source {
    /// A person who has logged in with `gcloud auth application-default login`.
    User {
        id: String,
        secret: String,
        refresh: String,
        url: String,
    },
    /// A workload that another service vouches for.
    External(Box<External>),
    /// A service account that another source may act as.
    Impersonated { from: Box<Source>, url: String },
    /// The service account of this machine.
    Machine { host: String },
}

/// Workload identity federation.
pub(crate) struct External {
    audience: String,
    kind: String,
    url: String,
    subject: Subject,
    /// Member of the subject's JSON that is the token, if it is JSON.
    field: Option<String>,
}

/// Where the token of the other service is.
enum Subject {
    File(PathBuf),
    Url {
        url: String,
        headers: Vec<(String, String)>,
    },
}

impl Source {
    fn secrets(&self) -> Vec<String> {
        match self {
            Self::User { secret, refresh, .. } => vec![secret.clone(), refresh.clone()],
            Self::Impersonated { from, .. } => from.secrets(),
            Self::External(external) => match &external.subject {
                Subject::Url { headers, .. } => headers.iter().map(|(_, value)| value.clone()).collect(),
                Subject::File(_) => Vec::new(),
            },
            Self::Machine { .. } => Vec::new(),
        }
    }
}

/// The credentials that the environment names.
pub(crate) fn find(access: &Access) -> Result<Found, RemoteError> {
    const NAMED: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    if let Some(path) = access.secret(NAMED) {
        return parse(&read(NAMED, path.as_ref())?, path.as_ref());
    }
    if matches!(access.credentials, Credentials::EnvPrefix(_)) {
        return Err(problem(format!(
            "find credentials: no {NAMED} of this prefix is set"
        )));
    }
    let directory = match (access.variable("CLOUDSDK_CONFIG"), access.variable("HOME")) {
        (Some(directory), _) => Some(PathBuf::from(directory)),
        (None, Some(home)) => Some(PathBuf::from(home).join(".config/gcloud")),
        (None, None) => None,
    };
    let path = directory.map(|directory| directory.join("application_default_credentials.json"));
    if let Some(path) = path.filter(|path| path.exists()) {
        return parse(&read("the application default credentials", &path)?, &path);
    }
    if access
        .variable("NO_GCE_CHECK")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Err(problem(format!(
            "find credentials: {NAMED} is not set, and nobody has logged in with gcloud"
        )));
    }
    let host = access
        .variable("GCE_METADATA_HOST")
        .unwrap_or(METADATA)
        .to_owned();
    Ok(Found::Token(Source::Machine { host }))
}

fn parse(text: &str, path: &Path) -> Result<Found, RemoteError> {
    let wrong = |what: &str| problem(format!("use the credentials in '{}': {what}", path.display()));
    let value: Value = serde_json::from_str(text).map_err(|_| wrong("they are no JSON"))?;
    let get = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let kind = get("type").unwrap_or_else(|| "service_account".to_owned());
    if kind != "service_account" {
        return Ok(Found::Token(source(&value, &kind).map_err(|what| wrong(&what))?));
    }
    let endpoint = get("gcs_base_url");
    if value.get("disable_oauth") == Some(&Value::Bool(true)) {
        return Ok(Found::Nobody { endpoint });
    }
    for name in ["private_key", "private_key_id", "client_email"] {
        if get(name).is_none() {
            return Err(wrong(&format!("'{name}' is missing")));
        }
    }
    Ok(Found::Key {
        json: text.to_owned(),
        endpoint,
        secret: get("private_key"),
    })
}

fn source(value: &Value, kind: &str) -> Result<Source, String> {
    let get = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let need = |name: &str| get(name).ok_or_else(|| format!("'{name}' is missing"));
    match kind {
        "authorized_user" => Ok(Source::User {
            id: need("client_id")?,
            secret: need("client_secret")?,
            refresh: need("refresh_token")?,
            url: get("token_uri").unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned()),
        }),
        "external_account" => {
            let external = Source::External(Box::new(External {
                audience: need("audience")?,
                kind: need("subject_token_type")?,
                url: need("token_url")?,
                subject: subject(value.get("credential_source"))?,
                field: value
                    .pointer("/credential_source/format/subject_token_field_name")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            }));
            Ok(match get("service_account_impersonation_url") {
                Some(url) => Source::Impersonated {
                    from: Box::new(external),
                    url,
                },
                None => external,
            })
        }
        "impersonated_service_account" => {
            let from = value
                .get("source_credentials")
                .ok_or("'source_credentials' is missing")?;
            let kind = from.get("type").and_then(Value::as_str).unwrap_or_default();
            Ok(Source::Impersonated {
                from: Box::new(source(from, kind)?),
                url: need("service_account_impersonation_url")?,
            })
        }
        _ => Err(format!("credentials of type '{kind}' are not known")),
    }
}

fn subject(value: Option<&Value>) -> Result<Subject, String> {
    let get = |name: &str| value?.get(name)?.as_str().map(str::to_owned);
    if let Some(path) = get("file") {
        return Ok(Subject::File(PathBuf::from(path)));
    }
    let Some(url) = get("url") else {
        return Err("the credential_source has neither 'file' nor 'url'; others are not known".to_owned());
    };
    let headers = value
        .and_then(|value| value.get("headers"))
        .and_then(Value::as_object);
    let headers = headers
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Ok(Subject::Url {
        url,
        headers: headers.collect(),
    })
}

/// Tokens for requests to a bucket.
pub(crate) struct Provider {
    source: Source,
    transport: Transport,
    kept: Kept<GcpCredential>,
    scrubber: Scrubber,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

type Token = Result<Temporary<GcpCredential>, RemoteError>;

impl Provider {
    /// Tokens of a source; nothing is sent yet.
    pub(crate) fn new(source: Source, access: &Access, scrubber: Scrubber) -> Result<Self, RemoteError> {
        let transport = match source {
            Source::Machine { .. } => Transport::direct(access, scrubber.clone())?,
            _ => Transport::new(access, true, scrubber.clone())?,
        };
        Ok(Self {
            source,
            transport,
            kept: Kept::default(),
            scrubber,
        })
    }

    async fn fetch(&self, source: &Source) -> Token {
        match source {
            Source::User {
                id,
                secret,
                refresh,
                url,
            } => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("client_id", id),
                    ("client_secret", secret),
                    ("refresh_token", refresh),
                ];
                let hint = "; `gcloud auth application-default login` renews it";
                let text = self
                    .post(url, &form)
                    .await
                    .map_err(|error| problem(format!("renew the login: {error}{hint}")))?;
                oauth(&text).ok_or_else(|| problem("renew the login: the answer has no token"))
            }
            Source::External(external) => self.exchange(external).await,
            Source::Impersonated { from, url } => {
                // Boxed, since sources lie in sources.
                let from = Box::pin(self.fetch(from)).await?;
                self.impersonate(&from.value.bearer, url).await
            }
            Source::Machine { host } => {
                let answer = tokio::time::timeout(INSTANCE, self.machine(host)).await;
                let cause = match answer {
                    Ok(Ok(token)) => return Ok(token),
                    Ok(Err(error)) => error.message,
                    Err(_) => "no answer within a second".to_owned(),
                };
                Err(problem(format!(
                    "find credentials: there is no GOOGLE_APPLICATION_CREDENTIALS, nobody has logged in with gcloud, and this machine has no service account ({cause})"
                )))
            }
        }
    }

    /// <https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token>
    async fn exchange(&self, external: &External) -> Token {
        let failed = |cause: &str| problem(format!("exchange the token of the workload: {cause}"));
        let text = match &external.subject {
            Subject::File(path) => read_later("the token of the workload", path).await?,
            Subject::Url { url, headers } => {
                let url = Url::parse(url).map_err(|error| failed(&error.to_string()))?;
                let mut request = self.transport.request(Method::GET, url);
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                ask(&self.transport, request)
                    .await
                    .map_err(|error| failed(&error.message))?
            }
        };
        let subject = match &external.field {
            None => text.trim().to_owned(),
            Some(field) => {
                let value: Option<Value> = serde_json::from_str(&text).ok();
                let found = value.and_then(|value| Some(value.get(field)?.as_str()?.to_owned()));
                found.ok_or_else(|| failed(&format!("it has no member '{field}'")))?
            }
        };
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", &external.audience),
            ("scope", SCOPE),
            (
                "requested_token_type",
                "urn:ietf:params:oauth:token-type:access_token",
            ),
            ("subject_token", &subject),
            ("subject_token_type", &external.kind),
        ];
        let text = self
            .post(&external.url, &form)
            .await
            .map_err(|error| failed(&error.message))?;
        oauth(&text).ok_or_else(|| failed("the answer has no token"))
    }

    /// <https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken>
    async fn impersonate(&self, bearer: &str, url: &str) -> Token {
        let failed = |cause: &str| problem(format!("act as the service account: {cause}"));
        let url = Url::parse(url).map_err(|error| failed(&error.to_string()))?;
        let request = self
            .transport
            .request(Method::POST, url)
            .bearer_auth(bearer)
            .header("content-type", "application/json")
            .body(json!({ "scope": [SCOPE], "lifetime": "3600s" }).to_string());
        let text = ask(&self.transport, request)
            .await
            .map_err(|error| failed(&error.message))?;
        let value: Option<Value> = serde_json::from_str(&text).ok();
        let found = value.and_then(|value| {
            Some(Temporary {
                value: Arc::new(GcpCredential {
                    bearer: value.get("accessToken")?.as_str()?.to_owned(),
                }),
                expires: moment(value.get("expireTime")?.as_str()?),
            })
        });
        found.ok_or_else(|| failed("the answer has no token"))
    }

    async fn machine(&self, host: &str) -> Token {
        let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
        let url = Url::parse(&url).map_err(|error| problem(format!("ask {host}: {error}")))?;
        let request = self
            .transport
            .request(Method::GET, url)
            .header("metadata-flavor", "Google");
        let text = ask(&self.transport, request).await?;
        oauth(&text).ok_or_else(|| problem("the answer has no token"))
    }

    async fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<String, RemoteError> {
        let url = Url::parse(url).map_err(|error| problem(error.to_string()))?;
        let mut query = url.clone();
        query.set_query(None);
        query.query_pairs_mut().extend_pairs(form);
        let request = self
            .transport
            .request(Method::POST, url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(query.query().unwrap_or_default().to_owned());
        ask(&self.transport, request).await
    }
}

/// The token of an answer (RFC 6749, section 5.1).
fn oauth(text: &str) -> Option<Temporary<GcpCredential>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let bearer = value.get("access_token")?.as_str()?.to_owned();
    let seconds = value.get("expires_in").and_then(Value::as_u64);
    Some(Temporary {
        value: Arc::new(GcpCredential { bearer }),
        expires: seconds.map(|seconds| SystemTime::now() + Duration::from_secs(seconds)),
    })
}

#[async_trait]
impl CredentialProvider for Provider {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        self.kept
            .get(self.fetch(&self.source))
            .await
            .map_err(|error| object_store::Error::Generic {
                store: "gs",
                source: Box::new(self.scrubber.error(error)),
            })
    }
}

#[cfg(test)]
mod tests;
