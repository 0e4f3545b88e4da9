//! What a worker is sent first, as bytes: how many rounds there are, the state it begins with, its share.
//!
//! ```text
//! rounds · length of the state · state · columns · rows · each row's columns and what was right
//! ```
//!
//! Numbers are of 8 bytes, little-endian. No length is believed: what is not there ends in an error before anything is made
//! room for.

use online::Error;

use crate::model::Truth;

/// Rows as learners take them, each with what was right: a class by its number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rows {
    width: usize,
    cells: Vec<f64>,
}

impl Rows {
    pub(super) fn new(width: usize) -> Self {
        Self { width, cells: Vec::new() }
    }

    pub(super) fn push(&mut self, row: &[f64], truth: Truth) {
        self.cells.extend_from_slice(row);
        self.cells.push(match truth {
            Truth::Class(class) => class as f64,
            Truth::Number(number) => number,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.cells.len() / (self.width + 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[f64], f64)> {
        self.cells.chunks_exact(self.width + 1).filter_map(|cells| cells.split_last().map(|(truth, row)| (row, *truth)))
    }

    /// With classes.
    pub(super) fn classes(&self) -> impl Iterator<Item = (&[f64], usize)> {
        self.iter().map(|(row, truth)| (row, truth as usize))
    }
}

/// What a worker is to do.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) rounds: usize,
    pub(super) state: &'a [u8],
    pub(super) rows: Rows,
}

const SHORT: Error = Error::Snapshot("is an order that ends too soon");

impl<'a> Order<'a> {
    pub(super) fn write(rounds: usize, state: &[u8], rows: &Rows) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + state.len() + rows.cells.len() * 8);
        bytes.extend((rounds as u64).to_le_bytes());
        bytes.extend((state.len() as u64).to_le_bytes());
        bytes.extend(state);
        bytes.extend((rows.width as u64).to_le_bytes());
        bytes.extend((rows.len() as u64).to_le_bytes());
        rows.cells.iter().for_each(|cell| bytes.extend(cell.to_le_bytes()));
        bytes
    }

    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let (rounds, rest) = number(bytes)?;
        let (length, rest) = number(rest)?;
        let (state, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
        let (width, rest) = number(rest)?;
        let (count, rest) = number(rest)?;
        let cells = width.checked_add(1).and_then(|cells| cells.checked_mul(count)?.checked_mul(8));
        if cells != Some(rest.len()) {
            return Err(SHORT);
        }
        Ok(Self { rounds, state, rows: Rows { width, cells: numbers(rest) } })
    }
}

fn number(bytes: &[u8]) -> Result<(usize, &[u8]), Error> {
    let (number, rest) = bytes.split_first_chunk::<8>().ok_or(SHORT)?;
    Ok((usize::try_from(u64::from_le_bytes(*number)).map_err(|_| SHORT)?, rest))
}

/// Numbers of 8 bytes each; what is left over is none.
pub fn numbers(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<8>().0.iter().map(|number| f64::from_le_bytes(*number)).collect()
}

/// Numbers as bytes.
pub fn written(numbers: &[f64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}
