//! Where a leaf could be cut in two, and how much that would tell.

use std::sync::LazyLock;

use crate::arena::Cut;

/// The best cut of a leaf, and the weights of the classes on either side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Best {
    pub(super) cut: Cut,
    pub(super) sides: [Vec<(u32, f64)>; 2],
}

/// How many bits the class of a row is worth where classes have these weights.
pub(super) fn entropy(weights: impl Iterator<Item = f64> + Clone) -> f64 {
    let total: f64 = weights.clone().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let bits: f64 = weights.filter(|weight| *weight > 0.0).map(|weight| weight * weight.log2()).sum();
    (total.log2() - bits / total).max(0.0)
}

/// The share of the weight that the lesser side must have for a cut to count.
const LEAST_SIDE: f64 = 0.01;

/// The bits that a cut into these sides leaves, on average; none where a side has next to nothing.
pub(super) fn left_over(passing: &[f64], other: &[f64]) -> Option<f64> {
    let (a, b): (f64, f64) = (passing.iter().sum(), other.iter().sum());
    let total = a + b;
    let enough = |side: f64| side / total > LEAST_SIDE;
    if !(enough(a) && enough(b)) {
        return None;
    }
    let bits = a * entropy(passing.iter().copied()) + b * entropy(other.iter().copied());
    Some(bits / total)
}

/// Steps of the table in a standard deviation, and deviations on either side of 0.
const STEPS: f64 = 128.0;
const SPAN: f64 = 6.0;

/// The normal distribution from −6 to 6 deviations: linear between its places, it is off by at most 2·10⁻⁶.
static BELOW: LazyLock<Vec<f64>> = LazyLock::new(|| {
    let places = (2.0 * SPAN * STEPS) as i32;
    (0..=places).map(|place| normal(f64::from(place) / STEPS - SPAN)).collect()
});

/// The share of a normal distribution that is below so many deviations.
pub(super) fn share_below(deviations: f64) -> f64 {
    let place = (deviations.clamp(-SPAN, SPAN) + SPAN) * STEPS;
    let whole = place as usize;
    match (BELOW.get(whole), BELOW.get(whole + 1)) {
        (Some(a), Some(b)) => a + (b - a) * (place - whole as f64),
        (Some(a), None) => *a,
        _ => 0.5,
    }
}

fn normal(deviations: f64) -> f64 {
    0.5 * libm::erfc(-deviations * std::f64::consts::FRAC_1_SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_in_bits() {
        let bits = |weights: &[f64]| entropy(weights.iter().copied());
        assert_eq!(bits(&[]), 0.0);
        assert_eq!(bits(&[3.0, 0.0]), 0.0);
        assert!((bits(&[2.0, 2.0]) - 1.0).abs() < 1e-12);
        assert!((bits(&[1.0; 8]) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn a_cut_that_tells_all_leaves_nothing_and_one_of_nobody_is_none() {
        assert_eq!(left_over(&[5.0, 0.0], &[0.0, 5.0]), Some(0.0));
        assert_eq!(left_over(&[5.0, 5.0], &[0.0, 0.0]), None);
        assert!((left_over(&[2.0, 2.0], &[2.0, 2.0]).unwrap() - 1.0).abs() < 1e-12);
    }

    /// Published values of the standard normal distribution.
    #[test]
    fn the_table_is_the_normal_distribution() {
        for (deviations, share) in
            [(0.0, 0.5), (1.0, 0.841_344_746), (-1.96, 0.024_997_895), (3.0, 0.998_650_102), (40.0, 1.0)]
        {
            assert!((share_below(deviations) - share).abs() < 3e-6, "{deviations}: {}", share_below(deviations));
        }
    }
}
