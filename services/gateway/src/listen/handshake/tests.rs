//! Handshakes: others get on between two of them, whoever left costs nothing, whoever is slow holds nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use access::{Authority, tls};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinSet};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use super::*;

fn settings() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    tls::install_provider();
    let now = rpc::Clock::System.now();
    let ca = Authority::generate(now).unwrap();
    let public = ca.server(&["localhost".into()], now).unwrap();
    let server = tls::public_server(&public, &ca.certificate()).unwrap();
    (Arc::new(server), Arc::new(tls::public_client(&ca.certificate()).unwrap()))
}

fn client(config: &Arc<ClientConfig>, stream: TcpStream) -> tokio_rustls::Connect<TcpStream> {
    TlsConnector::from(config.clone()).connect(ServerName::try_from("localhost").unwrap(), stream)
}

async fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

#[tokio::test]
async fn between_two_handshakes_of_a_storm_others_get_on() {
    const STORM: usize = 64;
    let (server, config) = settings();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (turns, mut clients, mut hellos) = (Turns::new(), JoinSet::new(), Vec::new());
    for _ in 0..STORM {
        let (near, far) = pair(&listener).await;
        clients.spawn(client(&config, near));
        hellos.push(far);
    }
    // Every hello lies ready before the first is read.
    for hello in &hellos {
        hello.readable().await.unwrap();
    }
    let others = Arc::new(AtomicUsize::new(0));
    let request = tokio::spawn({
        let others = others.clone();
        async move {
            loop {
                others.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        }
    });
    let mut storm = JoinSet::new();
    for hello in hellos {
        let (turns, server) = (turns.clone(), server.clone());
        storm.spawn(async move { turns.shake(hello, server).await });
    }
    let mut open = Vec::new();
    while let Some(shaken) = storm.join_next().await {
        open.push(shaken.unwrap().unwrap());
    }
    assert!(
        others.load(Ordering::Relaxed) >= STORM,
        "{} turns of others in {STORM} handshakes",
        others.load(Ordering::Relaxed)
    );
    request.abort();
    while let Some(connected) = clients.join_next().await {
        connected.unwrap().unwrap();
    }
}

#[tokio::test]
async fn who_left_is_turned_away_and_who_is_slow_holds_nothing() {
    let (server, config) = settings();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let turns = Turns::new();
    // One that says half a hello, and one that says all of it and nothing more.
    let (mut half, far) = pair(&listener).await;
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let slow = tokio::spawn({
        let (turns, server) = (turns.clone(), server.clone());
        async move { turns.shake(far, server).await }
    });
    // One that says hello and leaves while others have the turn.
    let (near, far) = pair(&listener).await;
    let mut leaving = Box::pin(client(&config, near));
    poll_fn(|context| Poll::Ready(leaving.as_mut().poll(context).is_pending())).await;
    far.readable().await.unwrap();
    let taken = turns.0.clone().acquire_many_owned(u32::try_from(turns.0.available_permits()).unwrap()).await.unwrap();
    let waiting = tokio::spawn({
        let (turns, server) = (turns.clone(), server.clone());
        async move { turns.shake(far, server).await }
    });
    yield_now().await;
    drop(leaving);
    drop(taken);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    // The slow one still waits, and a third one is served.
    let (near, far) = pair(&listener).await;
    let (connected, shaken) = tokio::join!(client(&config, near), turns.shake(far, server));
    assert!(connected.is_ok() && shaken.is_ok() && !slow.is_finished());
    slow.abort();
}
