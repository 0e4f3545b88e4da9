//! p-values of the tests, the e-values that come of them, and the effect's size.

/// A p-value below this is taken for it: smaller ones are no more than what an asymptotic formula says.
const LEAST: f64 = 1e-12;

/// The e-value of a p-value: the mean over κ of κ p^(κ − 1), which is (1 − p + p ln p) / (p ln² p).
pub(super) fn evidence(p: f64) -> f64 {
    let p = p.clamp(LEAST, 1.0);
    let log = p.ln();
    // Near 1 the formula is 0 / 0; its limit is ½.
    if log > -1e-4 { 0.5 } else { (1.0 - p + p * log) / (p * log * log) }
}

/// The probability that two samples of a distribution are this far apart at the farthest (Kolmogorov's series, with
/// the correction of Stephens, JRSS-B 1970).
pub(super) fn kolmogorov_p(distance: f64, n: f64, m: f64) -> f64 {
    let root = (n * m / (n + m)).sqrt();
    let lambda = (root + 0.12 + 0.11 / root) * distance;
    if lambda < 0.3 {
        return 1.0;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 1.0 } else { -1.0 };
        sign * (-2.0 * f64::from(k * k) * lambda * lambda).exp()
    };
    (2.0 * (1..=20).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

/// The probability that two samples of a distribution over bins differ by so much or more: χ² with one degree of
/// freedom less than there are bins. 1 for fewer than two bins.
pub(super) fn chi_square_p(first: &[f64], second: &[f64]) -> f64 {
    let (all, all_second) = (first.iter().sum::<f64>(), second.iter().sum::<f64>());
    if first.len() < 2 || all <= 0.0 || all_second <= 0.0 {
        return 1.0;
    }
    let (up, down) = ((all_second / all).sqrt(), (all / all_second).sqrt());
    let term = |(a, b): (&f64, &f64)| if a + b > 0.0 { (up * a - down * b).powi(2) / (a + b) } else { 0.0 };
    let statistic: f64 = first.iter().zip(second).map(term).sum();
    upper_gamma((first.len() - 1) as f64 / 2.0, statistic / 2.0)
}

/// The regularised upper incomplete gamma function Q(a, x), by its series below a + 1 and by Legendre's continued
/// fraction above it.
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let scale = (a * x.ln() - x - log_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum) = (1.0 / a, 1.0 / a);
        for k in 1..500 {
            term *= x / (a + f64::from(k));
            sum += term;
            if term < sum * 1e-15 {
                break;
            }
        }
        return (1.0 - scale * sum).clamp(0.0, 1.0);
    }
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1e300, 1.0 / b);
    let mut fraction = d;
    for k in 1..500 {
        let k = f64::from(k);
        let numerator = -k * (k - a);
        b += 2.0;
        d = 1.0 / (numerator * d + b);
        c = b + numerator / c;
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (scale * fraction).clamp(0.0, 1.0)
}

/// ln Γ of a half or whole number above 0: by recurrence up to 10, then Stirling's series.
fn log_gamma(a: f64) -> f64 {
    let (mut a, mut below) = (a, 0.0);
    while a < 10.0 {
        below += a.ln();
        a += 1.0;
    }
    let series = 1.0 / (12.0 * a) - 1.0 / (360.0 * a.powi(3)) + 1.0 / (1_260.0 * a.powi(5));
    (a - 0.5) * a.ln() - a + 0.5 * std::f64::consts::TAU.ln() + series - below
}

/// The population stability index of pairs of counts, Σ (q − p) ln (q / p), each count half a one more so that none
/// is 0. It is Jeffreys' divergence of the two.
pub(super) fn stability(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let (bins, first, second) =
        pairs.clone().fold((0.0, 0.0, 0.0), |sum, pair| (sum.0 + 1.0, sum.1 + pair.0, sum.2 + pair.1));
    if first <= 0.0 || second <= 0.0 {
        return 0.0;
    }
    let share = |count: f64, all: f64| (count + 0.5) / (all + 0.5 * bins);
    let used = pairs.filter(|(a, b)| a + b > 0.0);
    used.map(|(a, b)| (share(a, first), share(b, second))).map(|(p, q)| (q - p) * (q / p).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_tables() {
        // χ²: 95 % and 99.9 % points for 1, 5 and 30 degrees of freedom.
        for (degrees, point, p) in
            [(1.0, 3.841, 0.05), (5.0, 11.070, 0.05), (30.0, 43.773, 0.05), (1.0, 10.828, 0.001), (30.0, 59.703, 0.001)]
        {
            let found = upper_gamma(degrees / 2.0, point / 2.0);
            assert!((found / p - 1.0).abs() < 2e-3, "{degrees} {point} {found}");
        }
        // Kolmogorov: 1.358 for 5 %, 1.949 for 0.1 %.
        for (lambda, p) in [(1.358, 0.05), (1.949, 0.001)] {
            let found = kolmogorov_p(lambda / 1e5, 2e10, 2e10);
            assert!((found / p - 1.0).abs() < 1e-2, "{lambda} {found}");
        }
        assert!((log_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-10);
        assert!((log_gamma(5.0) - 24.0_f64.ln()).abs() < 1e-10);
    }

    #[test]
    fn evidence_is_an_e_value() {
        // Its integral over p from 0 to 1 is 1; what is cut off below 1e-12 weighs 1 / ln 1e12 = 0.036.
        let steps = 400_000;
        let sum: f64 = (0..steps)
            .map(|step| {
                // In ln p, which has the mass.
                let log = -27.6 * (f64::from(step) + 0.5) / f64::from(steps);
                evidence(log.exp()) * log.exp() * 27.6 / f64::from(steps)
            })
            .sum();
        assert!((0.95..1.0).contains(&sum), "{sum}");
        assert!(evidence(1.0) == 0.5 && evidence(0.0) > 1e9 && evidence(1e-5) > 700.0);
    }

    #[test]
    fn an_index_is_nothing_for_the_same_and_much_for_others() {
        assert_eq!(stability([(100.0, 10.0), (100.0, 10.0)].into_iter()), 0.0);
        assert!(stability([(150.0, 50.0), (50.0, 150.0)].into_iter()) > 0.5);
        assert_eq!(stability([(0.0, 0.0)].into_iter()), 0.0);
    }
}
