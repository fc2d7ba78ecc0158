//! What is said when a cache does not answer as it should.

use std::time::{Duration, Instant};

use bytes::Bytes;
use heph_cache::remote::{Object, Put, PutMode, RemoteError, RemoteErrorKind};
use heph_common::Digest;

use super::checks::QUIET;
use super::subject::Subject;

/// Longer than a backend may take to give up on a server that is not there.
const PATIENCE: Duration = Duration::from_secs(15);

fn object() -> Object {
    Object::Blob {
        scope: "main".to_owned(),
        digest: Digest::of(b"errors"),
        compressed: false,
    }
}

/// What every operation answers, which is checked for secrets and for what a person needs.
async fn answers(subject: &Subject) -> Vec<(&'static str, RemoteError)> {
    let started = Instant::now();
    let errors = match subject.connect() {
        Err(error) => vec![("connect", error)],
        Ok(cache) => {
            let object = object();
            let temporary = tempfile::tempfile().unwrap();
            temporary.set_len(100).unwrap();
            let bytes = Bytes::from_static(b"bytes");
            let mut errors = Vec::new();
            errors.extend(cache.probe().await.err().map(|error| ("probe", error)));
            errors.extend(cache.get(&object, 100).await.err().map(|error| ("get", error)));
            errors.extend(cache.open(&object, 0).await.err().map(|error| ("open", error)));
            errors.extend(
                cache
                    .exist(std::slice::from_ref(&object))
                    .await
                    .err()
                    .map(|error| ("exist", error)),
            );
            errors.extend(
                cache
                    .put(&object, bytes, PutMode::Replace)
                    .await
                    .err()
                    .map(|error| ("put", error)),
            );
            errors.extend(
                cache
                    .put_file(&object, temporary, 100)
                    .await
                    .err()
                    .map(|error| ("put_file", error)),
            );
            errors.extend(cache.delete(&object).await.err().map(|error| ("delete", error)));
            let many = cache.get_many(&[object], 100).await;
            let many = many.and_then(|mut many| many.pop().unwrap().map(drop));
            errors.extend(many.err().map(|error| ("get_many", error)));
            errors
        }
    };
    assert!(
        started.elapsed() < PATIENCE,
        "{}: {:?}",
        subject.name,
        started.elapsed()
    );
    for (_, error) in &errors {
        let hint = error.hint("shared", &subject.location());
        let shown = format!("{error} {error:?} {hint}");
        for secret in subject.secrets() {
            assert!(!shown.contains(&secret), "{shown}");
        }
        assert!(
            hint.contains("'shared'") || hint.contains("caches.shared"),
            "{hint}"
        );
        assert!(!error.message.contains('\n'), "{error}");
    }
    errors
}

async fn all_are(
    subject: &Subject,
    kind: RemoteErrorKind,
    operations: &[&str],
) -> Vec<(&'static str, RemoteError)> {
    let errors = answers(subject).await;
    for operation in operations {
        let error = errors.iter().find(|(name, _)| name == operation);
        let (_, error) = error.unwrap_or_else(|| panic!("{operation} should have failed: {errors:?}"));
        assert_eq!(error.kind, kind, "{operation}: {error}");
    }
    if let Some((name, error)) = errors.first() {
        eprintln!(
            "{}: {kind:?}: {name}: {error}\n  hint: {}",
            subject.name,
            error.hint("shared", &subject.location())
        );
    }
    errors
}

/// Wrong credentials.
pub(super) async fn denied(subject: &Subject) {
    let all = [
        "get", "open", "exist", "put", "put_file", "delete", "get_many", "probe",
    ];
    all_are(subject, RemoteErrorKind::Denied, &all).await;
}

/// Reading is allowed, writing is not.
pub(super) async fn read_only(subject: &Subject) {
    let errors = all_are(subject, RemoteErrorKind::Denied, &["put", "put_file", "delete"]).await;
    for reading in ["get", "open", "exist", "probe", "get_many"] {
        assert!(errors.iter().all(|(name, _)| *name != reading), "{errors:?}");
    }
}

/// The bucket is not there.
pub(super) async fn missing(subject: &Subject, name: &str, operations: &[&str]) {
    let errors = all_are(subject, RemoteErrorKind::Missing, operations).await;
    let hint = errors[0].1.hint("shared", &subject.location());
    assert!(hint.contains(name), "{hint}");
}

/// The credentials are none.
pub(super) async fn unusable(subject: &Subject, variable: &str) {
    let errors = all_are(subject, RemoteErrorKind::Credentials, &["connect"]).await;
    let hint = errors[0].1.hint("shared", &subject.location());
    assert!(hint.contains(variable), "{hint}");
}

/// The server has fewer databases.
pub(super) async fn missing_database(subject: &Subject) {
    all_are(
        subject,
        RemoteErrorKind::Missing,
        &["get", "put", "probe", "exist"],
    )
    .await;
}

/// Nobody listens.
pub(super) async fn gone(subject: &Subject) {
    let all = [
        "get", "open", "exist", "put", "put_file", "delete", "get_many", "probe",
    ];
    let errors = all_are(subject, RemoteErrorKind::Unavailable, &all).await;
    assert!(errors.iter().all(|(_, error)| error.is_retryable()));
}

/// The server's authority is not known.
pub(super) async fn certificate(subject: &Subject) {
    let errors = all_are(subject, RemoteErrorKind::Certificate, &["get", "put", "probe"]).await;
    let hint = errors[0].1.hint("shared", &subject.location());
    assert!(
        hint.contains("caches.shared.caFile") && hint.contains("SSL_CERT_FILE"),
        "{hint}"
    );
    assert!(errors.iter().all(|(_, error)| !error.is_retryable()));
}

/// The server wants to be left alone.
pub(super) async fn throttled(subject: &Subject, seconds: u64) {
    let errors = all_are(
        subject,
        RemoteErrorKind::Throttled,
        &["get", "put", "exist", "probe"],
    )
    .await;
    assert!(errors.iter().all(|(_, error)| error.is_retryable()));
    assert!(
        errors
            .iter()
            .all(|(_, error)| error.retry_after == Some(Duration::from_secs(seconds)))
    );
}

/// The server has a fault.
pub(super) async fn broken(subject: &Subject) {
    let errors = all_are(
        subject,
        RemoteErrorKind::Unavailable,
        &["get", "put", "exist", "probe"],
    )
    .await;
    assert!(errors.iter().all(|(_, error)| error.is_retryable()));
}

/// The server takes small objects only.
pub(super) async fn too_large(subject: &Subject, size: usize) {
    let _others = QUIET.read().await;
    let cache = subject.backend();
    let put = async |length: usize| {
        cache
            .put(&object(), Bytes::from(vec![1; length]), PutMode::Replace)
            .await
    };
    assert_eq!(put(10).await.unwrap(), Put::Written);
    let error = put(size).await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::TooLarge, "{error}");
    assert!(!error.is_retryable());
}

/// The server takes no more.
pub(super) async fn full(subject: &Subject) {
    let cache = subject.backend();
    let bytes = Bytes::from(vec![7; 200_000]);
    for at in 0..200_u32 {
        let object = Object::Blob {
            scope: "main".to_owned(),
            digest: Digest::of(&at.to_le_bytes()),
            compressed: false,
        };
        if let Err(error) = cache.put(&object, bytes.clone(), PutMode::Replace).await {
            assert_eq!(error.kind, RemoteErrorKind::Full, "{error}");
            assert!(!error.is_retryable());
            // What is there can still be read.
            assert!(at > 0 && cache.probe().await.is_ok());
            assert_eq!(
                cache.get(&object, 1 << 20).await.unwrap(),
                None,
                "not even in part"
            );
            return;
        }
    }
    panic!("40 MB have found room");
}

/// The server is of another kind: that is said at once, or the connection ends.
pub(super) async fn invalid(subject: &Subject) {
    for (name, error) in answers(subject).await {
        let kinds = [
            RemoteErrorKind::Invalid,
            RemoteErrorKind::Unsupported,
            RemoteErrorKind::Unavailable,
        ];
        assert!(
            kinds.contains(&error.kind),
            "{}: {name}: {error} ({:?})",
            subject.name,
            error.kind
        );
        if name == "probe" {
            eprintln!("{}: {:?}: {error}", subject.name, error.kind);
        }
    }
    assert!(subject.backend().probe().await.is_err());
}

/// The server accepts connections and is silent.
pub(super) async fn silent(subject: &Subject) {
    let cache = subject.backend();
    let started = Instant::now();
    let error = cache.probe().await.unwrap_err();
    assert_eq!(error.kind, RemoteErrorKind::TimedOut, "{}: {error}", subject.name);
    assert!(error.is_retryable());
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}

/// There are no credentials at all.
pub(super) async fn no_credentials(subject: &Subject, variable: &str) {
    let errors = all_are(subject, RemoteErrorKind::Credentials, &["get", "put"]).await;
    let hint = errors[0].1.hint("shared", &subject.location());
    assert!(hint.contains(variable), "{hint}");
}
