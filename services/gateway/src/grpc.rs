//! The gRPC door of the Open Inference Protocol v2.
//!
//! Messages are framed here and not by a generated server, because nothing of a body may be read before its
//! sender is known, and no more than the model's name before its sender is authorized.

mod frame;
mod service;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use http::HeaderMap;
use types::{Code, Refusal, refusal::Grpc};

use crate::Ring;
pub(crate) use frame::Reader;
pub(crate) use service::{names, request};

const SERVICE: &str = "/inference.GRPCInferenceService";

/// Every gRPC method.
pub(crate) fn routes() -> Router<Arc<Ring>> {
    let at = |method: &str| format!("{SERVICE}/{method}");
    Router::new()
        .route(&at("ServerLive"), post(service::server_live))
        .route(&at("ServerReady"), post(service::server_ready))
        .route(&at("ServerMetadata"), post(service::server_metadata))
        .route(&at("ModelReady"), post(service::model_ready))
        .route(&at("ModelMetadata"), post(service::model_metadata))
        .route(&at("ModelConfig"), post(service::model_config))
        .route(&at("ModelStatistics"), post(service::model_statistics))
        .route(&at("RepositoryIndex"), post(service::repository_index))
        .route(&at("ModelInfer"), post(service::model_infer))
        .route(&at("ModelStreamInfer"), post(service::model_stream_infer))
        .route("/grpc.health.v1.Health/Check", post(health))
}

/// The gRPC health protocol's answer: SERVING (1) in field 1.
async fn health(State(_): State<Arc<Ring>>, _: Request) -> Response {
    frame::unary(Ok(bytes::Bytes::from_static(&[0x08, 0x01])), frame::Packed::Identity, None)
}

/// Whether a request is a gRPC call.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A refusal as a gRPC status.
pub(crate) fn refuse(refusal: &Refusal) -> Response {
    frame::unary(Err(refusal.clone()), frame::Packed::Identity, None)
}

/// The time a `grpc-timeout` header gives.
///
/// # Errors
/// `request_malformed` when it is none.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let parse = || {
        let text = value.to_str().ok()?;
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        // The specification allows eight digits.
        let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
        Some(match unit {
            "H" => Duration::from_secs(number * 3_600),
            "M" => Duration::from_secs(number * 60),
            "S" => Duration::from_secs(number),
            "m" => Duration::from_millis(number),
            "u" => Duration::from_micros(number),
            "n" => Duration::from_nanos(number),
            _ => return None,
        })
    };
    parse().map(Some).ok_or_else(|| Refusal::new(Code::RequestMalformed, "the grpc-timeout header can't be read"))
}

/// The number of a gRPC status.
fn number(grpc: Grpc) -> u8 {
    grpc as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_writes_them() {
        let of = |text: &str| {
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), text.parse().unwrap())]);
            timeout(&headers)
        };
        assert_eq!(of("1500m").unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(of("2S").unwrap(), Some(Duration::from_secs(2)));
        assert_eq!(of("99999999H").unwrap(), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "S", "-1S", "1x", "999999999S", "1.5S"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    }
}
