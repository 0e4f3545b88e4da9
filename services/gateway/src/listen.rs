//! listen: one port for HTTP/1.1, HTTP/2 and gRPC over TLS 1.3, with limits on everything a client can drag out.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use access::{Renewable, tls};
use axum::Extension;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::rustls::ServerConfig;
use types::{Code, Refusal};

use self::handshake::Turns;
use crate::{Ring, patience::Patient};

mod handshake;

/// How long a client may take to shake hands, and to send the head of a request.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The largest head of a request.
const HEAD: u32 = 64 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// HTTP/2 windows: a client may have this much on the way before it is read.
const WINDOW: u32 = 1 << 20;

/// The address that a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(pub(crate) std::net::IpAddr);

/// A port that is open but not served yet.
pub struct Listener {
    listener: TcpListener,
    tls: Option<PublicTls>,
    address: SocketAddr,
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Opens a port; one that is not secure speaks plain HTTP, which only loopback may.
///
/// # Errors
/// `address_in_use` and what else keeps a port from opening, with the fix.
pub fn bind(address: SocketAddr, secure: bool) -> Result<std::net::TcpListener, Refusal> {
    if !secure && !address.ip().is_loopback() {
        let what = format!("security off is for loopback only, not {address}");
        return Err(Refusal::new(Code::SettingsInvalid, what).hint("listen on 127.0.0.1, or leave security on"));
    }
    let opened = std::net::TcpListener::bind(address).and_then(|listener| {
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    });
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Refusal::new(Code::AddressInUse, format!("another program listens on {address}"))
            .hint("stop it, or choose another port: `mantlet up --listen 127.0.0.1:0` picks a free one"),
        _ => Refusal::new(Code::SettingsInvalid, format!("{address} can't be listened on: {error}"))
            .hint("choose an address of this machine, and a port above 1024 unless you are root"),
    })
}

/// TLS settings of the public port, renewed while it is open.
pub type PublicTls = Renewable<ServerConfig>;

impl Listener {
    /// Takes an open port.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn new(listener: std::net::TcpListener, tls: Option<PublicTls>) -> Result<Self, Refusal> {
        let internal = |error: io::Error| Refusal::new(Code::Internal, error.to_string());
        listener.set_nonblocking(true).map_err(internal)?;
        let listener = TcpListener::from_std(listener).map_err(internal)?;
        let address = listener.local_addr().map_err(internal)?;
        Ok(Self { listener, tls, address })
    }

    /// The address, with the port that was picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves; then takes no new request and gives those in flight `grace` to end.
    pub async fn serve(self, ring: Arc<Ring>, stop: impl Future<Output = ()>, grace: Duration) {
        let router = crate::router(ring.clone());
        let (places, turns) = (Arc::new(Semaphore::new(ring.limits.connections)), Turns::new());
        let (mut stop, graceful) = (std::pin::pin!(stop), GracefulShutdown::new());
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = &mut stop => break,
            };
            let (Ok(place), Ok((stream, peer))) = (place, accepted) else {
                // Out of descriptors, most likely: connections end and give some back.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let tls = self.tls.as_ref().map(|tls| (tls.current(), turns.clone()));
            let (router, watcher, idle) = (router.clone(), graceful.watcher(), ring.limits.idle);
            tokio::spawn(async move {
                let router = router.layer(Extension(Source(peer.ip())));
                if let Err(error) = connection(stream, tls, router, watcher, idle).await {
                    match turned_away(&*error) {
                        Some(why) => tracing::warn!(
                            %peer, why, "a client's certificate was not accepted; make one: `mantlet callers certificate NAME`"
                        ),
                        None => tracing::debug!(%peer, %error, "a connection ended early"),
                    }
                }
                drop(place);
            });
        }
        drop(self.listener);
        // Whoever does not end in time is cut.
        let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
    }
}

/// Why a client's certificate was not accepted, when that is what ended the connection.
fn turned_away(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let inner = error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<tokio_rustls::rustls::Error>()?;
    matches!(inner, tokio_rustls::rustls::Error::InvalidCertificate(_)).then(|| inner.to_string())
}

/// Bytes by which a client of HTTP/2 begins.
const PREFACE: usize = 24;

async fn connection(
    stream: TcpStream,
    tls: Option<(Arc<ServerConfig>, Turns)>,
    router: axum::Router,
    watcher: hyper_util::server::graceful::Watcher,
    idle: Duration,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let Some((config, turns)) = tls else {
        let stream = Patient::new(stream, (1, HANDSHAKE), idle);
        return http(builder(), stream, router, watcher).await;
    };
    let stream = tokio::time::timeout(HANDSHAKE, turns.shake(stream, config)).await??;
    // Whose certificate it is, for every request on this connection.
    let peer = tls::peer(stream.get_ref().1.peer_certificates());
    let router = match peer {
        Some(peer) => router.layer(Extension(Arc::new(peer))),
        None => router,
    };
    // Which protocol is agreed on, so that each one's own clock starts at once.
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let stream = Patient::new(stream, (PREFACE, HANDSHAKE), idle);
        http(builder().http2_only(), stream, router, watcher).await
    } else {
        let stream = Patient::new(stream, (0, HANDSHAKE), idle);
        http(builder().http1_only(), stream, router, watcher).await
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE).max_buf_size(HEAD as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_pending_accept_reset_streams(64)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

async fn http(
    builder: auto::Builder<TokioExecutor>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: axum::Router,
    watcher: hyper_util::server::graceful::Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).into_owned();
    watcher.watch(connection).await
}
