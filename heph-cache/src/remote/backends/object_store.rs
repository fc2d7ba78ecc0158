//! Buckets, through the crate `object_store`: what its clients of the three clouds have in common.

use std::error::Error;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use heph_common::causes;
use http::StatusCode;
use http::header::CONTENT_RANGE;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, GetResult, MultipartUpload, ObjectStore, ObjectStoreExt, PutOptions,
    PutPayload, RetryConfig,
};
use reqwest::{Response, Url};
use tokio::task::JoinSet;

use super::refusal;
use super::stream::{reserved, skipped};
use super::transport::{Transport, kind_of, what};
use super::upload::{self, read_piece};
use crate::remote::access::Access;
use crate::remote::backend::{
    Answer, Backend, Body, Chunks, Limits, Object, Put, PutMode, RemoteError, RemoteErrorKind,
};

/// Requests at once where the entry names no number.
const PARALLEL: usize = 64;
/// Size of a part of an upload: the least that S3 takes. Three of them are in memory at once, one of which is being read.
const PART: u64 = 5 << 20;
/// Parts that are sent at once.
const SENDING: usize = 2;
/// What is larger is sent in parts.
const WHOLE: u64 = 15 << 20;
/// How many parts an upload may have, by the rules of S3 and Google.
const PARTS: u64 = 10_000;

/// A bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    transport: Transport,
    parallel: usize,
    /// Whether the server has refused conditions as something that it does not know.
    unconditional: AtomicBool,
}

impl Bucket {
    /// The objects of `store` whose names begin with `prefix`.
    pub(super) fn new(store: impl ObjectStore, prefix: &str, transport: Transport, access: &Access) -> Self {
        Self {
            store: Arc::new(store),
            prefix: prefix.to_owned(),
            transport,
            parallel: access.parallel(PARALLEL),
            unconditional: AtomicBool::new(false),
        }
    }

    fn path(&self, object: &Object) -> Result<Path, RemoteError> {
        let path = match self.prefix.as_str() {
            "" => object.path(),
            prefix => format!("{prefix}/{object}"),
        };
        Path::parse(&path)
            .map_err(|error| RemoteError::new(RemoteErrorKind::Config, format!("use '{path}': {error}")))
    }

    async fn get(&self, path: Path, limit: u64) -> Result<Option<Bytes>, RemoteError> {
        let found = match self.store.get_opts(&path, GetOptions::default()).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| self.error("get", &path, &error))?,
        };
        if found.meta.size > limit {
            return Err(RemoteError::too_large(path.as_ref(), found.meta.size, limit));
        }
        let mut bytes = reserved(Some(found.meta.size));
        let mut chunks = found.into_stream();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| self.error("get", &path, &error))?);
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if size > limit {
                return Err(RemoteError::too_large(path.as_ref(), size, limit));
            }
        }
        Ok(Some(bytes.into()))
    }

    async fn open(&self, path: Path, offset: u64) -> Result<Option<Body>, RemoteError> {
        let options = GetOptions {
            range: (offset > 0).then_some(GetRange::Offset(offset)),
            ..GetOptions::default()
        };
        let found = match self.store.get_opts(&path, options).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => match behind_end(&error) {
                Some(size) => {
                    let chunks: Chunks = Box::pin(stream::empty());
                    return Ok(Some(Body {
                        size: size.unwrap_or(offset),
                        offset,
                        version: None,
                        chunks,
                    }));
                }
                // Some servers answer with the whole object, at least when the range begins behind its end.
                None if offset > 0
                    && matches!(error, object_store::Error::Generic { .. })
                    && !is_known(&error) =>
                {
                    return self.open_skipping(path, offset).await;
                }
                None => return Err(self.error("get", &path, &error)),
            },
            Ok(found) => found,
        };
        Ok(Some(self.body(path, found, offset)))
    }

    /// The object from `offset` on, of a server that does not know ranges.
    async fn open_skipping(&self, path: Path, offset: u64) -> Result<Option<Body>, RemoteError> {
        let found = match self.store.get_opts(&path, GetOptions::default()).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| self.error("get", &path, &error))?,
        };
        let body = self.body(path, found, offset);
        let chunks = match offset >= body.size {
            true => Box::pin(stream::empty()),
            false => skipped(body.chunks, offset),
        };
        Ok(Some(Body { chunks, ..body }))
    }

    /// What was found, as it arrives.
    fn body(&self, path: Path, found: GetResult, offset: u64) -> Body {
        let (size, version) = (found.meta.size, found.meta.e_tag.clone());
        let transport = self.transport.clone();
        let chunks = found
            .into_stream()
            .map_err(move |error| shown(&transport, "get", &path, &error));
        Body {
            size,
            offset,
            version,
            chunks: Box::pin(chunks),
        }
    }

    async fn exists(&self, path: Result<Path, RemoteError>) -> Result<bool, RemoteError> {
        let path = path?;
        match self.store.head(&path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.error("look for", &path, &error)),
        }
    }

    async fn put(&self, path: Path, bytes: Bytes, mode: PutMode) -> Result<Put, RemoteError> {
        if mode == PutMode::Replace || self.unconditional.load(Ordering::Relaxed) {
            return self.put_as(&path, bytes, object_store::PutMode::Overwrite).await;
        }
        match self
            .put_as(&path, bytes.clone(), object_store::PutMode::Create)
            .await
        {
            // The condition only saves work: what matters is that the object gets there.
            Err(error) if error.kind == RemoteErrorKind::Unsupported => {
                self.unconditional.store(true, Ordering::Relaxed);
                self.put_as(&path, bytes, object_store::PutMode::Overwrite).await
            }
            put => put,
        }
    }

    async fn put_as(
        &self,
        path: &Path,
        bytes: Bytes,
        mode: object_store::PutMode,
    ) -> Result<Put, RemoteError> {
        let create = mode == object_store::PutMode::Create;
        match self
            .store
            .put_opts(path, bytes.into(), PutOptions::from(mode))
            .await
        {
            Ok(_) => Ok(Put::Written),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })
                if create =>
            {
                Ok(Put::Existed)
            }
            Err(error) => Err(self.error("put", path, &error)),
        }
    }

    async fn put_file(&self, path: Path, file: Arc<File>, size: u64) -> Result<Put, RemoteError> {
        upload::check(&file, size)?;
        if size <= WHOLE {
            let length = usize::try_from(size).unwrap_or_default();
            let bytes = read_piece(file, 0, length).await?;
            return self.put(path, bytes, PutMode::Replace).await;
        }
        if size > PART * PARTS {
            return Err(RemoteError::too_large(path.as_ref(), size, PART * PARTS));
        }
        let upload = self.store.put_multipart(&path).await;
        let upload = upload.map_err(|error| self.error("begin to put", &path, &error))?;
        let mut upload = Unfinished(Some(upload));
        // Tasks, so that sending goes on while the next part is read. They end with the set.
        let mut sending = JoinSet::new();
        for offset in (0..size.div_ceil(PART)).map(|part| part * PART) {
            let length = usize::try_from((size - offset).min(PART)).unwrap_or_default();
            let bytes = read_piece(Arc::clone(&file), offset, length).await?;
            if sending.len() >= SENDING {
                self.sent(&path, sending.join_next().await)?;
            }
            sending.spawn(upload.get()?.put_part(PutPayload::from_bytes(bytes)));
        }
        while !sending.is_empty() {
            self.sent(&path, sending.join_next().await)?;
        }
        let finished = upload.get()?.complete().await;
        finished.map_err(|error| self.error("finish putting", &path, &error))?;
        upload.0 = None;
        Ok(Put::Written)
    }

    /// What became of one part.
    fn sent(
        &self,
        path: &Path,
        part: Option<Result<object_store::Result<()>, tokio::task::JoinError>>,
    ) -> Result<(), RemoteError> {
        match part {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(self.error("put", path, &error)),
            Some(Err(error)) => Err(RemoteError::new(
                RemoteErrorKind::Unavailable,
                format!("put '{path}': {error}"),
            )),
        }
    }

    fn error(&self, action: &str, path: &Path, error: &object_store::Error) -> RemoteError {
        shown(&self.transport, action, path, error)
    }
}

/// An upload whose parts the server is asked to forget unless it is finished.
struct Unfinished(Option<Box<dyn MultipartUpload>>);

impl Unfinished {
    fn get(&mut self) -> Result<&mut Box<dyn MultipartUpload>, RemoteError> {
        self.0.as_mut().ok_or_else(|| {
            RemoteError::new(RemoteErrorKind::Invalid, "go on with an upload that is finished")
        })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(mut upload) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { upload.abort().await });
        }
    }
}

/// What an error of the crate means: mostly what [`Service`] has put into it.
fn shown(transport: &Transport, action: &str, path: &Path, error: &object_store::Error) -> RemoteError {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(known) = cause.downcast_ref::<RemoteError>() {
            return known.clone();
        }
        next = cause.source();
    }
    let kind = match error {
        object_store::Error::NotFound { .. } => RemoteErrorKind::Missing,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            RemoteErrorKind::Denied
        }
        object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => {
            RemoteErrorKind::Unsupported
        }
        _ => kind_of(error),
    };
    let message = format!("{action} '{path}': {}", causes(error));
    transport.scrubber().error(RemoteError::new(kind, message))
}

/// Whether [`Service`] has put the meaning into an error.
fn is_known(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<RemoteError>() || cause.is::<HttpError>() {
            return true;
        }
        next = cause.source();
    }
    false
}

/// The object's length, if the server knows it, when a range was asked for that begins behind its end.
fn behind_end(error: &object_store::Error) -> Option<Option<u64>> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(end) = cause.downcast_ref::<BehindEnd>() {
            return Some(end.0);
        }
        next = cause.source();
    }
    None
}

/// A range begins behind the end of an object, which has this length.
#[derive(Debug, thiserror::Error)]
#[error("the object ends before the range")]
struct BehindEnd(Option<u64>);

/// Settings of the crate's clients: nothing is repeated, requests and time are counted by the [`Transport`].
pub(super) fn no_retries() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

/// Gives the crate's clients our connections, and their answers a meaning.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub Transport);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service(self.0.clone())))
    }
}

#[derive(Debug)]
struct Service(Transport);

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (request, size) = plain(request)?;
        let what = what(&request);
        let response = self.0.send(request, size).await.map_err(fault)?;
        let status = response.status();
        if status.is_success() || matches!(status, StatusCode::NOT_MODIFIED | StatusCode::PRECONDITION_FAILED)
        {
            return Ok(unwrapped(response));
        }
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            let range = response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|range| range.to_str().ok());
            let size = range.and_then(|range| range.rsplit('/').next()?.parse().ok());
            return Err(HttpError::new(HttpErrorKind::Unknown, BehindEnd(size)));
        }
        let headers = response.headers().clone();
        let body = self.0.reason(response).await;
        let harmless = match status {
            StatusCode::NOT_FOUND => !refusal::is_missing_bucket(&headers, &body),
            // How Azure says that a blob is there already.
            StatusCode::CONFLICT => refusal::code(&headers, &body) == "BlobAlreadyExists",
            _ => false,
        };
        if harmless {
            let mut response = HttpResponse::new(HttpResponseBody::from(body));
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            return Ok(response);
        }
        Err(fault(
            self.0
                .scrubber()
                .error(refusal::error(&what, status, &headers, &body)),
        ))
    }
}

/// The crate's request as ours, and the size of its body.
pub(in crate::remote) fn plain(request: HttpRequest) -> Result<(reqwest::Request, u64), HttpError> {
    let (parts, body) = request.into_parts();
    let url = Url::parse(&parts.uri.to_string());
    let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
    let size = u64::try_from(body.content_length()).unwrap_or(u64::MAX);
    let mut request = reqwest::Request::new(parts.method, url);
    *request.headers_mut() = parts.headers;
    *request.body_mut() = Some(match body.as_bytes() {
        Some(bytes) => bytes.clone().into(),
        None => reqwest::Body::wrap(body),
    });
    Ok((request, size))
}

fn unwrapped(response: Response) -> HttpResponse {
    let response: http::Response<reqwest::Body> = response.into();
    let (parts, body) = response.into_parts();
    let body = http_body_util::BodyExt::map_err(body, |error| HttpError::new(HttpErrorKind::Unknown, error));
    HttpResponse::from_parts(parts, HttpResponseBody::new(body))
}

fn fault(error: RemoteError) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, error)
}

impl Backend for Bucket {
    fn limits(&self) -> Limits {
        Limits {
            largest: Some(PART * PARTS),
            parallel: self.parallel,
            conditional: !self.unconditional.load(Ordering::Relaxed),
            batch: 1,
        }
    }

    fn get(&self, object: &Object, limit: u64) -> Answer<'_, Option<Bytes>> {
        let path = self.path(object);
        Box::pin(async move { self.get(path?, limit).await })
    }

    fn open(&self, object: &Object, offset: u64) -> Answer<'_, Option<Body>> {
        let path = self.path(object);
        Box::pin(async move { self.open(path?, offset).await })
    }

    fn exist(&self, objects: &[Object]) -> Answer<'_, Vec<bool>> {
        let paths: Vec<_> = objects.iter().map(|object| self.path(object)).collect();
        Box::pin(async move {
            let answers = paths.into_iter().map(|path| self.exists(path));
            stream::iter(answers)
                .buffered(self.parallel.max(1))
                .try_collect()
                .await
        })
    }

    fn put(&self, object: &Object, bytes: Bytes, mode: PutMode) -> Answer<'_, Put> {
        let path = self.path(object);
        Box::pin(async move { self.put(path?, bytes, mode).await })
    }

    fn put_file(&self, object: &Object, file: File, size: u64) -> Answer<'_, Put> {
        let path = self.path(object);
        Box::pin(async move { self.put_file(path?, Arc::new(file), size).await })
    }

    fn delete(&self, object: &Object) -> Answer<'_, ()> {
        let path = self.path(object);
        Box::pin(async move {
            let path = path?;
            match self.store.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.error("delete", &path, &error)),
            }
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        let path = self.path(&Object::Probe);
        // Not the head: only an answer with a body tells a missing bucket.
        Box::pin(async move { self.get(path?, u64::from(u16::MAX)).await.map(drop) })
    }
}
