//! Rows of tensors as numbers, and what a model said of each: what the detectors of queries look at.

use defend::queries::Said;
use types::{
    DataType, Tensor,
    manifest::{Task, TaskKind},
};

/// Numbers of a row that are looked at, at most.
pub(super) const WIDTH: usize = 1 << 18;

/// Classes that are told apart: what an answer gives away takes a logarithm of each.
const CLASSES: usize = 2_048;

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

/// What a model said of its rows; numbers stay where they are until a row is asked for.
#[derive(Debug)]
pub(super) enum Answers<'a> {
    /// Scores of so many classes each.
    Scores(usize, &'a Tensor),
    /// One score each, that of the second of two classes.
    Second(&'a Tensor),
    /// A class each.
    Labels(Vec<u32>),
    /// A number each.
    Values(&'a Tensor),
}

/// Room for the scores of a row.
#[derive(Debug, Default)]
pub(super) struct Room {
    scores: Vec<f64>,
    sums: Vec<f64>,
}

impl<'a> Answers<'a> {
    /// What the outputs say, as the task tells them apart; without one, by their types and shapes. Of labels, so many are read.
    pub(super) fn of(outputs: &'a [Tensor], count: u64, task: Option<&Task>, most: usize) -> Option<Self> {
        let count = usize::try_from(count).ok().filter(|count| *count > 0)?;
        let named = task.and_then(|task| task.output.as_deref());
        let kind = task.map(|task| task.kind);
        let fits = |tensor: &&Tensor| {
            named.is_none_or(|name| tensor.name() == name) && tensor.elements().is_multiple_of(count)
        };
        let fitting = || outputs.iter().filter(fits);
        let columns = |tensor: &Tensor| tensor.elements() / count;
        if let Some(scores) = fitting().find(|tensor| tensor.datatype().is_float() && columns(tensor) >= 2) {
            return Some(Self::Scores(columns(scores), scores));
        }
        let one = |tensor: &&Tensor| columns(tensor) == 1;
        if let Some(float) = fitting().filter(one).find(|tensor| tensor.datatype().is_float()) {
            return Some(match kind {
                Some(TaskKind::Classification) => Self::Second(float),
                _ => Self::Values(float),
            });
        }
        let label = fitting().find(one)?;
        Some(Self::Labels(match label.datatype() {
            DataType::Bytes => label.iter_bytes().take(most).map(|word| super::place(word) as u32).collect(),
            _ => label.iter_range(0..most.min(count)).map(|class| class as u32).collect(),
        }))
    }

    /// How many numbers are read of each.
    pub(super) fn columns(&self) -> usize {
        if let Self::Scores(columns, _) = self { *columns } else { 1 }
    }

    /// What was said of a row.
    pub(super) fn said<'r>(&self, row: usize, room: &'r mut Room) -> Said<'r> {
        match self {
            Self::Scores(columns, tensor) => Said::Scores(room.scores(tensor, *columns, row)),
            Self::Second(tensor) => {
                let second = tensor.number(row).unwrap_or(f64::NAN);
                room.scores.clear();
                room.scores.extend([1.0 - second, second]);
                Said::Scores(&room.scores)
            }
            Self::Labels(labels) => Said::Label(labels.get(row).copied().unwrap_or(0)),
            Self::Values(tensor) => Said::Value(tensor.number(row).unwrap_or(0.0)),
        }
    }
}

impl Room {
    /// The scores of a row. Of more than [`CLASSES`], classes next to each other are one: of probabilities their sum, of other scores the
    /// greatest. O(columns), a nanosecond each.
    fn scores(&mut self, tensor: &Tensor, columns: usize, row: usize) -> &[f64] {
        let mut values = tensor.iter_range(row * columns..(row + 1) * columns);
        self.scores.clear();
        if columns <= CLASSES {
            self.scores.extend(values);
            return &self.scores;
        }
        self.sums.clear();
        let each = columns.div_ceil(CLASSES);
        let mut least = f64::INFINITY;
        for _ in 0..columns.div_ceil(each) {
            let (mut greatest, mut sum) = (f64::NEG_INFINITY, 0.0);
            for score in values.by_ref().take(each) {
                greatest = greatest.max(score);
                least = least.min(score);
                sum += score;
            }
            self.scores.push(greatest);
            self.sums.push(sum);
        }
        let likely = least >= 0.0 && (self.sums.iter().sum::<f64>() - 1.0).abs() < 0.2;
        if likely { &self.sums } else { &self.scores }
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
        fn said(outputs: &[Tensor], count: u64, task: Option<&Task>, expected: &[Said<'_>]) {
            let (answers, mut room) = (Answers::of(outputs, count, task, 200).unwrap(), Room::default());
            for (row, expected) in expected.iter().enumerate() {
                assert_eq!(answers.said(row, &mut room), *expected);
            }
        }
        let scores = floats("p", &[2, 2], &[0.25, 0.75, 1.0, 0.0]);
        said(std::slice::from_ref(&scores), 2, None, &[Said::Scores(&[0.25, 0.75]), Said::Scores(&[1.0, 0.0])]);
        let values = [floats("y", &[2], &[0.25, 7.0])];
        said(&values, 2, None, &[Said::Value(0.25), Said::Value(7.0)]);
        let kind = TaskKind::Classification;
        let task = Task { kind, output: None, classes: Vec::new(), positive: None };
        said(&values, 2, Some(&task), &[Said::Scores(&[0.75, 0.25]), Said::Scores(&[-6.0, 7.0])]);
        let of =
            |datatype, data: &'static [u8]| [Tensor::new("l", datatype, vec![2], Bytes::from_static(data)).unwrap()];
        said(&of(DataType::Uint8, &[3, 4]), 2, None, &[Said::Label(3), Said::Label(4)]);
        said(&of(DataType::Bool, &[0, 1]), 2, None, &[Said::Label(0), Said::Label(1)]);
        assert!(Answers::of(&[scores], 0, None, 200).is_none());
    }

    #[test]
    fn of_very_many_classes_neighbours_are_one() {
        let mut scores = vec![0.0_f32; 3 * 5_000];
        (scores[5_000 + 4], scores[5_000 + 5], scores[5_000 + 4_999]) = (0.25, 0.25, 0.5);
        (scores[10_000 + 3], scores[10_000 + 4], scores[10_000 + 5]) = (-7.0, 2.0, 3.0);
        let outputs = [floats("p", &[3, 50, 100], &scores)];
        let (answers, mut room) = (Answers::of(&outputs, 3, None, 200).unwrap(), Room::default());
        let mut row = |row| match answers.said(row, &mut room) {
            Said::Scores(scores) => (scores.len(), scores[1], scores[scores.len() - 1]),
            other => panic!("{other:?}"),
        };
        assert_eq!(answers.columns(), 5_000);
        assert_eq!(row(1), (1_667, 0.5, 0.5), "three and three: probabilities are added");
        assert_eq!(row(2), (1_667, 3.0, 0.0), "and of other scores the greatest is taken");
        assert_eq!(row(0), (1_667, 0.0, 0.0));
    }
}
