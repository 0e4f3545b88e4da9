//! Doors between processes: HTTP/2 over mTLS inside a Unix socket, with the peer's SPIFFE path checked.

use std::{future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use access::{Identity, authority::service_name, tls};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::{UnixListener, UnixStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, server::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

/// How long a peer may take to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// HTTP/2 windows between services: large enough that a tensor of some MB does not wait for updates.
const WINDOW: u32 = 8 << 20;

/// A door that can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("the door at {what} can't be used: {why}")]
pub struct Error {
    what: String,
    why: String,
}

/// Serves `router` on a Unix socket to peers whose SPIFFE path is one of `peers`, until `stop` resolves; then
/// lets requests in flight end within `grace`.
///
/// # Errors
/// When the identity can't be used.
pub async fn serve(
    listener: UnixListener,
    identity: &Identity,
    ca: &str,
    peers: &[&str],
    router: axum::Router,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> Result<(), Error> {
    let wrong = |error: &dyn std::fmt::Display| Error { what: "a service".into(), why: error.to_string() };
    let config = tls::service_server(identity, ca).map_err(|error| wrong(&error))?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let peers: Arc<[String]> = peers.iter().map(|peer| (*peer).to_owned()).collect();
    let (mut stop, graceful) = (std::pin::pin!(stop), GracefulShutdown::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (acceptor, peers, router, watcher) = (acceptor.clone(), peers.clone(), router.clone(), graceful.watcher());
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(async move {
                    match admit(stream, acceptor, &peers).await {
                        Ok(stream) => converse(stream, router, watcher).await,
                        Err(error) => tracing::warn!(%error, "a peer was turned away"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a peer could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Whoever does not end in time is cut.
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
    Ok(())
}

async fn admit(stream: UnixStream, acceptor: TlsAcceptor, peers: &[String]) -> io::Result<TlsStream<UnixStream>> {
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let peer = tls::peer_path(stream.get_ref().1.peer_certificates()).unwrap_or_default();
    if peers.contains(&peer) { Ok(stream) } else { Err(io::Error::other(format!("`{peer}` has no business here"))) }
}

async fn converse(stream: TlsStream<UnixStream>, router: axum::Router, watcher: hyper_util::server::graceful::Watcher) {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(4_096)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a peer was lost");
    }
}

/// A channel to the door at a Unix socket; connects at first use and again after a loss.
///
/// # Errors
/// When the identity can't be used.
pub fn connect(socket: PathBuf, peer: &str, identity: &Identity, ca: &str) -> Result<Channel, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error { what: socket.display().to_string(), why: error.to_string() };
    let config: Arc<ClientConfig> = Arc::new(tls::service_client(identity, ca).map_err(|error| wrong(&error))?);
    let name = ServerName::try_from(service_name(peer)).map_err(|error| wrong(&error))?;
    let endpoint = Endpoint::from_static("http://service.mantlet")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .connect_timeout(HANDSHAKE)
        .http2_adaptive_window(false);
    let connector = tower::service_fn(move |_: Uri| {
        let (socket, name, config) = (socket.clone(), name.clone(), config.clone());
        async move {
            let stream = UnixStream::connect(socket).await?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}
