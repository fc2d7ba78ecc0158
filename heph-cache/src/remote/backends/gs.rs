//! `gs`: buckets of Google Cloud Storage, through its XML API.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};

use super::object_store::{Bucket, Connector, no_retries};
use super::scrub::Scrubber;
use super::transport::Transport;
use crate::remote::access::Access;
use crate::remote::backend::{RemoteError, RemoteErrorKind};
use crate::remote::credentials::google::{self, Found};

/// The bucket of that name.
pub(super) fn bucket(name: &str, prefix: &str, access: &Access) -> Result<Bucket, RemoteError> {
    let found = google::find(access)?;
    let scrubber = Scrubber::new(access, found.secrets());
    let endpoint = access.endpoint.as_deref().or_else(|| found.endpoint());
    let encrypted = endpoint.is_none_or(|endpoint| endpoint.starts_with("https://"));
    let transport = Transport::signed(access, encrypted, scrubber.clone())?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(name)
        .with_retry(no_retries())
        .with_http_connector(Connector(transport.clone()));
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    builder = match found {
        Found::Nobody { .. } => {
            builder.with_credentials(Arc::new(StaticCredentialProvider::new(GcpCredential {
                bearer: String::new(),
            })))
        }
        Found::Key { json, .. } => builder.with_service_account_key(json),
        Found::Token(source) => {
            let provider = google::Provider::new(source, access, scrubber.clone())?;
            builder.with_credentials(Arc::new(provider))
        }
    };
    let store = builder.build().map_err(|error| {
        let message = format!("use the bucket '{name}' and the service account: {error}");
        scrubber.error(RemoteError::new(RemoteErrorKind::Credentials, message))
    })?;
    Ok(Bucket::new(store, prefix, transport, access))
}
