//! What a person can do about a remote cache that does not answer as it should.

use super::{Location, Provider};
use crate::remote::backend::RemoteErrorKind;

/// What is wrong with the cache called `cache`, and which setting or variable to change.
pub(crate) fn hint(kind: RemoteErrorKind, cache: &str, location: &Location) -> String {
    let key = |name: &str| format!("caches.{cache}.{name}");
    match kind {
        RemoteErrorKind::Denied => format!(
            "check that who is named by {} may use cache '{cache}'{}, or set {}: false or {}: false",
            credentials(location),
            match location {
                Location::Bucket {
                    provider: Provider::S3,
                    ..
                } => {
                    " (without s3:ListBucket, S3 refuses to say that an object is missing)"
                }
                _ => "",
            },
            key("write"),
            key("read")
        ),
        RemoteErrorKind::Credentials => format!(
            "give cache '{cache}' credentials: {}; or name others in {}",
            credentials(location),
            key("credentials")
        ),
        RemoteErrorKind::Missing => match location {
            Location::Bucket { provider, bucket, .. } => format!(
                "create the {} '{bucket}', or correct {}{}",
                if *provider == Provider::Az {
                    "container"
                } else {
                    "bucket"
                },
                key("uri"),
                if *provider == Provider::S3 {
                    format!(", {} or {}", key("region"), key("endpoint"))
                } else {
                    String::new()
                }
            ),
            Location::Redis { .. } => format!("correct the number of the database in {}", key("uri")),
            _ => format!("correct {}", key("uri")),
        },
        RemoteErrorKind::Throttled => format!("lower {}", key("concurrency")),
        RemoteErrorKind::Unavailable | RemoteErrorKind::TimedOut => match location {
            Location::Bucket { .. } => format!(
                "check the network, {} and, behind a proxy, HTTPS_PROXY and NO_PROXY",
                key("endpoint")
            ),
            Location::Http { .. } | Location::Grpc { .. } => format!(
                "check the network, {} and, behind a proxy, HTTPS_PROXY and NO_PROXY",
                key("uri")
            ),
            Location::File { .. } => format!("check the directory that {} names", key("uri")),
            Location::Redis { .. } | Location::Memcached { .. } => {
                format!("check that the server of {} runs and can be reached", key("uri"))
            }
        },
        RemoteErrorKind::TooLarge => match location {
            Location::Memcached { .. } => {
                format!("raise the servers' item size (memcached -I 8m) for cache '{cache}'")
            }
            _ => format!("raise the server's limit for cache '{cache}'"),
        },
        RemoteErrorKind::Full => format!("free space on the server of cache '{cache}', or raise its limit"),
        RemoteErrorKind::Invalid => {
            format!(
                "check that {} is the address of a cache, not of something else",
                key("uri")
            )
        }
        RemoteErrorKind::Certificate => match location {
            Location::Redis { .. } => format!(
                "name the certificate of the server's authority in {} or SSL_CERT_FILE, or end {} in #insecure",
                key("caFile"),
                key("uri")
            ),
            _ => format!(
                "name the certificate of the server's authority in {} or SSL_CERT_FILE",
                key("caFile")
            ),
        },
        RemoteErrorKind::ClockSkew => {
            format!(
                "set this machine's clock: the server of cache '{cache}' refuses requests whose time is off"
            )
        }
        RemoteErrorKind::Config => format!("correct the entry 'caches.{cache}'"),
        RemoteErrorKind::Unsupported => format!("set {}: false and {}: false", key("read"), key("write")),
    }
}

/// Where the credentials of a cache are looked for.
fn credentials(location: &Location) -> &'static str {
    match location {
        Location::Bucket {
            provider: Provider::S3,
            ..
        } => "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of this machine",
        Location::Bucket {
            provider: Provider::Gs,
            ..
        } => {
            "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or the service account of this machine"
        }
        Location::Bucket {
            provider: Provider::Az,
            ..
        } => {
            "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCESS_KEY, or AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET"
        }
        Location::Http { .. } | Location::Grpc { .. } => {
            "HEPH_CACHE_TOKEN, or HEPH_CACHE_USER and HEPH_CACHE_PASSWORD"
        }
        Location::Redis { .. } => "REDIS_USERNAME and REDIS_PASSWORD, or user and password in the URI",
        Location::Memcached { .. } => "this machine",
        Location::File { .. } => "this user",
    }
}
