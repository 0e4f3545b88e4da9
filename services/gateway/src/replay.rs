//! Runs captured predictions again, on the version that answered then, and compares.
//!
//! Integers, bytes and booleans must be equal; floats within 1e-5 · max(1, |x|), since a batch of other
//! neighbours adds in another order. What is read is checked against its ledger record first.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rpc::{ModelServer as _, orchestrator::ModelKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use types::{
    Code, DataType, ModelName, Namespace, PredictionId, Refusal, Tensor, Version,
    event::{Captured, Outcome, Prediction},
    infer::InferRequest,
};

use crate::{Ring, history, pipeline::record::predictions, ring::Door};

/// Entries read at a time.
const PAGE: u64 = 500;
/// The most predictions of one replay.
const MOST: u64 = 10_000;
/// How long a replica of the version that answers is waited for.
const READY: Duration = Duration::from_secs(20);
/// Mismatches that are named.
const NAMED: usize = 100;
/// Largest difference between two floats, relative above 1.
const TOLERANCE: f64 = 1e-5;

/// What `POST /v1/replay` takes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayBody {
    /// How many of the last captured predictions to run again; at most 10000.
    last: u64,
    /// Those of this model; of every model of the namespace when left out.
    #[serde(default)]
    model: Option<ModelName>,
}

/// What a replay found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Replayed {
    replayed: u64,
    skipped: u64,
    mismatches: u64,
    /// Which predictions differ, and how; the first hundred.
    differing: BTreeMap<String, String>,
    /// Why some were skipped, and how many.
    reasons: BTreeMap<String, u64>,
}

/// Where a captured prediction lies.
struct Place {
    at: u64,
    gateway: String,
    sequence: u64,
}

/// Runs the last captured predictions of a namespace again.
///
/// # Errors
/// When events can't be read.
pub(crate) async fn replay(ring: &Ring, namespace: &Namespace, body: &ReplayBody) -> Result<Replayed, Refusal> {
    if body.last > MOST {
        return Err(Refusal::new(Code::RequestMalformed, format!("{} is more than {MOST}", body.last)));
    }
    let mut places = Vec::new();
    for gateway in history::gateways(&*ring.streams).await? {
        newest(ring, namespace, body, &gateway, &mut places).await?;
    }
    places.sort_by_key(|place| std::cmp::Reverse((place.at, place.sequence)));
    places.truncate(usize::try_from(body.last).unwrap_or(usize::MAX));
    let mut found = Replayed::default();
    for place in places.into_iter().rev() {
        let Some(entry) = ring.streams.read(&predictions(&place.gateway), place.sequence, 1).await?.pop() else {
            continue;
        };
        let Some(prediction) = history::prediction(&entry) else { continue };
        let sealed = history::batch_of(ring, &place.gateway, place.sequence).await?;
        let as_recorded = sealed.is_some_and(|sealed| sealed.holds(&entry.data));
        let verdict = if as_recorded {
            again(ring, namespace, &prediction).await
        } else {
            Verdict::Differs("it is not as it was recorded: the events file was changed".into())
        };
        found.note(prediction.prediction, verdict);
    }
    Ok(found)
}

enum Verdict {
    Same,
    Differs(String),
    Skipped(String),
}

impl Replayed {
    fn note(&mut self, id: PredictionId, verdict: Verdict) {
        match verdict {
            Verdict::Same => self.replayed += 1,
            Verdict::Differs(how) => {
                self.replayed += 1;
                self.mismatches += 1;
                if self.differing.len() < NAMED {
                    self.differing.insert(id.to_string(), how);
                }
            }
            Verdict::Skipped(why) => {
                self.skipped += 1;
                *self.reasons.entry(why).or_default() += 1;
            }
        }
    }
}

/// Finds the newest captured predictions of one gateway, from the end of its stream.
async fn newest(
    ring: &Ring,
    namespace: &Namespace,
    body: &ReplayBody,
    gateway: &str,
    places: &mut Vec<Place>,
) -> Result<(), Refusal> {
    let stream = predictions(gateway);
    let mut end = ring.streams.next(&stream).await?;
    let mut left = body.last;
    while left > 0 && end > 1 {
        let start = end.saturating_sub(PAGE).max(1);
        let limit = u32::try_from(end - start).unwrap_or(u32::MAX);
        let entries = ring.streams.read(&stream, start, limit).await?;
        if entries.is_empty() {
            break;
        }
        for entry in entries.iter().rev().filter(|entry| entry.sequence < end) {
            let Some(prediction) = history::prediction(entry) else { continue };
            let captured = matches!(prediction.input, Captured::Features(_)) && prediction.outcome == Outcome::Answered;
            let meant = prediction.namespace.as_ref() == Some(namespace)
                && body.model.as_ref().is_none_or(|model| prediction.model.as_ref() == Some(model));
            if captured && meant && left > 0 {
                left -= 1;
                places.push(Place { at: entry.at.0, gateway: gateway.to_owned(), sequence: entry.sequence });
            }
        }
        end = start;
    }
    Ok(())
}

/// Runs one prediction again.
async fn again(ring: &Ring, namespace: &Namespace, then: &Prediction) -> Verdict {
    let (Some(model), Some(version)) = (&then.model, then.version) else {
        return Verdict::Skipped("no version was recorded".into());
    };
    let (Some(inputs), Some(outputs)) = (then.input.whole(), then.output.whole()) else {
        return Verdict::Skipped("values were redacted or over the byte cap".into());
    };
    let Some(door) = door(ring, &(namespace.clone(), model.clone()), version).await else {
        return Verdict::Skipped(format!("version {version} of `{model}` has no replica"));
    };
    let request = InferRequest {
        model: model.clone(),
        version: Some(version),
        id: None,
        inputs,
        outputs: outputs.iter().map(|output| output.name().to_owned()).collect(),
        timeout: None,
    };
    match tokio::time::timeout(ring.limits.longest_deadline, door.client.infer(request)).await {
        Err(_) => Verdict::Skipped("the model server did not answer in time".into()),
        Ok(Err(refusal)) => Verdict::Skipped(format!("the model server refused: {}", refusal.code)),
        Ok(Ok(now)) => match difference(&outputs, &now.outputs) {
            None => Verdict::Same,
            Some(how) => Verdict::Differs(how),
        },
    }
}

/// A replica of this version; waits for one only while the version is the one that answers, so that one will come.
async fn door(ring: &Ring, key: &ModelKey, version: Version) -> Option<Arc<Door>> {
    let ready = async {
        let mut changes = ring.changes();
        loop {
            changes.mark_unchanged();
            let routed = ring.model(key).ok()?;
            if let Some(door) = routed.replicas.iter().find(|door| door.replica.version == version) {
                return Some(door.clone());
            }
            if routed.route.current != version {
                return None;
            }
            // The sender lives in the ring, which outlives this call.
            let _ = changes.changed().await;
        }
    };
    tokio::time::timeout(READY, ready).await.ok().flatten()
}

/// Where two answers differ.
fn difference(then: &[Tensor], now: &[Tensor]) -> Option<String> {
    if then.len() != now.len() {
        return Some(format!("{} outputs then, {} now", then.len(), now.len()));
    }
    then.iter().find_map(|old| {
        let Some(new) = now.iter().find(|new| new.name() == old.name()) else {
            return Some(format!("output `{}` is missing", old.name()));
        };
        if (old.datatype(), old.shape()) != (new.datatype(), new.shape()) {
            return Some(format!("output `{}` has another type or shape", old.name()));
        }
        let same = match old.datatype() {
            DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => {
                old.iter_floats().zip(new.iter_floats()).all(|(x, y)| close(x, y))
            }
            _ => old.data() == new.data(),
        };
        (!same).then(|| format!("output `{}` has other values", old.name()))
    })
}

fn close(x: f64, y: f64) -> bool {
    let near = x.is_finite() && y.is_finite() && (x - y).abs() <= TOLERANCE * x.abs().max(1.0);
    x == y || (x.is_nan() && y.is_nan()) || near
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_may_differ_a_little_and_nothing_else_may() {
        let floats = |values: &[f32]| {
            let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Tensor::new("y", DataType::Fp32, vec![i64::try_from(values.len()).unwrap()], data.into()).unwrap()
        };
        let integers = |value: u8| Tensor::new("n", DataType::Uint8, vec![1], vec![value].into()).unwrap();
        let same = |a: Tensor, b: Tensor| difference(&[a], &[b]).is_none();
        assert!(same(floats(&[1.0, f32::NAN, f32::INFINITY]), floats(&[1.000_001, f32::NAN, f32::INFINITY])));
        assert!(same(floats(&[1e6]), floats(&[1e6 + 5.0])));
        assert!(!same(floats(&[1.0]), floats(&[1.000_1])));
        assert!(!same(floats(&[f32::INFINITY]), floats(&[1.0])) && !same(floats(&[f32::NAN]), floats(&[1.0])));
        assert!(!same(floats(&[1.0]), floats(&[1.0, 2.0])));
        assert!(same(integers(3), integers(3)) && !same(integers(3), integers(4)));
        assert!(!same(floats(&[1.0]), floats(&[1.0]).renamed("z")));
    }
}
