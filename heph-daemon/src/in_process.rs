//! The service in the caller's own process, over an in-memory channel.

use std::io;
use std::sync::Arc;

use heph_engine::engine::Engine;
use heph_proto::heph_client::HephClient;
use heph_proto::heph_server::HephServer;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tower::service_fn;

use crate::Service;

/// Bytes that may lie between the two ends of the channel.
const PIPE: usize = 1 << 20;

/// Window of a stream: large enough that a plan with all its inputs goes at once.
pub(crate) const WINDOW: u32 = 16 << 20;

/// A client of a service that lives in this process.
#[derive(Clone, Debug)]
pub struct InProcess {
    channel: Channel,
}

/// Serves `engine` on the current tokio runtime, until the last client is gone.
pub fn in_process(engine: Arc<Engine>) -> InProcess {
    let (connections, accepted) = mpsc::unbounded_channel::<DuplexStream>();
    let service = HephServer::new(Service::in_process(engine))
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    let server = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    tokio::spawn(async move {
        let incoming = UnboundedReceiverStream::new(accepted).map(Ok::<_, io::Error>);
        if let Err(error) = server.serve_with_incoming(service, incoming).await {
            tracing::error!("the service in this process ended: {error}");
        }
    });
    let connect = service_fn(move |_: Uri| {
        let connections = connections.clone();
        async move {
            let (client, server) = tokio::io::duplex(PIPE);
            connections
                .send(server)
                .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok::<_, io::Error>(TokioIo::new(client))
        }
    });
    // The address is never used: the connector makes the connection.
    let endpoint = Endpoint::from_static("http://heph")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    InProcess {
        channel: endpoint.connect_with_connector_lazy(connect),
    }
}

impl InProcess {
    /// A client of the service.
    pub fn client(&self) -> HephClient<Channel> {
        HephClient::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }
}
