//! An OpenTelemetry collector for tests: takes spans by OTLP/HTTP, as protobuf, and keeps them.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span as Message,
};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{sync::watch, task::JoinHandle};

use crate::node::PATIENCE;

/// A span as it came, with what its resource says.
#[derive(Debug, Clone)]
pub struct Span {
    /// The span itself.
    pub message: Message,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// Attributes of its resource, as text.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.message.name
    }

    /// An attribute; empty where it has none of this name.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// The trace's id in hexadecimal digits.
    pub fn trace(&self) -> String {
        self.message.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// When it was.
    pub fn time(&self) -> (u64, u64) {
        (self.message.start_time_unix_nano, self.message.end_time_unix_nano)
    }
}

#[derive(Default)]
struct Kept {
    spans: Mutex<(Vec<Span>, Vec<u8>)>,
    requests: watch::Sender<u64>,
}

/// A collector on a port of its own; it ends when dropped.
pub struct Collector {
    address: SocketAddr,
    kept: Arc<Kept>,
    serving: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    /// Opens one.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port can be opened");
        let address = listener.local_addr().expect("it has an address");
        let kept = Arc::new(Kept::default());
        let router = Router::new().route("/v1/traces", post(take)).with_state(kept.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, kept, serving }
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().0.clone()
    }

    /// Every byte so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.kept.spans.lock().1.clone()
    }

    /// Waits until a trace with such a root has come; its spans, the root first.
    pub async fn trace(&self, root: impl Fn(&Span) -> bool) -> Vec<Span> {
        let mut requests = self.kept.requests.subscribe();
        let come = async {
            loop {
                requests.mark_unchanged();
                let all = self.spans();
                if let Some(root) = all.iter().find(|span| span.name() == "predict" && root(span)) {
                    // All spans of a prediction come in one request.
                    let below = all.iter().filter(|span| span.trace() == root.trace() && span.name() != "predict");
                    return std::iter::once(root).chain(below).cloned().collect();
                }
                requests.changed().await.expect("the collector lives");
            }
        };
        let spans = tokio::time::timeout(PATIENCE, come).await;
        spans.unwrap_or_else(|_| panic!("no such trace came: {:#?}", self.spans()))
    }
}

async fn take(State(kept): State<Arc<Kept>>, headers: HeaderMap, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok());
    if kind != Some("application/x-protobuf") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let request = ExportTraceServiceRequest::decode(body.clone()).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut spans = Vec::new();
    for group in request.resource_spans {
        let resource = texts(&group.resource.unwrap_or_default().attributes);
        for message in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let attributes = texts(&message.attributes);
            spans.push(Span { message, attributes, resource: resource.clone() });
        }
    }
    {
        let (all, bytes) = &mut *kept.spans.lock();
        all.extend(spans);
        bytes.extend_from_slice(&body);
    }
    kept.requests.send_modify(|count| *count += 1);
    Ok(ExportTraceServiceResponse { partial_success: None }.encode_to_vec())
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::DoubleValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key.clone(), value)
    };
    attributes.iter().map(text).collect()
}
