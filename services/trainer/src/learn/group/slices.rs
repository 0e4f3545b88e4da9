//! What versions answered the same requests, without labels: whether there is a part of the inputs where they differ far more than
//! elsewhere ([`plan::slices`]). A challenger with such a part is not promoted on its own; a person decides.
//!
//! What was counted is kept every half minute, what was found with the contest: a crash costs rows, and no finding.

use std::time::Duration;

use plan::slices::Slices;
use serde::{Deserialize, Serialize};
use store::{Collection, Expect, Write};
use tokio::time::Instant;
use types::{
    Manifest, Refusal, Version,
    manifest::{CaptureInput, Input},
};

use super::{Group, Stand};
use crate::{
    answer::{Answer, answer},
    learn::Stores,
    pairs::Pair,
};

/// Rows of one request that are looked at: those of a request are often alike.
const ROWS: usize = 20;
/// Numbers differ that are further apart than this share of how far the champion's answers spread (their standard deviation), of which
/// so many must have been seen.
const APART: f64 = 0.25;
const SPREAD: u32 = 30;
/// How often counts are kept, and where in the catalog.
const KEEP: Duration = Duration::from_secs(30);
const PLACE: &str = "slices/";

/// The pairs of two versions, as far as they were seen.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Compared {
    versions: [Version; 2],
    slices: Slices,
    spread: Spread,
}

/// How far numbers spread (Welford 1962).
#[derive(Debug, Default, Serialize, Deserialize)]
struct Spread {
    count: u32,
    mean: f64,
    squares: f64,
}

/// Whether pairs are looked at.
#[derive(Debug, Default)]
pub(super) enum Sight {
    /// There is nothing to look at.
    #[default]
    None,
    /// They can't be; why.
    Unseen(&'static str),
    /// They are; when they were kept last, and whether there are more since.
    Seen(Box<Compared>, Instant, bool),
}

impl Spread {
    fn add(&mut self, number: f64) {
        self.count = self.count.saturating_add(1);
        let off = number - self.mean;
        self.mean += off / f64::from(self.count);
        self.squares += off * (number - self.mean);
    }

    /// The standard deviation, once there are numbers enough.
    fn get(&self) -> Option<f64> {
        (self.count >= SPREAD).then(|| (self.squares / f64::from(self.count)).sqrt())
    }
}

/// Inputs of a version whose values are kept.
fn inputs(manifest: &Manifest) -> Vec<Input> {
    let spec = &manifest.spec;
    spec.inputs.iter().filter(|input| !spec.capture.redact.contains(&input.name)).cloned().collect()
}

fn names(inputs: &[Input]) -> Vec<String> {
    let of = |input: &Input| {
        let (name, width) = (input.name.clone(), streaming::columns(input));
        (0..width).map(move |place| if width == 1 { name.clone() } else { format!("{name}[{place}]") })
    };
    inputs.iter().flat_map(of).collect()
}

/// Why nothing can be seen of pairs of a version with this manifest.
fn unseen(manifest: &Manifest) -> Option<&'static str> {
    if manifest.spec.capture.input != CaptureInput::Features {
        return Some("slices are not seen: spec.capture.input is not `features`");
    }
    let none = names(&inputs(manifest)).is_empty();
    none.then_some("slices are not seen: no input has a column of its own that is kept").or(manifest
        .spec
        .task
        .is_none()
        .then_some("slices are not seen: spec.task does not say what answers mean"))
}

impl Compared {
    fn new(versions: [Version; 2], [champion, challenger]: [&Manifest; 2]) -> Self {
        let allowed = challenger.spec.rollout.margin.errors.map(|share| share.get());
        Self { versions, slices: Slices::new(names(&inputs(champion)), allowed), spread: Spread::default() }
    }

    /// Takes a pair in, whose first half was answered by a version with this manifest.
    fn take(&mut self, [asked, copy]: &Pair, champion: &Manifest) {
        let Some(task) = &champion.spec.task else { return };
        let (tensors, outputs) = (asked.input.kept(), [asked.output.kept(), copy.output.kept()]);
        let inputs = inputs(champion);
        for row in 0..usize::try_from(asked.rows).unwrap_or(usize::MAX).min(ROWS) {
            let said = outputs.each_ref().map(|outputs| answer(task, outputs, row).ok());
            let ([Some(champion), Some(challenger)], Ok(row)) = (said, streaming::row(&inputs, &tensors, row)) else {
                continue;
            };
            if let Some(differs) = self.differ(&champion, &challenger) {
                let row: Vec<_> = row.iter().map(streaming::Cell::value).collect();
                self.slices.take(&row, differs);
            }
        }
    }

    /// Whether two answers are different ones; nothing where that can't be said.
    fn differ(&mut self, champion: &Answer, challenger: &Answer) -> Option<bool> {
        if let (Answer::Number(one), Answer::Number(other)) = (champion, challenger) {
            self.spread.add(*one);
            return Some((one - other).abs() > APART * self.spread.get()?);
        }
        Some(class(champion)? != class(challenger)?)
    }

    fn words(&self) -> String {
        let (rows, share) = self.slices.seen();
        let yet = if self.slices.is_set() { "no slice stands out" } else { "too few to look for slices" };
        format!("of {rows} rows {:.1}% are answered otherwise: {yet}", 100.0 * share)
    }
}

/// The class that an answer names, the likeliest of probabilities.
fn class(answer: &Answer) -> Option<usize> {
    match answer {
        Answer::Class(class) => Some(*class),
        Answer::Probabilities(said) => {
            said.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(class, _)| class)
        }
        Answer::Number(_) => None,
    }
}

impl Group {
    fn place_of_slices(&self) -> String {
        format!("{PLACE}{}/{}", self.model.0, self.model.1)
    }

    /// Takes in what was seen of both versions, while one shadows the other; and keeps it now and then.
    pub(super) async fn look_at_slices(&mut self, stores: &Stores, current: Option<Version>) -> Result<(), Refusal> {
        let contest = self
            .kept
            .contest
            .as_ref()
            .filter(|contest| self.learners.is_empty() && contest.goes_on() && current == Some(contest.champion));
        let Some(versions) = contest.map(|contest| [contest.champion, contest.challenger]) else {
            if !matches!(self.sight, Sight::None) {
                stores.known.pairs.leave(&self.model);
                self.sight = Sight::None;
            }
            return Ok(());
        };
        let [Some(champion), Some(challenger)] = versions.map(|version| self.records.get(&version)) else {
            return Ok(());
        };
        if let Some(why) = unseen(&champion.manifest) {
            self.sight = Sight::Unseen(why);
            return Ok(());
        }
        let champion = champion.manifest.clone();
        if !matches!(&self.sight, Sight::Seen(compared, ..) if compared.versions == versions) {
            let kept = stores.catalog.get(Collection::Evaluation, &self.place_of_slices()).await?;
            // What can't be read is counted anew.
            let kept = kept.and_then(|kept| kept.read::<Compared>().ok()).filter(|kept| kept.versions == versions);
            let compared = kept.unwrap_or_else(|| Compared::new(versions, [&champion, &challenger.manifest]));
            self.sight = Sight::Seen(Box::new(compared), Instant::now(), false);
        }
        stores.known.pairs.follow(&self.model, versions);
        let pairs = stores.known.pairs.hand_over(&self.model);
        let Sight::Seen(compared, stored, more) = &mut self.sight else { return Ok(()) };
        if !pairs.is_empty() {
            pairs.iter().for_each(|pair| compared.take(pair, &champion));
            *more = true;
            if let Some(slice) = compared.slices.judge() {
                if self.kept.slice.is_none() {
                    tracing::warn!(model = %self.model.1, challenger = %versions[1], %slice, "versions differ in a slice");
                }
                if self.kept.slice.as_ref() != Some(slice) {
                    (self.kept.slice, self.dirty) = (Some(slice.clone()), true);
                }
            }
        }
        let due = stored.elapsed() >= KEEP;
        if due { self.keep_slices(stores).await } else { Ok(()) }
    }

    /// Keeps what was counted.
    pub(super) async fn keep_slices(&mut self, stores: &Stores) -> Result<(), Refusal> {
        let place = self.place_of_slices();
        let Sight::Seen(compared, stored, more) = &mut self.sight else { return Ok(()) };
        if std::mem::take(more) {
            let write = Write::put(Collection::Evaluation, place, Expect::Any, &**compared)?;
            stores.catalog.commit(vec![write], Vec::new()).await?;
        }
        *stored = Instant::now();
        Ok(())
    }

    /// Forgets what was counted of a model that is no more.
    pub(super) fn forget_slices((namespace, model): &rpc::orchestrator::ModelKey) -> Write {
        Write::remove(Collection::Evaluation, format!("{PLACE}{namespace}/{model}"), Expect::Any)
    }

    /// Whether a slice is found, and no person has said that it may be so.
    pub(super) fn differs_in_a_slice(&self) -> bool {
        self.kept.slice.is_some() && !self.kept.overruled
    }

    /// The slice in words, and how the comparison stands; nothing of what answers already.
    pub(super) fn words_of_slices(&self) -> (Option<String>, Option<String>) {
        let acts = |stand| stand == Stand::Promoted && !self.waits() && self.kept.canary.is_none();
        let open = self.kept.contest.as_ref().is_some_and(|contest| contest.goes_on() && !acts(contest.stand));
        let slice = self.kept.slice.as_ref().filter(|_| open).map(|slice| {
            let what = if self.kept.overruled { "a person has approved it" } else { "a person has to approve it" };
            format!("{slice}: {what}")
        });
        let stands = match &self.sight {
            Sight::None => None,
            Sight::Unseen(why) => Some((*why).to_owned()),
            Sight::Seen(compared, ..) => Some(compared.words()).filter(|_| slice.is_none()),
        };
        (slice, stands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_differ_by_class_or_by_a_part_of_how_far_numbers_spread() {
        let manifest = Manifest::for_onnx("m".parse().unwrap(), "m.onnx");
        let mut compared = Compared::new([Version(1), Version(2)], [&manifest, &manifest]);
        let said = |one: f64| Answer::Probabilities(vec![one, 1.0 - one]);
        assert_eq!(compared.differ(&said(0.9), &said(0.6)), Some(false));
        assert_eq!(compared.differ(&said(0.9), &said(0.4)), Some(true));
        assert_eq!(compared.differ(&said(0.9), &Answer::Class(0)), Some(false));
        assert_eq!(compared.differ(&said(0.9), &Answer::Number(0.0)), None);
        let mut numbers = |n: u32, off: f64| {
            let one = f64::from(n % 10);
            compared.differ(&Answer::Number(one), &Answer::Number(one + off))
        };
        assert!((0..29).all(|n| numbers(n, 5.0).is_none()), "too few to know how far they spread");
        assert_eq!((numbers(29, 0.5), numbers(30, 1.0)), (Some(false), Some(true)), "the deviation is 2.9");
    }

    #[test]
    fn what_is_not_kept_is_said_to_be_unseen() {
        let mut manifest = Manifest::for_onnx("m".parse().unwrap(), "m.onnx");
        assert!(unseen(&manifest).unwrap().contains("spec.capture.input"));
        manifest.spec.capture.input = CaptureInput::Features;
        let input = |name: &str| serde_json::from_value(serde_json::json!({ "name": name, "type": "FP32" })).unwrap();
        manifest.spec.inputs = vec![input("amount"), input("iban")];
        manifest.spec.capture.redact = vec!["iban".into()];
        assert!(unseen(&manifest).unwrap().contains("spec.task"));
        assert_eq!(names(&inputs(&manifest)), ["amount"]);
        manifest.spec.capture.redact.push("amount".into());
        assert!(unseen(&manifest).unwrap().contains("no input"));
    }
}
