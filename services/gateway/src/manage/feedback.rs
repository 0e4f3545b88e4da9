//! Labels: what the right answers to earlier predictions were.
//!
//! Whatever can be read is stored, in the gateway's own stream, in the order in which it came, before there is an answer.
//! Whether a prediction is known, and the sender's, and what else may be wrong with a label, is found out where labels meet
//! their predictions: [`rpc::Trainer`].

use std::{collections::HashMap, sync::Arc, time::Duration};

use access::{Action, Permit};
use axum::{body::Body, extract::State, response::Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};
use types::{
    Code, PredictionId, Refusal, Role, Timestamp,
    event::{Event, Feedback, Label, feedback},
};

use super::{on_namespace, permit, settle};
use crate::{Ring, extract::Sender, pipeline::record::key, rest};

/// Bytes and labels of one request.
const BODY: u64 = 8 << 20;
const LABELS: usize = 10_000;
/// How long the record of a prediction may be on its way, and how often it is looked for.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of a class's name, and of a contributor's.
const WORD: usize = 256;

/// What `POST /v1/feedback` takes: one, an array, or one after the other (NDJSON).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedbackBody {
    /// The prediction's id, as its answer said; or `id`.
    #[serde(default)]
    prediction: Option<String>,
    /// The id that the client gave its request, in place of `prediction`: while no other request of the caller has it.
    #[serde(default)]
    id: Option<String>,
    /// The row of the prediction, from 0.
    #[serde(default)]
    row: u64,
    /// The right answer: the class's name or number, or a number.
    label: Label,
    /// Who found it out; the caller when left out.
    #[serde(default)]
    contributor: Option<String>,
    /// When it was found out, in milliseconds since 1970.
    #[serde(default)]
    at: Option<Timestamp>,
}

pub(crate) async fn take(State(ring): State<Arc<Ring>>, sender: Sender, mut body: Body) -> Response {
    let outcome = async {
        // Who may not label anything learns nothing about the body.
        let permit = permit(&ring, &sender, Action::Feedback, on_namespace)?;
        let deadline = Instant::now() + ring.limits.deadline;
        let read = rest::body::read(&mut body, BODY, ring.limits.idle);
        let text = tokio::time::timeout_at(deadline, read)
            .await
            .unwrap_or_else(|_| Err(rest::body::slow(ring.limits.deadline)))?;
        let bodies = bodies(&text)?;
        let names = timeout_at(deadline, names(&ring, &permit, &bodies))
            .await
            .unwrap_or_else(|_| Err(rest::body::slow(ring.limits.deadline)))?;
        let labels = labels(&ring, &permit, bodies, &names)?;
        let accepted = labels.len();
        let stream = feedback(&ring.name);
        let stored = ring.streams.append(&stream, ring.clock.now(), labels);
        let stored = tokio::time::timeout_at(deadline, stored).await.unwrap_or_else(|_| {
            Err(store::Error::unavailable("the stream of labels", "it took longer than a request may"))
        });
        stored.map_err(|error| {
            let again = "send them again once the disk has room: a label that is known already counts once";
            Refusal::new(Code::StorageUnavailable, format!("the labels could not be stored: {error}")).hint(again)
        })?;
        ring.metrics.labels(accepted as u64);
        Ok::<Value, Refusal>(json!({ "accepted": accepted }))
    };
    let outcome = outcome.await;
    settle(outcome, body).await
}

/// Predictions by the ids that their caller gave them.
type Names = HashMap<String, PredictionId>;

/// Finds what the labels name so. Of a prediction that was just answered the record may be on its way.
async fn names(ring: &Ring, permit: &Permit, bodies: &[FeedbackBody]) -> Result<Names, Refusal> {
    let (mut names, until) = (Names::new(), Instant::now() + ON_ITS_WAY);
    let whose = (permit.namespace(), permit.principal().caller());
    let named = |(place, body): (usize, &'_ FeedbackBody)| {
        Some((place, body.id.clone().filter(|_| body.prediction.is_none())?))
    };
    for (place, id) in bodies.iter().enumerate().filter_map(named) {
        if names.contains_key(&id) {
            continue;
        }
        let prediction = loop {
            let found = key::predictions(&*ring.streams, whose, &id).await.map_err(Refusal::from)?;
            match found.as_slice() {
                [one] => break *one,
                [] if Instant::now() < until => sleep(LOOK).await,
                [] => return Err(nobody(place, &id)),
                _ => {
                    let what = format!("label {place}: several of your predictions have the id `{}`", clip(&id));
                    return Err(Refusal::new(Code::Conflict, what)
                        .hint("label by `prediction`, which every answer has; or give each request an id of its own"));
                }
            }
        };
        names.insert(id, prediction);
    }
    Ok(names)
}

fn nobody(place: usize, id: &str) -> Refusal {
    let what = format!("label {place}: none of your predictions that are kept has the id `{}`", clip(id));
    Refusal::new(Code::PredictionNotFound, what)
        .hint("it is the `id` that the request had, by the same caller, of 256 bytes at most")
}

fn clip(id: &str) -> String {
    id.chars().take(80).collect()
}

/// The entries of all labels of a body, or what is wrong with the first that can't be read.
fn labels(ring: &Ring, permit: &Permit, bodies: Vec<FeedbackBody>, names: &Names) -> Result<Vec<Vec<u8>>, Refusal> {
    let received = ring.clock.now();
    let principal = permit.principal();
    let any = principal.roles().contains(&Role::Admin);
    let one = |(place, body): (usize, FeedbackBody)| {
        let wrong = |what: String| malformed(&format!("label {place}: {what}"));
        let prediction = match (&body.prediction, &body.id) {
            (Some(prediction), None) => prediction
                .parse()
                .map(PredictionId)
                .map_err(|_| wrong("`prediction` is the id of a prediction, a UUID".into()))?,
            (None, Some(id)) => *names.get(id).ok_or_else(|| nobody(place, id))?,
            _ => return Err(wrong("it names its prediction by `prediction`, or by `id`".into())),
        };
        let contributor = body.contributor.unwrap_or_else(|| principal.caller().to_string());
        let word = if let Label::Word(word) = &body.label { word.len() } else { 0 };
        if word > WORD || contributor.len() > WORD || contributor.is_empty() {
            return Err(wrong(format!("a class's name and a contributor's have from 1 to {WORD} bytes")));
        }
        let event = Event::Feedback(Feedback {
            prediction,
            row: body.row,
            label: body.label,
            contributor,
            at: body.at,
            received,
            namespace: permit.namespace().clone(),
            caller: principal.caller().clone(),
            any,
        });
        serde_json::to_vec(&event).map_err(|error| wrong(error.to_string()))
    };
    bodies.into_iter().enumerate().map(one).collect()
}

/// The labels of a body, in order.
fn bodies(text: &[u8]) -> Result<Vec<FeedbackBody>, Refusal> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    let bodies = if first == Some(&b'[') {
        serde_json::from_slice(text).map_err(|error| malformed(&format!("the array can't be read: {error}")))?
    } else {
        let labels = serde_json::Deserializer::from_slice(text).into_iter::<FeedbackBody>();
        let named = |(place, label): (usize, Result<_, serde_json::Error>)| {
            label.map_err(|error| malformed(&format!("label {place} can't be read: {error}")))
        };
        labels.take(LABELS + 1).enumerate().map(named).collect::<Result<Vec<_>, _>>()?
    };
    match bodies.len() {
        0 => Err(malformed("the body holds no label")),
        count if count > LABELS => {
            Err(Refusal::new(Code::BodyTooLarge, format!("the body holds more than {LABELS} labels"))
                .hint("send them in several requests; `mantlet feedback FILE` does"))
        }
        _ => Ok(bodies),
    }
}

fn malformed(what: &str) -> Refusal {
    Refusal::new(Code::RequestMalformed, what.to_owned()).hint(
        r#"a label looks like {"prediction": "0198…", "row": 0, "label": "fraud"}; send one, an array, or one a line"#,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01980000-0000-7000-8000-000000000000";

    #[test]
    fn one_an_array_and_lines_are_read_alike() {
        let one = format!(r#"{{"prediction":"{ID}","label":1}}"#);
        for (text, count) in [
            (one.clone(), 1),
            (format!("[{one},{one}]"), 2),
            (format!("{one}\n{one}\r\n\n{one}\n"), 3),
            (format!("  {one}"), 1),
        ] {
            let read = bodies(text.as_bytes()).unwrap();
            assert_eq!(read.len(), count, "{text}");
            assert!(read.iter().all(|body| body.prediction.as_deref() == Some(ID)
                && body.row == 0
                && body.label == Label::Number(1.0)));
        }
    }

    #[test]
    fn labels_are_words_numbers_and_flags_and_nothing_else() {
        let label = |value: &str| bodies(format!(r#"{{"prediction":"{ID}","label":{value}}}"#).as_bytes());
        assert_eq!(label(r#""fraud""#).unwrap()[0].label, Label::Word("fraud".into()));
        assert_eq!(label("-2.5").unwrap()[0].label, Label::Number(-2.5));
        assert_eq!(label("true").unwrap()[0].label, Label::Flag(true));
        for wrong in ["null", "{}", "[1]", "1e999", "NaN"] {
            assert_eq!(label(wrong).err().unwrap().code, Code::RequestMalformed, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let good = format!(r#"{{"prediction":"{ID}","label":1}}"#);
        let refusal = bodies(format!("{good}\n{{\"prediction\":1}}").as_bytes()).err().unwrap();
        assert!(refusal.message.starts_with("label 1 can't be read"), "{}", refusal.message);
        let unknown = bodies(format!(r#"{{"prediction":"{ID}","label":1,"rows":0}}"#).as_bytes()).err().unwrap();
        assert!(unknown.message.contains("rows"), "{}", unknown.message);
        for empty in ["", "  \n", "[]"] {
            assert_eq!(bodies(empty.as_bytes()).err().unwrap().code, Code::RequestMalformed, "{empty:?}");
        }
        let many = vec![good; LABELS + 1].join("\n");
        assert_eq!(bodies(many.as_bytes()).err().unwrap().code, Code::BodyTooLarge);
    }
}
