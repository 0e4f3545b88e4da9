//! Differences where each request sees only one of both: by importance weights.
//!
//! A balancer's untaken choice has no outcome. So a small part of the requests, 1–5 %, goes to whoever does not act,
//! by lot, and its outcome stands for all it might have had (Karampatziakis, Mineiro and Ramdas, ICML 2021).

use crate::{Result, error::within};

/// The least probability with which one may be chosen: below it nothing can be learnt in any useful time.
pub(crate) const LEAST: f64 = 1e-4;

/// Which of two a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Side {
    /// To the first.
    First,
    /// To the second.
    Second,
}

/// What a request tells of how much better the second is than the first, in −1 … 1, and what its mean is a multiple of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighted {
    /// The weighted difference: `(loss − baseline) · scale · (1/p₁ if first, −1/p₂ if second)`.
    pub difference: f64,
    /// Its mean is this times the mean of "first's loss less second's": the smaller of both probabilities.
    pub scale: f64,
}

/// Weighs a loss in 0 … 1 of a request that went to a side with the probabilities `(p₁, p₂)` of both.
///
/// The baseline, in 0 … 1, must have been known before the request: a running mean of losses. It changes no mean,
/// since both sides have it, and takes most of the variance away (the control variate of Waudby-Smith, Wu, Ramdas,
/// Karampatziakis and Mineiro 2024). Scaling by the smaller probability, instead of weights up to `1/p`, puts the
/// result where an [`EProcess`](super::EProcess) takes it.
///
/// ```
/// use online::evidence::split::{Side, weigh};
///
/// let weighted = weigh(0.0, 0.1, Side::Second, (0.98, 0.02))?;
/// assert!((weighted.difference - 0.1).abs() < 1e-12);
/// assert_eq!(weighted.scale, 0.02);
/// # Ok::<(), online::Error>(())
/// ```
///
/// # Errors
/// [`Error::Range`](crate::Error::Range) for a loss or baseline outside 0 … 1, or a probability outside 0.0001 … 1.
pub fn weigh(loss: f64, baseline: f64, side: Side, (first, second): (f64, f64)) -> Result<Weighted> {
    within("the loss", loss, (0.0, 1.0), "from 0 to 1")?;
    within("the baseline", baseline, (0.0, 1.0), "from 0 to 1")?;
    within("the first one's probability", first, (LEAST, 1.0), "from 0.0001 to 1")?;
    within("the second one's probability", second, (LEAST, 1.0), "from 0.0001 to 1")?;
    let scale = first.min(second);
    let weight = match side {
        Side::First => scale / first,
        Side::Second => -scale / second,
    };
    Ok(Weighted { difference: (loss - baseline) * weight, scale })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_mean_is_the_scaled_difference(
            losses in prop::array::uniform2(0.0..=1.0_f64),
            baseline in 0.0..=1.0_f64,
            second in 0.001..0.999_f64,
        ) {
            let probabilities = (1.0 - second, second);
            let at = |loss, side| weigh(loss, baseline, side, probabilities).unwrap();
            let [a, b] = [at(losses[0], Side::First), at(losses[1], Side::Second)];
            let mean = probabilities.0 * a.difference + probabilities.1 * b.difference;
            prop_assert!((mean - a.scale * (losses[0] - losses[1])).abs() < 1e-12);
            prop_assert!(a.difference.abs() <= 1.0 && b.difference.abs() <= 1.0);
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for (loss, baseline, pair) in
            [(1.1, 0.0, (0.5, 0.5)), (f64::NAN, 0.0, (0.5, 0.5)), (0.0, -0.1, (0.5, 0.5)), (0.0, 0.0, (1.0, 0.0))]
        {
            assert!(weigh(loss, baseline, Side::First, pair).is_err());
        }
    }
}
