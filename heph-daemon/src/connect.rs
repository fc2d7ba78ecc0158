//! The way of a client to a daemon: address, socket, the check of who is there, `Hello`.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use heph_proto::heph_client::HephClient;
use heph_proto::{HelloReply, HelloRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Uri};
use tonic::{Code, Status};

use crate::endpoint::{Endpoint, EndpointError};
use crate::in_process::WINDOW;
use crate::peer::{self, PeerError};
use crate::working::Seen;

/// A daemon that is there connects and answers `Hello` within this time, or counts as one that hangs.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// One that is at work has this long: a loaded machine is no reason to do without.
const BUSY_LIMIT: Duration = Duration::from_secs(15);

/// Time between two looks whether it still is.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// For this long one that seems to hang is looked at. An answer that is there already is taken meanwhile, also by a client that
/// did not get the processor for long.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Pause before another try at a socket whose queue is full.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// What a daemon answers to who asks for anything new while it goes.
pub(crate) const GOING_AWAY: &str = "the daemon is going away";

/// A connection to a daemon of this user.
#[derive(Clone, Debug)]
pub struct Link {
    /// Speaks to it.
    pub client: HephClient<Channel>,
    /// What it said of itself.
    pub hello: HelloReply,
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody is there: no address, or a socket that nobody listens on any more.
    #[error("no daemon runs")]
    Absent,
    /// It is on its way out, and takes nothing new.
    #[error("{GOING_AWAY}")]
    GoingAway,
    /// Somebody is there who is not the daemon.
    #[error("what listens on {} is not the daemon: {cause}", socket.display())]
    Foreign {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// It does not answer.
    #[error("the daemon at {} did not answer within {}", socket.display(), heph_common::duration::Shown(CONNECT_LIMIT))]
    Silent {
        /// The socket.
        socket: PathBuf,
    },
    /// The directory of its socket cannot be used.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The system refuses.
    #[error("cannot connect to {}: {source}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

/// Connects to the daemon of a place and exchanges `Hello` with it, within [`CONNECT_LIMIT`], or longer where it is seen to
/// be at work.
pub async fn connect(endpoint: &Endpoint) -> Result<Link, ConnectError> {
    let socket = endpoint.address()?.ok_or(ConnectError::Absent)?;
    let began = Instant::now();
    let server = OnceLock::new();
    let mut greeting = pin!(greet(endpoint, &socket, &server));
    let mut patience = CONNECT_LIMIT;
    loop {
        if let Ok(greeted) = timeout(patience, &mut greeting).await {
            return greeted;
        }
        // Nobody who has answered in time pays for a look at how busy it is.
        let Some(pid) = server.get().copied() else { break };
        let seen = Seen::now(pid);
        if let Ok(greeted) = timeout(LAST_LOOK, &mut greeting).await {
            return greeted;
        }
        if began.elapsed() > BUSY_LIMIT || !seen.is_at_work() {
            break;
        }
        patience = BUSY_PAUSE;
    }
    Err(ConnectError::Silent {
        socket: socket.clone(),
    })
}

async fn greet(endpoint: &Endpoint, socket: &Path, server: &OnceLock<u32>) -> Result<Link, ConnectError> {
    let foreign = |cause: String| ConnectError::Foreign {
        socket: socket.to_owned(),
        cause,
    };
    let stream = open(socket).await?;
    let peer = peer::check(&stream).map_err(|error| match error {
        PeerError::OtherUser { .. } => foreign(error.to_string()),
        PeerError::Unknown(source) => refused(socket, source),
    })?;
    let _ = server.set(peer.pid);
    // One that breaks off is on its way out, or was never a daemon: whoever starts one finds out.
    let mut client = speak(stream).await.map_err(|_| ConnectError::Absent)?;
    let home = endpoint.home().to_string_lossy().into_owned();
    let request = HelloRequest {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: endpoint.build().to_owned(),
        home: home.clone(),
    };
    let hello = match client.hello(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) if is_going_away(&status) => return Err(ConnectError::GoingAway),
        Err(status) if is_cut_off(&status) => return Err(ConnectError::Absent),
        Err(status) => return Err(foreign(status.message().to_owned())),
    };
    if hello.home != home || hello.build != endpoint.build() {
        let who = format!("it serves {} as heph {}", hello.home, hello.build);
        return Err(foreign(who));
    }
    Ok(Link { client, hello })
}

async fn open(socket: &Path) -> Result<UnixStream, ConnectError> {
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(FULL_PAUSE).await,
            Err(error) => return Err(refused(socket, error)),
        }
    }
}

fn refused(socket: &Path, source: io::Error) -> ConnectError {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotConnected, NotFound,
    };
    match source.kind() {
        NotFound | ConnectionRefused => ConnectError::Absent,
        // It ended with this connection in its queue.
        ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected => ConnectError::Absent,
        _ => ConnectError::Io {
            socket: socket.to_owned(),
            source,
        },
    }
}

async fn speak(stream: UnixStream) -> Result<HephClient<Channel>, tonic::transport::Error> {
    let mut stream = Some(stream);
    let once = tower::service_fn(move |_: Uri| {
        let stream = stream.take().map(TokioIo::new);
        // A connection that broke is not made anew behind the caller's back: another daemon may be there by now.
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    // The address is never used: the connector makes the connection.
    let endpoint = tonic::transport::Endpoint::from_static("http://heph")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let channel = endpoint.connect_with_connector(once).await?;
    Ok(HephClient::new(channel)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX))
}

/// Whether a daemon refused because it is on its way out: another one, or the next, will do it.
pub fn is_going_away(status: &Status) -> bool {
    status.code() == Code::Aborted && status.message() == GOING_AWAY
}

/// Whether the connection broke, rather than the request failed: a status that came over the wire has no source.
pub fn is_cut_off(status: &Status) -> bool {
    std::error::Error::source(status).is_some() || status.code() == Code::Unavailable
}
