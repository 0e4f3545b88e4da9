//! What is kept of a payload: nothing, a digest, or the values, as the model's manifest says.

use sha2::{Digest as _, Sha256};
use types::{
    Digest, Tensor,
    event::{Captured, Features, Kept},
    manifest::{Capture, CaptureInput, Spec, TaskKind},
};

/// What the manifest lets be kept of these inputs; takes what they use from `room` bytes.
pub(super) fn inputs(tensors: &[Tensor], manifest: &Capture, room: &mut u64) -> Captured {
    capture(tensors, manifest.input, manifest, room)
}

/// What the manifest lets be kept of these outputs. Those of a task that labels can judge are kept where the inputs are a
/// digest, too: they are what labels are held against.
pub(super) fn outputs(tensors: &[Tensor], spec: &Spec, room: &mut u64) -> Captured {
    let judged = spec.task.as_ref().is_some_and(|task| task.kind != TaskKind::Other);
    let how = match spec.capture.input {
        CaptureInput::Digest if judged => CaptureInput::Features,
        how => how,
    };
    capture(tensors, how, &spec.capture, room)
}

fn capture(tensors: &[Tensor], how: CaptureInput, manifest: &Capture, room: &mut u64) -> Captured {
    match how {
        CaptureInput::None => Captured::None,
        CaptureInput::Digest => Captured::Digest(digest(tensors)),
        CaptureInput::Features => {
            let tensors_kept = tensors.iter().map(|tensor| keep(tensor, &manifest.redact, room)).collect();
            Captured::Features(Features { digest: digest(tensors), tensors: tensors_kept })
        }
    }
}

fn keep(tensor: &Tensor, redact: &[String], room: &mut u64) -> Kept {
    let size = tensor.data().len() as u64;
    let redacted = redact.iter().any(|name| name == tensor.name());
    let data = (!redacted && size <= *room).then(|| {
        *room -= size;
        // A copy: the values may be a slice of a whole request, which must not live on in the queue.
        bytes::Bytes::copy_from_slice(tensor.data())
    });
    Kept { name: tensor.name().to_owned(), datatype: tensor.datatype(), shape: tensor.shape().to_vec(), data }
}

/// Whether a digest of these takes long enough, some 100 µs, to be worth another thread.
pub(super) fn is_large(tensors: &[Tensor]) -> bool {
    tensors.iter().map(|tensor| tensor.data().len()).sum::<usize>() > 128 << 10
}

/// SHA-256 over names, types, shapes and bytes.
pub(super) fn digest(tensors: &[Tensor]) -> Digest {
    let mut hasher = Sha256::new();
    for tensor in tensors {
        hasher.update((tensor.name().len() as u64).to_le_bytes());
        hasher.update(tensor.name().as_bytes());
        hasher.update(tensor.datatype().as_str().as_bytes());
        hasher.update((tensor.shape().len() as u64).to_le_bytes());
        tensor.shape().iter().for_each(|dimension| hasher.update(dimension.to_le_bytes()));
        hasher.update(tensor.data());
    }
    Digest(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use types::{DataType, quantity::ByteCount};

    use super::*;

    #[test]
    fn redacted_and_oversized_values_are_left_out_and_the_digest_covers_all() {
        let tensor = |name: &str, size: usize| {
            Tensor::new(name, DataType::Uint8, vec![i64::try_from(size).unwrap()], vec![7; size].into()).unwrap()
        };
        let manifest = Capture {
            input: CaptureInput::Features,
            redact: vec!["iban".into()],
            bytes: ByteCount(10),
            ..Capture::default()
        };
        let tensors = [tensor("iban", 4), tensor("a", 8), tensor("b", 3)];
        let mut room = manifest.bytes.0;
        let Captured::Features(kept) = inputs(&tensors, &manifest, &mut room) else { panic!("features") };
        let sizes: Vec<_> = kept.tensors.iter().map(|kept| kept.data.as_ref().map(bytes::Bytes::len)).collect();
        assert_eq!((sizes, room), (vec![None, Some(8), None], 2));
        assert_eq!(kept.digest, digest(&tensors));
    }
}
