//! How often a tree learns a row.

use serde::{Deserialize, Serialize};

use crate::Random;

/// A Poisson distribution, drawn from by its table of sums.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Poisson(Vec<f64>);

impl Poisson {
    pub(crate) fn new(mean: f64) -> Self {
        let (mut sums, mut term, mut sum) = (Vec::new(), (-mean).exp(), 0.0);
        for times in 1.. {
            sum += term;
            sums.push(sum);
            if 1.0 - sum < 1e-15 || times > 400 {
                break;
            }
            term *= mean / f64::from(times);
        }
        Self(sums)
    }

    pub(crate) fn draw(&self, random: &mut Random) -> u32 {
        let drawn = random.uniform();
        self.0.iter().take_while(|sum| drawn >= **sum).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_are_the_same() {
        let (poisson, mut random) = (Poisson::new(6.0), Random::new(3));
        let n = 200_000;
        let drawn: Vec<f64> = (0..n).map(|_| f64::from(poisson.draw(&mut random))).collect();
        let mean = drawn.iter().sum::<f64>() / f64::from(n);
        let variance = drawn.iter().map(|times| (times - mean).powi(2)).sum::<f64>() / f64::from(n);
        // Five standard errors; those of a Poisson variance are (m + 2 m^2) / n.
        assert!((mean - 6.0).abs() < 5.0 * (6.0 / f64::from(n)).sqrt(), "{mean}");
        assert!((variance - 6.0).abs() < 5.0 * (78.0 / f64::from(n)).sqrt(), "{variance}");
        let zeros = drawn.iter().filter(|times| **times == 0.0).count() as f64 / f64::from(n);
        assert!((zeros - (-6.0_f64).exp()).abs() < 5e-4, "{zeros}");
    }
}
