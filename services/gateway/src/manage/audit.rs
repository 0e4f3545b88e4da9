//! The ledger, page by page, and as the tiles and checkpoints that other people's verifiers read.

use std::sync::Arc;

use access::{Action, Resource};
use axum::{extract::State, response::Response};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::{HeaderValue, header};
use ledger::tile::Tile;
use rpc::registry::{ProveTree, ReadLedger, ReadTile};
use serde::Deserialize;
use types::{Code, Namespace, Refusal};

use super::{on_namespace, permit};
use crate::{
    Ring,
    extract::{Path, Query, Sender},
    rest,
};

type Shared = State<Arc<Ring>>;

/// Records in a page when the question names no number.
const PAGE: u32 = 1_000;

/// Which records.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    limit: Option<u32>,
    /// Only records of the caller's namespace.
    #[serde(default)]
    own: bool,
}

pub(crate) async fn ledger(State(ring): Shared, sender: Sender, Query(page): Query<Page>) -> Response {
    let outcome = async {
        let limit = page.limit.unwrap_or(PAGE);
        let namespace = if page.own {
            Some(permit(&ring, &sender, Action::Audit, on_namespace)?.namespace().clone())
        } else {
            // The log is one for the whole node: reading all of it shows every namespace.
            permit(&ring, &sender, Action::Audit, |_| Resource::Node)?;
            None
        };
        ring.registry.ledger(ReadLedger { from: page.from, limit, namespace }).await
    };
    rest::respond(outcome.await)
}

/// Which earlier tree.
#[derive(Debug, Deserialize)]
pub(crate) struct Earlier {
    #[serde(default)]
    old: u64,
}

pub(crate) async fn consistency(State(ring): Shared, sender: Sender, Query(earlier): Query<Earlier>) -> Response {
    let outcome = async {
        permit(&ring, &sender, Action::Audit, on_namespace)?;
        ring.registry.prove_tree(ProveTree { old: earlier.old }).await
    };
    rest::respond(outcome.await)
}

/// The newest checkpoint, as C2SP `tlog-tiles` serves it. It and the hashes give nothing away, so an auditor of
/// any namespace may read them.
pub(crate) async fn checkpoint(State(ring): Shared, sender: Sender) -> Response {
    let outcome = async {
        permit(&ring, &sender, Action::Audit, on_namespace)?;
        ring.registry.ledger(ReadLedger { from: 0, limit: 0, namespace: None }).await
    };
    match outcome.await {
        Ok(page) => raw(page.signed.into_bytes(), "text/plain; charset=utf-8", "no-store"),
        Err(refusal) => rest::refuse(&refusal),
    }
}

/// A tile of hashes, or an entry bundle.
pub(crate) async fn tile(State(ring): Shared, sender: Sender, Path(path): Path<String>) -> Response {
    let outcome = async {
        let tile = Tile::parse(&format!("tile/{path}"));
        // Records name every namespace; hashes name none.
        let records = tile.is_some_and(|tile| tile.level().is_none());
        let over = |namespace: &Namespace| if records { Resource::Node } else { on_namespace(namespace) };
        permit(&ring, &sender, Action::Audit, over)?;
        let tile = tile.ok_or_else(|| Refusal::new(Code::PathNotFound, "there is no such tile"))?;
        let request = ReadTile { level: tile.level(), number: tile.number(), width: tile.width() };
        let data = ring.registry.tile(request).await?.data;
        BASE64_STANDARD.decode(data).map_err(|error| Refusal::new(Code::Internal, error.to_string()))
    };
    match outcome.await {
        // What a tile holds never changes.
        Ok(data) => raw(data, "application/octet-stream", "private, max-age=31536000, immutable"),
        Err(refusal) => rest::refuse(&refusal),
    }
}

fn raw(data: Vec<u8>, kind: &'static str, cache: &'static str) -> Response {
    let mut response = Response::new(data.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    response
}
