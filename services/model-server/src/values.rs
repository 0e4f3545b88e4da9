//! Tensors of the protocol as values of ONNX Runtime, and back.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use ort::{
    session::SessionInputValue,
    value::{
        DynMapValueType, DynValue, PrimitiveTensorElementType, Tensor as RuntimeTensor, TensorElementType, ValueType,
    },
};
use types::{Code, DataType, Refusal, Tensor, infer::TensorSpec};

use crate::strings;

/// The protocol's type for an element type of ONNX Runtime; `None` where there is none.
pub(crate) fn datatype(element: TensorElementType) -> Option<DataType> {
    Some(match element {
        TensorElementType::Bool => DataType::Bool,
        TensorElementType::Uint8 => DataType::Uint8,
        TensorElementType::Uint16 => DataType::Uint16,
        TensorElementType::Uint32 => DataType::Uint32,
        TensorElementType::Uint64 => DataType::Uint64,
        TensorElementType::Int8 => DataType::Int8,
        TensorElementType::Int16 => DataType::Int16,
        TensorElementType::Int32 => DataType::Int32,
        TensorElementType::Int64 => DataType::Int64,
        TensorElementType::Float16 => DataType::Fp16,
        TensorElementType::Bfloat16 => DataType::Bf16,
        TensorElementType::Float32 => DataType::Fp32,
        TensorElementType::Float64 => DataType::Fp64,
        TensorElementType::String => DataType::Bytes,
        _ => return None,
    })
}

/// Whether an output is a list of score maps, which become a table.
pub(crate) fn is_score_maps(dtype: &ValueType) -> bool {
    let ValueType::Sequence(inner) = dtype else { return false };
    matches!(
        **inner,
        ValueType::Map { key: TensorElementType::Int64 | TensorElementType::String, value: TensorElementType::Float32 }
    )
}

/// What the graph says of one input or output; `None` where the protocol has no form for it.
pub(crate) fn spec(name: &str, dtype: &ValueType) -> Option<TensorSpec> {
    let (datatype, shape) = match dtype {
        ValueType::Tensor { ty, shape, .. } => (datatype(*ty)?, shape.iter().copied().map(|d| d.max(-1)).collect()),
        _ if is_score_maps(dtype) => (DataType::Fp32, vec![-1, -1]),
        _ => return None,
    };
    Some(TensorSpec { name: name.to_owned(), datatype, shape, classes: Vec::new() })
}

/// Tensors that differ in their first dimension at most, joined along it, as one input value. Copies the elements once
/// into memory of their own alignment.
pub(crate) fn to_runtime(parts: &[&Tensor]) -> Result<SessionInputValue<'static>, Refusal> {
    let Some(first) = parts.first() else { return Err(Refusal::new(Code::Internal, "an input without tensors")) };
    match first.datatype() {
        DataType::Bool => {
            let values = parts.iter().flat_map(|part| part.data().iter().map(|byte| *byte != 0)).collect();
            make::<bool>(parts, values)
        }
        DataType::Uint8 => numbers::<u8>(parts),
        DataType::Uint16 => numbers::<u16>(parts),
        DataType::Uint32 => numbers::<u32>(parts),
        DataType::Uint64 => numbers::<u64>(parts),
        DataType::Int8 => numbers::<i8>(parts),
        DataType::Int16 => numbers::<i16>(parts),
        DataType::Int32 => numbers::<i32>(parts),
        DataType::Int64 => numbers::<i64>(parts),
        DataType::Fp16 => numbers::<half::f16>(parts),
        DataType::Bf16 => numbers::<half::bf16>(parts),
        DataType::Fp32 => numbers::<f32>(parts),
        DataType::Fp64 => numbers::<f64>(parts),
        DataType::Bytes if parts.len() == 1 => Ok(strings::to_runtime(first)?.into_dyn().into()),
        DataType::Bytes => {
            let words = parts.iter().flat_map(|part| part.iter_bytes());
            let joined = Tensor::from_elements(first.name(), shape(parts), words)?;
            Ok(strings::to_runtime(&joined)?.into_dyn().into())
        }
    }
}

/// The shape of tensors joined along the first axis.
fn shape(parts: &[&Tensor]) -> Vec<i64> {
    let mut shape = parts.first().map(|first| first.shape().to_vec()).unwrap_or_default();
    if let ([_, _, ..], Some(rows)) = (parts, shape.first_mut()) {
        *rows = parts.iter().filter_map(|part| part.shape().first()).fold(0, |sum, rows| sum.saturating_add(*rows));
    }
    shape
}

fn numbers<T>(parts: &[&Tensor]) -> Result<SessionInputValue<'static>, Refusal>
where
    T: bytemuck::Pod + PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    // Raw bytes may start anywhere, so they are copied to where a T may stand.
    let mut values = vec![T::zeroed(); parts.iter().map(|part| part.elements()).sum()];
    let mut rest = bytemuck::cast_slice_mut::<T, u8>(&mut values);
    for part in parts {
        let Some((here, after)) = std::mem::take(&mut rest).split_at_mut_checked(part.data().len()) else {
            return Err(Refusal::new(Code::Internal, format!("input `{}` is joined with other types", part.name())));
        };
        here.copy_from_slice(part.data());
        rest = after;
    }
    make(parts, values)
}

fn make<T>(parts: &[&Tensor], values: Vec<T>) -> Result<SessionInputValue<'static>, Refusal>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    let made = RuntimeTensor::from_array((shape(parts), values)).map_err(|error| {
        let name = parts.first().map_or("", |first| first.name());
        Refusal::new(Code::InferenceFailed, format!("input `{name}`: {}", error.message()))
    })?;
    Ok(made.into_dyn().into())
}

/// An output value as a tensor.
pub(crate) fn from_runtime(name: &str, value: &DynValue, classes: &[String]) -> Result<Tensor, Refusal> {
    let fail = |what: String| Refusal::new(Code::InferenceFailed, format!("output `{name}`: {what}"));
    match value.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let datatype = datatype(*ty).ok_or_else(|| fail(format!("{ty:?} has no form in the protocol")))?;
            let shape: Vec<i64> = shape.iter().copied().collect();
            if datatype == DataType::Bytes {
                let elements = types::tensor::elements(name, &shape)?;
                let elements = strings::from_runtime(value, elements).map_err(fail)?;
                return Ok(Tensor::from_elements(name, shape, elements.iter().map(Vec::as_slice))?);
            }
            let data = raw(value, datatype).map_err(|error| fail(error.message().to_owned()))?;
            Ok(Tensor::new(name, datatype, shape, data)?)
        }
        dtype if is_score_maps(dtype) => {
            let rows = score_rows(value).map_err(|error| fail(error.message().to_owned()))?;
            table(name, &rows, classes)
        }
        dtype => Err(fail(format!("{dtype} has no form in the protocol"))),
    }
}

fn raw(value: &DynValue, datatype: DataType) -> ort::Result<Bytes> {
    fn copy<T: bytemuck::NoUninit + PrimitiveTensorElementType>(value: &DynValue) -> ort::Result<Bytes> {
        Ok(Bytes::copy_from_slice(bytemuck::cast_slice(value.try_extract_tensor::<T>()?.1)))
    }
    match datatype {
        DataType::Bool => copy::<bool>(value),
        DataType::Uint8 => copy::<u8>(value),
        DataType::Uint16 => copy::<u16>(value),
        DataType::Uint32 => copy::<u32>(value),
        DataType::Uint64 => copy::<u64>(value),
        DataType::Int8 => copy::<i8>(value),
        DataType::Int16 => copy::<i16>(value),
        DataType::Int32 => copy::<i32>(value),
        DataType::Int64 => copy::<i64>(value),
        DataType::Fp16 => copy::<half::f16>(value),
        DataType::Bf16 => copy::<half::bf16>(value),
        DataType::Fp32 => copy::<f32>(value),
        DataType::Fp64 => copy::<f64>(value),
        DataType::Bytes => Ok(Bytes::new()),
    }
}

/// One row of scores, by class.
pub(crate) type Scores = HashMap<String, f32>;

/// The rows of a list of score maps.
pub(crate) fn score_rows(value: &DynValue) -> ort::Result<Vec<Scores>> {
    let maps = value.try_extract_sequence::<ort::value::DynValueTypeMarker>()?;
    maps.iter()
        .map(|value| {
            let map = value.view().downcast::<DynMapValueType>()?;
            if let Ok(scores) = map.try_extract_map::<i64, f32>() {
                return Ok(scores.into_iter().map(|(class, score)| (class.to_string(), score)).collect());
            }
            map.try_extract_map::<String, f32>()
        })
        .collect()
}

/// Class names in the order of the table's columns: numbers by value, then words by text.
pub(crate) fn class_order(rows: &[Scores]) -> Vec<String> {
    let mut classes: Vec<String> = rows.first().map(|row| row.keys().cloned().collect()).unwrap_or_default();
    classes.sort_by_cached_key(|class| (class.parse::<i64>().map_or((true, 0), |n| (false, n)), class.clone()));
    classes
}

fn table(name: &str, rows: &[Scores], classes: &[String]) -> Result<Tensor, Refusal> {
    let learned = if classes.is_empty() { Cow::Owned(class_order(rows)) } else { Cow::Borrowed(classes) };
    let mut data = Vec::with_capacity(rows.len() * learned.len() * 4);
    for row in rows {
        for class in learned.iter() {
            let score = row.get(class).copied().unwrap_or(f32::NAN);
            data.extend_from_slice(&score.to_le_bytes());
        }
    }
    let dimension = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(Tensor::new(name, DataType::Fp32, vec![dimension(rows.len()), dimension(learned.len())], data.into())?)
}
