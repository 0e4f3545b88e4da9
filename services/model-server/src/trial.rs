//! What is tried while a model loads: that it runs at all, how fast, and whether its rows keep to themselves.

use std::time::Duration;

use balance::batch::{Batcher, Limits};
use bytes::{BufMut, BytesMut};
use ort::session::Session;
use tokio::time::Instant;
use types::{
    Code, DataType, Refusal, Tensor,
    infer::{InferRequest, InferResponse, ModelMetadata, TensorSpec},
    manifest,
};

use crate::{inference, values};

/// Different rows that are run alone and together.
const ROWS: u64 = 8;
/// Rounds of both that are timed.
const ROUNDS: usize = 4;
/// A model whose row takes longer gets two rows and one round.
const SLOW: Duration = Duration::from_millis(5);
/// A model whose row takes longer is not tried any further: loading must not take seconds for it, and what it costs
/// is hardly ever the fixed part.
pub(crate) const SLOWER: Duration = Duration::from_millis(60);
/// A model whose row takes longer has no golden input: asking it thrice would keep everybody waiting.
const GOLDEN: Duration = Duration::from_secs(2);
/// Elements of one input of a trial, at most.
const ELEMENTS: usize = 16 << 20;
/// Largest difference between a row alone and the same row in a batch, relative above 1: what a replay forgives too.
const TOLERANCE: f64 = 1e-5;
/// Sizes of the numbers in a row: a model sees differences only near the sizes it was trained on.
const SCALES: [f64; 4] = [1.0, 10.0, 0.1, 100.0];

/// Runs the model on zeros, so that the first caller does not pay for what is made lazily, and learns the class names
/// of score maps. Returns how long one row takes; a model that can't take zeros is ready all the same.
pub(crate) fn warm_up(session: &mut Session, metadata: &mut ModelMetadata) -> Option<Duration> {
    let outcome = zeros(metadata).and_then(|request| {
        let started = Instant::now();
        learn_classes(session, metadata, &request)?;
        let mut least = started.elapsed();
        // The first run is no measure, but for a slow model good enough.
        for _ in 0..if least > SLOWER { 0 } else { 3 } {
            least = least.min(one(session, metadata, &request)?.compute);
        }
        Ok(Some(least))
    });
    outcome.unwrap_or_else(|refusal| {
        tracing::info!(reason = %refusal, "the model takes no zeros; it is ready without a warm-up");
        None
    })
}

fn learn_classes(session: &mut Session, metadata: &mut ModelMetadata, request: &InferRequest) -> Result<(), Refusal> {
    let outputs = session.run(inference::join(&[request])?).map_err(|error| inference::failure(&error))?;
    for spec in metadata.outputs.iter_mut().filter(|spec| spec.shape == [-1, -1]) {
        let Some(value) = outputs.get(&spec.name).filter(|value| values::is_score_maps(value.dtype())) else {
            continue;
        };
        let rows = values::score_rows(value).map_err(|error| inference::failure(&error))?;
        spec.classes = values::class_order(&rows);
        spec.shape = vec![-1, i64::try_from(spec.classes.len()).unwrap_or(-1)];
    }
    Ok(())
}

/// One row of zeros.
pub(crate) fn zeros(metadata: &ModelMetadata) -> Result<InferRequest, Refusal> {
    let zeros = |spec: &TensorSpec| {
        let shape: Vec<i64> = spec.shape.iter().map(|d| if *d < 0 { 1 } else { *d }).collect();
        let elements = types::tensor::elements(&spec.name, &shape)?;
        // A declared shape may be absurd; warming up is not worth more than this.
        if elements > 64 << 20 {
            let what = format!("input `{}` is too large to warm up with", spec.name);
            return Err(Refusal::new(Code::InputMismatch, what));
        }
        match spec.datatype.width() {
            Some(width) => Ok(Tensor::new(&spec.name, spec.datatype, shape, vec![0; elements * width].into())?),
            None => Ok(Tensor::from_elements(&spec.name, shape, std::iter::repeat_n(&b""[..], elements))?),
        }
    };
    request(metadata.inputs.iter().map(zeros))
}

fn request(inputs: impl Iterator<Item = Result<Tensor, Refusal>>) -> Result<InferRequest, Refusal> {
    Ok(InferRequest {
        // The session does not ask.
        model: "trial".parse()?,
        version: None,
        id: None,
        inputs: inputs.collect::<Result<_, _>>()?,
        outputs: Vec::new(),
        timeout: None,
    })
}

fn one(session: &mut Session, metadata: &ModelMetadata, request: &InferRequest) -> Result<InferResponse, Refusal> {
    let answer = inference::run(session, metadata, &[request])?.pop();
    answer.ok_or_else(|| Refusal::new(Code::InferenceFailed, "the model gave no answer"))
}

/// An input with the answer that was given to it, so that it can be asked again whether all is well.
#[derive(Debug, Clone)]
pub(crate) struct Golden {
    request: InferRequest,
    outputs: Vec<Tensor>,
    /// What the answer took.
    pub(crate) took: Duration,
}

impl Golden {
    /// What to ask.
    pub(crate) fn request(&self) -> InferRequest {
        self.request.clone()
    }

    /// Whether this is the answer, within what rounding and neighbours in a batch may change.
    pub(crate) fn is_answer(&self, outputs: &[Tensor]) -> bool {
        self.outputs.len() == outputs.len() && differing(&self.outputs, outputs).is_none()
    }
}

/// Finds an input whose answer does not change; nothing where the model takes none of ours, or is too slow to ask.
///
/// # Errors
/// `model_unsupported` for a model that answers the same input otherwise a second time: Mantlet repeats requests,
/// replays them and compares their answers, which all need a model that is a function of its inputs.
pub(crate) fn golden(
    session: &mut Session,
    metadata: &ModelMetadata,
    declared: &[manifest::Input],
    alone: Option<Duration>,
) -> Result<Option<Golden>, Refusal> {
    if metadata.inputs.is_empty() || alone.is_none_or(|alone| alone > GOLDEN) {
        return Ok(None);
    }
    let candidates = [sample(metadata, declared, 0), zeros(metadata)];
    let asked = candidates.into_iter().flatten().find_map(|request| {
        let answer = one(session, metadata, &request).ok()?;
        Some((request, answer))
    });
    let Some((request, first)) = asked else { return Ok(None) };
    // Something else in between, so that whatever is kept from one to the next is another thing.
    if let Ok(other) = sample(metadata, declared, 1) {
        let _ = one(session, metadata, &other);
    }
    let second = one(session, metadata, &request)?;
    if let Some(name) = differing(&first.outputs, &second.outputs) {
        let what = format!("output `{name}` is another one when the same input is asked again");
        return Err(Refusal::new(Code::ModelUnsupported, what)
            .hint("let state and random numbers travel in the request, as inputs and outputs of the model"));
    }
    Ok(Some(Golden { request, outputs: first.outputs, took: second.compute }))
}

/// A batcher that knows the first costs, where requests may share a batch; else the reason why every one runs alone.
///
/// Rows that differ are run alone, two together and all together. They may share a batch if each row's outputs come
/// out the same and rows can be told apart by them; a model that normalises over its batch is found out.
pub(crate) fn batcher(
    session: &mut Session,
    metadata: &ModelMetadata,
    declared: &[manifest::Input],
    limits: Limits,
    alone: Duration,
) -> Result<Batcher, String> {
    if limits.rows < 2 {
        return Err("batches are switched off".into());
    }
    let fixed = |spec: &&TensorSpec| spec.shape.first() != Some(&-1);
    if let Some(spec) = metadata.inputs.iter().chain(&metadata.outputs).find(fixed) {
        return Err(format!("the first dimension of `{}` is not open", spec.name));
    }
    if metadata.inputs.is_empty() || alone > SLOWER {
        return Err("there is nothing to try it on, or it is too slow to try".into());
    }
    let (rows, rounds) = if alone > SLOW { (2, 1) } else { (ROWS, ROUNDS) };
    let requests: Vec<InferRequest> = (0..rows)
        .map(|row| sample(metadata, declared, row))
        .collect::<Result<_, _>>()
        .map_err(|why| why.to_string())?;
    let requests: Vec<&InferRequest> = requests.iter().collect();
    let refused = |refusal: Refusal| format!("the model refuses a trial: {refusal}");
    let singles: Vec<InferResponse> =
        requests.iter().map(|request| one(session, metadata, request)).collect::<Result<_, _>>().map_err(refused)?;
    for together in [requests.get(..2), Some(requests.as_slice())].into_iter().flatten() {
        let answers = inference::run(session, metadata, together).map_err(refused)?;
        if let Some(name) =
            singles.iter().zip(&answers).find_map(|(alone, joined)| differing(&alone.outputs, &joined.outputs))
        {
            return Err(format!("output `{name}` of a row depends on its neighbours"));
        }
    }
    let Some((first, others)) = singles.split_first() else { return Err("there is no row".into()) };
    if others.iter().all(|other| differing(&first.outputs, &other.outputs).is_none()) {
        return Err("different rows give the same outputs, so nothing shows whether they keep to themselves".into());
    }
    let mut batcher = Batcher::new(limits);
    for _ in 0..rounds {
        for together in [requests.get(..1), Some(requests.as_slice())].into_iter().flatten() {
            let started = Instant::now();
            inference::run(session, metadata, together).map_err(refused)?;
            batcher.observe(u64::try_from(together.len()).unwrap_or(0), started.elapsed());
        }
    }
    Ok(batcher)
}

/// The first output in which two answers differ.
fn differing(some: &[Tensor], others: &[Tensor]) -> Option<String> {
    let same = |(a, b): (&Tensor, &Tensor)| {
        let alike = a.shape() == b.shape() && a.datatype() == b.datatype();
        alike
            && if a.datatype().is_float() {
                a.iter_floats().zip(b.iter_floats()).all(|(x, y)| close(x, y))
            } else {
                a.data() == b.data()
            }
    };
    let mut pairs = some.iter().zip(others);
    pairs.find(|(a, b)| !same((a, b))).map(|(a, _)| a.name().to_owned())
}

fn close(x: f64, y: f64) -> bool {
    let near = x.is_finite() && y.is_finite() && (x - y).abs() <= TOLERANCE * x.abs().max(1.0);
    x == y || (x.is_nan() && y.is_nan()) || near
}

/// A request of one row that no other `row` has, with values as the manifest declares them.
fn sample(metadata: &ModelMetadata, declared: &[manifest::Input], row: u64) -> Result<InferRequest, Refusal> {
    let mut state = row;
    let inputs = metadata.inputs.iter().map(|spec| {
        let shape: Vec<i64> = spec.shape.iter().map(|d| if *d < 0 { 1 } else { *d }).collect();
        let elements = types::tensor::elements(&spec.name, &shape)?;
        if elements > ELEMENTS / ROWS as usize {
            return Err(Refusal::new(Code::InputMismatch, format!("input `{}` is too large for a trial", spec.name)));
        }
        let declared = declared.iter().find(|input| input.name == spec.name);
        let mut data = BytesMut::new();
        for _ in 0..elements {
            element(&mut data, spec.datatype, declared, row, draw(&mut state));
        }
        Ok(Tensor::new(&spec.name, spec.datatype, shape, data.freeze())?)
    });
    request(inputs)
}

/// The next of a fixed row of numbers that look random, 0 to 1: a linear congruential generator with Knuth's
/// constants, whose upper bits are good enough to tell rows apart.
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1_u64 << 53) as f64
}

fn element(data: &mut BytesMut, datatype: DataType, declared: Option<&manifest::Input>, row: u64, chance: f64) {
    let scale = SCALES.get(row as usize % SCALES.len()).copied().unwrap_or(1.0);
    let range = declared.and_then(|input| input.range);
    let [least, greatest] = range.unwrap_or(if datatype.is_float() { [-scale, scale] } else { [0.0, 3.0] });
    let number = least + (greatest - least) * chance;
    // Integers mean classes, counts or places in a table; small ones mean something most often.
    let integer = (number.ceil().min(least.ceil() + 3.0)).min(greatest);
    match datatype {
        DataType::Bool => data.put_u8(u8::from(chance > 0.5)),
        DataType::Uint8 => data.put_u8(integer as u8),
        DataType::Uint16 => data.put_u16_le(integer as u16),
        DataType::Uint32 => data.put_u32_le(integer as u32),
        DataType::Uint64 => data.put_u64_le(integer as u64),
        DataType::Int8 => data.put_i8(integer as i8),
        DataType::Int16 => data.put_i16_le(integer as i16),
        DataType::Int32 => data.put_i32_le(integer as i32),
        DataType::Int64 => data.put_i64_le(integer as i64),
        DataType::Fp16 => data.put_slice(&half::f16::from_f64(number).to_le_bytes()),
        DataType::Bf16 => data.put_slice(&half::bf16::from_f64(number).to_le_bytes()),
        DataType::Fp32 => data.put_f32_le(number as f32),
        DataType::Fp64 => data.put_f64_le(number),
        DataType::Bytes => {
            let words = declared.map(|input| input.categories.as_slice()).unwrap_or_default();
            let word = words.get((chance * words.len() as f64) as usize).map_or("a", String::as_str);
            types::tensor::push_element(data, word.as_bytes());
        }
    }
}
