//! degrade: an answer that tells less, and comes later, to whom something is held against.
//!
//! What is recorded is what the model said. An answer never says anything false: rounding keeps the class that was first, and a
//! label is that class.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use types::{Code, DataType, Refusal, Tensor, defence::Output, manifest::TaskKind};

use super::Reply;
use crate::Ring;

/// Digits that a number keeps.
const DIGITS: u32 = 2;

/// Holds an answer back and lets it tell less, where something is held against whoever asked.
///
/// # Errors
/// `overloaded` where too many answers are held back already.
pub(super) async fn degrade(ring: &Ring, mut reply: Reply) -> Result<Reply, Refusal> {
    let Some(held) = reply.held().cloned() else { return Ok(reply) };
    let measures = held.measures;
    if measures.output != Output::Full {
        let spec = &reply.model().route.manifest.spec;
        let regression = spec.task.as_ref().is_some_and(|task| task.kind == TaskKind::Regression);
        let rows = reply.request().rows();
        let response = reply.response_mut();
        response.outputs =
            response.outputs.iter().map(|output| less(output, rows, measures.output, regression)).collect();
    }
    if measures.delay_ms > 0 {
        let Ok(_place) = ring.restrictions.held.try_acquire() else {
            return Err(Refusal::new(Code::Overloaded, "too many answers are held back"));
        };
        let left = reply.deadline().saturating_duration_since(Instant::now());
        // Half of the time that is left at the most: an answer that comes too late is none.
        sleep(Duration::from_millis(measures.delay_ms).min(left / 2)).await;
    }
    Ok(reply)
}

/// An output that tells less.
fn less(tensor: &Tensor, rows: u64, output: Output, regression: bool) -> Tensor {
    let columns = usize::try_from(rows).ok().and_then(|rows| tensor.elements().checked_div(rows)).unwrap_or(0);
    if !matches!(tensor.datatype(), DataType::Fp32 | DataType::Fp64) || columns == 0 {
        return tensor.clone();
    }
    let mut values: Vec<f64> = tensor.iter_floats().collect();
    for row in values.chunks_mut(columns) {
        match output {
            Output::Full => {}
            _ if regression || columns == 1 => {
                row.iter_mut().for_each(|value| *value = defend::degrade::digits(*value, DIGITS))
            }
            Output::Rounded => defend::degrade::round(row, 1),
            Output::Label => defend::degrade::label(row),
        }
    }
    let data = match tensor.datatype() {
        DataType::Fp32 => values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect::<Vec<_>>(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    };
    // The same type and shape as before, so that it can't fail.
    Tensor::new(tensor.name(), tensor.datatype(), tensor.shape().to_vec(), data.into())
        .unwrap_or_else(|_| tensor.clone())
}
