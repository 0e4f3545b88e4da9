//! Tensors as they travel: a name, an element type, a shape and raw little-endian bytes.
//!
//! The raw form is the Open Inference Protocol's: elements in row-major order, little-endian; `BOOL` is one
//! byte, 0 or 1; `BYTES` elements are each a 4-byte little-endian length and that many bytes. `[]` is the
//! shape of a scalar. JSON lives in [`json`].

pub mod cut;
pub mod json;

use std::{fmt, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Element types of the Open Inference Protocol v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the protocol's own names")]
pub enum DataType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl DataType {
    /// Every type, in the protocol's order.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The protocol's word for the type.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// The type with this word, if there is one.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|datatype| datatype.as_str() == word)
    }

    /// Bytes per element; `None` for `BYTES`, whose elements differ.
    pub fn width(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// Whether elements may be NaN or infinite.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why bytes and shape don't make a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("tensor `{name}`: shape {shape:?} has more elements than any machine holds")]
    Overflow { name: String, shape: Vec<i64> },
    #[error("tensor `{name}`: shape {shape:?} has a negative dimension")]
    Negative { name: String, shape: Vec<i64> },
    #[error("tensor `{name}`: {datatype} of shape {shape:?} takes {expected} bytes, got {got}")]
    Size { name: String, datatype: DataType, shape: Vec<i64>, expected: usize, got: usize },
    #[error("tensor `{name}`: a BYTES element at byte {at} claims {claims} bytes where {left} are left")]
    Truncated { name: String, at: usize, claims: usize, left: usize },
    #[error("tensor `{name}`: shape {shape:?} wants {expected} BYTES elements, got {got}")]
    Count { name: String, shape: Vec<i64>, expected: usize, got: usize },
    #[error("tensor `{name}`: BOOL element {at} is {value}; only 0 and 1 are booleans")]
    Bool { name: String, at: usize, value: u8 },
    #[error("tensor `{name}`: {what}")]
    Json { name: String, what: String },
}

/// A named tensor whose bytes fit its type and shape.
#[derive(Clone, PartialEq, Eq)]
pub struct Tensor {
    name: String,
    datatype: DataType,
    shape: Vec<i64>,
    data: Bytes,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {:?} ({} bytes)", self.name, self.datatype, self.shape, self.data.len())
    }
}

impl Tensor {
    /// A tensor of `data` in the raw form.
    ///
    /// Takes O(1) for numbers, O(bytes) for `BOOL` and `BYTES`, whose contents are checked.
    ///
    /// # Errors
    /// When the bytes don't fit type and shape.
    pub fn new(name: impl Into<String>, datatype: DataType, shape: Vec<i64>, data: Bytes) -> Result<Self, Error> {
        let name = name.into();
        let elements = elements(&name, &shape)?;
        match datatype.width() {
            Some(width) => {
                let expected = elements
                    .checked_mul(width)
                    .ok_or_else(|| Error::Overflow { name: name.clone(), shape: shape.clone() })?;
                if data.len() != expected {
                    return Err(Error::Size { name, datatype, shape, expected, got: data.len() });
                }
                if datatype == DataType::Bool
                    && let Some(at) = data.iter().position(|byte| *byte > 1)
                {
                    return Err(Error::Bool { name, at, value: data[at] });
                }
            }
            None => {
                let got = count_bytes_elements(&name, &data)?;
                if got != elements {
                    return Err(Error::Count { name, shape, expected: elements, got });
                }
            }
        }
        Ok(Self { name, datatype, shape, data })
    }

    /// A `BYTES` tensor of these elements.
    ///
    /// # Errors
    /// When their number does not fit the shape.
    pub fn from_elements<'a>(
        name: impl Into<String>,
        shape: Vec<i64>,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, Error> {
        let mut data = BytesMut::new();
        for value in values {
            push_element(&mut data, value);
        }
        Self::new(name, DataType::Bytes, shape, data.freeze())
    }

    /// The tensor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its elements.
    pub fn datatype(&self) -> DataType {
        self.datatype
    }

    /// Its dimensions, none negative; empty for a scalar.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// Its elements in the raw form.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.shape.iter().map(|d| usize::try_from(*d).unwrap_or(0)).product()
    }

    /// Rows: the first dimension, or 1 for a scalar.
    pub fn rows(&self) -> u64 {
        self.shape.first().map_or(1, |d| u64::try_from(*d).unwrap_or(0))
    }

    /// The elements of a `BYTES` tensor; nothing for other types.
    pub fn iter_bytes(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest: &[u8] = if self.datatype == DataType::Bytes { &self.data } else { &[] };
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_first_chunk::<4>()?;
            let length = u32::from_le_bytes(*head) as usize;
            let (value, tail) = tail.split_at_checked(length)?;
            rest = tail;
            Some(value)
        })
    }

    /// The elements of a float tensor as `f64`; nothing for other types.
    pub fn iter_floats(&self) -> impl Iterator<Item = f64> + '_ {
        self.numbers(if self.datatype.is_float() { &self.data } else { &[] })
    }

    /// The elements of a number tensor as `f64` (integers beyond 2^53 are rounded); nothing for `BOOL` and
    /// `BYTES`.
    pub fn iter_numbers(&self) -> impl Iterator<Item = f64> + '_ {
        self.numbers(if matches!(self.datatype, DataType::Bool | DataType::Bytes) { &[] } else { &self.data })
    }

    /// Some elements one after the other, as [`Tensor::number`] has them; nothing where one of them is beyond the end.
    pub fn iter_range(&self, range: Range<usize>) -> impl Iterator<Item = f64> + '_ {
        let width = self.datatype.width().unwrap_or(0);
        let bytes = range.start.checked_mul(width).zip(range.end.checked_mul(width));
        let within = bytes.filter(|_| width > 0).and_then(|(from, to)| self.data.get(from..to));
        self.numbers(within.unwrap_or(&[]))
    }

    /// One element, in the order of the data, as `f64`: 1 or 0 of a `BOOL`, nothing of `BYTES` and beyond the end. O(1).
    pub fn number(&self, at: usize) -> Option<f64> {
        let width = self.datatype.width()?;
        let begin = at.checked_mul(width)?;
        self.data.get(begin..begin.checked_add(width)?).map(|element| number(self.datatype, element))
    }

    fn numbers<'a>(&self, data: &'a [u8]) -> impl Iterator<Item = f64> + use<'a> {
        let datatype = self.datatype;
        data.chunks_exact(datatype.width().unwrap_or(1)).map(move |element| number(datatype, element))
    }

    /// The same tensor under another name.
    #[must_use]
    pub fn renamed(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

/// An element of this type, little-endian, as a number; NaN where it is none.
fn number(datatype: DataType, element: &[u8]) -> f64 {
    macro_rules! number {
        ($type:ty) => {
            element.try_into().map_or(f64::NAN, |bytes| <$type>::from_le_bytes(bytes) as f64)
        };
    }
    match datatype {
        DataType::Bool | DataType::Uint8 => number!(u8),
        DataType::Int8 => number!(i8),
        DataType::Uint16 => number!(u16),
        DataType::Uint32 => number!(u32),
        DataType::Uint64 => number!(u64),
        DataType::Int16 => number!(i16),
        DataType::Int32 => number!(i32),
        DataType::Int64 => number!(i64),
        DataType::Fp16 => element.try_into().map_or(f64::NAN, |bytes| half::f16::from_le_bytes(bytes).to_f64()),
        DataType::Bf16 => element.try_into().map_or(f64::NAN, |bytes| half::bf16::from_le_bytes(bytes).to_f64()),
        DataType::Fp32 => number!(f32),
        DataType::Fp64 => number!(f64),
        DataType::Bytes => f64::NAN,
    }
}

/// Appends one `BYTES` element in the raw form; elements beyond 4 GiB are cut, which no body limit lets in.
pub fn push_element(data: &mut BytesMut, value: &[u8]) {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    data.put_u32_le(length);
    data.put_slice(&value[..length as usize]);
}

/// How many elements `shape` has.
///
/// # Errors
/// When a dimension is negative or the product overflows.
pub fn elements(name: &str, shape: &[i64]) -> Result<usize, Error> {
    let mut product = 1_usize;
    for dimension in shape {
        let dimension = usize::try_from(*dimension)
            .map_err(|_| Error::Negative { name: name.to_owned(), shape: shape.to_vec() })?;
        product = product
            .checked_mul(dimension)
            .ok_or_else(|| Error::Overflow { name: name.to_owned(), shape: shape.to_vec() })?;
    }
    Ok(product)
}

fn count_bytes_elements(name: &str, data: &[u8]) -> Result<usize, Error> {
    let (mut rest, mut count) = (data, 0);
    while !rest.is_empty() {
        let at = data.len() - rest.len();
        let truncated = |claims: usize| Error::Truncated { name: name.to_owned(), at, claims, left: rest.len() };
        let (head, tail) = rest.split_first_chunk::<4>().ok_or_else(|| truncated(4))?;
        let length = u32::from_le_bytes(*head) as usize;
        rest = tail.get(length..).ok_or_else(|| truncated(length))?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_must_fit_type_and_shape() {
        let raw = Bytes::from_static(&[0, 0, 128, 63, 0, 0, 0, 64]);
        let tensor = Tensor::new("x", DataType::Fp32, vec![1, 2], raw.clone()).unwrap();
        assert_eq!(tensor.iter_floats().collect::<Vec<_>>(), [1.0, 2.0]);
        assert!(matches!(
            Tensor::new("x", DataType::Fp32, vec![3], raw.clone()),
            Err(Error::Size { expected: 12, got: 8, .. })
        ));
        assert!(matches!(Tensor::new("x", DataType::Fp32, vec![-1, 2], raw.clone()), Err(Error::Negative { .. })));
        assert!(matches!(
            Tensor::new("x", DataType::Fp32, vec![i64::MAX, i64::MAX, 0], raw),
            Err(Error::Overflow { .. })
        ));
    }

    #[test]
    fn an_element_alone_is_what_it_is_among_all() {
        for datatype in DataType::ALL {
            let Some(width) = datatype.width() else { continue };
            let most = if datatype == DataType::Bool { 2 } else { 61 };
            let data: Vec<u8> = (0..3 * width).map(|at| (37 * at % most) as u8).collect();
            let tensor = Tensor::new("x", datatype, vec![3], Bytes::from(data)).unwrap();
            let all: Vec<f64> = tensor.iter_numbers().collect();
            let each: Vec<f64> = (0..3).filter_map(|at| tensor.number(at)).collect();
            assert_eq!((each.len(), tensor.number(3), tensor.number(usize::MAX)), (3, None, None), "{datatype:?}");
            assert!(datatype == DataType::Bool || all == each, "{datatype:?}: {all:?} {each:?}");
            let range = |from, to| tensor.iter_range(from..to).collect::<Vec<f64>>();
            assert_eq!((range(1, 3).as_slice(), range(0, 4), range(2, usize::MAX)), (&each[1..], vec![], vec![]));
        }
        let signed = Tensor::new("x", DataType::Int16, vec![2], Bytes::from_static(&[0xfe, 0xff, 1, 0])).unwrap();
        assert_eq!((signed.number(0), signed.number(1)), (Some(-2.0), Some(1.0)));
        let words = Tensor::from_elements("s", vec![1], [b"ab".as_slice()]).unwrap();
        assert_eq!((words.number(0), words.iter_range(0..1).count()), (None, 0));
    }

    #[test]
    fn a_scalar_has_one_element_and_an_empty_dimension_none() {
        let scalar = Tensor::new("sr", DataType::Int64, vec![], Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0])).unwrap();
        assert_eq!((scalar.elements(), scalar.rows()), (1, 1));
        let empty = Tensor::new("x", DataType::Fp32, vec![0, 4], Bytes::new()).unwrap();
        assert_eq!((empty.elements(), empty.rows()), (0, 0));
    }

    #[test]
    fn bytes_elements_are_counted_and_their_lengths_checked() {
        let tensor = Tensor::from_elements("s", vec![2], [b"ab".as_slice(), b""]).unwrap();
        assert_eq!(tensor.iter_bytes().collect::<Vec<_>>(), [b"ab".as_slice(), b""]);
        let lying = Bytes::from_static(&[255, 255, 255, 255, 1]);
        assert!(matches!(
            Tensor::new("s", DataType::Bytes, vec![1], lying),
            Err(Error::Truncated { claims: 4_294_967_295, left: 5, .. })
        ));
        assert!(matches!(
            Tensor::from_elements("s", vec![3], [b"ab".as_slice()]),
            Err(Error::Count { expected: 3, got: 1, .. })
        ));
    }

    #[test]
    fn a_boolean_is_zero_or_one() {
        let result = Tensor::new("b", DataType::Bool, vec![2], Bytes::from_static(&[1, 2]));
        assert!(matches!(result, Err(Error::Bool { at: 1, value: 2, .. })));
    }
}
