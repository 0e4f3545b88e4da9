//! Teaches a detector, and says from which score on it may call something hostile.

use std::collections::BTreeMap;

use defend::intruder::{Intruder, Thresholds};
use online::Random;

use super::corpus::{Example, What};

/// Times that all examples are shown.
const PASSES: usize = 2;
/// Ordinary texts that may be called hostile.
pub(crate) const ALARMS: f64 = 0.01;
/// Each fifth example of a source is kept for the threshold.
const KEPT: usize = 5;
/// No threshold is lower: what is as likely to be an attack as one in eight is looked at, and no less.
const LEAST: f64 = -2.0;
/// Hostile requests teach once this is what is thought of their worst part: what is wrong with others is not in a text.
const CLEAR: f64 = 0.0;

/// Whether an example is kept for the threshold, by its place.
pub(crate) fn is_kept(place: usize) -> bool {
    place % KEPT == 3
}

/// Teaches by all examples that are not kept.
pub(crate) fn taught(examples: &[&Example], seed: u64) -> Intruder {
    let mut intruder = Intruder::blank();
    let mut order: Vec<usize> = (0..examples.len()).filter(|place| !is_kept(*place)).collect();
    let mut random = Random::new(seed);
    for pass in 0..PASSES {
        for place in (1..order.len()).rev() {
            order.swap(place, random.below(place as u32 + 1) as usize);
        }
        for example in order.iter().map(|place| examples[*place]) {
            match &example.what {
                What::Text(text, part) => intruder.learn(text, *part, example.hostile, 1.0),
                What::Request(asked) if !example.hostile => {
                    asked.with(|request| intruder.learn_request(request, false, 0.3))
                }
                What::Request(asked) => asked.with(|request| {
                    if pass > 0 && intruder.request(request).score > CLEAR {
                        intruder.learn_request(request, true, 0.5);
                    }
                }),
            }
        }
    }
    intruder.set_thresholds(thresholds(&intruder, examples));
    intruder
}

/// What the learner and the rules' floor say.
pub(crate) fn score(intruder: &Intruder, example: &Example) -> f64 {
    match &example.what {
        What::Text(text, _) => intruder.score(text),
        What::Request(asked) => asked.with(|request| intruder.request(request).score),
    }
}

/// For each source of ordinary texts among those kept: the score that a hundredth is above. The greatest of the files',
/// and of all that grammars made, is the threshold: another source is as likely to be like the worst of them.
fn thresholds(intruder: &Intruder, examples: &[&Example]) -> Thresholds {
    let mut never = intruder.clone();
    never.set_thresholds(Thresholds { text: f64::NEG_INFINITY, request: f64::NEG_INFINITY });
    let mut scores: BTreeMap<(bool, &str), Vec<f64>> = BTreeMap::new();
    for example in
        examples.iter().enumerate().filter(|(place, example)| is_kept(*place) && !example.hostile).map(|(_, e)| e)
    {
        let is_request = matches!(example.what, What::Request(_));
        let source = if example.is_made() { "made" } else { example.source.as_str() };
        scores.entry((is_request, source)).or_default().push(score(&never, example));
    }
    let mut greatest = |wanted: bool| {
        let of = scores
            .iter_mut()
            .filter(|((is_request, _), _)| *is_request == wanted)
            .map(|(_, scores)| highest(scores, ALARMS));
        of.fold(LEAST, f64::max)
    };
    Thresholds { text: greatest(false), request: greatest(true) }
}

/// The score that this share is above.
pub(crate) fn highest(scores: &mut [f64], share: f64) -> f64 {
    scores.sort_unstable_by(f64::total_cmp);
    let above = (scores.len() as f64 * share).floor() as usize;
    let place = scores.len().saturating_sub(above + 1);
    scores.get(place).map_or(0.0, |score| score + 1e-6)
}
