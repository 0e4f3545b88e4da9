//! What values a model's columns ordinarily have: middle, spread, range, and whether they are whole numbers.

/// By how much of the range a value may lie beside it.
const BESIDE: f32 = 0.1;
/// The share of values that are no whole numbers in a column of such.
const BROKEN: f32 = 0.02;
/// Values that are no whole numbers, though all are, in a row that is on no grid.
const OFF_GRID: usize = 3;

/// What is ordinary in a column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    middle: f32,
    /// 1 / spread.
    steepness: f32,
    low: f32,
    high: f32,
    /// All values are whole numbers, but for so few that one who is up to something may have asked them.
    whole: bool,
    /// Most are: equal steps are chance there.
    pub(super) grid: bool,
    /// Some values are missing.
    gaps: bool,
}

impl Column {
    /// How many spreads a value is from the middle.
    pub(super) fn unit(&self, value: f32) -> f32 {
        (value - self.middle) * self.steepness
    }

    fn is_odd(&self, value: f32) -> bool {
        if value.is_nan() {
            return !self.gaps;
        }
        value < self.low || value > self.high || self.is_broken(value)
    }

    fn is_broken(&self, value: f32) -> bool {
        self.whole && value.is_finite() && value.fract() != 0.0
    }

    fn learn(values: &mut [f32], gaps: bool) -> Self {
        let low = values.iter().copied().fold(f32::INFINITY, f32::min);
        let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if low > high {
            let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
            return Self { middle: 0.0, steepness: 1.0, low, high, whole: false, grid: false, gaps };
        }
        let (quarter, middle, last) = (quantile(values, 0.25), quantile(values, 0.5), quantile(values, 0.75));
        let range = high - low;
        // A flag that is seldom set has no quartiles apart; a column that never changed has no range.
        let spread = [last - quarter, range / 2.0, middle.abs() / 10.0].into_iter().find(|spread| *spread > 0.0);
        // Few far values must not make all others look alike, nor a narrow middle make ordinary ones look far.
        let spread = spread.unwrap_or(1.0).max(range / 20.0);
        let steepness = if spread.is_finite() { (1.0 / spread).min(1e30) } else { 1.0 };
        let broken = values.iter().filter(|value| value.fract() != 0.0).count();
        let whole = broken as f32 <= BROKEN * values.len() as f32;
        let grid = 2 * broken <= values.len();
        Self { middle, steepness, low: low - BESIDE * range, high: high + BESIDE * range, whole, grid, gaps }
    }
}

/// Learnt from ordinary rows, all at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Scale(Vec<Column>);

impl Scale {
    /// From rows of equal length. O(rows × columns).
    pub(super) fn learn(rows: &[Vec<f32>], columns: usize) -> Self {
        let mut values = Vec::with_capacity(rows.len());
        let learn = |column: usize| {
            values.clear();
            values.extend(rows.iter().filter_map(|row| row.get(column)).filter(|value| !value.is_nan()));
            let gaps = values.len() < rows.len();
            Column::learn(&mut values, gaps)
        };
        Self((0..columns).map(learn).collect())
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.0
    }

    /// Whether some values are no whole numbers where all are: small equal steps are no chance then.
    pub(super) fn is_off_grid(&self, picked: &[f32]) -> bool {
        picked.iter().zip(&self.0).filter(|(value, column)| column.is_broken(**value)).count() >= OFF_GRID
    }

    /// How many values are outside the range, no whole number where all are, or missing where none is.
    pub(super) fn odd(&self, picked: &[f32]) -> u32 {
        picked.iter().zip(&self.0).map(|(value, column)| u32::from(column.is_odd(*value))).sum()
    }
}

/// A quantile of values, which end up in another order; 0 of none. O(n).
pub(super) fn quantile(values: &mut [f32], share: f64) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() - 1) as f64 * share) as usize;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}
