//! Paths and queries as axum reads them, with a refusal of ours where they can't be read.

use axum::{
    extract::{FromRequestParts, Path as AxumPath, Query as AxumQuery},
    response::Response,
};
use http::request::Parts;
use serde::de::DeserializeOwned;
use types::{Code, Refusal};

use crate::rest;

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
