//! Logistic regression over places of features, each step by follow-the-regularised-leader.

use serde::{Deserialize, Serialize};

use super::{
    Part,
    features::{Features, PLACES, QUANTUM, Weights, windows},
    normal::Normal,
    rules::Points,
};

/// Size of the first steps.
const ALPHA: f32 = 0.08;
/// Softens the first steps.
const BETA: f32 = 1.0;
/// Pull towards weights of exactly 0: what few texts have says nothing.
const L1: f32 = 0.35;
/// Pull towards small weights.
const L2: f32 = 0.6;
/// No example weighs more than this.
const HEAVIEST: f32 = 10.0;
/// Squares of gradients that a weight read from a file stands on: as if some tens of texts had taught it.
const READ: f32 = 1.0;

/// Weights that say nothing.
static NOTHING: Weights = [0; PLACES];

/// What a file of weights begins with.
const MAGIC: &[u8; 4] = b"mtl1";

/// FTRL-proximal (McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, algorithm 1) with weights kept
/// beside the state, and rounded where texts are scored: 13 bytes a place, 1.6 MiB. A text is scored by the worst of its windows; a hostile text teaches its
/// worst window, a harmless one all of them (multiple instances: Dietterich et al., Artificial Intelligence 1997).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Kept")]
pub(super) struct Learner {
    weights: Vec<f32>,
    /// The sum of gradients less what the steps made of it, and the sum of their squares.
    state: Vec<[f32; 2]>,
    /// The weights in quanta.
    #[serde(skip)]
    quanta: Vec<i8>,
}

/// What is kept of one.
#[derive(Deserialize)]
struct Kept {
    weights: Vec<f32>,
    state: Vec<[f32; 2]>,
}

impl From<Kept> for Learner {
    fn from(Kept { weights, state }: Kept) -> Self {
        let quanta = weights.iter().copied().map(quanta).collect();
        Self { weights, state, quanta }
    }
}

/// A weight in quanta; those that are greater than two are two.
fn quanta(weight: f32) -> i8 {
    (weight / QUANTUM).round().clamp(-127.0, 127.0) as i8
}

impl Learner {
    /// One that knows nothing.
    pub(super) fn new() -> Self {
        Self { weights: vec![0.0; PLACES], state: vec![[0.0; 2]; PLACES], quanta: vec![0; PLACES] }
    }

    /// Log-odds of the worst window.
    pub(super) fn score(&self, text: &Normal, points: &Points, part: Part) -> f32 {
        let (mut features, weights) = (Features::default(), self.known());
        windows(text.text())
            .fold(f32::NEG_INFINITY, |worst, window| worst.max(features.score(weights, window, text, points, part)))
    }

    /// Its weights, as texts are scored by.
    pub(super) fn known(&self) -> &Weights {
        self.quanta.as_slice().try_into().unwrap_or(&NOTHING)
    }

    /// Learns from one text.
    pub(super) fn learn(&mut self, text: &Normal, points: &Points, part: Part, hostile: bool, weight: f32) {
        let weight = if weight.is_finite() { weight.clamp(0.0, HEAVIEST) } else { 0.0 };
        let mut features = Features::default();
        if hostile {
            let mut worst = (f32::NEG_INFINITY, text.text().get(..0).unwrap_or_default());
            let weights = self.known();
            for window in windows(text.text()) {
                let score = features.score(weights, window, text, points, part);
                if score > worst.0 {
                    worst = (score, window);
                }
            }
            return self.step(&features.all(worst.1, text, points, part), 1.0, weight);
        }
        for window in windows(text.text()) {
            self.step(&features.all(window, text, points, part), 0.0, weight);
        }
    }

    fn step(&mut self, places: &[(usize, f32)], wanted: f32, weight: f32) {
        let known = |(place, value): &(usize, f32)| self.weights.get(*place).map_or(0.0, |weight| weight * value);
        let score: f32 = places.iter().map(known).sum();
        let error = (1.0 / (1.0 + (-score).exp()) - wanted) * weight;
        for (place, value) in places {
            let (Some(known), Some([z, n]), Some(rounded)) =
                (self.weights.get_mut(*place), self.state.get_mut(*place), self.quanta.get_mut(*place))
            else {
                continue;
            };
            let gradient = error * value;
            let squares = *n + gradient * gradient;
            *z += gradient - (squares.sqrt() - n.sqrt()) / ALPHA * *known;
            *n = squares;
            *known = weight_of(*z, *n);
            *rounded = quanta(*known);
        }
    }

    /// Bytes that it takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>() + self.weights.capacity() * 4 + self.state.capacity() * 8 + self.quanta.capacity()
    }

    /// Its weights as a file: for each that is not 0 how many places on it is, and how many quanta.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let mut last = 0;
        for (place, quanta) in self.quanta.iter().copied().enumerate() {
            if quanta == 0 {
                continue;
            }
            let mut gap = place - last;
            while gap >= 255 {
                out.push(255);
                gap -= 255;
            }
            out.extend_from_slice(&[gap as u8, quanta as u8]);
            last = place;
        }
        out
    }

    /// One with the weights of a file; nothing where it is none.
    pub(super) fn read(file: &[u8]) -> Option<Self> {
        let mut rest = file.strip_prefix(MAGIC)?;
        let mut learner = Self::new();
        let mut place = 0;
        while let Some((gap, after)) = rest.split_first() {
            place += usize::from(*gap);
            rest = after;
            if *gap == 255 {
                continue;
            }
            let (quanta, after) = rest.split_first()?;
            rest = after;
            let weight = f32::from(*quanta as i8) * QUANTUM;
            *learner.weights.get_mut(place)? = weight;
            *learner.quanta.get_mut(place)? = *quanta as i8;
            *learner.state.get_mut(place)? = [-weight * stiffness(READ) - weight.signum() * L1, READ];
        }
        Some(learner)
    }

    /// Whether a state that was just read can be.
    pub(super) fn sound(&self) -> bool {
        let finite = self.state.iter().all(|[z, n]| z.is_finite() && n.is_finite() && *n >= 0.0);
        self.weights.len() == PLACES
            && self.state.len() == PLACES
            && finite
            && self.weights.iter().all(|w| w.is_finite())
    }
}

fn stiffness(n: f32) -> f32 {
    (BETA + n.sqrt()) / ALPHA + L2
}

fn weight_of(z: f32, n: f32) -> f32 {
    if z.abs() <= L1 { 0.0 } else { (z.signum() * L1 - z) / stiffness(n) }
}
