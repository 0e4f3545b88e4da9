//! TLS handshakes, a few at a time: signing costs a thousand times what a read does, and requests on connections that
//! stand come first.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::{net::TcpStream, sync::Semaphore, task::yield_now};
use tokio_rustls::{
    LazyConfigAcceptor,
    rustls::{ServerConfig, server::Acceptor},
    server::TlsStream,
};

/// Whose turn it is to sign.
///
/// A storm of new connections queues here, in the order of its hellos. Each turn ends only after the runtime has looked at
/// every other task that is ready and at the sockets, so between two signatures every request that has come gets on.
/// Whoever is slow to speak holds no turn, and whoever left while it waited costs no signature.
#[derive(Clone)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    /// As many at a time as the runtime has workers.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(tokio::runtime::Handle::current().metrics().num_workers())))
    }

    /// Shakes hands with a client.
    pub(super) async fn shake(&self, stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<TlsStream<TcpStream>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let turn = self.0.acquire().await.map_err(io::Error::other)?;
        if left(&hello.io).await {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client left before its handshake"));
        }
        let mut accept = pin!(hello.into_stream(config));
        // All the signing is in the first poll; what follows waits for the client.
        let first = poll_fn(|context| Poll::Ready(accept.as_mut().poll(context))).await;
        yield_now().await;
        drop(turn);
        match first {
            Poll::Ready(done) => done,
            Poll::Pending => accept.await,
        }
    }
}

/// Whether the client has closed its side: after a hello it waits for an answer, and has nothing more to say.
async fn left(stream: &TcpStream) -> bool {
    let (mut byte, mut peek) = ([0], None);
    let mut peeked = pin!(stream.peek(&mut byte));
    poll_fn(|context| {
        peek = Some(peeked.as_mut().poll(context));
        Poll::Ready(())
    })
    .await;
    matches!(peek, Some(Poll::Ready(Ok(0) | Err(_))))
}

#[cfg(test)]
mod tests;
