//! Doors between processes: HTTP/2 over mTLS inside a Unix socket, with the peer's SPIFFE path checked.

use std::{future::Future, io, path::PathBuf, sync::Arc, time::Duration};

use access::{
    Renewable,
    authority::service_name,
    tls::{self, ServiceTls},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::pki_types::ServerName;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};
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

/// What a service shows to others, renewed while it runs: open connections keep what they began with.
pub type Badge = Renewable<ServiceTls>;

/// What a peer finds behind a door, by the path of its SPIFFE id; nothing: it is turned away.
pub type Rooms = Arc<dyn Fn(&str) -> Option<axum::Router> + Send + Sync>;

/// The same router for every peer that is one of these services.
pub fn for_services(services: &'static [&'static str], router: axum::Router) -> Rooms {
    Arc::new(move |peer| services.iter().any(|service| is_service(peer, service)).then(|| router.clone()))
}

/// Whether the path of a SPIFFE id is that of a service: its name, or its name and one more part. Paths of callers
/// and model servers have three parts and begin with a namespace, so that none of them can look like a service.
pub fn is_service(path: &str, service: &str) -> bool {
    let rest = path.strip_prefix(service);
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('/').is_some_and(|name| !name.contains('/')))
}

/// Serves a Unix socket until `stop` resolves, each peer what `rooms` has for it; then lets requests in flight end
/// within `grace`. A connection older than `age` is asked to end and made anew, so that none outlives the
/// certificates it was opened with.
pub async fn serve(
    listener: UnixListener,
    badge: Badge,
    rooms: Rooms,
    stop: impl Future<Output = ()>,
    (age, grace): (Duration, Duration),
) {
    let mut stop = std::pin::pin!(stop);
    let (end, ended) = watch::channel(());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let acceptor = TlsAcceptor::from(badge.current().server.clone());
        let (rooms, ended) = (rooms.clone(), ended.clone());
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(async move {
                    match admit(stream, acceptor, &*rooms).await {
                        Ok((stream, router)) => converse(stream, router, ended, age).await,
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
    end.send_replace(());
    drop(ended);
    // Every conversation holds a receiver; whoever does not end in time is cut.
    let _ = tokio::time::timeout(grace, end.closed()).await;
}

async fn admit(
    stream: UnixStream,
    acceptor: TlsAcceptor,
    rooms: &(dyn Fn(&str) -> Option<axum::Router> + Send + Sync),
) -> io::Result<(TlsStream<UnixStream>, axum::Router)> {
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let peer = tls::peer_path(stream.get_ref().1.peer_certificates()).unwrap_or_default();
    let router = rooms(&peer).ok_or_else(|| io::Error::other(format!("`{peer}` has no business here")))?;
    Ok((stream, router))
}

async fn converse(stream: TlsStream<UnixStream>, router: axum::Router, mut ended: watch::Receiver<()>, age: Duration) {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_frame_size(1 << 20)
        .max_concurrent_streams(4_096)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    let mut connection =
        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        // Said once, the peer opens another and what is in flight here still ends.
        () = async { tokio::select! { _ = ended.changed() => {}, () = tokio::time::sleep(age) => {} } } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a peer was lost");
    }
}

/// A channel to the door at a Unix socket; connects at first use and again after a loss.
///
/// # Errors
/// When the peer's path is no name.
pub fn connect(socket: PathBuf, peer: &str, badge: Badge) -> Result<Channel, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error { what: socket.display().to_string(), why: error.to_string() };
    let name = ServerName::try_from(service_name(peer)).map_err(|error| wrong(&error))?;
    let endpoint = Endpoint::from_static("http://service.mantlet")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .connect_timeout(HANDSHAKE)
        .http2_adaptive_window(false);
    let connector = tower::service_fn(move |_: Uri| {
        let (socket, name, config) = (socket.clone(), name.clone(), badge.current().client.clone());
        async move {
            let stream = UnixStream::connect(socket).await?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_has_the_path_of_one() {
        for path in ["gateway", "gateway/g0"] {
            assert!(is_service(path, "gateway"), "{path}");
        }
        for path in [
            "gateway/caller/x",
            "gateway/model-server/m1",
            "gateways",
            "gatewa",
            "",
            "x/gateway",
            "bank/caller/gateway",
        ] {
            assert!(!is_service(path, "gateway"), "{path}");
        }
    }
}
