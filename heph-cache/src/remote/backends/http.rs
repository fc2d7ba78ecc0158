//! `https` and `http`: a server of plain files. GET, PUT, HEAD and DELETE, and MKCOL where a folder is missing (RFC 9110, RFC 4918).

use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::StatusCode;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderValue, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
    RANGE,
};
use reqwest::{Method, Request, Response, Url};

use tokio::sync::Mutex;

use super::scrub::Scrubber;
use super::stream::skipped;
use super::transport::{Transport, what};
use super::upload::{self, Content};
use crate::remote::access::Access;
use crate::remote::backend::{
    Answer, Backend, Body, Chunks, Limits, Object, Put, PutMode, RemoteError, RemoteErrorKind,
};
use crate::remote::location::Login;

/// Requests at once where the entry names no number.
const PARALLEL: usize = 32;
/// How much of a file that is uploaded is read at once.
const PIECE: usize = 1 << 20;
/// How often an upload is sent elsewhere.
const REDIRECTS: usize = 5;

/// A server of plain files.
#[derive(Debug)]
pub(super) struct Server {
    /// Ends in a slash.
    base: Url,
    authorization: Option<HeaderValue>,
    transport: Transport,
    parallel: usize,
    /// Folders that were made. Whoever makes some holds it, since servers get confused by several at once.
    made: Mutex<HashSet<String>>,
}

impl Server {
    /// A server whose objects are below `base`.
    pub(super) fn new(base: &str, login: Option<&Login>, access: &Access) -> Result<Self, RemoteError> {
        let secrets = login.map(|login| login.password.clone());
        let scrubber = Scrubber::new(access, secrets);
        let url = Url::parse(&format!("{base}/"))
            .map_err(|error| RemoteError::new(RemoteErrorKind::Config, format!("use '{base}': {error}")))?;
        let transport = Transport::new(access, url.scheme() == "https", scrubber)?;
        let identity = Identity::find(login, access);
        Ok(Self {
            authorization: authorization(identity.as_ref(), &url, &transport)?,
            transport,
            base: url,
            parallel: access.parallel(PARALLEL),
            made: Mutex::new(HashSet::new()),
        })
    }

    fn url(&self, path: &str) -> Result<Url, RemoteError> {
        self.base
            .join(path)
            .map_err(|error| RemoteError::new(RemoteErrorKind::Config, format!("use '{path}': {error}")))
    }

    fn request(&self, method: Method, url: Url) -> Result<Request, RemoteError> {
        let mut builder = self.transport.request(method, url);
        if let Some(value) = &self.authorization {
            builder = builder.header(AUTHORIZATION, value.clone());
        }
        builder
            .build()
            .map_err(|error| self.transport.failure("build a request", error))
    }

    /// The answer to a request without a body; `None` when there is nothing.
    async fn ask(&self, request: Request) -> Result<Option<Response>, RemoteError> {
        let what = what(&request);
        let response = self.transport.send(request, 0).await?;
        match response.status() {
            status if status.is_success() => Ok(Some(response)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            _ => Err(self.transport.refused(&what, response).await),
        }
    }

    async fn get(&self, path: &str, limit: u64) -> Result<Option<Bytes>, RemoteError> {
        let request = self.request(Method::GET, self.url(path)?)?;
        let what = what(&request);
        match self.ask(request).await? {
            Some(response) => self.transport.whole(&what, response, limit).await.map(Some),
            None => Ok(None),
        }
    }

    async fn open(&self, path: &str, offset: u64) -> Result<Option<Body>, RemoteError> {
        let mut request = self.request(Method::GET, self.url(path)?)?;
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            let range = range.map_err(|_| RemoteError::new(RemoteErrorKind::Invalid, "ask for a range"))?;
            request.headers_mut().insert(RANGE, range);
        }
        let what = what(&request);
        let response = self.transport.send(request, 0).await?;
        let header = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let version = header(ETAG).or(header(LAST_MODIFIED)).map(str::to_owned);
        let total = header(CONTENT_RANGE).and_then(|range| range.rsplit('/').next()?.parse::<u64>().ok());
        let (size, skip) = match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
            StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                // Not every server says how long it is.
                let size = match total {
                    Some(size) => size,
                    None => offset,
                };
                let chunks: Chunks = Box::pin(stream::empty());
                return Ok(Some(Body {
                    size,
                    offset,
                    version,
                    chunks,
                }));
            }
            StatusCode::PARTIAL_CONTENT => (total, 0),
            status if status.is_success() => (response.content_length(), offset),
            _ => return Err(self.transport.refused(&what, response).await),
        };
        let Some(size) = size else {
            let message = format!("{what}: the answer does not say how long it is");
            return Err(RemoteError::new(RemoteErrorKind::Invalid, message));
        };
        let transport = self.transport.clone();
        let bytes = response
            .bytes_stream()
            .map_err(move |error| transport.failure(&what, error));
        Ok(Some(Body {
            size,
            offset,
            version,
            chunks: skipped(bytes, skip),
        }))
    }

    async fn exists(&self, path: String) -> Result<bool, RemoteError> {
        let url = self.url(&path)?;
        match self.ask(self.request(Method::HEAD, url.clone())?).await {
            // A server that does not know HEAD.
            Err(error) if error.kind == RemoteErrorKind::Unsupported => {
                Ok(self.ask(self.request(Method::GET, url)?).await?.is_some())
            }
            found => Ok(found?.is_some()),
        }
    }

    /// Writes an object, after its folders when they are missing.
    async fn put(&self, path: &str, content: &Content, mode: PutMode) -> Result<Put, RemoteError> {
        let first = match self.put_once(path, content, mode).await {
            Err(Refused { error, folder: true }) => error,
            Err(Refused { error, .. }) => return Err(error),
            Ok(put) => return Ok(put),
        };
        if self.make_folders(path).await.is_err() {
            return Err(first);
        }
        self.put_once(path, content, mode)
            .await
            .map_err(|refused| refused.error)
    }

    async fn put_once(&self, path: &str, content: &Content, mode: PutMode) -> Result<Put, Refused> {
        let mut url = self.url(path)?;
        for _ in 0..=REDIRECTS {
            let mut request = self.request(Method::PUT, url.clone())?;
            if url.origin() != self.base.origin() {
                request.headers_mut().remove(AUTHORIZATION);
            }
            if mode == PutMode::IfAbsent {
                request
                    .headers_mut()
                    .insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
            }
            request
                .headers_mut()
                .insert(CONTENT_LENGTH, HeaderValue::from(content.size()));
            *request.body_mut() = Some(body(content));
            let what = what(&request);
            let response = self.transport.send(request, content.size()).await?;
            let status = response.status();
            match status.as_u16() {
                412 if mode == PutMode::IfAbsent => return Ok(Put::Existed),
                301 | 302 | 307 | 308 => {
                    let place = response
                        .headers()
                        .get(LOCATION)
                        .and_then(|place| place.to_str().ok());
                    match place.and_then(|place| url.join(place).ok()) {
                        Some(next) => url = next,
                        None => return Err(self.transport.refused(&what, response).await.into()),
                    }
                }
                _ if status.is_success() => return Ok(Put::Written),
                code => {
                    return Err(Refused {
                        error: self.transport.refused(&what, response).await,
                        folder: matches!(code, 403 | 404 | 409),
                    });
                }
            }
        }
        let message = format!("PUT {path}: the server sends it from place to place");
        Err(RemoteError::new(RemoteErrorKind::Invalid, message).into())
    }

    /// Makes the folders that an object lies in.
    async fn make_folders(&self, path: &str) -> Result<(), RemoteError> {
        let mut folders: Vec<String> = Vec::new();
        let mut at = String::new();
        for segment in path.split('/') {
            if !at.is_empty() {
                folders.push(at.clone());
            }
            at.push_str(segment);
            at.push('/');
        }
        let mut all = self.made.lock().await;
        for (depth, folder) in folders.iter().enumerate() {
            if all.contains(folder) {
                continue;
            }
            let made = self.make_folder(self.url(folder)?).await;
            // Perhaps the cache's own folder is what is missing.
            if made.is_err() && depth == 0 {
                self.make_base().await?;
                self.make_folder(self.url(folder)?).await?;
            } else {
                made?;
            }
            all.insert(folder.clone());
        }
        Ok(())
    }

    async fn make_base(&self) -> Result<(), RemoteError> {
        let mut at = self.base.clone();
        at.set_path("/");
        let segments: Vec<&str> = self
            .base
            .path_segments()
            .into_iter()
            .flatten()
            .filter(|s| !s.is_empty())
            .collect();
        let mut result = Ok(());
        for segment in segments {
            at = match at.join(&format!("{segment}/")) {
                Ok(next) => next,
                Err(_) => break,
            };
            // Only the last one counts: those above may be closed to us and be there.
            result = self.make_folder(at.clone()).await;
        }
        result
    }

    async fn make_folder(&self, url: Url) -> Result<(), RemoteError> {
        let method = Method::from_bytes(b"MKCOL")
            .map_err(|_| RemoteError::new(RemoteErrorKind::Unsupported, "make a folder"))?;
        let request = self.request(method, url)?;
        let what = what(&request);
        let response = self.transport.send(request, 0).await?;
        match response.status() {
            // "Not allowed" is how WebDAV says that it is there.
            StatusCode::METHOD_NOT_ALLOWED => Ok(()),
            status if status.is_success() || status.is_redirection() => Ok(()),
            _ => Err(self.transport.refused(&what, response).await),
        }
    }

    async fn delete(&self, path: &str) -> Result<(), RemoteError> {
        self.ask(self.request(Method::DELETE, self.url(path)?)?)
            .await
            .map(drop)
    }
}

/// A put that failed, and whether a missing folder may be why.
struct Refused {
    error: RemoteError,
    folder: bool,
}

impl From<RemoteError> for Refused {
    fn from(error: RemoteError) -> Self {
        Self { error, folder: false }
    }
}

/// What is uploaded, once more from the beginning.
fn body(content: &Content) -> reqwest::Body {
    match content {
        Content::Bytes(bytes) => bytes.clone().into(),
        Content::File(file, size) => {
            reqwest::Body::wrap_stream(upload::pieces(Arc::clone(file), *size, PIECE))
        }
    }
}

/// Who asks.
enum Identity {
    Bearer(String),
    Basic(String, String),
}

impl Identity {
    /// That of the URI, which is this cache's own; else bearer if there is a token, else basic if there is a name or a password.
    fn find(login: Option<&Login>, access: &Access) -> Option<Self> {
        if let Some(login) = login {
            return Some(Self::Basic(login.user.clone(), login.password.clone()));
        }
        if let Some(token) = access.secret("HEPH_CACHE_TOKEN") {
            return Some(Self::Bearer(token.to_owned()));
        }
        match (
            access.secret("HEPH_CACHE_USER"),
            access.secret("HEPH_CACHE_PASSWORD"),
        ) {
            (None, None) => None,
            (user, password) => {
                let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
                Some(Self::Basic(text(user), text(password)))
            }
        }
    }
}

/// The header that says who asks; it is marked as one that must not be shown.
fn authorization(
    identity: Option<&Identity>,
    url: &Url,
    transport: &Transport,
) -> Result<Option<HeaderValue>, RemoteError> {
    let Some(identity) = identity else {
        return Ok(None);
    };
    let request = transport.request(Method::GET, url.clone());
    let request = match identity {
        Identity::Bearer(token) => request.bearer_auth(token),
        Identity::Basic(user, password) => request.basic_auth(user, Some(password)),
    };
    match request.build() {
        Ok(request) => Ok(request.headers().get(AUTHORIZATION).cloned()),
        Err(_) => Err(RemoteError::new(
            RemoteErrorKind::Credentials,
            "use HEPH_CACHE_TOKEN: a character in it cannot be sent",
        )),
    }
}

impl Backend for Server {
    fn limits(&self) -> Limits {
        Limits {
            largest: None,
            parallel: self.parallel,
            conditional: true,
            batch: 1,
        }
    }

    fn get(&self, object: &Object, limit: u64) -> Answer<'_, Option<Bytes>> {
        let path = object.path();
        Box::pin(async move { self.get(&path, limit).await })
    }

    fn open(&self, object: &Object, offset: u64) -> Answer<'_, Option<Body>> {
        let path = object.path();
        Box::pin(async move { self.open(&path, offset).await })
    }

    fn exist(&self, objects: &[Object]) -> Answer<'_, Vec<bool>> {
        let paths: Vec<String> = objects.iter().map(Object::path).collect();
        Box::pin(async move {
            let answers = paths.into_iter().map(|path| self.exists(path));
            stream::iter(answers)
                .buffered(self.parallel.max(1))
                .try_collect()
                .await
        })
    }

    fn put(&self, object: &Object, bytes: Bytes, mode: PutMode) -> Answer<'_, Put> {
        let path = object.path();
        Box::pin(async move { self.put(&path, &Content::Bytes(bytes), mode).await })
    }

    fn put_file(&self, object: &Object, file: File, size: u64) -> Answer<'_, Put> {
        let path = object.path();
        Box::pin(async move {
            upload::check(&file, size)?;
            let content = Content::File(Arc::new(file), size);
            self.put(&path, &content, PutMode::Replace).await
        })
    }

    fn delete(&self, object: &Object) -> Answer<'_, ()> {
        let path = object.path();
        Box::pin(async move { self.delete(&path).await })
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let request = self.request(Method::GET, self.url(&Object::Probe.path())?)?;
            self.ask(request).await.map(drop)
        })
    }
}
