//! assess: static limits first, then the payload against what the model declares, then whether it clearly is an attack.

mod limit;
mod payload;

pub(crate) use payload::declared;
pub mod quota;

use std::sync::Arc;

use ::balance::gate::Priority;
use access::{Permit, Resource};
use tokio::time::{Instant, timeout_at};
use types::{Code, Refusal, infer::InferRequest, quota::AuditDuty};

use super::{Body, Head};
use crate::{
    Ring,
    rest::{PRIORITY, body::slow},
    restrictions::Held,
    ring::Model,
    sense::{Asker, reflex::Clear},
};
pub(crate) use limit::Limiter;
pub(crate) use quota::Quotas;

/// A request that keeps its caller's limits and fits what the model declares; made only here.
pub struct Cleared {
    permit: Permit,
    model: Arc<Model>,
    request: InferRequest,
    priority: Priority,
    deadline: Instant,
    duty: AuditDuty,
    /// What is held against whoever asks.
    held: Option<Held>,
    /// Gives the caller's place and the namespace's back when the request is over.
    _admitted: (limit::Admitted, Option<limit::Admitted>),
}

impl Cleared {
    /// Who was allowed what.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The request.
    pub fn request(&self) -> &InferRequest {
        &self.request
    }

    /// How it matters inside its namespace.
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// When the answer is due.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What becomes of it when it can't be recorded.
    pub fn duty(&self) -> AuditDuty {
        self.duty
    }

    pub(crate) fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

/// Lets a request through that keeps the limits and fits the model. What clearly is an attack is `found`, whether it is refused
/// or not.
///
/// # Errors
/// `model_not_found`, `caller_restricted`, `quota_exceeded`, `rate_limited`, `concurrency_limited`, `request_malformed`, `overloaded`, what is wrong with the body, `input_mismatch`,
/// `input_value_refused`, `output_unknown`.
pub(crate) async fn assess(
    ring: &Ring,
    permit: Permit,
    head: &Head,
    body: &mut dyn Body,
    found: &mut Option<Clear>,
) -> Result<Cleared, Refusal> {
    let Resource::Model(namespace, name) = permit.resource() else {
        return Err(Refusal::new(Code::Internal, "a permit to predict names no model"));
    };
    let key = (namespace.clone(), name.clone());
    let principal = permit.principal();
    let asker = Asker::of(principal);
    let model = ring.model(&key);
    let autonomy = model.as_ref().ok().and_then(|model| model.route.manifest.spec.protection.autonomy);
    if ring.sense.pauses().is_on(autonomy, asker.admin) {
        ring.sense.pauses().wait_for_look(&asker.subject, &key, head.deadline).await;
        ring.sense.pauses().wait(&asker.subject, name, head.deadline).await;
    }
    // First of all: whoever is not answered learns nothing, not even what there is.
    let held = match ring.restrictions.is_empty() {
        true => None,
        false => ring.restrictions.admit(&asker.subject, Some(name), ring.clock.steady())?,
    };
    let model = model?;
    let spec = &model.route.manifest.spec;
    let shared = ring.quotas.admit(namespace)?;
    let own = ring.limiter.admit((principal.home(), principal.caller()), &key, &spec.limits)?;
    let admitted = (own, shared);
    let asked = priority(head.priority.as_deref())?;
    // Who is suspected comes after all others.
    let priority = if held.is_some() { Priority::Low } else { asked };
    if let Some(meter) = &model.meter {
        meter.came();
    }
    ring.admission.peek(model.place, priority, head.deadline)?;
    let read = timeout_at(head.deadline, body.request(spec.limits.body.0)).await;
    let request = read.unwrap_or_else(|_| Err(slow(head.deadline - head.received)))?;
    payload::check(&request, model.inputs.as_deref(), model.route.metadata.as_ref())?;
    if let Some(reflex) = ring.sense.reflex() {
        *found = reflex.look(&asker, &key, &model, &request.inputs);
        found.as_ref().map_or(Ok(()), |clear| clear.check(&asker, &key))?;
    }
    let duty = ring.quotas.count(namespace, request.rows(), ring.clock.now())?;
    let asked = request.timeout.map(|timeout| head.received + timeout.min(ring.limits.longest_deadline));
    let deadline = asked.map_or(head.deadline, |asked| asked.min(head.deadline));
    Ok(Cleared { permit, model, request, priority, deadline, duty, held, _admitted: admitted })
}

/// How a request matters, as its head says.
fn priority(word: Option<&str>) -> Result<Priority, Refusal> {
    match word {
        None | Some("normal") => Ok(Priority::Normal),
        Some("high") => Ok(Priority::High),
        Some("low") => Ok(Priority::Low),
        Some(other) => Err(Refusal::new(Code::RequestMalformed, format!("`{PRIORITY}: {other}` is no priority"))
            .hint("it is `high`, `normal` or `low`; left out, it is `normal`")),
    }
}
