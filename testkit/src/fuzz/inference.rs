//! Inference requests: JSON, JSON with binary tensors, and gRPC.

use std::{convert::Infallible, io::Write as _};

use axum::body::Body;
use bytes::Bytes;
use gateway::parse;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use rpc::oip::{self, proto::ModelInferRequest};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use types::{DataType, Refusal, Tensor, infer::InferRequest, tensor};

use super::{seed, split};

/// The largest body, packed or not.
const LIMIT: u64 = 1 << 20;

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime can be made");
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn rest(headers: &[(&'static str, &str)], body: &[u8]) -> Result<InferRequest, Refusal> {
    let header = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header's value"))
    };
    let model = "model".parse().expect("a name");
    wait(parse::rest(headers.iter().map(header).collect(), Bytes::copy_from_slice(body), model, LIMIT))
}

/// Tensors hold what their shapes say, and no more than the input could have paid for.
fn sound(request: &InferRequest, input: usize) {
    for tensor in &request.inputs {
        let elements: i128 = tensor.shape().iter().map(|d| i128::from(*d)).product();
        assert_eq!(tensor.elements() as i128, elements, "{tensor:?}");
        assert!(tensor.shape().iter().all(|d| *d >= 0), "{tensor:?}");
        match tensor.datatype().width() {
            Some(width) => assert_eq!(tensor.data().len(), tensor.elements() * width, "{tensor:?}"),
            None => {
                let bytes: usize = tensor.iter_bytes().map(|value| value.len() + 4).sum();
                assert_eq!((tensor.iter_bytes().count(), bytes), (tensor.elements(), tensor.data().len()));
            }
        }
    }
    let total: usize = request.inputs.iter().map(|tensor| tensor.data().len()).sum();
    assert!(total <= 8 * input, "{total} bytes of tensors from {input}");
}

/// A request as JSON, each input's `data` or parameters as `form` writes them.
fn written(request: &InferRequest, form: impl Fn(&Tensor) -> String) -> Vec<u8> {
    let text = |value: &Value| value.to_string();
    let input = |tensor: &Tensor| {
        let (name, shape) = (text(&json!(tensor.name())), text(&json!(tensor.shape())));
        format!(r#"{{"name":{name},"datatype":"{}","shape":{shape},{}}}"#, tensor.datatype(), form(tensor))
    };
    let inputs: Vec<String> = request.inputs.iter().map(input).collect();
    let outputs: Vec<Value> = request.outputs.iter().map(|name| json!({ "name": name })).collect();
    let timeout = request.timeout.map(|timeout| u64::try_from(timeout.as_micros()).expect("it was read from 64 bits"));
    let (id, outputs, parameters) = (json!(request.id), json!(outputs), json!({ "timeout": timeout }));
    format!(r#"{{"id":{id},"parameters":{parameters},"inputs":[{}],"outputs":{outputs}}}"#, inputs.join(","))
        .into_bytes()
}

fn elements(tensor: &Tensor) -> String {
    let mut out = Vec::new();
    tensor::json::write(tensor, &mut out).expect("what came as JSON is text");
    let mut text = String::from_utf8(out).expect("JSON is text");
    if tensor.datatype().is_float() {
        // Answers write infinities for other people's readers; ours takes their names.
        text = text.replace("-1e999", "\"-Infinity\"").replace("1e999", "\"Infinity\"");
    }
    format!("\"data\":{text}")
}

/// The request in a JSON body, where there is one.
pub fn json_request(data: &[u8]) -> Option<InferRequest> {
    rest(&[], data).ok()
}

/// A JSON body: what is read is sound, and reads back the same when written.
pub fn oip_json(data: &[u8]) {
    let Some(request) = json_request(data) else { return };
    sound(&request, data.len());
    let again = written(&request, elements);
    assert_eq!(rest(&[], &again), Ok(request), "{}", String::from_utf8_lossy(&again));
}

fn pack(gzip: bool, data: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::fast();
    if gzip {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(data).and_then(|()| encoder.finish()).expect("memory takes it")
    } else {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(data).and_then(|()| encoder.finish()).expect("memory takes it")
    }
}

const JSON_LENGTH: &str = "inference-header-content-length";

/// A JSON header, a zero byte, and raw tensors: what is read is sound and reads back the same when all of it is raw;
/// one byte more or less is refused; packing changes nothing; lengths that lie and bodies that are not packed are
/// answered.
pub fn binary_header(data: &[u8]) {
    let Some((way, rest_of)) = split(data, 6) else { return };
    let end = rest_of.iter().position(|byte| *byte == 0);
    let (head, tensors) = rest_of.split_at(end.unwrap_or(rest_of.len()));
    let tensors = tensors.get(1..).unwrap_or_default();
    let (whole, length) = ([head, tensors].concat(), head.len().to_string());
    let answer = match way {
        1 => {
            let lie = rest_of.first_chunk::<2>().map_or(0, |bytes| u16::from_le_bytes(*bytes)).to_string();
            rest(&[(JSON_LENGTH, &lie)], rest_of)
        }
        2 | 3 => {
            let answer = rest(&[("content-encoding", if way == 2 { "gzip" } else { "deflate" })], rest_of);
            if let Ok(request) = &answer {
                sound(request, usize::try_from(LIMIT).expect("it is small"));
            }
            return;
        }
        4 | 5 => {
            let packed = pack(way == 4, &whole);
            let name = if way == 4 { "gzip" } else { "deflate" };
            let answer = rest(&[(JSON_LENGTH, &length), ("content-encoding", name)], &packed);
            assert_eq!(answer, rest(&[(JSON_LENGTH, &length)], &whole));
            answer
        }
        _ => rest(&[(JSON_LENGTH, &length)], &whole),
    };
    let Ok(request) = answer else { return };
    sound(&request, data.len());
    let head = written(&request, |tensor| format!(r#""parameters":{{"binary_data_size":{}}}"#, tensor.data().len()));
    let raw: Vec<u8> = request.inputs.iter().flat_map(|tensor| tensor.data().to_vec()).collect();
    let (whole, length) = ([&head[..], &raw].concat(), head.len().to_string());
    let headers = [(JSON_LENGTH, length.as_str())];
    assert!(rest(&headers, &[&whole[..], &[0]].concat()).is_err(), "a byte too many was taken");
    if !raw.is_empty() {
        assert!(rest(&headers, &whole[..whole.len() - 1]).is_err(), "a byte too few was taken");
    }
    assert_eq!(rest(&headers, &whole), Ok(request));
}

/// What the gRPC protocol says of unpacked frames, as simply as it can be read; whether it ended well.
fn frames(mut body: &[u8], limit: u64) -> (Vec<&[u8]>, bool) {
    let mut messages = Vec::new();
    while let Some((prefix, rest)) = body.split_first_chunk::<5>() {
        let [flag, a, b, c, d] = *prefix;
        let length = u32::from_be_bytes([a, b, c, d]);
        if flag != 0 || u64::from(length) > limit || rest.len() < length as usize {
            return (messages, false);
        }
        let (message, rest) = rest.split_at(length as usize);
        messages.push(message);
        body = rest;
    }
    (messages, body.is_empty())
}

/// A gRPC body in two pieces: messages are cut as the protocol says; the model that is asked for before anything else
/// is read is the one of the whole message; what is read is sound and reads back the same when written.
pub fn grpc_frame(data: &[u8]) {
    const SMALL: u64 = 64 << 10;
    let Some((way, rest)) = split(data, 3) else { return };
    let Some((cut, body)) = rest.split_first() else { return };
    let mut headers = HeaderMap::new();
    if way > 0 {
        headers.insert("grpc-encoding", HeaderValue::from_static(if way == 1 { "gzip" } else { "deflate" }));
    }
    let (first, second) = body.split_at(usize::from(*cut).min(body.len()));
    let pieces = [first, second].map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece)));
    let (messages, ended) = wait(parse::grpc(&headers, Body::from_stream(futures::stream::iter(pieces)), SMALL));
    if way == 0 {
        let (expected, well) = frames(body, SMALL);
        assert_eq!((messages.iter().map(|m| &m[..]).collect::<Vec<_>>(), ended.is_ok()), (expected, well));
    }
    for message in messages {
        assert!(message.len() as u64 <= SMALL, "a message of {} bytes", message.len());
        infer(message);
    }
}

fn infer(message: Bytes) {
    let (names, request) = (parse::grpc_names(message.clone()), parse::grpc_request(message.clone()));
    if let Ok(whole) = ModelInferRequest::decode(message.clone()) {
        let named = whole.model_name.parse().map_err(Refusal::from);
        let named = named.and_then(|model| Ok((model, oip::read_version(&whole.model_version)?)));
        assert_eq!(names, named, "who is authorized is who is asked");
    }
    let Ok(mut request) = request else { return };
    assert_eq!(names, Ok((request.model.clone(), request.version)));
    sound(&request, message.len());
    // The time limit is kept by whoever forwards the request.
    request.timeout = None;
    let again = oip::write_request(request.clone()).encode_to_vec();
    assert_eq!(parse::grpc_request(again.into()), Ok(request));
}

fn sample(datatype: DataType) -> Tensor {
    let width = datatype.width().unwrap_or(0);
    if datatype == DataType::Bytes {
        return Tensor::from_elements("text", vec![2], [&b"a\"b"[..], b""]).expect("two elements");
    }
    let data = (0..2 * width).map(|n| u8::from(n % width == 0)).collect::<Vec<u8>>();
    Tensor::new("x", datatype, vec![1, 2], data.into()).expect("two elements")
}

fn samples() -> Vec<InferRequest> {
    let one = |datatype| InferRequest {
        model: "model".parse().expect("a name"),
        version: Some(types::Version(3)),
        id: Some("i".into()),
        inputs: vec![sample(datatype)],
        outputs: vec!["y".into()],
        timeout: Some(std::time::Duration::from_micros(5)),
    };
    let mut all: Vec<InferRequest> = DataType::ALL.into_iter().map(one).collect();
    let inputs = DataType::ALL.into_iter().map(sample).collect();
    all.push(InferRequest { inputs, ..one(DataType::Bool) });
    all
}

pub(super) fn json_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[[1.5,-2e3],[NaN,Infinity]]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"FP64","shape":[4],"data":[null,"NaN","-Infinity",0.1]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"INT64","shape":[],"data":9007199254740993}],"parameters":{"timeout":9}}"#,
        r#"{"inputs":[{"name":"x","datatype":"UINT64","shape":[1],"data":[18446744073709551615]}]}"#,
        r#"{"inputs":[{"name":"x","datatype":"BYTES","shape":[1,2],"data":[["\u00fc","\n"]]}],"outputs":[{"name":"y",
            "parameters":{"binary_data":true}}],"parameters":{"binary_data_output":true,"other":{"a":[1]}}}"#,
        r#"{"inputs":[{"name":"x","datatype":"INT32","shape":[0],"data":[]}]}"#,
    ];
    let written = samples().into_iter().map(|request| written(&request, elements));
    written.chain(texts.map(|text| text.as_bytes().to_vec())).collect()
}

pub(super) fn binary_seeds() -> Vec<Vec<u8>> {
    let size = |tensor: &Tensor| format!(r#""parameters":{{"binary_data_size":{}}}"#, tensor.data().len());
    let mut seeds = Vec::new();
    for (way, request) in (0..6).cycle().zip(samples()) {
        let raw: Vec<u8> = request.inputs.iter().flat_map(|tensor| tensor.data().to_vec()).collect();
        let whole = [&written(&request, size)[..], &[0], &raw].concat();
        seeds.extend([seed(0, &whole), seed(way, &whole)]);
    }
    let json = written(&samples()[0], elements);
    seeds.extend([seed(2, pack(true, &json)), seed(3, pack(false, &json)), seed(3, pack(false, &vec![b' '; 1 << 16]))]);
    seeds
}

pub(super) fn grpc_seeds() -> Vec<Vec<u8>> {
    let frame = |flag: u8, message: &[u8]| {
        [&[flag][..], &u32::try_from(message.len()).expect("it is small").to_be_bytes(), message].concat()
    };
    let mut seeds = Vec::new();
    for request in samples() {
        let message = oip::write_request(request.clone()).encode_to_vec();
        let mut typed = ModelInferRequest::decode(&message[..]).expect("it was written just now");
        typed.raw_input_contents.clear();
        typed.inputs.truncate(1);
        typed.inputs[0].contents = Some(contents());
        let typed = typed.encode_to_vec();
        let two = [frame(0, &message), frame(0, &typed)].concat();
        seeds.extend([seed(0, seed(9, two)), seed(1, seed(0, frame(1, &pack(true, &message))))]);
    }
    seeds.push(seed(2, seed(0, frame(1, &pack(false, &vec![0; 1 << 15])))));
    seeds
}

fn contents() -> oip::proto::InferTensorContents {
    oip::proto::InferTensorContents {
        bool_contents: vec![true, false],
        int_contents: vec![1, -2],
        int64_contents: vec![i64::MIN, 2],
        uint_contents: vec![1, 2],
        uint64_contents: vec![u64::MAX, 2],
        fp32_contents: vec![1.5, f32::NAN],
        fp64_contents: vec![0.1, f64::INFINITY],
        bytes_contents: vec![Bytes::from_static(b"a"), Bytes::new()],
    }
}
