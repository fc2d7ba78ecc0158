//! Credentials of Azure: variables, as its own tools and others name them, else the identity of this machine.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::azure::AzureCredential;
use reqwest::{Method, Url};
use serde_json::Value;

use super::{INSTANCE, Kept, Temporary, ask, problem};
use crate::remote::access::Access;
use crate::remote::backend::{RemoteError, RemoteErrorKind};
use crate::remote::backends::scrub::Scrubber;
use crate::remote::backends::transport::Transport;

/// Where the identity of a virtual machine is told.
const METADATA: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

/// An account and who uses it.
pub(crate) struct Account {
    /// Its name.
    pub name: String,
    /// Where it is, when not in the public cloud.
    pub endpoint: Option<String>,
    /// Who uses it.
    pub identity: Identity,
    /// `AZURE_AUTHORITY_HOST`: who gives tokens.
    pub authority: Option<String>,
}

/// Who uses an account.
pub(crate) enum Identity {
    /// Who has its key.
    Key(String),
    /// Who has a shared access signature.
    Signature(String),
    /// Who has a bearer token.
    Token(String),
    /// A service principal with a secret.
    Client {
        id: String,
        tenant: String,
        secret: String,
    },
    /// A service principal with a token in a file.
    Workload {
        id: String,
        tenant: String,
        token: String,
    },
    /// This machine.
    Managed {
        endpoint: String,
        header: Option<String>,
        client: Option<String>,
    },
}

impl Identity {
    /// Whether tokens come from a service in the internet.
    pub(crate) fn asks_others(&self) -> bool {
        matches!(self, Self::Client { .. } | Self::Workload { .. })
    }
}

impl Account {
    /// The account that the environment names.
    pub(crate) fn find(access: &Access) -> Result<Self, RemoteError> {
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| access.secret(name))
                .map(str::to_owned)
        };
        let connection = first(&["AZURE_STORAGE_CONNECTION_STRING"]).unwrap_or_default();
        let part = |name: &str| {
            let mut parts = connection.split(';').filter_map(|part| part.split_once('='));
            parts
                .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        let name =
            first(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]).or_else(|| part("AccountName"));
        let Some(name) = name else {
            return Err(problem("find the account: AZURE_STORAGE_ACCOUNT_NAME is not set"));
        };
        let suffixed = part("EndpointSuffix").map(|suffix| {
            let protocol = part("DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
            format!("{protocol}://{name}.blob.{suffix}")
        });
        let endpoint = access
            .endpoint
            .clone()
            .or_else(|| access.setting("AZURE_STORAGE_ENDPOINT").map(str::to_owned))
            .or_else(|| part("BlobEndpoint"))
            .or(suffixed);
        let key = first(&[
            "AZURE_STORAGE_ACCESS_KEY",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_KEY",
        ]);
        let signature = first(&["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"]);
        let client = (first(&["AZURE_CLIENT_ID"]), first(&["AZURE_TENANT_ID"]));
        let identity = if let Some(key) = key.or_else(|| part("AccountKey")) {
            Identity::Key(key)
        } else if let Some(signature) = signature.or_else(|| part("SharedAccessSignature")) {
            Identity::Signature(signature.trim_start_matches('?').to_owned())
        } else if let Some(token) = first(&["AZURE_STORAGE_TOKEN"]) {
            Identity::Token(token)
        } else if let ((Some(id), Some(tenant)), Some(secret)) =
            (client.clone(), first(&["AZURE_CLIENT_SECRET"]))
        {
            Identity::Client { id, tenant, secret }
        } else if let ((Some(id), Some(tenant)), Some(token)) =
            (client.clone(), first(&["AZURE_FEDERATED_TOKEN_FILE"]))
        {
            super::read("AZURE_FEDERATED_TOKEN_FILE", token.as_ref())?;
            Identity::Workload { id, tenant, token }
        } else if matches!(access.credentials, heph_common::config::Credentials::EnvPrefix(_)) {
            return Err(problem("find credentials: no variable of this prefix has any"));
        } else {
            Identity::Managed {
                endpoint: first(&["IDENTITY_ENDPOINT", "MSI_ENDPOINT"])
                    .unwrap_or_else(|| METADATA.to_owned()),
                header: first(&["IDENTITY_HEADER", "MSI_SECRET"]),
                client: client.0,
            }
        };
        Ok(Self {
            name,
            endpoint,
            identity,
            authority: access.setting("AZURE_AUTHORITY_HOST").map(str::to_owned),
        })
    }
}

/// Tokens of the identity that a machine has.
pub(crate) struct Managed {
    url: Url,
    header: (&'static str, String),
    transport: Transport,
    kept: Kept<AzureCredential>,
    scrubber: Scrubber,
}

impl fmt::Debug for Managed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Managed")
    }
}

impl Managed {
    /// <https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>
    pub(crate) fn new(
        endpoint: String,
        header: Option<String>,
        client: Option<String>,
        access: &Access,
        scrubber: Scrubber,
    ) -> Result<Self, RemoteError> {
        let (version, header) = match header {
            Some(secret) => ("2019-08-01", ("x-identity-header", secret)),
            None => ("2018-02-01", ("metadata", "true".to_owned())),
        };
        let mut url = Url::parse(&endpoint).map_err(|error| {
            RemoteError::new(RemoteErrorKind::Config, format!("use IDENTITY_ENDPOINT: {error}"))
        })?;
        url.query_pairs_mut()
            .append_pair("api-version", version)
            .append_pair("resource", "https://storage.azure.com/");
        if let Some(client) = client {
            url.query_pairs_mut().append_pair("client_id", &client);
        }
        Ok(Self {
            url,
            header,
            transport: Transport::direct(access, scrubber.clone())?,
            kept: Kept::default(),
            scrubber,
        })
    }

    async fn fetch(&self) -> Result<Temporary<AzureCredential>, RemoteError> {
        let (name, value) = &self.header;
        let request = self
            .transport
            .request(Method::GET, self.url.clone())
            .header(*name, value);
        let answer = tokio::time::timeout(INSTANCE, ask(&self.transport, request)).await;
        let failed = |cause: &str| {
            problem(format!(
                "find credentials: there is no AZURE_STORAGE_ACCESS_KEY, no AZURE_CLIENT_ID, and this machine has no identity ({cause})"
            ))
        };
        let text = match answer {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return Err(failed(&error.message)),
            Err(_) => return Err(failed("no answer within a second")),
        };
        let parsed: Option<Value> = serde_json::from_str(&text).ok();
        let found = parsed.and_then(|value| {
            let token = value.get("access_token")?.as_str()?.to_owned();
            let ends = value.get("expires_on").and_then(|ends| match ends {
                Value::String(text) => text.parse().ok(),
                other => other.as_u64(),
            });
            Some(Temporary {
                value: Arc::new(AzureCredential::BearerToken(token)),
                expires: ends.map(|ends| SystemTime::UNIX_EPOCH + Duration::from_secs(ends)),
            })
        });
        found.ok_or_else(|| failed("its answer has no token"))
    }
}

#[async_trait]
impl CredentialProvider for Managed {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        self.kept
            .get(self.fetch())
            .await
            .map_err(|error| object_store::Error::Generic {
                store: "az",
                source: Box::new(self.scrubber.error(error)),
            })
    }
}

#[cfg(test)]
mod tests;
