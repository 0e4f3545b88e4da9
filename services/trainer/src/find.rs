//! Finds predictions by their ids in the streams of all gateways.
//!
//! An id says when it was made, and its prediction is stored when it has ended: at once, or up to its deadline later. So
//! the ids of a whole batch are looked for in one walk from the earliest on, which ends when all are found.

use std::collections::{HashMap, HashSet};

use ledger::batch;
use store::{Entry, Error, Streams, seek};
use types::{
    PredictionId, Timestamp,
    event::{Event, Outcome, PREDICTIONS, Prediction},
};

/// The longest that a prediction may be stored after its id was made: the most time that a request may name, and a bit.
pub(crate) const LATE: std::time::Duration = std::time::Duration::from_secs(90);
/// Events looked at for one batch of labels: ids that nobody made must not cost more.
const BUDGET: u64 = 100_000;
const PAGE: u32 = 500;
/// How an event of a prediction begins.
const HEAD: &[u8] = br#"{"kind":"prediction","prediction":""#;
const ID: usize = 36;
/// How a copy says what it is a copy of.
const COPIED: &[u8] = br#""shadow_of":""#;
/// How much later than a prediction its copy may be stored: the most time that a copy has, and a bit.
const COPY: std::time::Duration = std::time::Duration::from_secs(8);

/// The prediction's id in a stored envelope, read from its first bytes alone.
fn id(envelope: &[u8]) -> Option<PredictionId> {
    let text = batch::event(envelope)?.strip_prefix(HEAD)?.get(..ID)?;
    std::str::from_utf8(text).ok()?.parse().map(PredictionId).ok()
}

/// What a stored envelope holds a copy of, if it does.
fn copy_of(envelope: &[u8]) -> Option<PredictionId> {
    let event = batch::event(envelope)?;
    let place = memchr::memmem::find(event, COPIED)? + COPIED.len();
    std::str::from_utf8(event.get(place..place + ID)?).ok()?.parse().map(PredictionId).ok()
}

fn read(envelope: &[u8]) -> Option<Box<Prediction>> {
    match serde_json::from_slice(batch::event(envelope)?) {
        Ok(Event::Prediction(prediction)) => Some(prediction),
        _ => None,
    }
}

/// A prediction, with what versions answered to copies of it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) prediction: Box<Prediction>,
    pub(crate) copies: Vec<Prediction>,
}

/// What is looked for.
struct Wanted<'a> {
    predictions: &'a HashSet<PredictionId>,
    /// Whether copies are looked for, too.
    copies: bool,
    found: HashMap<PredictionId, Found>,
    /// Copies that were stored before what they are copies of.
    early: Vec<Prediction>,
    /// When the last prediction was stored that was found.
    stored: Timestamp,
}

/// Those of these predictions that are kept, with copies of them where that is asked for.
///
/// # Errors
/// When a stream can't be read.
pub(crate) async fn predictions(
    streams: &dyn Streams,
    predictions: &HashSet<PredictionId>,
    copies: bool,
) -> Result<HashMap<PredictionId, Found>, Error> {
    let mut wanted = Wanted { predictions, copies, found: HashMap::new(), early: Vec::new(), stored: Timestamp(0) };
    let made = || predictions.iter().filter_map(|id| id.made());
    let (Some(first), Some(last)) = (made().min(), made().max()) else { return Ok(wanted.found) };
    let last = last.plus(LATE);
    for stream in streams.names(PREDICTIONS).await? {
        if wanted.is_done(Timestamp(u64::MAX)) {
            break;
        }
        wanted.stored = Timestamp(0);
        walk(streams, &stream, (first, last), &mut wanted).await?;
    }
    Ok(wanted.found)
}

impl Wanted<'_> {
    fn take(&mut self, entry: &Entry) {
        if let Some(id) = id(&entry.data).filter(|id| self.predictions.contains(id))
            && let Some(prediction) = read(&entry.data)
        {
            self.stored = self.stored.max(entry.at);
            self.found.insert(id, Found { prediction, copies: Vec::new() });
            let early = self.early.extract_if(.., |copy| copy.shadow_of == Some(id)).collect::<Vec<_>>();
            early.into_iter().for_each(|copy| self.add(copy));
        } else if self.copies
            && copy_of(&entry.data).is_some_and(|of| self.predictions.contains(&of))
            && let Some(copy) = read(&entry.data)
        {
            self.add(*copy);
        }
    }

    fn add(&mut self, copy: Prediction) {
        match copy.shadow_of.and_then(|of| self.found.get_mut(&of)) {
            Some(found) if copy.outcome == Outcome::Answered => found.copies.push(copy),
            Some(_) => {}
            None => self.early.push(copy),
        }
    }

    /// Whether nothing more can be found beyond what was stored then.
    fn is_done(&self, at: Timestamp) -> bool {
        let all = self.found.len() == self.predictions.len();
        all && (!self.copies
            || at > self.stored.plus(COPY)
            || self.found.values().all(|found| !found.copies.is_empty()))
    }
}

async fn walk(
    streams: &dyn Streams,
    stream: &str,
    (first, last): (Timestamp, Timestamp),
    wanted: &mut Wanted<'_>,
) -> Result<(), Error> {
    let (mut next, mut looked) = (seek(streams, stream, first).await?, 0);
    loop {
        let entries = streams.read(stream, next, PAGE).await?;
        entries.iter().for_each(|entry| wanted.take(entry));
        looked += entries.len() as u64;
        match entries.last() {
            Some(entry) if entry.at <= last && looked < BUDGET && !wanted.is_done(entry.at) => {
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
