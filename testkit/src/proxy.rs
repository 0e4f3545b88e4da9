//! A proxy before a model server's socket that makes a bad network of it.
//!
//! It stands where the socket stood, and hands bytes on to the socket at its new place. What is encrypted stays so: it
//! sees bytes alone. [`Proxy::set`] changes the weather for connections that are open, too.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

/// Bytes read at a time.
const CHUNK: usize = 16 << 10;
/// Chunks on their way in one direction.
const ON_THEIR_WAY: usize = 256;

/// The weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Bytes pass.
    None,
    /// They take so long, and up to so much longer by chance; their order stays.
    Latency(Duration, Duration),
    /// So many pass a second.
    Bandwidth(u32),
    /// Connections end, and new ones end at once.
    Reset,
    /// None pass, and nobody is told.
    Partition,
    /// Requests pass and answers don't.
    HalfOpen,
}

/// A proxy before one socket. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    fault: watch::Sender<Fault>,
    connections: watch::Receiver<u64>,
    accepting: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// Moves the socket aside and stands in its place.
    ///
    /// # Errors
    /// When the socket is not there, or its place can't be taken.
    pub fn before(socket: &Path) -> io::Result<Self> {
        let aside = aside(socket);
        fs::rename(socket, &aside)?;
        let listener = UnixListener::bind(socket)?;
        let (fault, weather) = watch::channel(Fault::None);
        let (count, connections) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                let number = *count.borrow();
                tokio::spawn(connection(client, aside.clone(), weather.clone(), number));
            }
        });
        Ok(Self { fault, connections, accepting })
    }

    /// Waits until so many connections have come.
    pub async fn connected(&self, connections: u64) {
        // It accepts as long as this lasts.
        let _ = self.connections.clone().wait_for(|count| *count >= connections).await;
    }

    /// Changes the weather.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

/// Where the socket is moved.
fn aside(socket: &Path) -> PathBuf {
    socket.with_extension("behind")
}

async fn connection(client: UnixStream, behind: PathBuf, mut weather: watch::Receiver<Fault>, number: u64) {
    let Ok(server) = UnixStream::connect(&behind).await else { return };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let there = direction(from_client, to_server, weather.clone(), number * 2, false);
    let back = direction(from_server, to_client, weather.clone(), number * 2 + 1, true);
    tokio::select! {
        () = there => {}
        () = back => {}
        _ = weather.wait_for(|fault| *fault == Fault::Reset) => {}
    }
}

/// Hands bytes on in one direction until either side ends.
async fn direction(
    mut from: ReadHalf<UnixStream>,
    mut to: WriteHalf<UnixStream>,
    mut weather: watch::Receiver<Fault>,
    seed: u64,
    answers: bool,
) {
    let (read, mut written) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THEIR_WAY);
    let reading = async move {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            if read.send((Instant::now(), chunk[..length].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        while let Some((came, chunk)) = written.recv().await {
            loop {
                let fault = *weather.borrow_and_update();
                let passes = match fault {
                    Fault::None | Fault::Reset => true,
                    Fault::Latency(least, more) => {
                        sleep_until(came + least + more.mul_f64(rng.random())).await;
                        true
                    }
                    Fault::Bandwidth(bytes) => {
                        sleep(Duration::from_secs_f64(chunk.len() as f64 / f64::from(bytes.max(1)))).await;
                        true
                    }
                    Fault::Partition => false,
                    Fault::HalfOpen => !answers,
                };
                if passes {
                    break;
                }
                if weather.changed().await.is_err() {
                    return;
                }
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket that gives back what it gets, behind a proxy, and a connection to it.
    async fn echo() -> (tempfile::TempDir, Proxy, UnixStream) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("echo.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let proxy = Proxy::before(&socket).unwrap();
        let stream = UnixStream::connect(&socket).await.unwrap();
        (dir, proxy, stream)
    }

    async fn comes_back(stream: &mut UnixStream, text: &[u8]) {
        stream.write_all(text).await.unwrap();
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, text);
    }

    #[tokio::test]
    async fn bytes_pass_in_order_whatever_the_delay() {
        let (_dir, proxy, mut stream) = echo().await;
        for fault in [
            Fault::None,
            Fault::Latency(Duration::from_millis(1), Duration::from_millis(5)),
            Fault::Bandwidth(10_000_000),
        ] {
            proxy.set(fault);
            let text: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
            comes_back(&mut stream, &text).await;
        }
    }

    #[tokio::test]
    async fn what_a_partition_held_back_comes_when_it_is_over() {
        let (_dir, proxy, mut stream) = echo().await;
        comes_back(&mut stream, b"before").await;
        for fault in [Fault::Partition, Fault::HalfOpen] {
            proxy.set(fault);
            stream.write_all(b"held").await.unwrap();
            let nothing = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0; 4])).await;
            assert!(nothing.is_err(), "{fault:?}");
            proxy.set(Fault::None);
            let mut back = [0; 4];
            stream.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, b"held");
        }
    }

    #[tokio::test]
    async fn a_reset_ends_connections_and_those_that_come() {
        let (dir, proxy, mut stream) = echo().await;
        comes_back(&mut stream, b"before").await;
        proxy.set(Fault::Reset);
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
        let mut next = UnixStream::connect(dir.path().join("echo.sock")).await.unwrap();
        assert_eq!(next.read(&mut [0; 1]).await.unwrap_or(0), 0);
        proxy.set(Fault::None);
        let mut last = UnixStream::connect(dir.path().join("echo.sock")).await.unwrap();
        comes_back(&mut last, b"after").await;
    }
}
