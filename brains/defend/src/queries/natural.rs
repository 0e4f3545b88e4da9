//! What is ordinary for a model's rows: a sample of them, how far they are apart, how sure the answers are.

use online::Random;

use super::{
    joint::Joint,
    neighbours::dot,
    scale::{Scale, quantile},
    sketch::{SIZE, Sketch, Sketcher},
};

/// Rows of the sample.
pub(super) const SAMPLE: usize = 512;
/// Rows of the sample that others are compared with.
const ANCHORS: usize = 192;
/// Rows after which there is something to compare with.
pub(super) const FIRST: u32 = 64;
/// How many times as many rows there are before all is learnt anew, up to [`OFTEN`].
const AGAIN: u32 = 4;
/// Rows after which all is learnt anew in the end.
const OFTEN: u32 = 16_384;
/// Rows that the sample stands for in the end, so that it follows drift.
const REMEMBERED: u32 = 16_384;
/// Waves that a row's features are made of (Rahimi and Recht, NIPS 2007).
pub(super) const WAVES: usize = 32;
/// Rows of a block that is compared with the sample as a whole.
pub(super) const BLOCK: u32 = 50;

/// The features of a row, or a mean of some.
pub(super) type Waves = [f32; WAVES];

/// A sample of ordinary rows and what was learnt of it. Memory: 512 rows of what is looked at, at most 2 MB, and 64 KB.
#[derive(Debug, Clone)]
pub(super) struct Natural {
    columns: usize,
    rows: Vec<Vec<f32>>,
    margins: Vec<f32>,
    taught: u32,
    at: u32,
    random: Random,
    directions: Vec<Sketch>,
    phases: Waves,
    learnt: Option<Learnt>,
}

/// What the sample says.
#[derive(Debug, Clone)]
pub(super) struct Learnt {
    pub(super) scale: Scale,
    /// The distance from an ordinary row to the nearest other, half of them being nearer.
    pub(super) spacing: f32,
    pub(super) smooth: [bool; SIZE],
    /// As above, and sums.
    pub(super) free: [bool; SIZE],
    pub(super) joint: Joint,
    anchors: Vec<Sketch>,
    /// Distances of ordinary rows to the nearest anchor, and margins of answers, rising.
    strange: Vec<f32>,
    margins: Vec<f32>,
    /// 1 / the width of a wave.
    tempo: f32,
    mean: Waves,
    /// How far blocks of the sample are from its mean.
    apart: f32,
}

impl Natural {
    pub(super) fn new(columns: usize, mut random: Random) -> Self {
        let mut directions = Vec::new();
        for _ in 0..WAVES {
            let mut direction = [0.0; SIZE];
            direction.iter_mut().for_each(|into| *into = random.normal() as f32);
            directions.push(direction);
        }
        let mut phases = [0.0; WAVES];
        phases.iter_mut().for_each(|into| *into = (random.uniform() * std::f64::consts::TAU) as f32);
        let (rows, margins) = (Vec::new(), Vec::new());
        Self { columns, rows, margins, taught: 0, at: FIRST, random, directions, phases, learnt: None }
    }

    pub(super) fn learnt(&self) -> Option<&Learnt> {
        self.learnt.as_ref()
    }

    /// Takes an ordinary row into the sample (Vitter's algorithm R, with a bound on what it stands for). True when all was learnt
    /// anew: sketches from before mean nothing now.
    pub(super) fn teach(&mut self, picked: &[f32], margin: f32, sketcher: &Sketcher) -> bool {
        self.taught = self.taught.saturating_add(1);
        if self.rows.len() < SAMPLE {
            self.rows.push(picked.to_vec());
            self.margins.push(margin);
        } else {
            let at = self.random.below(self.taught.min(REMEMBERED)) as usize;
            if let (Some(row), Some(old)) = (self.rows.get_mut(at), self.margins.get_mut(at)) {
                row.copy_from_slice(picked);
                *old = margin;
            }
        }
        let due = self.taught == self.at;
        if due {
            self.at = self.at.saturating_add((self.at * (AGAIN - 1)).min(OFTEN));
            self.learn(sketcher);
        }
        due
    }

    /// O(512 × columns + 512 × 192 × 64 + 512 × 64²): some milliseconds.
    fn learn(&mut self, sketcher: &Sketcher) {
        let scale = Scale::learn(&self.rows, self.columns);
        let sketches: Vec<Sketch> = self.rows.iter().map(|row| sketcher.sketch(row, &scale)).collect();
        let (anchors, others) = sketches.split_at((sketches.len() / 2).min(ANCHORS));
        let mut strange: Vec<f32> = others.iter().map(|row| nearest(row, anchors, sketcher)).collect();
        let mut apart: Vec<f32> = anchors.iter().take(64).map(|row| nearest_other(row, &sketches, sketcher)).collect();
        apart.retain(|distance| distance.is_finite());
        let spacing = quantile(&mut apart, 0.5).max(1e-6);
        let mut far: Vec<f32> = anchors.iter().zip(others).map(|(one, other)| dot_distance(one, other)).collect();
        let tempo = 1.0 / quantile(&mut far, 0.5).max(1e-6);
        strange.sort_unstable_by(f32::total_cmp);
        let mut margins = self.margins.clone();
        margins.sort_unstable_by(f32::total_cmp);
        let (smooth, free) = (sketcher.smooth(&scale), sketcher.free(&scale));
        let mut learnt = Learnt {
            anchors: anchors.to_vec(),
            joint: Joint::learn(&sketches, &sketcher.single()),
            scale,
            spacing,
            smooth,
            free,
            strange,
            margins,
            tempo,
            mean: [0.0; WAVES],
            apart: 0.0,
        };
        let features: Vec<Waves> = sketches.iter().map(|row| self.waves(row, tempo)).collect();
        learnt.mean = mean(&features);
        let parts = features.chunks_exact(features.len().min(BLOCK as usize).max(1)).map(mean);
        let gaps: Vec<f32> = parts.map(|part| gap(&part, &learnt.mean)).collect();
        learnt.apart = (gaps.iter().sum::<f32>() / gaps.len().max(1) as f32).max(0.5 / BLOCK as f32);
        self.learnt = Some(learnt);
    }

    /// The features of a row: cosines in chance directions, of mean square 1 together.
    fn waves(&self, sketch: &Sketch, tempo: f32) -> Waves {
        let mut waves = [0.0; WAVES];
        for ((into, direction), phase) in waves.iter_mut().zip(&self.directions).zip(&self.phases) {
            *into = (dot(direction, sketch) * tempo + phase).cos() * (2.0 / WAVES as f32).sqrt();
        }
        waves
    }

    /// Adds a row's features to a sum. Nothing before anything was learnt.
    pub(super) fn wave(&self, sketch: &Sketch, sum: &mut Waves) {
        let Some(learnt) = &self.learnt else { return };
        for (into, wave) in sum.iter_mut().zip(self.waves(sketch, learnt.tempo)) {
            *into += wave;
        }
    }
}

impl Learnt {
    /// The share of ordinary rows that are as far from the sample, an upper bound.
    pub(super) fn strangeness(&self, sketch: &Sketch, sketcher: &Sketcher) -> (f32, f32) {
        let distance = nearest(sketch, &self.anchors, sketcher);
        let below = self.strange.partition_point(|other| *other < distance);
        let p = (self.strange.len() - below + 1) as f32 / (self.strange.len() + 1) as f32;
        (p, distance)
    }

    /// The share of ordinary answers that are as unsure.
    pub(super) fn unsure(&self, margin: f32) -> f32 {
        let as_unsure = self.margins.partition_point(|other| *other <= margin);
        (as_unsure + 1) as f32 / (self.margins.len() + 1) as f32
    }

    /// How far a block of rows is from the sample as a whole, in units of what such blocks are (the maximum mean discrepancy of
    /// Gretton et al., JMLR 2012, squared).
    pub(super) fn discrepancy(&self, sum: &Waves, rows: u32) -> f32 {
        let mut part = *sum;
        part.iter_mut().for_each(|into| *into /= rows.max(1) as f32);
        gap(&part, &self.mean) / self.apart
    }
}

fn nearest(row: &Sketch, among: &[Sketch], sketcher: &Sketcher) -> f32 {
    among.iter().map(|other| sketcher.distance(row, other)).fold(f32::INFINITY, f32::min)
}

/// The nearest that is not the same.
fn nearest_other(row: &Sketch, among: &[Sketch], sketcher: &Sketcher) -> f32 {
    let distances = among.iter().map(|other| sketcher.distance(row, other));
    distances.filter(|distance| *distance > 1e-5).fold(f32::INFINITY, f32::min)
}

fn dot_distance(one: &Sketch, other: &Sketch) -> f32 {
    one.iter().zip(other).map(|(one, other)| (one - other) * (one - other)).sum::<f32>().sqrt()
}

fn mean(of: &[Waves]) -> Waves {
    let mut mean = [0.0; WAVES];
    for waves in of {
        mean.iter_mut().zip(waves).for_each(|(into, wave)| *into += wave / of.len().max(1) as f32);
    }
    mean
}

fn gap(one: &Waves, other: &Waves) -> f32 {
    one.iter().zip(other).map(|(one, other)| (one - other) * (one - other)).sum()
}
