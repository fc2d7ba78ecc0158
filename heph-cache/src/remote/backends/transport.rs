//! Requests over HTTP, each sent once, and what their failures mean.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use heph_common::causes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use reqwest::{Client, Method, NoProxy, Proxy, Request, Response, Url};
use tokio::time::{Instant, Sleep};

use super::refusal;
use super::scrub::Scrubber;
use super::stream::reserved;
use super::tls;
use crate::remote::access::Access;
use crate::remote::backend::{RemoteError, RemoteErrorKind};

/// Time to reach a server, TLS included.
pub(in crate::remote) const CONNECT: Duration = Duration::from_secs(5);
/// Time without any byte, while the server thinks or sends.
pub(in crate::remote) const SILENCE: Duration = Duration::from_secs(30);
/// An upload may take a second for each of these many bytes, on top of [`SILENCE`].
const SLOWEST: u64 = 32 * 1024;
/// How long an idle connection is kept: shorter than servers usually do.
const IDLE: Duration = Duration::from_secs(50);
/// How much of an answer that reports a failure is read.
const REASON: usize = 16 * 1024;

/// A client for one cache.
#[derive(Clone)]
pub(in crate::remote) struct Transport {
    client: Client,
    scrubber: Scrubber,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    /// A client with the proxies and certificates of `access`; `tls` says whether certificates are needed at all.
    pub(in crate::remote) fn new(
        access: &Access,
        tls: bool,
        scrubber: Scrubber,
    ) -> Result<Self, RemoteError> {
        Self::build(access, tls, scrubber, |builder| builder)
    }

    /// A client whose requests are signed, and so cannot be sent elsewhere.
    pub(in crate::remote) fn signed(
        access: &Access,
        tls: bool,
        scrubber: Scrubber,
    ) -> Result<Self, RemoteError> {
        Self::build(access, tls, scrubber, |builder| {
            builder.redirect(reqwest::redirect::Policy::none())
        })
    }

    /// A client for services of this machine, which no proxy knows.
    pub(in crate::remote) fn direct(access: &Access, scrubber: Scrubber) -> Result<Self, RemoteError> {
        Self::build(access, false, scrubber, |builder| {
            builder.no_proxy().redirect(reqwest::redirect::Policy::none())
        })
    }

    fn build(
        access: &Access,
        tls: bool,
        scrubber: Scrubber,
        finish: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, RemoteError> {
        let wrong = |error: reqwest::Error| {
            let message = scrubber.clean(&format!("set up connections: {}", causes(&error.without_url())));
            RemoteError::new(RemoteErrorKind::Config, message)
        };
        let mut builder = Client::builder()
            .user_agent(concat!("heph/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(64)
            .tcp_nodelay(true)
            .referer(false)
            // Several connections carry more than the streams of one.
            .http1_only()
            // The environment is the caller's business.
            .no_proxy();
        let either = |upper: &str, lower: &str| access.variable(lower).or(access.variable(upper));
        let none = either("NO_PROXY", "no_proxy").and_then(NoProxy::from_string);
        let every = either("ALL_PROXY", "all_proxy");
        if let Some(url) = either("HTTPS_PROXY", "https_proxy").or(every) {
            builder = builder.proxy(Proxy::https(url).map_err(wrong)?.no_proxy(none.clone()));
        }
        if let Some(url) = either("HTTP_PROXY", "http_proxy").or(every) {
            builder = builder.proxy(Proxy::http(url).map_err(wrong)?.no_proxy(none));
        }
        let config = match tls {
            true => tls::config(access)?,
            // Nobody is believed where nobody should be asked.
            false => tls::nobody()?,
        };
        let client = finish(builder.tls_backend_preconfigured(config))
            .build()
            .map_err(wrong)?;
        Ok(Self { client, scrubber })
    }

    /// What keeps secrets out of messages.
    pub(in crate::remote) fn scrubber(&self) -> &Scrubber {
        &self.scrubber
    }

    /// A request to fill.
    pub(in crate::remote) fn request(&self, method: Method, url: Url) -> reqwest::RequestBuilder {
        self.client.request(method, url)
    }

    /// Sends a request whose body has `size` bytes; any answer will do. Its body, too, breaks off after [`SILENCE`].
    pub(in crate::remote) async fn send(&self, request: Request, size: u64) -> Result<Response, RemoteError> {
        let what = what(&request);
        let patience = SILENCE + Duration::from_secs(size / SLOWEST);
        let answered = tokio::time::timeout(patience, self.client.execute(request)).await;
        match answered {
            Ok(Ok(response)) => Ok(patient(response)),
            Ok(Err(error)) => Err(self.failure(&what, error)),
            Err(_) => Err(RemoteError::new(
                RemoteErrorKind::TimedOut,
                self.scrubber
                    .clean(&format!("{what}: no answer after {} s", patience.as_secs())),
            )),
        }
    }

    /// The error of a connection.
    pub(in crate::remote) fn failure(&self, what: &str, error: reqwest::Error) -> RemoteError {
        let kind = kind_of(&error);
        let message = format!("{what}: {}", causes(&error.without_url()));
        RemoteError::new(kind, self.scrubber.clean(&message))
    }

    /// The error that an answer with a bad status stands for.
    pub(in crate::remote) async fn refused(&self, what: &str, response: Response) -> RemoteError {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.reason(response).await;
        self.scrubber.error(refusal::error(what, status, &headers, &body))
    }

    /// The beginning of the body of an answer that reports a failure, as text.
    pub(in crate::remote) async fn reason(&self, mut response: Response) -> String {
        let mut bytes = Vec::new();
        while bytes.len() < REASON {
            match response.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        bytes.truncate(REASON);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The whole body of an answer, when it has at most `limit` bytes.
    pub(in crate::remote) async fn whole(
        &self,
        what: &str,
        mut response: Response,
        limit: u64,
    ) -> Result<Bytes, RemoteError> {
        let announced = response.content_length();
        if let Some(size) = announced.filter(|&size| size > limit) {
            return Err(RemoteError::too_large(what, size, limit));
        }
        let mut bytes = reserved(announced);
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    bytes.extend_from_slice(&chunk);
                    let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    if size > limit {
                        return Err(RemoteError::too_large(what, size, limit));
                    }
                }
                Ok(None) => return Ok(bytes.into()),
                Err(error) => return Err(self.failure(what, error)),
            }
        }
    }
}

/// Method, host and path of a request; queries may hold signatures.
pub(in crate::remote) fn what(request: &Request) -> String {
    let url = request.url();
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "{} {}://{host}{port}{}",
        request.method(),
        url.scheme(),
        url.path()
    )
}

/// What the failure of a connection means.
pub(in crate::remote) fn kind_of(error: &(dyn Error + 'static)) -> RemoteErrorKind {
    let mut next = Some(error);
    let mut kind = RemoteErrorKind::Unavailable;
    while let Some(cause) = next {
        if let Some(known) = cause.downcast_ref::<RemoteError>() {
            return known.kind;
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return tls_kind(tls);
        }
        if let Some(sent) = cause.downcast_ref::<reqwest::Error>()
            && sent.is_timeout()
        {
            kind = RemoteErrorKind::TimedOut;
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            if io.kind() == io::ErrorKind::TimedOut {
                kind = RemoteErrorKind::TimedOut;
            }
            // What an input/output error wraps is not among its sources.
            if let Some(inner) = io.get_ref() {
                let inner = kind_of(inner);
                if inner != RemoteErrorKind::Unavailable {
                    return inner;
                }
            }
        }
        next = cause.source();
    }
    kind
}

fn tls_kind(error: &rustls::Error) -> RemoteErrorKind {
    use rustls::{AlertDescription, Error};
    match error {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => RemoteErrorKind::Certificate,
        Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::BadCertificate) => {
            RemoteErrorKind::Denied
        }
        Error::InvalidMessage(_) => RemoteErrorKind::Invalid,
        _ => RemoteErrorKind::Unavailable,
    }
}

/// The response with a body that fails after [`SILENCE`].
fn patient(response: Response) -> Response {
    let response: http::Response<reqwest::Body> = response.into();
    let (parts, body) = response.into_parts();
    let body = Patient {
        body,
        silence: Box::pin(tokio::time::sleep(SILENCE)),
    };
    http::Response::from_parts(parts, reqwest::Body::wrap(body)).into()
}

/// A body that waits [`SILENCE`] for each of its parts.
struct Patient {
    body: reqwest::Body,
    silence: Pin<Box<Sleep>>,
}

impl HttpBody for Patient {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.silence.as_mut().reset(Instant::now() + SILENCE);
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => match self.silence.as_mut().poll(context) {
                Poll::Ready(()) => {
                    let message = format!("nothing came for {} s", SILENCE.as_secs());
                    Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::TimedOut, message).into())))
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
