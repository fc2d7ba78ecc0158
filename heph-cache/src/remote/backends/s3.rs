//! `s3`: buckets of Amazon S3 and of what speaks like it.

use std::sync::Arc;

use object_store::aws::AmazonS3Builder;

use super::object_store::{Bucket, Connector, no_retries};
use super::scrub::Scrubber;
use super::transport::Transport;
use crate::remote::access::Access;
use crate::remote::backend::{RemoteError, RemoteErrorKind};
use crate::remote::credentials::aws;

/// Region of requests where nothing names one; servers that only speak like S3 take any.
const REGION: &str = "us-east-1";
/// How names of buckets in one zone (S3 Express) end.
const ZONE: &str = "--x-s3";

/// The bucket of that name.
pub(super) fn bucket(name: &str, prefix: &str, access: &Access) -> Result<Bucket, RemoteError> {
    let profile = aws::profile(access)?;
    let region = access
        .region
        .as_deref()
        .or_else(|| access.setting("AWS_REGION"))
        .or_else(|| access.setting("AWS_DEFAULT_REGION"))
        .or(profile.region.as_deref())
        .unwrap_or(REGION);
    let endpoint = access
        .endpoint
        .as_deref()
        .or_else(|| access.setting("AWS_ENDPOINT_URL_S3"))
        .or_else(|| access.setting("AWS_ENDPOINT_URL"))
        .or(profile.endpoint.as_deref())
        .map(|endpoint| endpoint.trim_end_matches('/'));
    if let Some(endpoint) = endpoint
        && !endpoint.starts_with("http://")
        && !endpoint.starts_with("https://")
    {
        let message = format!("use the endpoint '{endpoint}': it does not begin with https:// or http://");
        return Err(RemoteError::new(RemoteErrorKind::Config, message));
    }
    let encrypted = endpoint.is_none_or(|endpoint| endpoint.starts_with("https://"));
    let scrubber = Scrubber::new(access, profile.secrets.iter().cloned());
    let transport = Transport::signed(access, encrypted, scrubber)?;
    let credentials = aws::Provider::new(access.clone(), region.to_owned())?;

    // A name with dots has no certificate of its own.
    let path_style = access
        .path_style
        .unwrap_or(endpoint.is_some() || name.contains('.'));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_region(region)
        .with_credentials(Arc::new(credentials))
        .with_virtual_hosted_style_request(!path_style)
        .with_disable_bulk_delete(true)
        .with_retry(no_retries())
        .with_http_connector(Connector(transport.clone()));
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(match (path_style, endpoint.split_once("://")) {
            (false, Some((scheme, host))) => format!("{scheme}://{name}.{host}"),
            _ => endpoint.to_owned(),
        });
    } else if name.ends_with(ZONE) {
        builder = builder.with_s3_express(true);
    }
    let store = builder.build().map_err(|error| {
        RemoteError::new(
            RemoteErrorKind::Config,
            format!("use the bucket '{name}': {error}"),
        )
    })?;
    Ok(Bucket::new(store, prefix, transport, access))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use heph_common::config::Credentials;

    use super::*;
    use crate::remote::backend::{Backend, Object, Put, PutMode};
    use crate::remote::credentials::service::Service;

    fn access(endpoint: &str, path_style: Option<bool>) -> Access {
        let variables = [("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        Access {
            environment: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            credentials: Credentials::Environment,
            region: Some("eu-west-1".to_owned()),
            endpoint: Some(endpoint.to_owned()),
            path_style,
            ca_file: None,
            ttl: None,
            concurrency: None,
        }
    }

    #[tokio::test]
    async fn a_server_that_refuses_conditions_is_written_to_without() {
        let refusal = "HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let written = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let service = Service::new(&[("if-none-match: *", refusal), ("PUT /b/p/v1/", written)]);
        let cache = bucket("b", "p", &access(&service.url, None)).unwrap();
        let put = || cache.put(&Object::Probe, Bytes::from_static(b"x"), PutMode::IfAbsent);
        assert!(cache.limits().conditional);
        assert_eq!(put().await.unwrap(), Put::Written);
        assert_eq!(put().await.unwrap(), Put::Written);
        assert!(!cache.limits().conditional);
        assert_eq!(service.requests().len(), 3, "it is asked once only");
        assert!(service.requests().concat().contains("/eu-west-1/s3/aws4_request"));
    }

    #[tokio::test]
    async fn the_bucket_is_in_the_path_or_in_the_hosts_name() {
        let written = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let service = Service::new(&[("GET", written)]);
        let host = service.url.replace("127.0.0.1", "localhost");
        for (path_style, line) in [(true, "GET /b/v1/probe "), (false, "GET /v1/probe ")] {
            let cache = bucket("b", "", &access(&host, Some(path_style))).unwrap();
            // Names below localhost may not resolve everywhere; then nothing arrives.
            if cache.probe().await.is_ok() {
                assert!(
                    service.requests().last().unwrap().starts_with(line),
                    "{path_style}"
                );
            } else {
                assert!(!path_style);
            }
        }
    }
}
