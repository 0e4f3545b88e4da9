//! Rows of tensors as numbers, and what a model said of each: what the detectors of queries look at.

use types::{
    DataType, Tensor,
    manifest::{Task, TaskKind},
};

/// Numbers of a row that are looked at, at most.
pub(super) const WIDTH: usize = 1 << 18;

/// The rows of tensors that have a value for each; nothing where they have none. Numbers stay where they are until one is asked for:
/// of a picture a few are.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    columns: Vec<(usize, Values<'a>)>,
    count: usize,
}

/// The values of a tensor.
#[derive(Debug)]
enum Values<'a> {
    Numbers(&'a Tensor),
    /// Words, as numbers that tell them apart.
    Words(Vec<f64>),
}

impl<'a> Rows<'a> {
    /// Takes tensors in that have as many values for each row.
    pub(super) fn of(tensors: &'a [Tensor], count: u64) -> Self {
        let count = usize::try_from(count).unwrap_or(0);
        let of = |tensor: &'a Tensor| {
            let each =
                tensor.elements().checked_div(count).filter(|each| *each > 0 && each * count == tensor.elements())?;
            let values = match tensor.datatype() {
                DataType::Bytes => Values::Words(tensor.iter_bytes().map(word).collect()),
                _ => Values::Numbers(tensor),
            };
            Some((each, values))
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

    /// A number of a row, NaN where it has none. O(tensors).
    pub(super) fn value(&self, row: usize, mut at: usize) -> f64 {
        for (each, values) in &self.columns {
            if at < *each {
                let at = row * each + at;
                let value = match values {
                    Values::Numbers(tensor) => tensor.number(at),
                    Values::Words(words) => words.get(at).copied(),
                };
                return value.filter(|value| value.is_finite()).unwrap_or(f64::NAN);
            }
            at -= each;
        }
        f64::NAN
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
        assert_eq!((rows.len(), rows.width(), rows.value(1, 0), rows.value(1, 2)), (2, 3, 3.0, 6.0));
        assert!(
            rows.value(1, 1).is_nan() && rows.value(1, 3).is_nan(),
            "infinite is no number, and there is no fourth"
        );
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
