//! Chooses among a few actions and learns only from the one that was taken.
//!
//! For settings that are tried out while they work: a batch's size, a cache's share. What decides about requests one
//! by one, and needs proof, is judged by [`crate::guard`].

use serde::{Deserialize, Serialize};

use crate::{
    Error, Random, Result, Snapshot,
    error::{finite, within},
};

/// The most arms: a choice looks at each.
const ARMS: usize = 1_024;
/// The largest reward.
const LARGEST: f64 = 1e9;

/// What rewards are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reward {
    /// Success or failure, or a part of a success: 0 … 1.
    Bernoulli,
    /// Any number, spread around a mean.
    Gaussian,
}

/// What is believed of an arm, in rewards that count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Arm {
    count: f64,
    mean: f64,
    /// The sum of squares about the mean.
    squares: f64,
}

/// Thompson sampling (Thompson 1933; Russo, Van Roy, Kazerouni, Osband and Wen 2018) whose memory fades: draws what
/// each arm may be worth from what is believed of it, and takes the arm that drew most.
///
/// Beliefs are Beta from (1, 1) for `Bernoulli`, where a reward between 0 and 1 counts as a part of a success; for
/// `Gaussian` a normal with unknown variance from a weak prior around the mean of all arms, which is drawn by its
/// scaled t distribution. At each reward all counts shrink by the discount (Raj and Kalyani 2017, "Taming
/// non-stationary bandits: a Bayesian approach"): 0.999 remembers some 1,000 rewards, and arms that were left are
/// looked at again.
///
/// O(arms) a choice and a reward; 24 bytes an arm. Rewards may come late and in any order.
///
/// ```
/// use online::bandit::{Reward, Thompson};
///
/// let mut bandit = Thompson::new(2, Reward::Bernoulli, 0.999, 7)?;
/// let mut second = 0;
/// for _ in 0..1_000 {
///     let arm = bandit.choose();
///     second += u32::from(arm == 1);
///     bandit.reward(arm, if arm == 1 { 1.0 } else { 0.0 })?;
/// }
/// assert!(second > 950);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thompson {
    arms: Vec<Arm>,
    reward: Reward,
    discount: f64,
    random: Random,
}

impl Thompson {
    /// One with 1 … 1,024 arms that nothing is known of, and a discount above 0, at most 1.
    ///
    /// # Errors
    /// [`Error::Range`] for others.
    pub fn new(arms: usize, reward: Reward, discount: f64, seed: u64) -> Result<Self> {
        within("the number of arms", arms as f64, (1.0, ARMS as f64), "from 1 to 1,024")?;
        within("the discount", discount, (f64::MIN_POSITIVE, 1.0), "above 0 and at most 1")?;
        let arm = Arm { count: 0.0, mean: 0.0, squares: 0.0 };
        Ok(Self { arms: vec![arm; arms], reward, discount, random: Random::new(seed) })
    }

    /// The arm to take now.
    pub fn choose(&mut self) -> usize {
        let prior = self.prior();
        let (mut best, mut most) = (0, f64::NEG_INFINITY);
        for (place, arm) in self.arms.iter().enumerate() {
            let drawn = match self.reward {
                Reward::Bernoulli => arm.rate(&mut self.random),
                Reward::Gaussian => arm.worth(prior, &mut self.random),
            };
            if drawn > most {
                (best, most) = (place, drawn);
            }
        }
        best
    }

    /// Takes in what an arm brought.
    ///
    /// # Errors
    /// [`Error::Class`] for an arm that does not exist, [`Error::NotFinite`] or [`Error::Range`] for a reward outside
    /// 0 … 1, or beyond ±10⁹ for `Gaussian`. Then nothing has changed.
    pub fn reward(&mut self, arm: usize, reward: f64) -> Result<()> {
        finite("the reward", reward)?;
        match self.reward {
            Reward::Bernoulli => within("the reward", reward, (0.0, 1.0), "from 0 to 1")?,
            Reward::Gaussian => within("the reward", reward, (-LARGEST, LARGEST), "from -10⁹ to 10⁹")?,
        };
        let arms = self.arms.len();
        let Some(taken) = self.arms.get(arm).copied() else { return Err(Error::Class { class: arm, classes: arms }) };
        for arm in &mut self.arms {
            arm.count *= self.discount;
            arm.squares *= self.discount;
        }
        if let Some(arm) = self.arms.get_mut(arm) {
            arm.count += 1.0;
            arm.mean += (reward - taken.mean) / arm.count;
            arm.squares += (reward - taken.mean) * (reward - arm.mean);
        }
        Ok(())
    }

    /// The mean reward of each arm of late, and how many rewards it stands on.
    pub fn means(&self) -> impl Iterator<Item = (f64, f64)> {
        self.arms.iter().map(|arm| (arm.mean, arm.count))
    }

    /// Mean and variance of all rewards of late: where an arm without rewards is supposed to be.
    fn prior(&self) -> (f64, f64) {
        let count: f64 = self.arms.iter().map(|arm| arm.count).sum();
        if count < 1.0 {
            return (0.0, 1.0);
        }
        let mean = self.arms.iter().map(|arm| arm.count * arm.mean).sum::<f64>() / count;
        let square = |arm: &Arm| arm.squares.max(0.0) + arm.count * (arm.mean - mean) * (arm.mean - mean);
        let variance = self.arms.iter().map(square).sum::<f64>() / count;
        (mean, variance.max(1e-12))
    }
}

impl Arm {
    /// A success rate it may have.
    fn rate(&self, random: &mut Random) -> f64 {
        let successes = (self.count * self.mean).clamp(0.0, self.count);
        let (a, b) = (gamma(1.0 + successes, random), gamma(1.0 + self.count - successes, random));
        a / (a + b).max(f64::MIN_POSITIVE)
    }

    /// A mean it may have: the prior counts as one reward.
    fn worth(&self, (mean, variance): (f64, f64), random: &mut Random) -> f64 {
        let count = self.count + 1.0;
        let centre = (self.count * self.mean + mean) / count;
        let apart = self.count / count * (self.mean - mean) * (self.mean - mean);
        let precision = gamma(count / 2.0 + 0.5, random).max(1e-300);
        let drawn = ((variance + self.squares.max(0.0) + apart) / 2.0 / precision).min(1e300);
        centre + random.normal() * (drawn / count).sqrt()
    }
}

/// A Gamma number of this shape, at least 0.5, and scale 1 (Marsaglia and Tsang, ACM TOMS 2000).
fn gamma(shape: f64, random: &mut Random) -> f64 {
    // A shape below 1 is drawn one higher, and brought back by a power of a uniform number.
    let (shape, power) = if shape < 1.0 { (shape + 1.0, 1.0 / shape) } else { (shape, 0.0) };
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let normal = random.normal();
        let cube = (1.0 + c * normal).powi(3);
        // Above 0: its logarithm is taken.
        let uniform = 1.0 - random.uniform();
        if cube > 0.0 && uniform.ln() < 0.5 * normal * normal + d - d * cube + d * cube.ln() {
            let back = if power > 0.0 { (1.0 - random.uniform()).powf(power) } else { 1.0 };
            return d * cube * back;
        }
    }
}

impl Snapshot for Thompson {
    const KIND: &'static str = "thompson";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        Self::new(self.arms.len(), self.reward, self.discount, 0)
            .map_err(|_| Error::Snapshot("has settings out of range"))?;
        let largest = if self.reward == Reward::Bernoulli { 1.0 } else { LARGEST };
        let sound = |arm: &Arm| {
            (0.0..=1e15).contains(&arm.count)
                && arm.mean.abs() <= largest * 1.000_001
                && arm.squares.abs() <= (arm.count + 1.0) * 4.1 * largest * largest
        };
        if self.arms.iter().all(sound) { Ok(()) } else { Err(Error::Snapshot("has an arm that no rewards give")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn gamma_has_its_moments() {
        let mut random = Random::new(1);
        for shape in [0.5, 1.0, 3.0, 50.0] {
            let n = 50_000;
            let drawn: Vec<f64> = (0..n).map(|_| gamma(shape, &mut random)).collect();
            let mean = drawn.iter().sum::<f64>() / f64::from(n);
            let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
            // Five standard errors; a gamma's fourth moment is within ten squares of its variance here.
            let error = 5.0 / f64::from(n).sqrt();
            assert!((mean - shape).abs() < error * shape.sqrt(), "{mean} for {shape}");
            assert!((variance / shape - 1.0).abs() < error * 4.5, "{variance} for {shape}");
        }
    }

    /// The share of the last half of choices that took the best arm.
    fn best(reward: Reward, seed: u64, means: impl Fn(u32) -> [f64; 3]) -> f64 {
        let (mut bandit, mut random) = (Thompson::new(3, reward, 0.999, seed).unwrap(), Random::new(seed + 1_000));
        let (n, mut right) = (8_000, 0);
        for round in 0..n {
            let arm = bandit.choose();
            let means = means(round);
            let value = match reward {
                Reward::Bernoulli => f64::from(u8::from(random.uniform() < means[arm])),
                Reward::Gaussian => means[arm] * 100.0 + random.normal() * 10.0,
            };
            bandit.reward(arm, value).unwrap();
            right += u32::from(round >= n / 2 && means.iter().all(|mean| *mean <= means[arm]));
        }
        f64::from(right) / f64::from(n / 2)
    }

    #[test]
    fn the_best_arm_is_found_and_found_again() {
        for reward in [Reward::Bernoulli, Reward::Gaussian] {
            for seed in 0..5 {
                let still = best(reward, seed, |_| [0.3, 0.5, 0.7]);
                assert!(still > 0.85, "{reward:?}: {still}");
                let moved = best(reward, seed, |round| if round < 3_000 { [0.3, 0.5, 0.7] } else { [0.8, 0.5, 0.3] });
                assert!(moved > 0.7, "{reward:?}: {moved}");
            }
        }
    }

    #[test]
    fn scale_and_place_of_rewards_do_not_matter() {
        for (scale, place) in [(1e-6, 0.0), (1e6, 0.0), (1.0, 1e6)] {
            let (mut bandit, mut random) = (Thompson::new(2, Reward::Gaussian, 0.999, 3).unwrap(), Random::new(4));
            let mut right = 0;
            for _ in 0..2_000 {
                let arm = bandit.choose();
                right += arm;
                bandit.reward(arm, place + scale * (arm as f64 + random.normal())).unwrap();
            }
            assert!(right > 1_600, "{right} at {scale} around {place}");
        }
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![-1e9..1e9_f64, 0.0..1.0_f64, Just(f64::NAN), Just(f64::INFINITY)]
    }

    proptest! {
        #[test]
        fn any_input_is_an_error_or_leaves_a_sound_state(
            rewards in prop::collection::vec((0..4_usize, value()), 0..80),
            gaussian in any::<bool>(),
            discount in 1e-9..1.0_f64,
        ) {
            let reward = if gaussian { Reward::Gaussian } else { Reward::Bernoulli };
            let mut bandit = Thompson::new(3, reward, discount, 1).unwrap();
            for (arm, value) in rewards {
                let before = bandit.clone();
                if bandit.reward(arm, value).is_err() {
                    prop_assert_eq!(&bandit, &before);
                }
                prop_assert!(bandit.check().is_ok(), "{bandit:?}");
                prop_assert!(bandit.choose() < 3);
                let mut loaded = Thompson::load(&bandit.save()).unwrap();
                prop_assert_eq!(loaded.choose(), bandit.choose());
                prop_assert_eq!(&loaded, &bandit);
            }
        }
    }

    #[test]
    fn settings_are_checked() {
        for (arms, discount) in [(0, 0.9), (9_999, 0.9), (2, 0.0), (2, 1.1), (2, f64::NAN)] {
            assert!(Thompson::new(arms, Reward::Bernoulli, discount, 0).is_err());
        }
    }
}
