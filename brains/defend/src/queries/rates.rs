//! How often ordinary rows are of a kind, learnt by model.

use super::{artificial::LEVELS, caller::Counts};

/// Rows after which what was learnt counts half.
const ROWS: f32 = 20_000.0;

/// Shares of ordinary rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    quick: Counts,
    /// Of the same rows, each as far as it is new.
    slow: Counts,
    /// Of those whose caller had asked enough for rows to be made from others at all.
    full: Counts,
    flips: f32,
    /// Expected flips where a near row of another answer is met in proportion to its nearness.
    nearness: f32,
}

/// What ordinary rows are taken for before there are any: some one or two in a hundred of each kind, as many rows strong.
const PRIOR: f32 = 200.0;

impl Default for Rates {
    fn default() -> Self {
        Self { quick: Counts::default(), slow: Counts::default(), full: Counts::default(), flips: 0.0, nearness: 0.0 }
    }
}

impl Rates {
    /// Takes in an ordinary row, how much of it is new, and whether its caller had asked enough others; of a near one, how near in spacings, and whether a
    /// row of another answer was near.
    pub(super) fn teach(&mut self, row: &Counts, (new, full): (f32, bool), near: Option<(f32, bool)>) {
        let full = if full { Some((&mut self.full, 1.0)) } else { None };
        for (sums, weight) in [(&mut self.quick, 1.0), (&mut self.slow, new)].into_iter().chain(full) {
            sums.fade(1.0 - 1.0 / ROWS);
            sums.add(&row.times(weight));
        }
        if let Some((nearness, flipped)) = near {
            self.flips += f32::from(u8::from(flipped));
            self.nearness += nearness.clamp(0.01, 1.0);
        }
    }

    /// At each level.
    pub(super) fn line(&self) -> [f32; LEVELS] {
        let mut shares = [0.002, 0.005, 0.02];
        shares.iter_mut().zip(self.full.line).for_each(|(share, count)| *share = of(count, &self.full, *share));
        shares
    }

    pub(super) fn mirrored(&self) -> f32 {
        of(self.full.mirrored, &self.full, 0.002)
    }

    pub(super) fn strange(&self) -> f32 {
        of(self.slow.strange, &self.slow, 0.03).max(0.03)
    }

    pub(super) fn odd(&self) -> f32 {
        of(self.slow.odd, &self.slow, 0.02)
    }

    pub(super) fn very_odd(&self) -> f32 {
        of(self.slow.very_odd, &self.slow, 0.005)
    }

    pub(super) fn torn(&self) -> f32 {
        of(self.slow.torn, &self.slow, 0.06).max(0.06)
    }

    pub(super) fn unsure(&self) -> f32 {
        of(self.slow.unsure, &self.slow, 0.1).max(0.1)
    }

    /// Near another, with an odd value.
    pub(super) fn near_odd(&self) -> f32 {
        of(self.quick.near_odd, &self.quick, 0.005)
    }

    /// How often a near row has another answer, at one spacing.
    pub(super) fn flips(&self) -> f32 {
        ((self.flips + 2.0) / (self.nearness + 20.0)).clamp(0.02, 1.0)
    }
}

fn of(count: f32, all: &Counts, prior: f32) -> f32 {
    ((count + prior * PRIOR) / (all.rows + PRIOR)).clamp(1e-4, 0.9)
}
