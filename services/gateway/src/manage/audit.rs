//! The ledger, page by page, for whoever exports and verifies it.

use std::sync::Arc;

use access::{Action, Resource};
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::HeaderMap;
use rpc::registry::ReadLedger;
use serde::Deserialize;

use super::permit;
use crate::{Ring, rest};

/// Records in a page when the question names no number.
const PAGE: u32 = 1_000;

/// Which records.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    from: u64,
    #[serde(default)]
    limit: Option<u32>,
}

pub(crate) async fn ledger(State(ring): State<Arc<Ring>>, headers: HeaderMap, Query(page): Query<Page>) -> Response {
    let outcome = async {
        // The log is one for the whole node: reading it shows every namespace.
        permit(&ring, &headers, Action::Audit, |_| Resource::Node)?;
        ring.registry.ledger(ReadLedger { from: page.from, limit: page.limit.unwrap_or(PAGE) }).await
    };
    rest::respond(outcome.await)
}
