//! Rows that nobody meets by chance: on a line between two others, or as far from a row as another is, column by column.

use super::sketch::{SIZE, Sketch};

/// Columns that must have changed, since a few agree by chance.
const CHANGED: usize = 3;
/// How exactly a row lies on a line or mirrors another, as a share of the way.
const EXACT: f32 = 2e-3;
/// What is no change at all, in spreads.
const SAME: f32 = 1e-5;

/// How far beside a line a row may be, as the sine of an angle, to lie on it at all.
const AT_ALL: f32 = 0.25;
/// How seldom chance brings a row so near a line, among all lines that are looked at, to lie on it: exactly, with little noise, with
/// much.
const CHANCE: [f32; LEVELS] = [1e-6, 1e-4, 1e-2];
/// The lines that are looked at.
const LINES: f32 = 28.0;
/// How many ways of lying on a line there are.
pub(super) const LEVELS: usize = 3;

/// How a row was made from two others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// It lies on the line through both, and is neither: exactly, with some noise, with much.
    pub(super) on_line: [bool; LEVELS],
    /// Most columns that changed from the one changed by as much as in the other, some with the other sign.
    pub(super) mirrored: bool,
}

impl Made {
    /// Looks whether `row` was made from these two. Only columns that are `free` to take any value count as changed: small whole
    /// numbers are on lines by chance. About 100 ns.
    pub(super) fn look(
        &mut self,
        row: &Sketch,
        one: &Sketch,
        other: &Sketch,
        smooth: &[bool; SIZE],
        free: &[bool; SIZE],
    ) {
        if let Some((sine, dimensions)) = beside(row, one, other, free).filter(|(sine, _)| *sine <= AT_ALL) {
            // Of directions in as many dimensions, this share is within such an angle, about.
            let chance = LINES * sine.max(1e-5).powf(dimensions - 1.0);
            self.on_line.iter_mut().zip(CHANCE).for_each(|(is, most)| *is |= chance <= most);
        }
        self.mirrored = self.mirrored || mirrored(row, one, other, smooth);
    }
}

/// How far a row is beside the line through two others, as a share of the least way between any of the three: of two rows near each
/// other and a far one, nothing follows. About the sine of an angle. And in how many dimensions they differ: one column that changes by
/// much more than all others makes any three rows seem to lie on a line. `None` where too little changed, or it is one of them.
fn beside(row: &Sketch, one: &Sketch, other: &Sketch, free: &[bool; SIZE]) -> Option<(f32, f32)> {
    let (mut along, mut way, mut gone, mut changed) = (0.0_f32, 0.0_f32, 0.0_f32, 0_usize);
    let (mut way_4, mut gone_4) = (0.0_f32, 0.0_f32);
    for (((row, one), other), free) in row.iter().zip(one).zip(other).zip(free) {
        let (step, to) = (row - one, other - one);
        let (step_2, to_2) = (step * step, to * to);
        along += step * to;
        way += to_2;
        gone += step_2;
        way_4 += to_2 * to_2;
        gone_4 += step_2 * step_2;
        changed += usize::from(*free && to.abs() > SAME && step.abs() > SAME);
    }
    if changed < CHANGED || way <= 0.0 || gone <= 0.0 {
        return None;
    }
    let share = along / way;
    // What is left beside the line, and room enough to both ends.
    let apart = share.abs().min((1.0 - share).abs());
    let left = (way + gone - 2.0 * along).max(0.0);
    let sine = ((gone - share * along).max(0.0) / way.min(gone).min(left)).sqrt();
    let dimensions = (way * way / way_4).min(gone * gone / gone_4);
    (apart > 1e-2 && sine.is_finite() && dimensions.is_finite()).then_some((sine, dimensions))
}

fn mirrored(row: &Sketch, one: &Sketch, other: &Sketch, smooth: &[bool; SIZE]) -> bool {
    let (mut changed, mut equal, mut turned) = (0_usize, 0_usize, 0_usize);
    for (((row, one), other), smooth) in row.iter().zip(one).zip(other).zip(smooth) {
        let (step, to) = (row - one, other - one);
        let moved = *smooth && step.abs() > SAME * 10.0;
        let as_far = moved && (step.abs() - to.abs()).abs() < EXACT * step.abs();
        changed += usize::from(moved);
        equal += usize::from(as_far);
        turned += usize::from(as_far && step * to < 0.0);
    }
    equal >= CHANGED && 2 * equal >= changed && turned > 0 && turned < changed.max(2)
}
