//! Patience with a connection, and its end: a client that says nothing at first, or takes no answer, is cut.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A stream whose first bytes must come in time, and on which no write may stand still for long.
pub(crate) struct Patient<S> {
    inner: S,
    /// Bytes that must still come before `first` is over.
    wanted: usize,
    first: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
    idle: Duration,
}

fn over(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what}: the client is cut"))
}

impl<S> Patient<S> {
    /// Waits `first` for the first `wanted` bytes, and `idle` for a write to go on.
    pub(crate) fn new(inner: S, (wanted, first): (usize, Duration), idle: Duration) -> Self {
        let first = (wanted > 0).then(|| Box::pin(sleep(first)));
        Self { inner, wanted, first, stalled: None, idle }
    }

    fn written<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let idle = self.idle;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(idle)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(over("no byte of the answer was taken"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let done = Pin::new(&mut self.inner).poll_read(context, into);
        let Some(first) = &mut self.first else { return done };
        if done.is_ready() {
            self.wanted = self.wanted.saturating_sub(into.filled().len() - before);
            if self.wanted == 0 {
                self.first = None;
            }
            return done;
        }
        match first.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(over("nothing was asked for"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write(context, data);
        self.written(context, done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_flush(context);
        self.written(context, done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_shutdown(context);
        self.written(context, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.inner).poll_write_vectored(context, data);
        self.written(context, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_too_little_at_first_is_cut() {
        let (mut client, server) = duplex(64);
        let mut server = Patient::new(server, (3, SECOND), SECOND);
        client.write_all(b"ab").await.unwrap();
        let mut bytes = [0; 8];
        assert_eq!(server.read(&mut bytes).await.unwrap(), 2);
        assert_eq!(server.read(&mut bytes).await.unwrap_err().kind(), io::ErrorKind::TimedOut);

        let (mut client, server) = duplex(64);
        let mut server = Patient::new(server, (3, SECOND), SECOND);
        client.write_all(b"abc").await.unwrap();
        assert_eq!(server.read(&mut bytes).await.unwrap(), 3);
        tokio::spawn(async move {
            sleep(SECOND * 5).await;
            client.write_all(b"d").await.unwrap();
        });
        assert_eq!(server.read(&mut bytes).await.unwrap(), 1, "later silence is others' to judge");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_answer_is_cut_and_a_slow_one_is_not() {
        let (_client, server) = duplex(4);
        let mut server = Patient::new(server, (0, SECOND), SECOND);
        assert_eq!(server.write_all(b"more than four").await.unwrap_err().kind(), io::ErrorKind::TimedOut);

        let (mut client, server) = duplex(4);
        let mut server = Patient::new(server, (0, SECOND), SECOND);
        let reader = tokio::spawn(async move {
            let mut bytes = [0; 2];
            for _ in 0..7 {
                sleep(SECOND / 2).await;
                client.read_exact(&mut bytes).await.unwrap();
            }
        });
        server.write_all(b"fourteen bytes").await.unwrap();
        reader.await.unwrap();
    }
}
