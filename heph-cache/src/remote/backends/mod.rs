//! The kinds of remote caches.

mod az;
mod file;
mod gs;
mod http;
mod memcached;
pub(super) mod object_store;
mod pool;
mod redis;
pub(super) mod refusal;
mod s3;
pub(super) mod scrub;
mod stream;
mod tls;
pub(super) mod transport;
pub(super) mod upload;

use std::sync::Arc;

use heph_common::config::Credentials;

use super::access::Access;
use super::backend::{Backend, RemoteError, RemoteErrorKind};
use super::location::{Location, Provider};

/// The backend for a location. Nothing is sent yet; credentials that lie in files are read.
///
/// # Errors
/// [`RemoteErrorKind::Config`], [`RemoteErrorKind::Credentials`] or [`RemoteErrorKind::Certificate`] when the definition or what it
/// names is wrong, [`RemoteErrorKind::Unsupported`] when no backend is there for it.
pub fn connect(location: &Location, access: &Access) -> Result<Arc<dyn Backend>, RemoteError> {
    let amazon = matches!(
        location,
        Location::Bucket {
            provider: Provider::S3,
            ..
        }
    );
    if let (Credentials::Profile(name), false) = (&access.credentials, amazon) {
        let message =
            format!("use the profile '{name}': only caches in s3 have profiles; others have envPrefix");
        return Err(RemoteError::new(RemoteErrorKind::Config, message));
    }
    match location {
        Location::File { directory } => Ok(Arc::new(file::Directory::new(directory, access))),
        Location::Http { base, login } => Ok(Arc::new(http::Server::new(base, login.as_ref(), access)?)),
        Location::Bucket {
            provider: Provider::S3,
            bucket,
            prefix,
        } => Ok(Arc::new(s3::bucket(bucket, prefix, access)?)),
        Location::Redis {
            host,
            tls,
            insecure,
            database,
            login,
            prefix,
        } => {
            let place = redis::Place {
                host,
                tls: *tls,
                insecure: *insecure,
                database: *database,
                login: login.as_ref(),
                prefix,
            };
            Ok(Arc::new(redis::Redis::new(&place, access)?))
        }
        Location::Memcached { hosts, prefix } => {
            Ok(Arc::new(memcached::Memcached::new(hosts, prefix, access)))
        }
        Location::Bucket {
            provider: Provider::Gs,
            bucket,
            prefix,
        } => Ok(Arc::new(gs::bucket(bucket, prefix, access)?)),
        Location::Bucket {
            provider: Provider::Az,
            bucket,
            prefix,
        } => Ok(Arc::new(az::bucket(bucket, prefix, access)?)),
        Location::Grpc { .. } => Err(RemoteError::new(
            RemoteErrorKind::Unsupported,
            "use the cache: this release has no backend for its scheme",
        )),
    }
}
