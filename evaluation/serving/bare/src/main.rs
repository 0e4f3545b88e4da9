//! The least that serving costs when gateway and model are two processes, and no model runs.
//!
//! `bare gateway ADDRESS SOCKET`: axum reads a body, tonic carries it to the socket and the answer back.
//! `bare echo SOCKET FILE`: tonic answers everything with the file's content.
//! `bare http SOCKET FILE`: axum does the same over plain HTTP, for proxies to stand in front of.
//!
//! No TLS, no check of any kind, nothing parsed. Ends when it is told to.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    routing::post,
};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

use self::wire::{Body, echo_client::EchoClient, echo_server};

/// The service's messages, client and server.
mod wire {
    tonic::include_proto!("bare");
}

/// What axum answers with.
type Answer = ([(HeaderName, &'static str); 1], Bytes);

const PATH: &str = "/v2/models/{model}/infer";
const JSON: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["gateway", address, socket] => gateway(address, socket.into()).await,
        ["echo", socket, file] => echo(socket, file).await,
        ["http", socket, file] => http(socket, file).await,
        _ => bail!("usage: bare gateway ADDRESS SOCKET | echo SOCKET FILE | http SOCKET FILE"),
    }
}

/// Carries bodies from HTTP to the socket.
async fn gateway(address: &str, socket: PathBuf) -> Result<()> {
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    // The address is never looked up: `connect` knows the way.
    let channel = Endpoint::from_static("http://socket").connect_with_connector(connect).await?;
    let router = Router::new().route(PATH, post(forward)).layer(DefaultBodyLimit::disable());
    let listener = TcpListener::bind(address).await.with_context(|| format!("`{address}` can't be bound"))?;
    Ok(axum::serve(listener, router.with_state(EchoClient::new(channel))).await?)
}

async fn forward(State(client): State<EchoClient<Channel>>, content: Bytes) -> Result<Answer, StatusCode> {
    let mut client = client;
    let answer = client.infer(Body { content }).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok((JSON, answer.into_inner().content))
}

/// Answers over gRPC.
async fn echo(socket: &str, file: &str) -> Result<()> {
    let service = echo_server::EchoServer::new(Ready(read(file).await?));
    let listener = UnixListenerStream::new(bind(socket)?);
    Ok(Server::builder().add_service(service).serve_with_incoming(listener).await?)
}

/// The answer, which is always the same.
struct Ready(Bytes);

#[tonic::async_trait]
impl echo_server::Echo for Ready {
    async fn infer(&self, _: Request<Body>) -> Result<Response<Body>, Status> {
        Ok(Response::new(Body { content: self.0.clone() }))
    }
}

/// Answers over HTTP.
async fn http(socket: &str, file: &str) -> Result<()> {
    let router = Router::new().route(PATH, post(ready)).layer(DefaultBodyLimit::disable());
    Ok(axum::serve(bind(socket)?, router.with_state(read(file).await?)).await?)
}

/// The body is read to its end, as a server that needs it would.
async fn ready(State(answer): State<Bytes>, _: Bytes) -> Answer {
    (JSON, answer)
}

async fn read(file: &str) -> Result<Bytes> {
    Ok(tokio::fs::read(file).await.with_context(|| format!("`{file}` can't be read"))?.into())
}

fn bind(socket: &str) -> Result<UnixListener> {
    UnixListener::bind(socket).with_context(|| format!("`{socket}` can't be bound"))
}
