//! Finds predictions by their ids in the streams of all gateways.
//!
//! An id says when it was made, and its prediction is stored when it has ended: at once, or up to its deadline later. So
//! the ids of a whole batch are looked for in one walk from the earliest on, which ends when all are found.

use std::collections::{HashMap, HashSet};

use ledger::batch;
use store::{Error, Streams, seek};
use types::{
    PredictionId, Timestamp,
    event::{Event, PREDICTIONS, Prediction},
};

/// The longest that a prediction may be stored after its id was made: the most time that a request may name, and a bit.
pub(crate) const LATE: std::time::Duration = std::time::Duration::from_secs(90);
/// Events looked at for one batch of labels: ids that nobody made must not cost more.
const BUDGET: u64 = 100_000;
const PAGE: u32 = 500;
/// How an event of a prediction begins.
const HEAD: &[u8] = br#"{"kind":"prediction","prediction":""#;
const ID: usize = 36;

/// The prediction's id in a stored envelope, read from its first bytes alone.
fn id(envelope: &[u8]) -> Option<PredictionId> {
    let text = batch::event(envelope)?.strip_prefix(HEAD)?.get(..ID)?;
    std::str::from_utf8(text).ok()?.parse().map(PredictionId).ok()
}

fn read(envelope: &[u8]) -> Option<Box<Prediction>> {
    match serde_json::from_slice(batch::event(envelope)?) {
        Ok(Event::Prediction(prediction)) => Some(prediction),
        _ => None,
    }
}

/// Those of these predictions that are kept.
///
/// # Errors
/// When a stream can't be read.
pub(crate) async fn predictions(
    streams: &dyn Streams,
    wanted: &HashSet<PredictionId>,
) -> Result<HashMap<PredictionId, Box<Prediction>>, Error> {
    let mut found = HashMap::new();
    let made = || wanted.iter().filter_map(|id| id.made());
    let (Some(first), Some(last)) = (made().min(), made().max()) else { return Ok(found) };
    let last = last.plus(LATE);
    for stream in streams.names(PREDICTIONS).await? {
        if found.len() == wanted.len() {
            break;
        }
        walk(streams, &stream, (first, last), wanted, &mut found).await?;
    }
    Ok(found)
}

async fn walk(
    streams: &dyn Streams,
    stream: &str,
    (first, last): (Timestamp, Timestamp),
    wanted: &HashSet<PredictionId>,
    found: &mut HashMap<PredictionId, Box<Prediction>>,
) -> Result<(), Error> {
    let (mut next, mut looked) = (seek(streams, stream, first).await?, 0);
    loop {
        let entries = streams.read(stream, next, PAGE).await?;
        for entry in &entries {
            let known = id(&entry.data).filter(|id| wanted.contains(id));
            if let Some((id, prediction)) = known.zip(read(&entry.data)) {
                found.insert(id, prediction);
            }
        }
        looked += entries.len() as u64;
        match entries.last() {
            Some(entry) if entry.at <= last && looked < BUDGET && found.len() < wanted.len() => {
                next = entry.sequence + 1;
            }
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_from_the_first_bytes_of_what_gateways_store() {
        let event = serde_json::json!({
            "kind": "prediction", "prediction": "01980000-0000-7000-8000-000000000007", "namespace": "n", "model": "m",
            "version": 1, "snapshot": null, "caller": "c", "at": 5, "steps": [], "replica": null, "rows": 1, "batch": 1,
            "attempts": 1, "assessment": null, "outcome": "answered", "shadow_of": null, "input": "none", "output": "none",
        });
        let prediction: Event = serde_json::from_value(event).unwrap();
        let envelope = batch::envelope([7; batch::NONCE], &serde_json::to_vec(&prediction).unwrap());
        let found = id(&envelope).unwrap();
        assert_eq!(found.to_string(), "01980000-0000-7000-8000-000000000007");
        assert_eq!(read(&envelope).unwrap().prediction, found);
        assert_eq!(id(&[0; 40]), None, "another event");
        assert_eq!(id(b""), None, "an erased one");
    }
}
