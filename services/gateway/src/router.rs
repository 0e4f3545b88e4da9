//! Which path is answered by whom.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::Next,
    response::Response,
    routing::{get, post},
};
use types::{Code, Refusal};

use crate::{Ring, extract::Asking, grpc, manage, rest, sense::strangers};

/// Every path of the port.
pub fn router(ring: Arc<Ring>) -> Router {
    let inference = Router::new()
        .route("/v2", get(rest::server_metadata))
        .route("/v2/", get(rest::server_metadata))
        .route("/v2/health/live", get(rest::live))
        .route("/v2/health/ready", get(rest::ready))
        .route("/v2/models", get(rest::index))
        .route("/v2/models/stats", get(rest::all_statistics))
        .route("/v2/repository/index", post(rest::index))
        .route("/v2/models/{model}", get(rest::metadata))
        .route("/v2/models/{model}/ready", get(rest::model_ready))
        .route("/v2/models/{model}/stats", get(rest::statistics))
        .route("/v2/models/{model}/config", get(rest::config))
        .route(rest::INFER, post(rest::infer))
        .route("/v2/models/{model}/versions/{version}", get(rest::metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(rest::model_ready))
        .route("/v2/models/{model}/versions/{version}/stats", get(rest::statistics))
        .route("/v2/models/{model}/versions/{version}/config", get(rest::config))
        .route(rest::INFER_VERSION, post(rest::infer));
    Router::new()
        .merge(inference)
        .merge(grpc::routes())
        .merge(manage::routes())
        .fallback(nothing)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::middleware::from_fn_with_state(ring.clone(), strangers::watch))
        .layer(axum::middleware::from_fn(one_host))
        .with_state(ring)
}

/// HTTP/1.1 wants exactly one host (RFC 9112, 3.2): a proxy in front may read another one than we would.
async fn one_host(request: Request, next: Next) -> Response {
    if request.version() == http::Version::HTTP_11 {
        let mut hosts = request.headers().get_all(http::header::HOST).iter();
        let (first, second) = (hosts.next(), hosts.next());
        let reads = |host: &http::HeaderValue| {
            host.is_empty() || host.to_str().is_ok_and(|text| text.parse::<http::uri::Authority>().is_ok())
        };
        if second.is_some() || !first.is_some_and(reads) {
            let refusal =
                Refusal::new(Code::RequestMalformed, "the request names no host, several, or none that is one");
            return rest::refuse(&refusal.hint("send the header `host` once, as HTTP/1.1 wants it"));
        }
    }
    next.run(request).await
}

/// Whoever is not answered is not told what there is not, either.
fn held(ring: &Ring, request: &Request) -> Option<Refusal> {
    let named = request.headers().contains_key(http::header::AUTHORIZATION);
    if !named || ring.restrictions.is_empty() {
        return None;
    }
    let asking = Asking { headers: request.headers(), peer: request.extensions().get() };
    let refusal = rest::identify(ring, asking).err()?;
    matches!(refusal.code, Code::CallerRestricted | Code::RateLimited).then_some(refusal)
}

async fn nothing(State(ring): State<Arc<Ring>>, request: Request) -> Response {
    if let Some(refusal) = held(&ring, &request) {
        return rest::refuse(&refusal);
    }
    if grpc::is_grpc(request.headers()) {
        let refusal = Refusal::new(Code::PathNotFound, format!("there is no method {}", clip(request.uri().path())));
        return grpc::refuse(&refusal);
    }
    rest::refuse(
        &Refusal::new(Code::PathNotFound, format!("there is nothing at {}", clip(request.uri().path())))
            .hint("GET /openapi.json lists the paths"),
    )
}

async fn wrong_method(State(ring): State<Arc<Ring>>, request: Request) -> Response {
    if let Some(refusal) = held(&ring, &request) {
        return rest::refuse(&refusal);
    }
    rest::refuse(
        &Refusal::new(
            Code::MethodNotAllowed,
            format!("{} does not take {}", clip(request.uri().path()), request.method()),
        )
        .hint("GET /openapi.json lists the paths and their methods"),
    )
}

fn clip(path: &str) -> String {
    path.chars().take(120).collect()
}
