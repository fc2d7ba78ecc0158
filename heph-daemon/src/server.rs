//! Serving the clients of a listening socket.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use heph_proto::heph_server::HephServer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::Service;
use crate::activity::{Activity, Counted};
use crate::in_process::WINDOW;
use crate::peer::{self, Peer};

/// Connections that were accepted and wait to be served.
const ACCEPTED: usize = 16;

/// Pause after a connection that could not be accepted: out of descriptors, they come back when somebody leaves.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection of a client of this user.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    peer: Peer,
    _counted: Counted,
}

/// Serves who connects, until `shutdown`; then ends when the last request is answered.
///
/// # Errors
/// When the service itself breaks; a connection that does is only that connection's end.
pub async fn run(
    listener: UnixListener,
    service: Service,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (sender, accepted) = mpsc::channel(ACCEPTED);
    let accepting = tokio::spawn(accept(listener, Arc::clone(service.activity()), sender));
    let shutdown = async move {
        shutdown.await;
        // The socket is closed with it: who comes now finds nobody, instead of somebody who does not answer.
        accepting.abort();
    };
    let service = HephServer::new(service)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .serve_with_incoming_shutdown(
            service,
            ReceiverStream::new(accepted).map(Ok::<_, io::Error>),
            shutdown,
        )
        .await
}

async fn accept(listener: UnixListener, activity: Arc<Activity>, accepted: mpsc::Sender<Connection>) {
    let mut is_told = false;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    activity.problem(format!("a client could not be let in: {error}"));
                }
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        is_told = false;
        match peer::check(&stream) {
            Ok(peer) => {
                let connection = Connection {
                    stream,
                    peer,
                    _counted: activity.connected(),
                };
                if accepted.send(connection).await.is_err() {
                    return;
                }
            }
            // Closing the stream is all the answer that a stranger gets.
            Err(error) => tracing::warn!("a client was refused: {error}"),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
