//! What reads untrusted bytes here, as functions of the bytes alone: doors for fuzzing, and for nothing else.

use std::time::Duration;

use axum::body::Body as HttpBody;
use bytes::Bytes;
use http::HeaderMap;
use types::{ModelName, Refusal, Version, infer::InferRequest};

use crate::{
    grpc::{self, Reader},
    pipeline::Body as _,
    rest::RestBody,
};

/// How long a body may be silent; none of these is.
const IDLE: Duration = Duration::from_secs(60);

/// A REST inference: its headers name the packing and the length of its JSON.
///
/// # Errors
/// As a call of the port.
pub async fn rest(headers: HeaderMap, body: Bytes, model: ModelName, limit: u64) -> Result<InferRequest, Refusal> {
    RestBody::of(Ok((model, None)), headers, HttpBody::from(body), IDLE).request(limit).await
}

/// The messages of a gRPC body, until it ends or one is refused.
pub async fn grpc(headers: &HeaderMap, body: HttpBody, limit: u64) -> (Vec<Bytes>, Result<(), Refusal>) {
    let mut messages = Vec::new();
    let mut reader = match Reader::new(headers, body, IDLE) {
        Ok(reader) => reader,
        Err(refusal) => return (messages, Err(refusal)),
    };
    loop {
        match reader.next(limit, false).await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(refusal) => return (messages, Err(refusal)),
        }
    }
}

/// The model that a gRPC inference names, read before anything else of it.
///
/// # Errors
/// As a call of the port.
pub fn grpc_names(message: Bytes) -> Result<(ModelName, Option<Version>), Refusal> {
    grpc::names(message)
}

/// A gRPC inference.
///
/// # Errors
/// As a call of the port.
pub fn grpc_request(message: Bytes) -> Result<InferRequest, Refusal> {
    grpc::request(message)
}
