//! Runs one batch: joins the inputs of its requests along the first axis, and splits the outputs again.

use std::time::Duration;

use bytes::Bytes;
use ort::session::{Session, SessionInputValue};
use tokio::time::Instant;
use types::{
    Code, DataType, Refusal, Tensor,
    infer::{InferRequest, InferResponse, ModelMetadata, TensorSpec},
};

use crate::values;

/// Whether a request can share a batch with this one; with itself, whether it can share one at all.
///
/// Same inputs in the same order, same types and trailing dimensions, same outputs wanted, and within each request
/// the same rows in every input.
pub(crate) fn fits(head: &InferRequest, other: &InferRequest) -> bool {
    let rows = other.rows();
    let alike = |(a, b): (&Tensor, &Tensor)| {
        a.name() == b.name()
            && a.datatype() == b.datatype()
            && !b.shape().is_empty()
            && a.shape().get(1..) == b.shape().get(1..)
            && b.rows() == rows
    };
    rows > 0
        && head.inputs.len() == other.inputs.len()
        && head.outputs == other.outputs
        && head.inputs.iter().zip(&other.inputs).all(alike)
}

/// Runs requests that [`fits`] lets share a batch; one answer for each, in their order. A single request may be
/// anything.
pub(crate) fn run(
    session: &mut Session,
    metadata: &ModelMetadata,
    requests: &[&InferRequest],
) -> Result<Vec<InferResponse>, Refusal> {
    let Some(head) = requests.first() else { return Ok(Vec::new()) };
    let inputs = join(requests)?;
    let started = Instant::now();
    let outputs = session.run(inputs).map_err(|error| failure(&error))?;
    let compute = started.elapsed();
    let wanted = |spec: &&TensorSpec| head.outputs.is_empty() || head.outputs.contains(&spec.name);
    let outputs = metadata.outputs.iter().filter(wanted).map(|spec| {
        let value = outputs.get(&spec.name);
        let value = value
            .ok_or_else(|| Refusal::new(Code::InferenceFailed, format!("the model gave no output `{}`", spec.name)))?;
        values::from_runtime(&spec.name, value, &spec.classes)
    });
    let outputs: Vec<Tensor> = outputs.collect::<Result<_, _>>()?;
    if requests.len() == 1 {
        return Ok(vec![InferResponse { outputs, compute, queued: None, batch: head.rows(), snapshot: None }]);
    }
    divide(requests, &outputs, compute)
}

/// The inputs by name, as the runtime takes them.
pub(crate) fn join(requests: &[&InferRequest]) -> Result<Vec<(String, SessionInputValue<'static>)>, Refusal> {
    let inputs = requests.first().map(|head| head.inputs.len()).unwrap_or_default();
    (0..inputs)
        .map(|index| {
            let parts: Vec<&Tensor> = requests.iter().filter_map(|request| request.inputs.get(index)).collect();
            let name = parts.first().map(|part| part.name().to_owned()).unwrap_or_default();
            Ok((name, values::to_runtime(&parts)?))
        })
        .collect()
}

fn divide(requests: &[&InferRequest], outputs: &[Tensor], compute: Duration) -> Result<Vec<InferResponse>, Refusal> {
    let rows: Vec<u64> = requests.iter().map(|request| request.rows()).collect();
    let batch = rows.iter().sum();
    let mut answers: Vec<InferResponse> = rows
        .iter()
        .map(|_| InferResponse {
            outputs: Vec::with_capacity(outputs.len()),
            compute,
            queued: None,
            batch,
            snapshot: None,
        })
        .collect();
    for output in outputs {
        let parts = split(output, &rows).ok_or_else(|| {
            let what = format!("output `{}` has shape {:?} for {batch} rows", output.name(), output.shape());
            Refusal::new(Code::InferenceFailed, what)
        })?;
        for (answer, part) in answers.iter_mut().zip(parts) {
            answer.outputs.push(part);
        }
    }
    Ok(answers)
}

/// Cuts a tensor along its first axis; `None` unless it has exactly these rows. Shares the bytes.
fn split(tensor: &Tensor, rows: &[u64]) -> Option<Vec<Tensor>> {
    let total: u64 = rows.iter().sum();
    if tensor.shape().is_empty() || tensor.rows() != total || total == 0 {
        return None;
    }
    let per_row = tensor.elements() / usize::try_from(total).ok()?;
    let mut lengths = tensor.iter_bytes().map(|element| 4 + element.len());
    let mut rest: Bytes = tensor.data().clone();
    let part = |rows: &u64| {
        let elements = usize::try_from(*rows).ok()?.checked_mul(per_row)?;
        let length = match tensor.datatype() {
            DataType::Bytes => lengths.by_ref().take(elements).sum(),
            datatype => elements.checked_mul(datatype.width()?)?,
        };
        if length > rest.len() {
            return None;
        }
        let shape = std::iter::once(i64::try_from(*rows).ok()?).chain(tensor.shape().iter().skip(1).copied());
        Tensor::new(tensor.name(), tensor.datatype(), shape.collect(), rest.split_to(length)).ok()
    };
    rows.iter().map(part).collect()
}

pub(crate) fn failure(error: &ort::Error) -> Refusal {
    Refusal::new(Code::InferenceFailed, format!("ONNX Runtime refused the inputs: {}", error.message().trim()))
        .hint("compare shapes and values with the model's metadata: `mantlet models show NAME`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, shape: &[i64]) -> InferRequest {
        let elements = shape.iter().product::<i64>().unsigned_abs() as usize;
        let tensor = Tensor::new(name, DataType::Uint8, shape.to_vec(), vec![0; elements].into()).unwrap();
        InferRequest {
            model: "m".parse().unwrap(),
            version: None,
            id: None,
            inputs: vec![tensor],
            outputs: vec![],
            timeout: None,
        }
    }

    #[test]
    fn only_the_like_share_a_batch() {
        let head = request("x", &[1, 4]);
        assert!(fits(&head, &head) && fits(&head, &request("x", &[3, 4])));
        for other in [request("z", &[1, 4]), request("x", &[1, 5]), request("x", &[0, 4]), request("x", &[1])] {
            assert!(!fits(&head, &other), "{other:?}");
        }
        let wants = InferRequest { outputs: vec!["y".into()], ..head.clone() };
        assert!(!fits(&head, &wants) && fits(&wants, &wants));
        let mut uneven = head.clone();
        uneven.inputs.push(request("z", &[2, 4]).inputs.remove(0));
        assert!(!fits(&uneven, &uneven), "inputs of unequal rows");
        let scalar = request("x", &[]);
        assert!(!fits(&scalar, &scalar));
    }

    #[test]
    fn a_tensor_is_cut_by_rows_or_not_at_all() {
        let numbers = Tensor::new("y", DataType::Uint16, vec![3, 2], (0..12).collect::<Vec<u8>>().into()).unwrap();
        let parts = split(&numbers, &[1, 2]).unwrap();
        assert_eq!((parts[0].shape(), parts[0].data().as_ref()), (&[1, 2][..], &[0, 1, 2, 3][..]));
        assert_eq!((parts[1].shape(), parts[1].data().as_ref()), (&[2, 2][..], &[4, 5, 6, 7, 8, 9, 10, 11][..]));
        let words = Tensor::from_elements("w", vec![3], [&b"a"[..], b"", b"long"]).unwrap();
        let parts = split(&words, &[2, 1]).unwrap();
        assert_eq!(parts[0].iter_bytes().collect::<Vec<_>>(), [&b"a"[..], b""]);
        assert_eq!(parts[1].iter_bytes().collect::<Vec<_>>(), [b"long"]);
        let empty = Tensor::new("e", DataType::Fp32, vec![2, 0], Bytes::new()).unwrap();
        assert_eq!(split(&empty, &[1, 1]).unwrap()[1].shape(), [1, 0]);
        assert!(split(&numbers, &[1, 1]).is_none(), "another number of rows");
        let scalar = Tensor::new("s", DataType::Uint8, vec![], vec![1].into()).unwrap();
        assert!(split(&scalar, &[1]).is_none());
    }
}
