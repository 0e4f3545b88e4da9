//! Answers that give less away, and are never false: rounded scores, the first class alone, a coarser number.
//!
//! They slow a copy down and take the slope from who looks for a boundary by scores; a boundary that is looked for by labels is
//! found all the same, so whoever is certain to be hostile has to be slowed down too (Tramèr et al., USENIX Security 2016).

/// Decimals that scores are rounded to at most.
const DECIMALS: u32 = 9;

/// Above this, whole numbers are not exact any more.
const EXACT: f64 = 1e15;

/// Rounds scores to so many decimals, so that their sum stays what it was, and the first class stays the first: the largest
/// remainders are rounded up. Where all are too small for a decimal, the first gets one all the same. Scores that are not finite, or
/// too large to be rounded, stay. O(n log n).
///
/// ```
/// let mut scores = [0.449, 0.451, 0.1];
/// defend::degrade::round(&mut scores, 1);
/// assert_eq!(scores.map(|score| (score * 10.0).round()), [4.0, 5.0, 1.0]);
/// ```
pub fn round(scores: &mut [f64], decimals: u32) {
    let Some(first) = first(scores) else { return };
    let step = 10_f64.powi(decimals.min(DECIMALS) as i32);
    if scores.iter().any(|score| (score * step).abs() > EXACT) {
        return;
    }
    let total = (scores.iter().sum::<f64>() * step).round();
    let floors: Vec<f64> = scores.iter().map(|score| (score * step).floor()).collect();
    let spare = (total - floors.iter().sum::<f64>()).clamp(0.0, scores.len() as f64) as usize;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let rest = |at: usize| scores[at] * step - floors[at];
    // Of equal remainders the first class goes first, then the earlier one.
    order.sort_by(|one, other| rest(*other).total_cmp(&rest(*one)).then((*other == first).cmp(&(*one == first))));
    let mut rounded = floors.clone();
    for at in order.into_iter().take(spare) {
        rounded[at] += 1.0;
    }
    give_back(&mut rounded, first);
    for (score, rounded) in scores.iter_mut().zip(rounded) {
        *score = rounded / step;
    }
}

/// Lets the first class be the first again: it takes a step from whoever passed it; whoever is earlier and equal, too.
fn give_back(rounded: &mut [f64], first: usize) {
    for at in 0..rounded.len() {
        if at != first && (rounded[at] > rounded[first] || (at < first && rounded[at] == rounded[first])) {
            // What is nothing can't give.
            if !(0.0..1.0).contains(&rounded[at]) {
                rounded[at] -= 1.0;
            }
            rounded[first] += 1.0;
        }
    }
}

/// Leaves the first class alone: 1 for it, 0 for all others. Of equal ones the earliest is the first, as an argmax has it.
pub fn label(scores: &mut [f64]) {
    let Some(first) = first(scores) else { return };
    for (at, score) in scores.iter_mut().enumerate() {
        *score = f64::from(u8::from(at == first));
    }
}

/// A number of a regression to so many significant digits, at least one. What is not finite stays.
pub fn digits(value: f64, digits: u32) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let places = digits.clamp(1, 15) as i32 - 1 - value.abs().log10().floor() as i32;
    let step = 10_f64.powi(places);
    let rounded = if step.is_finite() && step > 0.0 { (value * step).round() / step } else { value };
    if rounded.is_finite() { rounded } else { value }
}

/// A number of a regression to whole steps of a unit, say a tenth of the answers' spread. What is not finite stays, and a step
/// that isn't positive changes nothing.
pub fn steps(value: f64, step: f64) -> f64 {
    let rounded = (value / step).round() * step;
    if step > 0.0 && rounded.is_finite() { rounded } else { value }
}

/// What an answer tells at most, in bits: the entropy of its scores, of a label at most one, nothing of a row that was answered
/// before. `novelty` is how far the row is from those asked before, in units of what ordinary rows are apart, from 0 to 1.
pub fn information(scores: &[f64], novelty: f64) -> f64 {
    let total: f64 = scores.iter().filter(|score| score.is_finite() && **score > 0.0).sum();
    if total <= 0.0 {
        return 0.0;
    }
    let shares = scores.iter().filter(|score| score.is_finite() && **score > 0.0).map(|score| score / total);
    let bits: f64 = shares.map(|share| -share * share.log2()).sum();
    (bits * novelty.clamp(0.0, 1.0)).clamp(0.0, 1.0)
}

/// Where the greatest score is, the earliest of equal ones; `None` where there is none or one is not finite.
fn first(scores: &[f64]) -> Option<usize> {
    if scores.iter().any(|score| !score.is_finite()) {
        return None;
    }
    let mut first = None;
    for (at, score) in scores.iter().enumerate() {
        if first.is_none_or(|than: usize| scores.get(than).is_some_and(|best| score > best)) {
            first = Some(at);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_stays_the_first_and_the_sum_what_it_was() {
        for seed in 0..2_000 {
            let mut random = online::Random::new(seed);
            let mut scores: Vec<f64> = (0..2 + random.below(12)).map(|_| random.exponential()).collect();
            let total: f64 = scores.iter().sum();
            scores.iter_mut().for_each(|score| *score /= total);
            let before = first(&scores);
            for decimals in [3, 2, 1] {
                let mut rounded = scores.clone();
                round(&mut rounded, decimals);
                assert_eq!(first(&rounded), before, "{scores:?} {rounded:?}");
                assert!((rounded.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{rounded:?}");
            }
            label(&mut scores);
            assert_eq!((first(&scores), scores.iter().sum::<f64>()), (before, 1.0));
        }
    }

    #[test]
    fn scores_that_are_no_probabilities_keep_their_first_class_too() {
        for seed in 0..2_000 {
            let mut random = online::Random::new(seed);
            let size = 10_f64.powf(6.0 * random.uniform() - 4.0);
            let shift = if seed % 2 == 0 { 0.0 } else { size };
            let scores: Vec<f64> = (0..2 + random.below(6)).map(|_| random.uniform() * size - shift).collect();
            let mut rounded = scores.clone();
            round(&mut rounded, 1);
            assert_eq!(first(&rounded), first(&scores), "{scores:?} {rounded:?}");
            assert!(shift > 0.0 || rounded.iter().all(|score| *score >= 0.0), "{scores:?} {rounded:?}");
        }
        let mut large = [1e300, -1e300];
        round(&mut large, 9);
        assert_eq!(large, [1e300, -1e300]);
    }

    #[test]
    fn ties_stay_with_the_earliest() {
        let mut scores = [0.25, 0.25, 0.25, 0.25];
        round(&mut scores, 1);
        assert_eq!(first(&scores), Some(0));
        let mut scores = [0.46, 0.47, 0.07];
        round(&mut scores, 1);
        assert_eq!(first(&scores), Some(1), "{scores:?}");
        label(&mut scores);
        assert_eq!(scores, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn what_is_no_number_stays() {
        let mut scores = [f64::NAN, 1.0];
        round(&mut scores, 1);
        label(&mut scores);
        assert!(scores[0].is_nan());
        label(&mut []);
        assert!(digits(f64::INFINITY, 2).is_infinite());
        assert_eq!(steps(3.0, 0.0), 3.0);
    }

    #[test]
    fn numbers_become_coarser() {
        assert_eq!(digits(1234.5, 2), 1200.0);
        assert_eq!(digits(-0.001_26, 2), -0.001_3);
        assert_eq!(digits(1e-310, 1), 1e-310);
        assert_eq!(steps(1.26, 0.5), 1.5);
        assert_eq!(information(&[0.5, 0.5], 0.5), 0.5);
        assert_eq!(information(&[1.0, 0.0], 1.0), 0.0);
    }
}
