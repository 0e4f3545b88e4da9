//! String tensors with any bytes in them.
//!
//! The safe wrapper takes only texts without NUL and gives only valid UTF-8; the protocol's `BYTES` may hold
//! anything. These two functions call ONNX Runtime itself; they are the only unsafe code of the project.
#![expect(unsafe_code, reason = "no safe wrapper takes or gives strings with arbitrary bytes")]

use std::ptr;

use ort::{
    AsPointer as _,
    memory::Allocator,
    value::{DynTensor, DynValue, TensorElementType},
};
use types::{Code, Refusal, Tensor};

/// Makes a string tensor of the elements of a `BYTES` tensor.
pub(crate) fn to_runtime(tensor: &Tensor) -> Result<DynTensor, Refusal> {
    let fail = |what: String| Refusal::new(Code::InferenceFailed, format!("input `{}`: {what}", tensor.name()));
    let allocator = Allocator::default();
    let mut made = DynTensor::new(&allocator, TensorElementType::String, tensor.shape().to_vec())
        .map_err(|error| fail(error.to_string()))?;
    for (index, element) in tensor.iter_bytes().enumerate() {
        let mut buffer = ptr::null_mut();
        // SAFETY: `made` is a live string tensor of as many elements as `tensor` has, so `index` is in range;
        // the call writes only to `buffer`.
        let status = unsafe {
            (ort::api().GetResizedStringTensorElementBuffer)(made.ptr_mut(), index, element.len(), &raw mut buffer)
        };
        check(status).map_err(fail)?;
        if !element.is_empty() {
            // SAFETY: the call above gave a buffer of `element.len()` bytes inside `made`, which outlives this
            // copy; the source is another allocation.
            unsafe { ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast(), element.len()) };
        }
    }
    Ok(made)
}

/// Reads the elements of a string tensor with this many elements.
pub(crate) fn from_runtime(value: &DynValue, elements: usize) -> Result<Vec<Vec<u8>>, String> {
    if elements == 0 {
        return Ok(Vec::new());
    }
    let mut length = 0;
    // SAFETY: `value` is a live string tensor; the call writes only to `length`.
    check(unsafe { (ort::api().GetStringTensorDataLength)(value.ptr(), &raw mut length) })?;
    let (mut data, mut offsets) = (vec![0_u8; length], vec![0_usize; elements]);
    // SAFETY: both buffers are exactly as long as the lengths handed over with them.
    let status = unsafe {
        (ort::api().GetStringTensorContent)(
            value.ptr(),
            data.as_mut_ptr().cast(),
            data.len(),
            offsets.as_mut_ptr(),
            offsets.len(),
        )
    };
    check(status)?;
    let ends = offsets.iter().skip(1).copied().chain([length]);
    let element = |(start, end): (&usize, usize)| data.get(*start..end).map(<[u8]>::to_vec);
    offsets.iter().zip(ends).map(element).collect::<Option<_>>().ok_or_else(|| "offsets out of order".to_owned())
}

fn check(status: ort::sys::OrtStatusPtr) -> Result<(), String> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: a status that is not null is owned by the caller, and released here exactly once.
    unsafe { (ort::api().ReleaseStatus)(status.0) };
    Err("ONNX Runtime refused the string tensor".to_owned())
}
