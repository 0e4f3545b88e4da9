//! A service's door on a socket of its own: the remote form of a trait, for contract tests.

use std::time::Duration;

use access::{Authority, tls::ServiceTls};
use rpc::door::Badge;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::transport::Channel;
use types::Timestamp;

/// An open door; it closes when this is dropped.
pub struct Remote {
    /// The way through it.
    pub channel: Channel,
    _dir: TempDir,
    _stop: oneshot::Sender<()>,
}

/// Opens a door for this router, over mTLS inside a Unix socket, as services open theirs.
pub fn open(router: axum::Router) -> Remote {
    access::tls::install_provider();
    let now = Timestamp(u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap());
    let authority = Authority::generate(now).unwrap();
    let identity = |path: &str| authority.service(path, now, Duration::from_secs(3600)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("door.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let badge = |path: &str| Badge::new(ServiceTls::new(&identity(path), &authority.certificate()).unwrap());
    let server = badge("service");
    tokio::spawn(async move {
        let until = async {
            let _ = stopped.await;
        };
        let rooms = rpc::door::for_services(&["client"], router);
        rpc::door::serve(listener, server, rooms, until, (Duration::from_secs(60), Duration::ZERO)).await;
    });
    let channel = rpc::door::connect(socket, "service", badge("client")).unwrap();
    Remote { channel, _dir: dir, _stop: stop }
}
