//! Rows as callers send them: numbers, words, and nothing where a value is missing.

use std::ops::Range;

use online::Value;
use serde::{Deserialize, Serialize};
use types::{Code, DataType, Manifest, Refusal, Tensor, manifest::Input};

/// One row, the columns of all inputs in the manifest's order.
pub type Row = Vec<Cell>;

/// One value, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// A number.
    Number(f64),
    /// A word.
    Word(String),
    /// Nothing: NaN, or an empty word.
    Missing(()),
}

impl Cell {
    /// A number, or nothing for NaN.
    fn number(number: f64) -> Self {
        if number.is_nan() { Self::Missing(()) } else { Self::Number(number) }
    }

    /// The value, as a learner takes it.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Word(word) => Value::Word(word),
            Self::Missing(()) => Value::Missing,
        }
    }
}

/// Columns of an input; 0 where a row of it is no list.
pub fn columns(input: &Input) -> usize {
    match input.shape.as_deref() {
        None | Some([_]) => 1,
        Some([_, columns]) => usize::try_from(*columns).unwrap_or(0),
        Some(_) => 0,
    }
}

/// All rows of a request.
///
/// # Errors
/// `input_mismatch` when a tensor is lacking, or is not as declared.
pub(crate) fn rows(inputs: &[Input], tensors: &[Tensor]) -> Result<Vec<Row>, Refusal> {
    let count = tensors.first().map_or(0, |tensor| usize::try_from(tensor.rows()).unwrap_or(0));
    range(inputs, tensors, 0..count)
}

/// One row of a request, or of one that was kept, as a manifest declares its inputs.
///
/// # Errors
/// `input_mismatch` when a tensor is lacking, is not as declared, or has no such row.
pub fn row(inputs: &[Input], tensors: &[Tensor], index: usize) -> Result<Row, Refusal> {
    let rows = range(inputs, tensors, index..index.saturating_add(1))?;
    rows.into_iter().next().ok_or_else(|| Refusal::new(Code::InputMismatch, format!("there is no row {index}")))
}

/// The slice of the traffic that a row belongs to, as a manifest says; none where it says nothing, or the value is no slice.
pub fn slice(manifest: &Manifest, row: &[Cell]) -> Option<u16> {
    let name = manifest.spec.learning.slice.as_ref()?;
    let mut before = 0;
    for input in &manifest.spec.inputs {
        if input.name == *name {
            let Cell::Word(word) = row.get(before)? else { return None };
            return u16::try_from(manifest.slices().iter().position(|value| value == word)?).ok();
        }
        before += columns(input);
    }
    None
}

fn range(inputs: &[Input], tensors: &[Tensor], range: Range<usize>) -> Result<Vec<Row>, Refusal> {
    let wrong = |what: String| Err(Refusal::new(Code::InputMismatch, what));
    let mut rows: Vec<Row> = vec![Row::new(); range.len()];
    let mut of_all = None;
    for input in inputs {
        let Input { name, datatype, .. } = input;
        let Some(tensor) = tensors.iter().find(|tensor| tensor.name() == name) else {
            return wrong(format!("input `{name}` is lacking"));
        };
        if tensor.datatype() != *datatype {
            return wrong(format!("input `{name}` is {}, not {datatype}", tensor.datatype()));
        }
        let (count, columns) = (usize::try_from(tensor.rows()).unwrap_or(0), columns(input));
        if tensor.shape().is_empty() || Some(tensor.elements()) != count.checked_mul(columns) {
            return wrong(format!("input `{name}` has shape {:?}, not {columns} values a row", tensor.shape()));
        }
        if *of_all.get_or_insert(count) != count || range.end > count {
            return wrong(format!("input `{name}` has {count} rows, not as many as there should be"));
        }
        fill(&mut rows, tensor, columns, range.start * columns);
    }
    Ok(rows)
}

fn fill(rows: &mut [Row], tensor: &Tensor, columns: usize, first: usize) {
    let mut add = |mut cells: &mut dyn Iterator<Item = Cell>| {
        for row in rows.iter_mut() {
            row.extend((&mut cells).take(columns));
        }
    };
    match tensor.datatype() {
        DataType::Bytes => add(&mut tensor.iter_bytes().skip(first).map(|word| match word {
            [] => Cell::Missing(()),
            word => Cell::Word(String::from_utf8_lossy(word).into_owned()),
        })),
        DataType::Bool => add(&mut tensor.data().iter().skip(first).map(|flag| Cell::Number(f64::from(*flag)))),
        _ => add(&mut tensor.iter_numbers().skip(first).map(Cell::number)),
    }
}
