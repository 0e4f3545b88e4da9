//! Rows that nobody meets by chance: on a line between two others, or as far from a row as another is, column by column.

use super::sketch::{SIZE, Sketch};

/// Columns that must have changed, since a few agree by chance.
const CHANGED: usize = 3;
/// How exactly a row lies on a line or mirrors another, as a share of the way.
const EXACT: f32 = 2e-3;
/// What is no change at all, in spreads.
const SAME: f32 = 1e-5;

/// How a row was made from two others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// It lies on the line through both, and is neither.
    OnLine,
    /// Most columns that changed from the one changed by as much as in the other, some with the other sign.
    Mirrored,
}

/// How `row` was made from `one` and `other`, if it was. About 100 ns.
pub(super) fn made(row: &Sketch, one: &Sketch, other: &Sketch, smooth: &[bool; SIZE]) -> Option<Made> {
    on_line(row, one, other)
        .then_some(Made::OnLine)
        .or_else(|| mirrored(row, one, other, smooth).then_some(Made::Mirrored))
}

fn on_line(row: &Sketch, one: &Sketch, other: &Sketch) -> bool {
    let (mut along, mut way, mut gone, mut changed) = (0.0_f32, 0.0_f32, 0.0_f32, 0_usize);
    for ((row, one), other) in row.iter().zip(one).zip(other) {
        let (step, to) = (row - one, other - one);
        along += step * to;
        way += to * to;
        gone += step * step;
        changed += usize::from(to.abs() > SAME && step.abs() > SAME);
    }
    if changed < CHANGED || way <= 0.0 || gone <= 0.0 {
        return false;
    }
    let share = along / way;
    // What is left beside the line, and room enough to both ends.
    let beside = (gone - share * along).max(0.0);
    let apart = share.abs().min((1.0 - share).abs());
    apart > 1e-2 && beside < EXACT * EXACT * way.min(gone)
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
