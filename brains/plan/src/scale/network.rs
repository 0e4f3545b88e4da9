//! A small network: two hidden layers, learnt by Adam.

use online::Random;
use serde::{Deserialize, Serialize};

/// Adam's constants (Kingma and Ba, ICLR 2015).
const MOMENTS: [f32; 2] = [0.9, 0.999];
const TINY: f32 = 1e-8;

/// A layer: `out` rows of `of` weights, and `out` biases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Layer {
    of: usize,
    weights: Vec<f32>,
    biases: Vec<f32>,
}

/// A network with rectified hidden layers and a linear last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    layers: Vec<Layer>,
}

/// What each layer gave for an input.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    given: Vec<Vec<f32>>,
}

/// Learns a network.
#[derive(Debug, Clone)]
pub struct Adam {
    rate: f32,
    steps: i32,
    /// By layer: gradients, their first and second moments; weights, then biases.
    state: Vec<[Vec<f32>; 3]>,
}

impl Network {
    /// One with random weights (He et al., ICCV 2015), `sizes` from its inputs to its outputs.
    pub fn new(sizes: &[usize], random: &mut Random) -> Self {
        let layer = |pair: &[usize]| {
            let &[of, out] = pair else { return Layer { of: 0, weights: Vec::new(), biases: Vec::new() } };
            let spread = (2.0 / of.max(1) as f64).sqrt();
            let weights = (0..of * out).map(|_| (spread * random.normal()) as f32).collect();
            Layer { of, weights, biases: vec![0.0; out] }
        };
        Self { layers: sizes.windows(2).map(layer).collect() }
    }

    /// What it makes of an input; all that its layers gave stays in `trace`. O(weights).
    pub fn run<'a>(&self, input: &[f32], trace: &'a mut Trace) -> &'a [f32] {
        trace.given.resize(self.layers.len() + 1, Vec::new());
        if let Some(first) = trace.given.first_mut() {
            first.clear();
            first.extend_from_slice(input);
        }
        for (at, layer) in self.layers.iter().enumerate() {
            let (before, after) = trace.given.split_at_mut(at + 1);
            let (Some(given), Some(into)) = (before.last(), after.first_mut()) else { break };
            layer.run(given, at + 1 < self.layers.len(), into);
        }
        trace.given.last().map_or(&[], Vec::as_slice)
    }

    /// Lets all outputs begin near nought.
    pub fn calm(&mut self) {
        if let Some(last) = self.layers.last_mut() {
            last.weights.iter_mut().for_each(|weight| *weight *= 0.01);
        }
    }

    /// Whether all of it are numbers, and its layers fit.
    pub fn sound(&self) -> bool {
        self.layers.iter().all(|layer| {
            layer.weights.len() == layer.of * layer.biases.len()
                && layer.weights.iter().chain(&layer.biases).all(|weight| weight.is_finite())
        })
    }
}

impl Layer {
    fn run(&self, given: &[f32], rectified: bool, into: &mut Vec<f32>) {
        into.clear();
        for (row, bias) in self.weights.chunks_exact(self.of.max(1)).zip(&self.biases) {
            let sum = bias + row.iter().zip(given).map(|(weight, value)| weight * value).sum::<f32>();
            into.push(if rectified { sum.max(0.0) } else { sum });
        }
    }
}

impl Adam {
    /// For a network, with this rate.
    pub fn new(network: &Network, rate: f32) -> Self {
        let state = |layer: &Layer| std::array::from_fn(|_| vec![0.0; layer.weights.len() + layer.biases.len()]);
        Self { rate, steps: 0, state: network.layers.iter().map(state).collect() }
    }

    /// Adds the gradient of an example: what its outputs should move by, against `errors`. O(weights).
    pub fn add(&mut self, network: &Network, trace: &Trace, errors: &[f32]) {
        let mut errors = errors.to_vec();
        for (at, layer) in network.layers.iter().enumerate().rev() {
            let (Some(given), Some([sums, ..])) = (trace.given.get(at), self.state.get_mut(at)) else { return };
            let (weights, biases) = sums.split_at_mut(layer.weights.len());
            let mut before = vec![0.0; layer.of];
            let rows = layer.weights.chunks_exact(layer.of.max(1)).zip(weights.chunks_exact_mut(layer.of.max(1)));
            for ((error, bias), (row, sums)) in errors.iter().zip(biases).zip(rows) {
                *bias += error;
                if *error == 0.0 {
                    continue;
                }
                for ((sum, weight), (value, back)) in sums.iter_mut().zip(row).zip(given.iter().zip(&mut before)) {
                    *sum += error * value;
                    *back += error * weight;
                }
            }
            // What a rectified unit did not let through, it does not let back.
            before
                .iter_mut()
                .zip(given)
                .filter(|(_, given)| at > 0 && **given <= 0.0)
                .for_each(|(back, _)| *back = 0.0);
            errors = before;
        }
    }

    /// Moves the network against the mean of `count` gradients.
    pub fn step(&mut self, network: &mut Network, count: f32) {
        self.steps += 1;
        let [first, second] = MOMENTS;
        let (warm, warmer) = (1.0 - first.powi(self.steps), 1.0 - second.powi(self.steps));
        for (layer, [sums, firsts, seconds]) in network.layers.iter_mut().zip(&mut self.state) {
            let weights = layer.weights.iter_mut().chain(&mut layer.biases);
            for ((weight, sum), (one, two)) in weights.zip(sums).zip(firsts.iter_mut().zip(seconds)) {
                let gradient = std::mem::take(sum) / count;
                *one += (1.0 - first) * (gradient - *one);
                *two += (1.0 - second) * (gradient * gradient - *two);
                *weight -= self.rate * (*one / warm) / ((*two / warmer).sqrt() + TINY);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns_what_no_line_tells() {
        let mut random = Random::new(1);
        let mut network = Network::new(&[2, 16, 16, 1], &mut random);
        let (mut adam, mut trace) = (Adam::new(&network, 0.01), Trace::default());
        let cases = [([0.0, 0.0], 0.0), ([0.0, 1.0], 1.0), ([1.0, 0.0], 1.0), ([1.0, 1.0], 0.0)];
        for _ in 0..600 {
            for (input, wanted) in cases {
                let said = network.run(&input, &mut trace)[0];
                adam.add(&network, &trace, &[said - wanted]);
            }
            adam.step(&mut network, 4.0);
        }
        for (input, wanted) in cases {
            let said = network.run(&input, &mut trace)[0];
            assert!((said - wanted).abs() < 0.1, "{input:?}: {said}");
        }
        assert!(network.sound());
    }
}
