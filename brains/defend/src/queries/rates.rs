//! How often ordinary rows are of a kind, learnt by model.

use super::caller::Counts;

/// Rows after which what was learnt counts half.
const ROWS: f32 = 20_000.0;

/// Shares of ordinary rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    sums: Counts,
    flips: f32,
    /// Expected flips where a near row of another answer is met in proportion to its nearness.
    nearness: f32,
}

/// What ordinary rows are taken for before there are any: some one or two in a hundred of each kind, as many rows strong.
const PRIOR: f32 = 200.0;

impl Default for Rates {
    fn default() -> Self {
        Self { sums: Counts::default(), flips: 0.0, nearness: 0.0 }
    }
}

impl Rates {
    /// Takes in an ordinary row; of a near one, how near in spacings, and whether a row of another answer was near.
    pub(super) fn teach(&mut self, row: &Counts, near: Option<(f32, bool)>) {
        self.sums.fade(1.0 - 1.0 / ROWS);
        self.sums.add(row);
        if let Some((nearness, flipped)) = near {
            self.flips += f32::from(u8::from(flipped));
            self.nearness += nearness.clamp(0.01, 1.0);
        }
    }

    fn share(&self, count: f32, prior: f32) -> f32 {
        ((count + prior * PRIOR) / (self.sums.rows + PRIOR)).clamp(1e-4, 0.9)
    }

    pub(super) fn line(&self) -> f32 {
        self.share(self.sums.line, 0.002)
    }

    pub(super) fn mirrored(&self) -> f32 {
        self.share(self.sums.mirrored, 0.002)
    }

    pub(super) fn strange(&self) -> f32 {
        self.share(self.sums.strange, 0.05).max(0.05)
    }

    pub(super) fn odd(&self) -> f32 {
        self.share(self.sums.odd, 0.02)
    }

    pub(super) fn very_odd(&self) -> f32 {
        self.share(self.sums.very_odd, 0.005)
    }

    pub(super) fn unsure(&self) -> f32 {
        self.share(self.sums.unsure, 0.1).max(0.1)
    }

    /// How often a near row has another answer, at one spacing.
    pub(super) fn flips(&self) -> f32 {
        ((self.flips + 2.0) / (self.nearness + 20.0)).clamp(0.02, 1.0)
    }
}
