//! Whether a load climbs right now, and how high.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Seconds that a line is laid through.
const SPAN: usize = 60;
/// How many standard errors a slope is above nought, at least, to count.
const SURE: f64 = 4.0;

/// A line through the last minute, by least squares. O(60) a look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Trend {
    values: VecDeque<f64>,
}

impl Trend {
    pub(super) fn push(&mut self, value: f64) {
        self.values.push_back(value);
        if self.values.len() > SPAN {
            self.values.pop_front();
        }
    }

    /// Where the line is so many seconds from now, if it climbs for sure.
    pub(super) fn ahead(&self, seconds: f64) -> Option<f64> {
        let count = self.values.len() as f64;
        if self.values.len() < SPAN / 2 {
            return None;
        }
        let mean = self.values.iter().sum::<f64>() / count;
        let middle = (count - 1.0) / 2.0;
        let (mut square, mut product) = (0.0, 0.0);
        for (place, value) in self.values.iter().enumerate() {
            let off = place as f64 - middle;
            square += off * off;
            product += off * (value - mean);
        }
        let slope = product / square;
        let rest = |(place, value): (usize, &f64)| (value - mean - slope * (place as f64 - middle)).powi(2);
        let error = (self.values.iter().enumerate().map(rest).sum::<f64>() / (count - 2.0) / square).sqrt();
        (slope > SURE * error && slope > 0.0).then_some(mean + slope * (count - 1.0 - middle + seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(values: impl Iterator<Item = f64>) -> Option<f64> {
        let mut trend = Trend::default();
        values.for_each(|value| trend.push(value));
        trend.ahead(10.0)
    }

    #[test]
    fn what_climbs_is_followed_and_nothing_else() {
        let noise = |n: u32| f64::from((n * 7_919) % 13) - 6.0;
        let ahead = after((0..90).map(|n| 100.0 + f64::from(n) + noise(n))).unwrap();
        assert!((ahead - 199.0).abs() < 4.0, "{ahead}");
        assert_eq!(after((0..90).map(|n| 100.0 + noise(n))), None);
        assert_eq!(after((0..90).map(|n| 300.0 - f64::from(n))), None);
        assert_eq!(after((0..20).map(f64::from)), None, "too little to say");
    }
}
