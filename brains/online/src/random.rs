//! Randomness from a seed, saved with whoever draws it.

use rand_pcg::{
    Pcg64Mcg,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A generator of random numbers: PCG XSL 128/64 (O'Neill 2014). The same seed gives the same numbers on every machine and
/// in every release. Not for secrets.
///
/// ```
/// use online::Random;
///
/// assert_eq!(Random::new(7).uniform(), Random::new(7).uniform());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Random(Pcg64Mcg);

/// What is saved of a generator.
#[derive(Deserialize)]
struct Saved {
    state: u128,
}

impl<'de> Deserialize<'de> for Random {
    /// An even state, which no seed leads to, has a shorter way back to itself; that of 0 stands still, and whoever
    /// draws until a number fits would never end.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Saved::deserialize(deserializer)? {
            Saved { state } if state % 2 == 1 => Ok(Self(Pcg64Mcg::new(state))),
            _ => Err(de::Error::custom("a generator that stands still")),
        }
    }
}

impl Random {
    /// One that draws what this seed says.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// Another generator, independent of what this one draws next.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self::new(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from 0 to below 1, in steps of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A whole number below `n`, or 0 when `n` is 0: multiply and shift (Lemire 2019), off by less than n / 2³².
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from((self.bits() >> 32) as u32) * u64::from(n)) >> 32) as u32
    }

    /// A normally distributed number with mean 0 and variance 1: the polar method (Marsaglia and Bray 1964).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (a, b) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = a * a + b * b;
            if square > 0.0 && square < 1.0 {
                return a * (-2.0 * square.ln() / square).sqrt();
            }
        }
    }

    /// An exponentially distributed number with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }
}

/// Spreads bits over all others: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(crate) fn mixed(key: u64) -> u64 {
    let key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_where_it_was_saved_and_never_stands_still() {
        let mut random = Random::new(3);
        random.bits();
        let saved = postcard::to_allocvec(&random).unwrap();
        assert_eq!(postcard::from_bytes::<Random>(&saved).as_ref(), Ok(&random));
        for state in [0_u128, 2, 1 << 127] {
            let saved = postcard::to_allocvec(&state).unwrap();
            assert!(postcard::from_bytes::<Random>(&saved).is_err(), "{state}");
        }
    }

    #[test]
    fn a_seed_gives_the_numbers_it_always_gave() {
        let mut random = Random::new(1);
        let drawn: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(drawn, [15_803_641_690_485_367_939, 2_537_432_388_316_380_799, 8_678_483_373_067_562_792]);
    }

    #[test]
    fn moments_are_as_they_should_be() {
        let mut random = Random::new(5);
        let n = 200_000;
        let moments = |draw: &mut dyn FnMut() -> f64| {
            let drawn: Vec<f64> = (0..n).map(|_| draw()).collect();
            let mean = drawn.iter().sum::<f64>() / f64::from(n);
            (mean, drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n))
        };
        // Five standard errors of a mean of n draws.
        let error = 5.0 / f64::from(n).sqrt();
        let (mean, variance) = moments(&mut || random.uniform());
        assert!((mean - 0.5).abs() < error && (variance - 1.0 / 12.0).abs() < error, "{mean} {variance}");
        let (mean, variance) = moments(&mut || random.normal());
        assert!(mean.abs() < error && (variance - 1.0).abs() < 2.0 * error, "{mean} {variance}");
        let (mean, variance) = moments(&mut || random.exponential());
        assert!((mean - 1.0).abs() < error && (variance - 1.0).abs() < 3.0 * error, "{mean} {variance}");
        let (mean, _) = moments(&mut || f64::from(random.below(10)));
        assert!((mean - 4.5).abs() < 3.0 * error, "{mean}");
        assert_eq!(random.below(0), 0);
    }
}
