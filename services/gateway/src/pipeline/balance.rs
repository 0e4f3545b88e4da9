//! balance: from a version to one of its replicas, held until one is ready or the deadline is near.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::timeout_at;
use types::{Code, Refusal};

use super::Route;
use crate::{Ring, ring::Door};

/// A claim on a replica, counted while it lasts; made only here.
pub struct Lease {
    door: Arc<Door>,
}

impl Lease {
    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// The replica's id.
    pub fn replica(&self) -> &str {
        &self.door.replica.id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.door.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Claims a replica of the routed version.
///
/// # Errors
/// `deadline_exceeded` or `model_not_ready` when none became ready in time.
pub async fn balance(ring: &Ring, route: &Route) -> Result<Lease, Refusal> {
    again(ring, route, &[]).await
}

/// How often a request that has tried every replica looks again.
const LOOK: Duration = Duration::from_millis(25);

/// Claims a replica that was not tried yet; waits for one when there is none, and after a moment tries any.
pub(crate) async fn again(ring: &Ring, route: &Route, tried: &[String]) -> Result<Lease, Refusal> {
    let key = route.key();
    let mut changes = ring.changes();
    let mut tried = tried;
    loop {
        changes.mark_unchanged();
        let model = ring.model(&key)?;
        let ready: Vec<&Arc<Door>> = model
            .replicas
            .iter()
            .filter(|door| door.replica.version == route.version() && !tried.contains(&door.replica.id))
            .collect();
        let in_flight: Vec<u32> = ready.iter().map(|door| door.in_flight.load(Ordering::Relaxed)).collect();
        if let Some(choice) = balance::choose(&in_flight, &mut *ring.rng.lock()) {
            let door = ready[choice].clone();
            door.in_flight.fetch_add(1, Ordering::Relaxed);
            return Ok(Lease { door });
        }
        let waiting = model.route.waiting.clone();
        let changed = async {
            if tried.is_empty() {
                // The sender lives in the ring, which outlives this call.
                let _ = changes.changed().await;
            } else {
                let _ = tokio::time::timeout(LOOK, changes.changed()).await;
            }
        };
        if timeout_at(route.deadline(), changed).await.is_err() {
            let why = waiting.unwrap_or_else(|| "no replica is ready".into());
            return Err(Refusal::new(
                Code::ModelNotReady,
                format!("`{}` version {} was not ready before the deadline: {why}", key.1, route.version()),
            )
            .hint(format!("`mantlet models show {}` says why", key.1))
            .retry_after(Duration::from_secs(1)));
        }
        if !tried.is_empty() && model.replicas.iter().all(|door| tried.contains(&door.replica.id)) {
            tried = &[];
        }
    }
}
