//! What an answer gives away: its label, how sure it is, how many bits.

/// What a model said of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said<'a> {
    /// A number for each class; what is no set of probabilities is made one by a softmax.
    Scores(&'a [f64]),
    /// The class alone.
    Label(u32),
    /// A number, of a regression. There is no boundary then.
    Value(f64),
}

/// An answer, as far as anything here needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Answer {
    /// 0 of a regression.
    pub(super) label: u32,
    /// By how much the first class is more likely than the second, when there are scores.
    pub(super) margin: Option<f32>,
    /// The entropy in bits; 1 where it isn't known.
    pub(super) bits: f32,
}

impl Answer {
    pub(super) fn of(said: Said<'_>) -> Self {
        match said {
            Said::Label(label) => Self { label, margin: None, bits: 1.0 },
            Said::Value(_) => Self { label: 0, margin: None, bits: 1.0 },
            Said::Scores(scores) => Self::scored(scores),
        }
    }

    /// O(classes).
    fn scored(scores: &[f64]) -> Self {
        let clean = |score: f64| if score.is_finite() { score } else { 0.0 };
        let (mut label, mut first, mut second) = (0, f64::NEG_INFINITY, f64::NEG_INFINITY);
        let (mut sum, mut least) = (0.0, f64::INFINITY);
        for (at, score) in scores.iter().map(|score| clean(*score)).enumerate() {
            if score > first {
                (label, second, first) = (at as u32, first, score);
            } else {
                second = second.max(score);
            }
            sum += score;
            least = least.min(score);
        }
        if scores.len() < 2 {
            return Self { label, margin: None, bits: 1.0 };
        }
        let likely = least >= 0.0 && (sum - 1.0).abs() < 0.2;
        let weight = |score: f64| if likely { score } else { (score - first).exp() };
        let total: f64 = scores.iter().map(|score| weight(clean(*score))).sum::<f64>().max(1e-12);
        let share = |score: f64| weight(clean(score)) / total;
        let bits = scores.iter().map(|score| share(*score)).filter(|p| *p > 0.0).map(|p| -p * p.log2()).sum::<f64>();
        // With one-hot scores there is nothing to be unsure of: as good as a label.
        let margin = share(first) - share(second);
        let margin = (margin < 1.0 - 1e-9).then_some(margin as f32);
        Self { label, margin, bits: if margin.is_none() { bits.max(0.1) } else { bits } as f32 }
    }
}
