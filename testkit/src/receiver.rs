//! A receiver of webhooks for tests: keeps what it is sent, answers as it is told, and checks signatures by another
//! implementation of HMAC than the node's.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

use crate::node::PATIENCE;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Received {
    headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Received {
    /// A header; empty where it has none of this name.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Its body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("it is JSON")
    }

    /// Whether it is signed with this key, as Standard Webhooks has it.
    pub fn is_signed_with(&self, key: &[u8]) -> bool {
        access::tls::install_provider();
        let head = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp"));
        let message = [head.as_bytes(), &self.body].concat();
        let signed =
            crypto::sign(&message, &EncodingKey::from_secret(key), Algorithm::HS256).expect("it can be signed");
        let signed = BASE64_URL_SAFE_NO_PAD.decode(signed).expect("it is base64");
        self.header("webhook-signature").split(' ').any(|one| {
            one.strip_prefix("v1,").and_then(|text| BASE64_STANDARD.decode(text).ok()).as_ref() == Some(&signed)
        })
    }
}

struct Kept {
    received: Mutex<Vec<Received>>,
    count: watch::Sender<usize>,
    says: Mutex<u16>,
}

/// A receiver on a port of its own; it ends when dropped.
pub struct Receiver {
    address: SocketAddr,
    kept: Arc<Kept>,
    serving: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Receiver {
    /// Opens one that answers every request with this status.
    pub async fn start(says: u16) -> Self {
        // Whoever sends in the same process needs it, even without TLS.
        access::tls::install_provider();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port can be opened");
        let address = listener.local_addr().expect("it has an address");
        let kept = Kept { received: Mutex::default(), count: watch::Sender::default(), says: Mutex::new(says) };
        let kept = Arc::new(kept);
        let router = Router::new().fallback(take).with_state(kept.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { address, kept, serving }
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers with this status from now on.
    pub fn say(&self, status: u16) {
        *self.kept.says.lock() = status;
    }

    /// Every request so far, once there are so many.
    pub async fn received(&self, least: usize) -> Vec<Received> {
        let mut count = self.kept.count.subscribe();
        let come = tokio::time::timeout(PATIENCE, count.wait_for(|count| *count >= least)).await;
        let all = self.kept.received.lock().clone();
        assert!(come.is_ok(), "{least} requests did not come: {all:?}");
        all
    }
}

async fn take(State(kept): State<Arc<Kept>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let count = {
        let mut received = kept.received.lock();
        received.push(Received { headers, body });
        received.len()
    };
    kept.count.send_replace(count);
    StatusCode::from_u16(*kept.says.lock()).expect("it is a status")
}
