//! The parts of the rule: lengths, distances, cutting, mixing, trimming.

/// Writes the mean of the rows into `out`.
pub(super) fn mean(rows: &[&[f64]], out: &mut [f64]) {
    out.fill(0.0);
    let part = 1.0 / rows.len().max(1) as f64;
    for row in rows {
        out.iter_mut().zip(*row).for_each(|(sum, value)| *sum += part * value);
    }
}

/// Cuts rows that are longer than the median to it; says to what, and how many were.
pub(super) fn cut(rows: &mut [Vec<f64>]) -> (f64, usize) {
    let lengths: Vec<f64> = rows.iter().map(|row| length(row)).collect();
    let radius = median(&lengths);
    let mut cut = 0;
    for (row, length) in rows.iter_mut().zip(lengths) {
        if length > radius {
            cut += 1;
            row.iter_mut().for_each(|value| *value *= radius / length);
        }
    }
    (radius, cut)
}

/// Replaces each row by the mean of those nearest to it, all but `liars`.
pub(super) fn mixed(rows: &[Vec<f64>], liars: usize) -> Vec<Vec<f64>> {
    let near = rows.len().saturating_sub(liars).max(1);
    let mix = |row: &Vec<f64>| {
        let mut others: Vec<(f64, &[f64])> =
            rows.iter().map(|other| (distance(row, other), other.as_slice())).collect();
        others.sort_by(|a, b| a.0.total_cmp(&b.0));
        let nearest: Vec<&[f64]> = others.iter().take(near).map(|(_, other)| *other).collect();
        let mut mixed = vec![0.0; row.len()];
        mean(&nearest, &mut mixed);
        mixed
    };
    rows.iter().map(mix).collect()
}

/// Writes the mean of each coordinate without its `trim` least and greatest.
pub(super) fn trimmed_mean(rows: &[Vec<f64>], trim: usize, out: &mut [f64]) {
    let mut values = vec![0.0; rows.len()];
    for (place, out) in out.iter_mut().enumerate() {
        for (value, row) in values.iter_mut().zip(rows) {
            *value = row.get(place).copied().unwrap_or(0.0);
        }
        values.sort_by(f64::total_cmp);
        let kept = values.get(trim..rows.len().saturating_sub(trim)).unwrap_or_default();
        *out = kept.iter().sum::<f64>() / kept.len().max(1) as f64;
    }
}

/// The middle value, or the mean of both; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = |place: usize| sorted.get(place).copied().unwrap_or(0.0);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { middle(half) } else { (middle(half.saturating_sub(1)) + middle(half)) / 2.0 }
}

pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn length(row: &[f64]) -> f64 {
    row.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The cosine between two rows; 0 where one has no length.
pub(super) fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let (long, other) = (length(a), length(b));
    if long <= 0.0 || other <= 0.0 {
        return 0.0;
    }
    let product: f64 = a.iter().zip(b).map(|(a, b)| (a / long) * (b / other)).sum();
    product.clamp(-1.0, 1.0)
}
