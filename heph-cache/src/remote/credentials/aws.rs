//! Credentials of Amazon, in the order of its own tools: variables, web identity, profile, container, instance.
//!
//! <https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html>

mod fetch;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use heph_common::config::Credentials;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;

use super::profile::{Profiles, Section};
use super::{Kept, Temporary, problem};
use crate::remote::access::Access;
use crate::remote::backend::RemoteError;
use crate::remote::backends::scrub::Scrubber;
use crate::remote::backends::transport::Transport;
use crate::remote::backends::upload::blocking;

/// Profiles are read again this long after the last time; somebody may have changed them.
const REREAD: Duration = Duration::from_secs(6 * 60);
/// How many profiles may refer to one another.
const DEEPEST: usize = 8;

/// What a profile says besides credentials.
#[derive(Default)]
pub(crate) struct Settings {
    /// `region`
    pub region: Option<String>,
    /// `endpoint_url`
    pub endpoint: Option<String>,
    /// What must not be shown.
    pub secrets: Vec<String>,
}

/// The settings of the profile in use, if there is one.
pub(crate) fn profile(access: &Access) -> Result<Settings, RemoteError> {
    let Some((name, asked)) = profile_name(access) else {
        return Ok(Settings::default());
    };
    let profiles = Profiles::read(access)?;
    let section = match asked {
        true => profiles.named(name)?,
        false => match profiles.profile(name) {
            Some(section) => section,
            None => return Ok(Settings::default()),
        },
    };
    let secrets = ["aws_secret_access_key", "aws_session_token"];
    Ok(Settings {
        region: section.get("region").cloned(),
        endpoint: section.get("endpoint_url").cloned(),
        secrets: secrets
            .iter()
            .filter_map(|key| section.get(*key).cloned())
            .collect(),
    })
}

/// The profile in use, and whether somebody asked for it.
fn profile_name(access: &Access) -> Option<(&str, bool)> {
    match &access.credentials {
        Credentials::Profile(name) => Some((name, true)),
        Credentials::Environment | Credentials::EnvPrefix(_) => {
            let named = access
                .secret("AWS_PROFILE")
                .or_else(|| access.secret("AWS_DEFAULT_PROFILE"));
            match (named, &access.credentials) {
                (Some(name), _) => Some((name, true)),
                (None, Credentials::EnvPrefix(_)) => None,
                (None, _) => Some(("default", false)),
            }
        }
    }
}

/// Where credentials come from.
enum Source {
    /// They are these.
    Fixed(Key),
    /// A program prints them.
    Process(String),
    /// Somebody's, who may act as a role.
    Role { from: Box<Source>, role: Role },
    /// A token in a file, for which a role is given.
    WebIdentity { token: PathBuf, role: Role },
    /// A single sign-on that was done by `aws sso login`.
    SignOn(Arc<SignOn>),
    /// A service beside this container.
    Container { url: String, token: Option<String> },
    /// A service of this machine.
    Instance { url: String },
}

struct Key {
    id: String,
    secret: String,
    token: Option<String>,
}

struct Role {
    arn: String,
    session: String,
    external: Option<String>,
    region: Option<String>,
}

struct SignOn {
    start: String,
    region: String,
    account: String,
    role: String,
    cache: PathBuf,
}

/// The places where credentials are looked for, in files and variables.
struct Chain {
    access: Access,
}

/// Credentials for requests to a bucket.
pub(crate) struct Provider {
    chain: Arc<Chain>,
    region: String,
    kept: Kept<AwsCredential>,
    /// For services in the internet, made when it is needed.
    remote: std::sync::OnceLock<Transport>,
    local: Transport,
    scrubber: Scrubber,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl Provider {
    /// Credentials for requests in a region. What is wrong in files or variables is told at once; nothing is sent.
    pub(crate) fn new(access: Access, region: String) -> Result<Self, RemoteError> {
        let scrubber = Scrubber::new(&access, profile(&access)?.secrets);
        let local = Transport::direct(&access, scrubber.clone())?;
        let chain = Chain { access };
        chain.source()?;
        Ok(Self {
            chain: Arc::new(chain),
            region,
            kept: Kept::default(),
            remote: std::sync::OnceLock::new(),
            local,
            scrubber,
        })
    }

    /// A client for services in the internet.
    fn remote(&self) -> Result<&Transport, RemoteError> {
        if let Some(transport) = self.remote.get() {
            return Ok(transport);
        }
        let transport = Transport::new(&self.chain.access, true, self.scrubber.clone())?;
        Ok(self.remote.get_or_init(|| transport))
    }

    async fn current(&self) -> Result<Temporary<AwsCredential>, RemoteError> {
        let chain = Arc::clone(&self.chain);
        let (source, changes) = blocking(move || chain.source()).await?;
        let mut found = self.fetch(&source).await?;
        if changes && found.expires.is_none() {
            found.expires = Some(SystemTime::now() + REREAD);
        }
        Ok(found)
    }
}

impl Chain {
    /// Where credentials come from, and whether that may change while the environment does not.
    fn source(&self) -> Result<(Source, bool), RemoteError> {
        let access = &self.access;
        if !matches!(access.credentials, Credentials::Profile(_)) {
            match (
                access.secret("AWS_ACCESS_KEY_ID"),
                access.secret("AWS_SECRET_ACCESS_KEY"),
            ) {
                (Some(id), Some(secret)) => {
                    let token = access.secret("AWS_SESSION_TOKEN").map(str::to_owned);
                    let (id, secret) = (id.to_owned(), secret.to_owned());
                    return Ok((Source::Fixed(Key { id, secret, token }), false));
                }
                (Some(_), None) => {
                    return Err(problem(
                        "find credentials: AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not",
                    ));
                }
                (None, Some(_)) => {
                    return Err(problem(
                        "find credentials: AWS_SECRET_ACCESS_KEY is set, AWS_ACCESS_KEY_ID is not",
                    ));
                }
                (None, None) => {}
            }
            if let (Some(token), Some(arn)) = (
                access.secret("AWS_WEB_IDENTITY_TOKEN_FILE"),
                access.secret("AWS_ROLE_ARN"),
            ) {
                let role = self.role(arn, access.secret("AWS_ROLE_SESSION_NAME"), None);
                let token = PathBuf::from(token);
                return Ok((Source::WebIdentity { token, role }, false));
            }
        }
        if let Some((name, asked)) = profile_name(access) {
            let profiles = Profiles::read(access)?;
            if asked || profiles.profile(name).is_some_and(has_credentials) {
                return Ok((self.of_profile(&profiles, name, DEEPEST)?, true));
            }
        }
        match self.container()? {
            Some(source) => Ok((source, true)),
            None => self.instance().map(|source| (source, true)),
        }
    }

    fn role(&self, arn: &str, session: Option<&str>, section: Option<&Section>) -> Role {
        Role {
            arn: arn.to_owned(),
            session: session.unwrap_or("heph").to_owned(),
            external: section.and_then(|section| section.get("external_id").cloned()),
            region: section.and_then(|section| section.get("region").cloned()),
        }
    }

    fn of_profile(&self, profiles: &Profiles, name: &str, deepest: usize) -> Result<Source, RemoteError> {
        let section = profiles.named(name)?;
        let get = |key: &str| {
            section
                .get(key)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let wrong = |what: &str| problem(format!("use the profile '{name}' of {}: {what}", profiles.places));
        if deepest == 0 {
            return Err(wrong("its source_profile leads back to it"));
        }
        let own = || match (get("aws_access_key_id"), get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => Some(Source::Fixed(Key {
                id: id.to_owned(),
                secret: secret.to_owned(),
                token: get("aws_session_token").map(str::to_owned),
            })),
            _ => None,
        };
        if let Some(arn) = get("role_arn") {
            let role = self.role(arn, get("role_session_name"), Some(section));
            if let Some(token) = get("web_identity_token_file") {
                let token = PathBuf::from(token);
                return Ok(Source::WebIdentity { token, role });
            }
            let from = match (get("source_profile"), get("credential_source")) {
                // A profile may be its own source: then its keys are meant.
                (Some(source), _) if source == name => {
                    own().ok_or_else(|| wrong("it has no keys to be its own source"))?
                }
                (Some(source), _) => self.of_profile(profiles, source, deepest - 1)?,
                (None, Some("Environment")) => {
                    let keys = (
                        self.access.variable("AWS_ACCESS_KEY_ID"),
                        self.access.variable("AWS_SECRET_ACCESS_KEY"),
                    );
                    let (Some(id), Some(secret)) = keys else {
                        return Err(wrong("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set"));
                    };
                    let token = self.access.variable("AWS_SESSION_TOKEN").map(str::to_owned);
                    let (id, secret) = (id.to_owned(), secret.to_owned());
                    Source::Fixed(Key { id, secret, token })
                }
                (None, Some("EcsContainer")) => self
                    .container()?
                    .ok_or_else(|| wrong("there is no container with credentials"))?,
                (None, Some("Ec2InstanceMetadata")) => self.instance()?,
                (None, Some(_)) => return Err(wrong("its credential_source is unknown")),
                (None, None) => {
                    return Err(wrong(
                        "it has a role_arn but no source_profile and no credential_source",
                    ));
                }
            };
            let from = Box::new(from);
            return Ok(Source::Role { from, role });
        }
        if let Some(source) = own() {
            return Ok(source);
        }
        if let Some(account) = get("sso_account_id") {
            return self
                .sign_on(profiles, section, account)
                .ok_or_else(|| wrong("its single sign-on is incomplete"));
        }
        match get("credential_process") {
            Some(command) => Ok(Source::Process(command.to_owned())),
            None => Err(wrong("it has no credentials")),
        }
    }

    fn sign_on(&self, profiles: &Profiles, section: &Section, account: &str) -> Option<Source> {
        let session = section.get("sso_session").and_then(|name| profiles.session(name));
        let get = |key: &str| {
            section
                .get(key)
                .or_else(|| session.and_then(|session| session.get(key)))
                .cloned()
        };
        let home = PathBuf::from(self.access.variable("HOME")?);
        Some(Source::SignOn(Arc::new(SignOn {
            start: get("sso_start_url")?,
            region: get("sso_region")?,
            account: account.to_owned(),
            role: get("sso_role_name")?,
            cache: home.join(".aws/sso/cache"),
        })))
    }

    fn container(&self) -> Result<Option<Source>, RemoteError> {
        let access = &self.access;
        let url = match (
            access.secret("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            access.secret("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ) {
            (Some(path), _) => format!("http://169.254.170.2{path}"),
            (None, Some(url)) => url.to_owned(),
            (None, None) => return Ok(None),
        };
        let token = match access.secret("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(path) => {
                let token = super::read("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path.as_ref())?;
                Some(token.trim().to_owned())
            }
            None => access
                .secret("AWS_CONTAINER_AUTHORIZATION_TOKEN")
                .map(str::to_owned),
        };
        Ok(Some(Source::Container { url, token }))
    }

    /// The last resort: only a machine of Amazon answers.
    fn instance(&self) -> Result<Source, RemoteError> {
        let access = &self.access;
        let disabled = access
            .setting("AWS_EC2_METADATA_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if disabled || matches!(access.credentials, Credentials::EnvPrefix(_)) {
            let prefix = match &access.credentials {
                Credentials::EnvPrefix(prefix) => prefix.as_str(),
                _ => "",
            };
            return Err(problem(format!(
                "find credentials: neither {prefix}AWS_ACCESS_KEY_ID nor {prefix}AWS_PROFILE nor {prefix}AWS_WEB_IDENTITY_TOKEN_FILE is set"
            )));
        }
        let url = access
            .setting("AWS_EC2_METADATA_SERVICE_ENDPOINT")
            .unwrap_or("http://169.254.169.254");
        Ok(Source::Instance {
            url: url.trim_end_matches('/').to_owned(),
        })
    }
}

/// Whether a profile is more than a region.
fn has_credentials(section: &Section) -> bool {
    [
        "aws_access_key_id",
        "role_arn",
        "credential_process",
        "sso_account_id",
    ]
    .iter()
    .any(|key| section.contains_key(*key))
}

#[async_trait]
impl CredentialProvider for Provider {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        self.kept
            .get(self.current())
            .await
            .map_err(|error| object_store::Error::Generic {
                store: "s3",
                source: Box::new(self.scrubber.error(error)),
            })
    }
}

#[cfg(test)]
mod tests;
