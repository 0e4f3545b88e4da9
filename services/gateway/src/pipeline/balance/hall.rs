//! Where requests wait for a model's first replica: before the gate, so that they hold none of the machine's room meanwhile.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout_at,
};
use types::{Code, Refusal};

use super::{Route, not_ready, stopped};
use crate::Ring;

/// Requests that may wait here, of all models together: as many as may wait before the gate.
const WAITING: usize = 4_096;

/// The places of those who wait.
pub(crate) struct Hall {
    places: Semaphore,
}

impl Hall {
    pub(crate) fn new() -> Self {
        Self { places: Semaphore::new(WAITING) }
    }

    /// A place, given back when dropped.
    ///
    /// # Errors
    /// `overloaded` when there is none.
    fn enter(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.places.try_acquire().map_err(|_| {
            Refusal::new(Code::Overloaded, format!("{WAITING} requests wait for models that have no replica"))
                .hint("send less until the model has started, or keep a replica of it: spec.scale.min")
                .retry_after(Duration::from_secs(1))
        })
    }
}

/// Waits until there is a replica that could answer; at once where there is one. Of a model that sleeps, it starts one.
///
/// # Errors
/// `model_stopped` where somebody wants none, `overloaded` when too many wait already, `model_not_ready` at the deadline.
pub(super) async fn wait(ring: &Ring, route: &Route) -> Result<(), Refusal> {
    let is_there =
        |model: &crate::ring::Model| route.versions_of(model).into_iter().any(|version| model.has_replica(version));
    if is_there(route.model()) {
        return Ok(());
    }
    let stops = |model: &crate::ring::Model| model.route.stopped.as_ref().map(|by| stopped(&route.key().1, by));
    if let Some(refusal) = stops(route.model()) {
        return Err(refusal);
    }
    let _place = (ring.hall.enter()?, route.model().statistics.hold());
    let (key, mut changes) = (route.key(), ring.changes());
    loop {
        let model = ring.model(&key)?;
        if is_there(&model) {
            return Ok(());
        }
        if let Some(refusal) = stops(&model) {
            return Err(refusal);
        }
        if model.route.asleep {
            ring.sleeper.notify_one();
        }
        // The sender lives in the ring, which outlives this call.
        if timeout_at(route.deadline(), changes.changed()).await.is_err() {
            let [_, version] = route.versions_of(&model);
            return Err(not_ready(&key.1, version, model.route.waiting.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_places_and_each_is_given_back() {
        let hall = Hall::new();
        let places: Vec<_> = (0..WAITING).map(|_| hall.enter().unwrap()).collect();
        let refusal = hall.enter().err().unwrap();
        assert_eq!(refusal.code, Code::Overloaded);
        assert!(refusal.retry_after_ms.is_some());
        drop(places);
        assert!(hall.enter().is_ok());
    }
}
