//! A copy of what was answered goes to the version that would like to answer: its answer is recorded, nobody gets it, and
//! nobody waits for it. Under load copies are the first thing that is left out, and they are counted.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, counter};
use rpc::ModelServer as _;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use types::{
    Code, PredictionId,
    event::{Captured, Event, Outcome, Prediction},
    infer::InferRequest,
};

use super::{Record, Reply, capture};
use crate::Ring;

/// Copies on their way, at most.
const COPIES: usize = 32;
/// How long a copy may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Copies, by what became of them.
pub(crate) const COPIED: &str = "mantlet_gateway_shadows_total";

/// Room for copies.
pub(crate) struct Shadows {
    room: Arc<Semaphore>,
    answered: Counter,
    failed: Counter,
    dropped: Counter,
}

impl Shadows {
    pub(crate) fn new() -> Self {
        let of = |outcome: &'static str| counter!(COPIED, "outcome" => outcome);
        let [answered, failed, dropped] = [of("answered"), of("failed"), of("dropped")];
        Self { room: Arc::new(Semaphore::new(COPIES)), answered, failed, dropped }
    }
}

impl Record {
    /// Sends a copy of what was answered, where a version shadows the one that answered and there is room.
    pub(super) fn shadow(&self, ring: &Ring, reply: &Reply) {
        let model = reply.model();
        // Who named a version asked for no other, and what another one answered is not what it is compared with.
        let compared = reply.version() == model.route.current && !reply.is_named();
        let shadow = model.route.shadow.filter(|version| *version != reply.version() && compared);
        let Some(version) = shadow else { return };
        let Some(door) = model.replicas.iter().find(|door| door.replica.version == version).cloned() else { return };
        let permit = (!ring.admission.is_waited_for()).then(|| ring.shadows.room.clone().try_acquire_owned());
        let Some(Ok(permit)) = permit else {
            ring.shadows.dropped.increment(1);
            return;
        };
        let mut event = self.copy(door.replica.id.clone());
        event.version = Some(version);
        let request = InferRequest { version: Some(version), ..reply.request().clone() };
        let (recorder, model) = (ring.recorder.clone(), model.clone());
        let (answered, failed) = (ring.shadows.answered.clone(), ring.shadows.failed.clone());
        let lost = ring.metrics.losses();
        tokio::spawn(async move {
            let (began, mut room) = (Instant::now(), model.route.manifest.spec.capture.bytes.0);
            let outcome = timeout(PATIENCE, door.client.infer(request)).await;
            match outcome {
                Ok(Ok(response)) => {
                    event.batch = response.batch;
                    event.output = capture::outputs(&response.outputs, &model.route.manifest.spec, &mut room);
                    answered.increment(1);
                }
                refused => {
                    let code = refused.map_or(Code::DeadlineExceeded, |refused| match refused {
                        Ok(_) => Code::Internal,
                        Err(refusal) => refusal.code,
                    });
                    event.outcome = Outcome::Refused(code);
                    failed.increment(1);
                }
            }
            let took = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            event.steps = vec![("forward".into(), took)];
            if !recorder.take(Event::Prediction(event)) {
                lost.increment(1);
            }
            drop(permit);
        });
    }

    /// The event of a copy, before it is answered.
    fn copy(&self, replica: String) -> Box<Prediction> {
        let event = &self.event;
        Box::new(Prediction {
            prediction: PredictionId(uuid::Uuid::now_v7()),
            namespace: event.namespace.clone(),
            model: event.model.clone(),
            version: None,
            snapshot: None,
            caller: event.caller.clone(),
            client_id: None,
            at: event.at,
            steps: Vec::new(),
            replica: Some(replica),
            rows: event.rows,
            batch: event.rows,
            attempts: 1,
            assessment: None,
            outcome: Outcome::Answered,
            shadow_of: Some(event.prediction),
            input: Captured::None,
            output: Captured::None,
            keep: event.keep,
            sketch: Vec::new(),
        })
    }
}
