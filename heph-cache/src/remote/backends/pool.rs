//! Connections to servers that are not spoken to in HTTP, kept open between requests.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use heph_common::causes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::transport::{CONNECT, SILENCE, kind_of};
use crate::remote::backend::{RemoteError, RemoteErrorKind};
use crate::remote::location::Host;

/// How long a request waits for one of the connections.
const WAIT: Duration = Duration::from_secs(60);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(50);
/// Longest line of an answer.
const LINE: u64 = 64 * 1024;

trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Duplex for T {}

/// Connections to one server.
#[derive(Debug)]
pub(super) struct Pool {
    host: Host,
    tls: Option<Arc<ClientConfig>>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<(Connection, Instant)>>,
}

impl Pool {
    /// At most `parallel` connections to a server, with TLS if there is a configuration for it.
    pub(super) fn new(host: Host, tls: Option<ClientConfig>, parallel: usize) -> Arc<Self> {
        Arc::new(Self {
            host,
            tls: tls.map(Arc::new),
            permits: Arc::new(Semaphore::new(parallel.max(1))),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Where the server is.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// A connection, and whether it is a new one.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<(Lease, bool), RemoteError> {
        let permit = timeout(WAIT, Arc::clone(&self.permits).acquire_owned()).await;
        let permit = match permit {
            Ok(Ok(permit)) => permit,
            _ => return Err(self.late("wait for one of the connections", WAIT)),
        };
        while let Some((mut connection, since)) = self.take_idle() {
            if since.elapsed() < IDLE && connection.is_quiet() {
                return Ok((self.lend(connection, permit), false));
            }
        }
        let connection = self.connect().await?;
        Ok((self.lend(connection, permit), true))
    }

    fn take_idle(&self) -> Option<(Connection, Instant)> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn lend(self: &Arc<Self>, connection: Connection, permit: OwnedSemaphorePermit) -> Lease {
        Lease {
            connection: Some(connection),
            pool: Arc::clone(self),
            _permit: permit,
        }
    }

    async fn connect(&self) -> Result<Connection, RemoteError> {
        let opening = async {
            let stream = TcpStream::connect((self.host.name.as_str(), self.host.port)).await?;
            stream.set_nodelay(true)?;
            let stream: Box<dyn Duplex> = match &self.tls {
                None => Box::new(stream),
                Some(config) => {
                    let name = ServerName::try_from(self.host.name.clone())
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                    Box::new(
                        TlsConnector::from(Arc::clone(config))
                            .connect(name, stream)
                            .await?,
                    )
                }
            };
            Ok(Connection {
                stream: BufReader::with_capacity(64 * 1024, stream),
                host: self.host.to_string(),
            })
        };
        match timeout(CONNECT, opening).await {
            Ok(opened) => {
                opened.map_err(|error: io::Error| failure(&format!("connect to {}", self.host), &error))
            }
            Err(_) => Err(self.late("connect", CONNECT)),
        }
    }

    fn late(&self, what: &str, limit: Duration) -> RemoteError {
        let message = format!("{what} to {}: it took more than {} s", self.host, limit.as_secs());
        RemoteError::new(RemoteErrorKind::TimedOut, message)
    }
}

fn failure(what: &str, error: &io::Error) -> RemoteError {
    let kind = match error.kind() {
        io::ErrorKind::InvalidInput => RemoteErrorKind::Config,
        _ => kind_of(error),
    };
    RemoteError::new(kind, format!("{what}: {}", causes(error)))
}

/// A connection in use. It is closed unless it is handed back by [`Lease::done`], after its last answer was read.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Option<Connection>,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Keeps the connection for other requests.
    pub(super) fn done(mut self) {
        if let Some(connection) = self.connection.take() {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push((connection, Instant::now()));
        }
    }
}

impl Deref for Lease {
    type Target = Connection;

    #[expect(
        clippy::expect_used,
        reason = "only done() takes it, which consumes the lease"
    )]
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("a lease has its connection")
    }
}

impl DerefMut for Lease {
    #[expect(
        clippy::expect_used,
        reason = "only done() takes it, which consumes the lease"
    )]
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("a lease has its connection")
    }
}

/// A stream of bytes in both directions. Each operation fails when nothing moves for [`SILENCE`].
pub(super) struct Connection {
    stream: BufReader<Box<dyn Duplex>>,
    host: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.host)
    }
}

impl Connection {
    /// Whether the server has neither closed it nor said anything unasked.
    fn is_quiet(&mut self) -> bool {
        self.stream.fill_buf().now_or_never().is_none()
    }

    /// Sends bytes; large ones in pieces, each of which may take its time.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), RemoteError> {
        for piece in bytes.chunks(256 * 1024) {
            let sent = timeout(SILENCE, self.stream.get_mut().write_all(piece)).await;
            self.in_time("send to", sent)?;
        }
        let flushed = timeout(SILENCE, self.stream.get_mut().flush()).await;
        self.in_time("send to", flushed)
    }

    /// The next line, without its end.
    pub(super) async fn line(&mut self) -> Result<String, RemoteError> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LINE);
        let read = timeout(SILENCE, limited.read_until(b'\n', &mut line)).await;
        self.in_time("read from", read)?;
        if line.pop() != Some(b'\n') {
            let kind = match line.len() {
                0 => io::ErrorKind::UnexpectedEof,
                _ => io::ErrorKind::InvalidData,
            };
            return Err(self.failed("read from", &kind.into()));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// The next `length` bytes; what is reserved for them grows as they come.
    pub(super) async fn exactly(&mut self, length: u64) -> Result<Bytes, RemoteError> {
        const RESERVED: u64 = 8 << 20;
        let mut bytes = Vec::with_capacity(usize::try_from(length.min(RESERVED)).unwrap_or_default());
        let mut left = length;
        while left > 0 {
            let chunk = self.chunk(left).await?;
            left -= u64::try_from(chunk.len()).unwrap_or(left);
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    /// Some of the next bytes: at least one, at most `most`.
    pub(super) async fn chunk(&mut self, most: u64) -> Result<Bytes, RemoteError> {
        let filled = timeout(SILENCE, self.stream.fill_buf()).await;
        let chunk = match filled {
            Ok(Ok([])) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(there)) => {
                let length = usize::try_from(most).map_or(there.len(), |most| most.min(there.len()));
                Ok(Bytes::copy_from_slice(there.get(..length).unwrap_or_default()))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let chunk = chunk.map_err(|error: io::Error| self.failed("read from", &error))?;
        self.stream.consume(chunk.len());
        Ok(chunk)
    }

    /// Reads and forgets.
    pub(super) async fn discard(&mut self, length: u64) -> Result<(), RemoteError> {
        let mut left = length;
        while left > 0 {
            let chunk = self.chunk(left).await?;
            left -= u64::try_from(chunk.len()).unwrap_or(left);
        }
        Ok(())
    }

    /// Reads the end of a line that follows a value.
    pub(super) async fn end_of_value(&mut self) -> Result<(), RemoteError> {
        match self.exactly(2).await?.as_ref() {
            b"\r\n" => Ok(()),
            _ => Err(self.failed("read from", &io::ErrorKind::InvalidData.into())),
        }
    }

    fn in_time<T>(
        &self,
        what: &str,
        result: Result<io::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, RemoteError> {
        match result {
            Ok(result) => result.map_err(|error| self.failed(what, &error)),
            Err(_) => Err(self.failed(what, &io::ErrorKind::TimedOut.into())),
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> RemoteError {
        match error.kind() {
            io::ErrorKind::InvalidData if error.get_ref().is_none() => RemoteError::new(
                RemoteErrorKind::Invalid,
                format!("{what} {}: it does not speak the protocol", self.host),
            ),
            _ => failure(&format!("{what} {}", self.host), error),
        }
    }
}
