//! Rows of tensors as numbers, and what a model said of each: what the detectors of queries look at.

use types::{
    DataType, Tensor,
    manifest::{Task, TaskKind},
};

/// Numbers of a row that are looked at, at most.
pub(super) const WIDTH: usize = 1 << 18;

/// The rows of tensors that have a value for each; nothing where they have none.
#[derive(Debug)]
pub(super) struct Rows {
    columns: Vec<(usize, Vec<f64>)>,
    count: usize,
}

impl Rows {
    /// Takes the values out of tensors; words become numbers that tell them apart.
    pub(super) fn of(tensors: &[Tensor], count: u64) -> Self {
        let count = usize::try_from(count).unwrap_or(0);
        let of = |tensor: &Tensor| {
            let each = tensor.elements().checked_div(count).filter(|each| each * count == tensor.elements())?;
            let finite = |value: f64| if value.is_finite() { value } else { f64::NAN };
            let values: Vec<f64> = match tensor.datatype() {
                DataType::Bytes => tensor.iter_bytes().map(word).collect(),
                DataType::Bool => tensor.data().iter().map(|flag| f64::from(*flag)).collect(),
                _ => tensor.iter_numbers().map(finite).collect(),
            };
            (values.len() == each * count && each > 0).then_some((each, values))
        };
        Self { columns: tensors.iter().filter_map(of).collect(), count }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        if self.columns.is_empty() { 0 } else { self.count }
    }

    /// How many numbers each has.
    pub(super) fn width(&self) -> usize {
        self.columns.iter().map(|(each, _)| each).sum::<usize>().min(WIDTH)
    }

    /// One of them.
    pub(super) fn row(&self, number: usize, into: &mut Vec<f64>) {
        into.clear();
        for (each, values) in &self.columns {
            into.extend(values.iter().skip(number * each).take(*each));
        }
        into.truncate(WIDTH);
    }
}

/// A word as a number: the same for the same word.
fn word(word: &[u8]) -> f64 {
    if word.is_empty() { f64::NAN } else { (super::place(word) % 65_536) as f64 }
}

/// What a model said of its rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answers {
    /// Scores of so many classes each.
    Scores(usize, Vec<f64>),
    /// A class each.
    Labels(Vec<u32>),
    /// A number each.
    Values(Vec<f64>),
}

impl Answers {
    /// What the outputs say, as the task tells them apart; without one, by their types and shapes.
    pub(super) fn of(outputs: &[Tensor], count: u64, task: Option<&Task>) -> Option<Self> {
        let count = usize::try_from(count).ok().filter(|count| *count > 0)?;
        let named = task.and_then(|task| task.output.as_deref());
        let kind = task.map(|task| task.kind);
        let fits = |tensor: &&Tensor| {
            named.is_none_or(|name| tensor.name() == name) && tensor.elements().is_multiple_of(count)
        };
        let fitting = || outputs.iter().filter(fits);
        let columns = |tensor: &Tensor| tensor.elements() / count;
        if let Some(scores) = fitting().find(|tensor| tensor.datatype().is_float() && columns(tensor) >= 2) {
            return Some(Self::Scores(columns(scores), scores.iter_floats().collect()));
        }
        let one = |tensor: &&Tensor| columns(tensor) == 1;
        if let Some(float) = fitting().filter(one).find(|tensor| tensor.datatype().is_float()) {
            let values = float.iter_floats();
            // One score alone is that of the second class.
            return Some(match kind {
                Some(TaskKind::Classification) => {
                    Self::Scores(2, values.flat_map(|second| [1.0 - second, second]).collect())
                }
                _ => Self::Values(values.collect()),
            });
        }
        let label = fitting().find(one)?;
        Some(Self::Labels(match label.datatype() {
            DataType::Bytes => label.iter_bytes().map(|word| super::place(word) as u32).collect(),
            DataType::Bool => label.data().iter().map(|flag| u32::from(*flag)).collect(),
            _ => label.iter_numbers().map(|class| class as u32).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn floats(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(name, DataType::Fp32, shape.to_vec(), Bytes::from(data)).unwrap()
    }

    #[test]
    fn rows_are_put_together_from_all_inputs_that_have_a_value_for_each() {
        let inputs = [
            floats("a", &[2, 2], &[1.0, 2.0, 3.0, f32::INFINITY]),
            floats("b", &[2], &[5.0, 6.0]),
            floats("c", &[3], &[0.0; 3]),
        ];
        let rows = Rows::of(&inputs, 2);
        let mut row = Vec::new();
        rows.row(1, &mut row);
        assert_eq!((rows.len(), rows.width(), row[0], row[2]), (2, 3, 3.0, 6.0));
        assert!(row[1].is_nan(), "infinite is no number");
        assert_eq!(Rows::of(&[], 2).len(), 0);
    }

    #[test]
    fn answers_are_scores_labels_or_values() {
        let scores = floats("p", &[2, 2], &[0.25, 0.75, 1.0, 0.0]);
        assert_eq!(
            Answers::of(std::slice::from_ref(&scores), 2, None),
            Some(Answers::Scores(2, vec![0.25, 0.75, 1.0, 0.0]))
        );
        let value = floats("y", &[2], &[0.25, 7.0]);
        assert_eq!(Answers::of(&[value], 2, None), Some(Answers::Values(vec![0.25, 7.0])));
        let label = Tensor::new("l", DataType::Uint8, vec![2], Bytes::from_static(&[3, 4])).unwrap();
        assert_eq!(Answers::of(&[label], 2, None), Some(Answers::Labels(vec![3, 4])));
        assert_eq!(Answers::of(&[scores], 0, None), None);
    }
}
