//! record: on every exit, an event into a bounded queue; a full queue never slows a prediction.

mod capture;
pub(crate) mod key;
mod seal;
mod shadow;
mod state;
mod statistics;
mod strangers;
mod sweep;
mod writer;

use std::{sync::Arc, time::Duration};

use access::{Permit, Principal, Resource};
use tokio::{task::JoinHandle, time::Instant};
use types::{
    Code, Digest, Refusal,
    event::{Captured, Event, Outcome, Prediction},
    manifest::CaptureInput,
    quota::AuditDuty,
    refusal::Fault,
};

use super::{Cleared, Head, Reply, Route};
use crate::{
    Ring,
    metric::STEPS,
    ring::Model,
    sense::{Asker, Glimpse, Seen, reflex::Clear},
    trace::{Attempts, Trace},
};
pub(crate) use seal::{Seal, batches, commitments, predictions};
pub(crate) use shadow::{COPIED, Shadows};
pub(crate) use statistics::Statistics;
pub(crate) use strangers::Strangers;
pub(crate) use writer::{Recorder, Stores};

/// A prediction on its way through the ring, as it will be recorded.
pub struct Record {
    event: Box<Prediction>,
    entered: (usize, Instant),
    started: Instant,
    model: Option<Arc<Model>>,
    /// Who asks, once that is known.
    asker: Option<Asker>,
    /// The clear attack in it, where there is one.
    clear: Option<Clear>,
    /// What becomes of it when it can't be recorded.
    duty: AuditDuty,
    /// Bytes that may still be kept of it.
    room: u64,
    /// How long the gateway keeps events.
    keep: Duration,
    /// The digest of large inputs, while it is made.
    digest: Option<JoinHandle<Digest>>,
    /// What is traced of it, where it is.
    trace: Option<Box<Trace>>,
}

/// Records a prediction whose client goes away: then nobody asks for the next step, and this is dropped.
pub(super) struct Watch<'a> {
    ring: &'a Ring,
    record: &'a mut Record,
    ended: bool,
}

impl<'a> Watch<'a> {
    pub(super) fn over(ring: &'a Ring, record: &'a mut Record) -> Self {
        Self { ring, record, ended: false }
    }

    pub(super) fn record(&mut self) -> &mut Record {
        self.record
    }

    /// The steps came to an end, one way or the other.
    pub(super) fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.record.abandoned(self.ring);
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Record {
    /// Opens the record of a call.
    pub fn open(ring: &Ring, head: &mut Head) -> Self {
        let event = Prediction {
            prediction: head.prediction,
            namespace: None,
            model: None,
            version: None,
            snapshot: None,
            caller: None,
            client_id: None,
            at: ring.clock.now(),
            steps: Vec::with_capacity(STEPS.len()),
            replica: None,
            rows: 0,
            batch: 0,
            attempts: 0,
            assessment: None,
            outcome: Outcome::Answered,
            shadow_of: None,
            input: Captured::None,
            output: Captured::None,
            keep: None,
            sketch: Vec::new(),
        };
        Self {
            event: Box::new(event),
            entered: (STEPS.len(), head.received),
            started: head.received,
            model: None,
            asker: None,
            clear: None,
            duty: AuditDuty::default(),
            room: 0,
            keep: ring.limits.keep,
            digest: None,
            trace: head.trace.take(),
        }
    }

    /// Notes that a step begins, and how long the one before took.
    pub fn enter(&mut self, ring: &Ring, step: &'static str) {
        let now = Instant::now();
        self.leave(ring, now);
        let index = STEPS.iter().position(|known| *known == step).unwrap_or(STEPS.len());
        self.entered = (index, now);
    }

    fn leave(&mut self, ring: &Ring, now: Instant) {
        let (index, since) = self.entered;
        if let Some(step) = STEPS.get(index) {
            let took = now - since;
            ring.metrics.step(index, took);
            let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            self.event.steps.push(((*step).into(), micros));
        }
    }

    /// Notes who calls.
    pub fn identified(&mut self, principal: &Principal) {
        self.asker = Some(Asker::of(principal));
        self.event.namespace = Some(principal.namespace().clone());
        self.event.caller = Some(principal.caller().clone());
    }

    /// Notes what was allowed.
    pub fn authorized(&mut self, permit: &Permit) {
        if let Resource::Model(_, name) = permit.resource() {
            self.event.model = Some(name.clone());
        }
    }

    /// Notes what clearly is an attack in what came in.
    pub(crate) fn found(&mut self, clear: Option<Clear>) {
        self.event.assessment = clear.as_ref().map(Clear::what);
        self.clear = clear;
    }

    /// Notes what came in.
    pub fn cleared(&mut self, cleared: &Cleared) {
        self.event.client_id = cleared.request().id.clone().filter(|id| (1..=key::LONGEST).contains(&id.len()));
        self.event.rows = cleared.request().rows();
        self.event.batch = self.event.rows;
        self.model = Some(cleared.model().clone());
        self.duty = cleared.duty();
        if let Some(held) = cleared.held() {
            let before = self.event.assessment.take().map(|what| format!("; {what}")).unwrap_or_default();
            self.event.assessment = Some(format!("{}{before}", held.id));
        }
        let manifest = &cleared.model().route.manifest.spec.capture;
        self.room = manifest.bytes.0;
        self.event.keep = (manifest.keep.0 < self.keep).then(|| millis(manifest.keep.0));
        let inputs = &cleared.request().inputs;
        if manifest.input == CaptureInput::Digest && capture::is_large(inputs) {
            // Beside the inference, not before it.
            let inputs = inputs.clone();
            self.digest = Some(tokio::task::spawn_blocking(move || capture::digest(&inputs)));
        } else {
            self.event.input = capture::inputs(inputs, manifest, &mut self.room);
        }
    }

    /// Notes which version answers.
    pub fn routed(&mut self, route: &Route) {
        self.event.version = Some(route.version());
    }

    /// Where attempts are noted, if the prediction is traced.
    pub fn attempts(&mut self) -> Option<&mut Attempts> {
        self.trace.as_mut().map(|trace| trace.attempts())
    }

    /// Closes the record, whatever happened. Where the namespace owes a record, there is no answer before it is stored.
    ///
    /// # Errors
    /// The refusal there was; `storage_unavailable` for an answer that could not be recorded and must be.
    pub async fn close(
        mut self,
        ring: &Ring,
        deadline: Instant,
        outcome: Result<Reply, Refusal>,
    ) -> Result<Reply, Refusal> {
        let step = self.entered.0;
        self.enter(ring, "record");
        if let Some(digest) = self.digest.take() {
            // It fails only when the node stops.
            self.event.input = digest.await.map_or(Captured::None, Captured::Digest);
        }
        self.glimpse(ring, &outcome);
        match &outcome {
            Ok(reply) => {
                self.answered(reply);
                self.shadow(ring, reply);
            }
            Err(refusal) => self.refused(ring, step, refusal),
        }
        ring.metrics.finished(outcome.is_ok(), self.started.elapsed());
        self.leave(ring, Instant::now());
        let Some(trace) = self.trace.take() else { return self.keep(ring, deadline, outcome).await };
        let took = self.started.elapsed();
        ring.metrics.traced(&trace.exemplar(), &self.event.steps, took);
        let ended = trace.finish(&self.event, took);
        let outcome = self.keep(ring, deadline, outcome).await;
        if let Some(tracer) = &ring.tracer {
            tracer.take(ended, outcome.as_ref().err().map(|refusal| refusal.code));
        }
        outcome
    }

    /// Shows it to whoever looks for attackers.
    fn glimpse(&mut self, ring: &Ring, outcome: &Result<Reply, Refusal>) {
        let Some(asker) = self.asker.take().filter(|_| ring.sense.is_on()) else { return };
        let reply = outcome.as_ref().ok();
        let clear = self.clear.take().filter(|clear| clear.refused);
        let seen = Seen {
            asker,
            namespace: self.event.namespace.clone(),
            name: self.event.model.clone(),
            model: self.model.clone().or(clear.as_ref().map(|clear| clear.model.clone())),
            clear: clear.map(|clear| clear.family),
            refused: outcome.as_ref().err().map(|refusal| refusal.code),
            rows: self.event.rows,
            bytes: reply.map_or(0, |reply| reply.request().inputs.iter().map(|input| input.data().len() as u64).sum()),
            cost_us: reply.map_or(0, |reply| micros(reply.response().compute_of(self.event.rows))),
            inputs: reply.map(|reply| reply.request().inputs.clone()).unwrap_or_default(),
            outputs: reply.map(|reply| reply.response().outputs.clone()).unwrap_or_default(),
        };
        ring.sense.take(Glimpse::Prediction(Box::new(seen)));
    }

    /// Closes the record of a prediction that nobody waits for any more.
    fn abandoned(&mut self, ring: &Ring) {
        let refusal = Refusal::new(Code::ClientGone, "the client went away before its answer came");
        let step = self.entered.0;
        self.leave(ring, Instant::now());
        self.event.outcome = Outcome::Refused(refusal.code);
        ring.metrics.refused(step, refusal.code);
        ring.metrics.finished(false, self.started.elapsed());
        if let (Some(trace), Some(tracer)) = (self.trace.take(), &ring.tracer) {
            tracer.take(trace.finish(&self.event, self.started.elapsed()), Some(refusal.code));
        }
        if self.event.caller.is_none() {
            ring.deny(None, "predict", "a model".into(), &refusal);
        } else if !ring.recorder.take(Event::Prediction(self.event.clone())) {
            ring.metrics.lost();
        }
    }

    fn answered(&mut self, reply: &Reply) {
        self.event.version = Some(reply.version());
        self.event.replica = Some(reply.replica().to_owned());
        self.event.attempts = reply.attempts();
        self.event.batch = reply.response().batch;
        self.event.snapshot = reply.response().snapshot;
        let spec = &reply.model().route.manifest.spec;
        self.event.output = capture::outputs(&reply.response().outputs, spec, &mut self.room);
        let (took, compute) = (self.started.elapsed(), reply.response().compute);
        let of_version = reply.model().statistics_of(reply.version());
        for statistics in of_version.iter().chain([&reply.model().statistics]) {
            statistics.answered(took, compute, (self.event.rows, self.event.batch), self.event.at);
        }
    }

    fn refused(&mut self, ring: &Ring, step: usize, refusal: &Refusal) {
        self.event.outcome = Outcome::Refused(refusal.code);
        ring.metrics.refused(step, refusal.code);
        if let Some(model) = &self.model {
            let took = self.started.elapsed();
            model.statistics.failed(took);
            // What a version did is its own fault alone.
            let own = refusal.code.fault() == Fault::Model || refusal.code == Code::DeadlineExceeded;
            if let Some(of_version) = self.event.version.filter(|_| own).and_then(|of| model.statistics_of(of)) {
                of_version.failed(took);
            }
        }
    }

    /// Hands the event to who stores it.
    async fn keep(self, ring: &Ring, deadline: Instant, outcome: Result<Reply, Refusal>) -> Result<Reply, Refusal> {
        // Who was not identified is a stranger, like those who ask for anything else.
        if let (None, Err(refusal)) = (&self.event.caller, &outcome) {
            ring.deny(None, "predict", "a model".into(), refusal);
            return outcome;
        }
        let event = Event::Prediction(self.event);
        if outcome.is_err() || self.duty == AuditDuty::Drop {
            if !ring.recorder.take(event) {
                ring.metrics.lost();
            }
            return outcome;
        }
        if ring.recorder.store(event, deadline).await {
            return outcome;
        }
        Err(Refusal::new(Code::StorageUnavailable, "the prediction could not be recorded, and must be here")
            .hint("see whether the node's disk is full; `mantlet namespaces set` ends the duty"))
    }
}
