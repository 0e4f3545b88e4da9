//! How many replicas a model needs: from what is asked of it, second by second.
//!
//! A [`Scaler`] is told each second what came and what is there, and says how many replicas are wanted. [`Hpa`] and [`Kpa`] are the rules
//! that most clusters run, with their true defaults; [`Ahead`] forecasts the load until a new replica could be ready and staffs for
//! it by queueing theory; [`DeepQ`] learns an offset to that. [`Guarded`] lets the forecast act in place of Knative's rule as far as it is shown to cost less. All look at requests in flight or at their rate, never at CPU, which can't be more than all of it.

mod ahead;
mod cost;
mod deep_q;
mod guarded;
mod hpa;
mod kpa;
pub mod network;
pub mod staffing;
mod trend;
mod trial;

pub use ahead::Ahead;
pub use deep_q::{DeepQ, Tutor};
pub use guarded::{Guarded, TARGET, Verdict};
pub use hpa::Hpa;
pub use kpa::Kpa;
pub use trial::{Side, Standing};

use serde::{Deserialize, Serialize};

/// What was seen of a model in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Requests that came; NaN where nobody could count them.
    pub requests: f64,
    /// Requests that were waiting or answered, on average.
    pub in_flight: f64,
    /// Seconds that one takes alone, on average.
    pub service: f64,
    /// Replicas that answer.
    pub ready: u32,
    /// Replicas that start.
    pub starting: u32,
}

/// What a model's replicas are like, and what is promised of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    /// Requests that a replica answers at a time.
    pub lanes: u32,
    /// Seconds in which a request is to be answered.
    pub slo: f64,
    /// Seconds until a new replica answers.
    pub cold: f64,
    /// The fewest and the most replicas.
    pub bounds: (u32, u32),
    /// What a replica costs each second, in seconds in which requests wait too long: [`PRICE`] where nobody says otherwise.
    pub price: f64,
}

/// Twenty seconds of a replica are worth one in which requests wait too long: what scalers are judged by on load traces.
pub const PRICE: f64 = 0.05;

impl Terms {
    /// So many replicas, within the bounds.
    pub fn bounded(&self, replicas: f64) -> u32 {
        let (least, most) = self.bounds;
        (replicas.max(0.0).ceil() as u32).clamp(least, most.max(least))
    }
}

impl Seen {
    /// Replicas that are there.
    pub fn there(&self) -> u32 {
        self.ready + self.starting
    }
}

/// Says how many replicas are wanted.
pub trait Scaler {
    /// Takes in a second and says how many are wanted from now on. `at` is in whole seconds and grows.
    fn second(&mut self, at: u64, seen: &Seen) -> u32;
}

/// The mean of the last so many seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Window {
    length: usize,
    values: std::collections::VecDeque<f64>,
    sum: f64,
}

impl Window {
    fn new(length: usize) -> Self {
        Self { length, values: std::collections::VecDeque::with_capacity(length + 1), sum: 0.0 }
    }

    fn push(&mut self, value: f64) {
        self.values.push_back(value);
        self.sum += value;
        if self.values.len() > self.length
            && let Some(old) = self.values.pop_front()
        {
            self.sum -= old;
        }
    }

    fn greatest(&self) -> f64 {
        self.values.iter().copied().fold(0.0, f64::max)
    }

    fn mean(&self) -> f64 {
        (self.sum / self.values.len().max(1) as f64).max(0.0)
    }
}

/// The greatest of the last so many seconds. O(1) amortised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Greatest {
    length: u64,
    /// Falling values, with their times.
    values: std::collections::VecDeque<(u64, f64)>,
}

impl Greatest {
    fn new(length: u64) -> Self {
        Self { length, values: std::collections::VecDeque::new() }
    }

    fn push(&mut self, at: u64, value: f64) -> f64 {
        while self.values.back().is_some_and(|(_, last)| *last <= value) {
            self.values.pop_back();
        }
        self.values.push_back((at, value));
        while self.values.front().is_some_and(|(first, _)| first + self.length <= at) {
            self.values.pop_front();
        }
        self.values.front().map_or(value, |(_, greatest)| *greatest)
    }
}

#[cfg(test)]
mod tests;
