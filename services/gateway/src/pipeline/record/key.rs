//! A client's own id of a request can name its prediction, while it is the only one of its caller that has it.

use sha2::{Digest as _, Sha256};
use store::{Error, Streams};
use types::{
    CallerName, Namespace, PredictionId,
    event::{PREDICTIONS, Prediction},
};

use crate::history;

/// Bytes of an id that is remembered, at most.
pub(crate) const LONGEST: usize = 256;
/// Predictions of one id that are looked at: more than one is too many already, and hashes may meet.
const LOOKED_AT: u32 = 8;

/// What a prediction is found by: a hash over whose it is and what the client called it.
pub(super) fn of(prediction: &Prediction) -> Option<u64> {
    let (namespace, caller) = (prediction.namespace.as_ref()?, prediction.caller.as_ref()?);
    Some(hash(namespace, caller, prediction.client_id.as_ref()?))
}

fn hash(namespace: &Namespace, caller: &CallerName, id: &str) -> u64 {
    // Names hold no slash.
    let digest = Sha256::digest(format!("{namespace}/{caller}/{id}"));
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Which predictions of a caller have this id, two at most.
///
/// # Errors
/// When a stream can't be read.
pub(crate) async fn predictions(
    streams: &dyn Streams,
    (namespace, caller): (&Namespace, &CallerName),
    id: &str,
) -> Result<Vec<PredictionId>, Error> {
    let mut found = Vec::new();
    for (stream, sequence) in streams.find(PREDICTIONS, hash(namespace, caller, id), LOOKED_AT).await? {
        let entry = streams.read(&stream, sequence, 1).await?.pop().filter(|entry| entry.sequence == sequence);
        let Some(prediction) = entry.as_ref().and_then(history::prediction) else { continue };
        let whose = (prediction.namespace.as_ref(), prediction.caller.as_ref(), prediction.client_id.as_deref());
        if whose == (Some(namespace), Some(caller), Some(id)) {
            found.push(prediction.prediction);
        }
        if found.len() == 2 {
            break;
        }
    }
    Ok(found)
}
