//! What handlers take: who sends a request, and paths and queries with a refusal of ours where they can't be read.

use std::sync::Arc;

use access::tls::Peer;
use axum::{
    extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery},
    response::Response,
};
use http::{HeaderMap, request::Parts};
use serde::de::DeserializeOwned;
use types::{Code, Refusal};

use crate::rest;

/// What a request says of who sends it: its headers, and the certificate of its connection.
pub(crate) struct Sender {
    pub(crate) headers: HeaderMap,
    pub(crate) peer: Option<Arc<Peer>>,
}

impl Sender {
    /// Takes it out of a request's head.
    pub(crate) fn of(parts: Parts) -> Self {
        Self { peer: parts.extensions.get().cloned(), headers: parts.headers }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Sender {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self { peer: parts.extensions.get().cloned(), headers: parts.headers.clone() })
    }
}

/// The same, borrowed.
#[derive(Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) peer: Option<&'a Arc<Peer>>,
}

impl<'a> From<&'a Sender> for Asking<'a> {
    fn from(sender: &'a Sender) -> Self {
        Self { headers: &sender.headers, peer: sender.peer.as_ref() }
    }
}

impl<'a> From<&'a Parts> for Asking<'a> {
    fn from(parts: &'a Parts) -> Self {
        Self { headers: &parts.headers, peer: parts.extensions.get() }
    }
}

/// What stands in the path.
pub(crate) struct Path<T>(pub(crate) T);

/// What stands behind the question mark.
pub(crate) struct Query<T>(pub(crate) T);

fn malformed(what: &str, why: String) -> Response {
    let refusal = Refusal::new(Code::RequestMalformed, format!("the {what} can't be read: {why}"));
    rest::refuse(&refusal.hint("GET /openapi.json says what it holds"))
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let read = AxumPath::<T>::from_request_parts(parts, state).await;
        read.map(|AxumPath(value)| Self(value)).map_err(|rejection| malformed("path", rejection.body_text()))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let read = AxumQuery::<T>::from_request_parts(parts, state).await;
        read.map(|AxumQuery(value)| Self(value)).map_err(|rejection| malformed("query", rejection.body_text()))
    }
}
