//! Asks replicas how they stand, between requests: those of which nothing was heard for a second, while requests come to their
//! version. It is one small call on the connection that is there, bounded in number and time; a replica that does not answer
//! is no worse for that, since only requests say who is lost.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use metrics::counter;
use rpc::{ModelServer as _, model_server::StandOf, orchestrator::ModelKey};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Pools;
use crate::{Ring, ring::Door};

/// How often it is looked who is to be asked.
const LOOK: Duration = Duration::from_millis(250);
/// How long a replica has to answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// Replicas that are asked at a time.
const AT_ONCE: usize = 16;
/// Replicas that are asked at one look, at most; the rest are asked a second later.
const MOST: usize = 512;
/// Replicas that were asked, by what came of it.
pub(crate) const PROBED: &str = "mantlet_gateway_probes_total";

/// Asks them as long as it runs.
pub(crate) async fn run(ring: &Ring) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let silent = ring.silent().into_iter().take(MOST);
        futures::stream::iter(silent).for_each_concurrent(AT_ONCE, probe).await;
    }
}

async fn probe(((_, model), pools, door): (ModelKey, Arc<Pools>, Arc<Door>)) {
    let of = StandOf { model, version: door.replica.version, sender: pools.sender() };
    let outcome = match timeout(PATIENCE, door.client.stand(of)).await {
        Ok(Ok(Some(report))) => {
            pools.told(&door, &report);
            "told"
        }
        Ok(Ok(None)) => "alone",
        Ok(Err(_)) | Err(_) => "missed",
    };
    counter!(PROBED, "outcome" => outcome).increment(1);
}
