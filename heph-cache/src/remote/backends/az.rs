//! `az`: containers of Azure Blob Storage.

use std::sync::Arc;

use object_store::azure::{MicrosoftAzureBuilder, split_sas};

use super::object_store::{Bucket, Connector, no_retries};
use super::scrub::Scrubber;
use super::transport::Transport;
use crate::remote::access::Access;
use crate::remote::backend::{RemoteError, RemoteErrorKind};
use crate::remote::credentials::azure::{Account, Identity, Managed};

/// The container of that name.
pub(super) fn bucket(name: &str, prefix: &str, access: &Access) -> Result<Bucket, RemoteError> {
    let account = Account::find(access)?;
    let secrets = match &account.identity {
        Identity::Key(secret) | Identity::Signature(secret) | Identity::Token(secret) => Some(secret.clone()),
        Identity::Client { secret, .. } => Some(secret.clone()),
        Identity::Workload { .. } | Identity::Managed { .. } => None,
    };
    let scrubber = Scrubber::new(access, secrets);
    let encrypted = account
        .endpoint
        .as_ref()
        .is_none_or(|endpoint| endpoint.starts_with("https://"));
    let transport = Transport::signed(
        access,
        encrypted || account.identity.asks_others(),
        scrubber.clone(),
    )?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(name)
        .with_account(account.name)
        .with_retry(no_retries())
        .with_http_connector(Connector(transport.clone()));
    if let Some(endpoint) = account.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    if let Some(authority) = account.authority {
        builder = builder.with_authority_host(authority);
    }
    let wrong = |error: object_store::Error| {
        let message = format!("use the container '{name}': {error}");
        scrubber.error(RemoteError::new(RemoteErrorKind::Credentials, message))
    };
    builder = match account.identity {
        Identity::Key(key) => builder.with_access_key(key),
        Identity::Signature(signature) => {
            builder.with_sas_authorization(split_sas(&signature).map_err(wrong)?)
        }
        Identity::Token(token) => builder.with_bearer_token_authorization(token),
        Identity::Client { id, tenant, secret } => {
            builder.with_client_secret_authorization(id, secret, tenant)
        }
        Identity::Workload { id, tenant, token } => builder
            .with_client_id(id)
            .with_tenant_id(tenant)
            .with_federated_token_file(token),
        Identity::Managed {
            endpoint,
            header,
            client,
        } => {
            let managed = Managed::new(endpoint, header, client, access, scrubber.clone())?;
            builder.with_credentials(Arc::new(managed))
        }
    };
    let store = builder.build().map_err(wrong)?;
    Ok(Bucket::new(store, prefix, transport, access))
}
