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
/// Dimensions that three columns make at least: with a line as exact as numbers are, chance is ruled out even so.
const DIMENSIONS: f32 = 2.5;
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
    let least = way.min(gone).min(left);
    if apart <= 1e-2 || gone - share * along > 2.0 * AT_ALL * AT_ALL * least {
        return None;
    }
    // The difference of two large numbers would be no small one.
    let rest = |((row, one), other): ((&f32, &f32), &f32)| (row - one) - share * (other - one);
    let rest: f32 = row.iter().zip(one).zip(other).map(rest).map(|rest| rest * rest).sum();
    let sine = (rest / least).sqrt();
    let dimensions = (way * way / way_4).min(gone * gone / gone_4).max(DIMENSIONS);
    (sine.is_finite() && dimensions.is_finite()).then_some((sine, dimensions))
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

#[cfg(test)]
mod tests {
    use online::Random;

    use super::*;

    const ALL: [bool; SIZE] = [true; SIZE];

    fn row(random: &mut Random, columns: usize) -> Sketch {
        std::array::from_fn(|at| if at < columns { random.normal() as f32 } else { 0.0 })
    }

    fn look(row: &Sketch, one: &Sketch, other: &Sketch) -> Made {
        let mut made = Made::default();
        made.look(row, one, other, &ALL, &ALL);
        made
    }

    #[test]
    fn a_row_between_two_others_is_on_their_line_and_ordinary_ones_are_not() {
        let mut random = Random::new(3);
        for columns in [8, 64] {
            for _ in 0..200 {
                let [one, other, third] = [0; 3].map(|_| row(&mut random, columns));
                let between: Sketch = std::array::from_fn(|at| 0.3 * one[at] + 0.7 * other[at]);
                assert_eq!(look(&between, &one, &other).on_line[1..], [true; 2]);
                assert_eq!(look(&third, &one, &other), Made::default());
                assert_eq!(look(&one, &one, &other), Made::default());
            }
        }
    }

    #[test]
    fn with_noise_it_takes_more_columns() {
        let mut random = Random::new(4);
        let mut on = |columns: usize| {
            let [one, other, noise] = [0; 3].map(|_| row(&mut random, columns));
            let beside: Sketch = std::array::from_fn(|at| (one[at] + other[at]) / 2.0 + 0.05 * noise[at]);
            look(&beside, &one, &other).on_line
        };
        assert_eq!(on(30), [true; LEVELS]);
        assert!(!on(3)[1]);
    }

    #[test]
    fn steps_by_signs_mirror_each_other() {
        let mut random = Random::new(5);
        let base = row(&mut random, 20);
        let mut step =
            || -> Sketch { std::array::from_fn(|at| base[at] + if random.below(2) == 0 { 0.1 } else { -0.1 }) };
        let (one, other) = (step(), step());
        assert!(look(&one, &base, &other).mirrored);
        assert!(!look(&row(&mut random, 20), &base, &one).mirrored);
    }

    #[test]
    fn two_near_rows_and_a_far_one_are_no_line_nor_is_one_column() {
        let mut random = Random::new(6);
        let near = row(&mut random, 20);
        let beside: Sketch = std::array::from_fn(|at| near[at] + 1e-3 * random.normal() as f32);
        let far: Sketch = std::array::from_fn(|at| near[at] + 5.0 * random.normal() as f32);
        assert_eq!(look(&beside, &near, &far).on_line, [false; LEVELS]);
        let mut one_column =
            |by: f32| -> Sketch { std::array::from_fn(|at| if at == 0 { by } else { 1e-3 * random.normal() as f32 }) };
        let rows = [one_column(0.0), one_column(3.0), one_column(7.0)];
        assert!(!look(&rows[1], &rows[0], &rows[2]).on_line[0]);
    }
}
