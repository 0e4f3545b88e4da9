//! Inferences as JSON with the protocol's binary extension, and back.
//!
//! With `Inference-Header-Content-Length: N` the first N bytes (unpacked) are the JSON, and the tensors whose
//! parameters say `binary_data_size` follow in order. An answer is binary for the outputs that ask for it.

use std::{borrow::Cow, time::Duration};

use async_trait::async_trait;
use axum::{body::Body as HttpBody, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, de::IgnoredAny};
use types::{
    Code, DataType, ModelName, PredictionId, Refusal, Tensor, Version,
    infer::InferRequest,
    tensor::{
        cut::{Cut, cut},
        json,
    },
};

use super::body::{self, Encoding};
use crate::{
    Ring,
    pipeline::{Body, Reply},
};

const JSON_LENGTH: &str = "inference-header-content-length";

/// The body of a REST call.
pub(crate) struct RestBody {
    model: Result<(ModelName, Option<Version>), Refusal>,
    headers: HeaderMap,
    body: HttpBody,
    idle: Duration,
    binary: Binary,
}

/// Which outputs are wanted in binary.
#[derive(Debug, Default)]
struct Binary {
    all: bool,
    named: Vec<(String, bool)>,
}

impl Binary {
    fn wants(&self, output: &str) -> bool {
        self.named.iter().find(|(name, _)| name == output).map_or(self.all, |(_, binary)| *binary)
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    outputs: Option<Vec<Output>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Option<Parameters>,
    /// Its number among the values that were cut out.
    #[serde(default)]
    data: Option<usize>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Option<Parameters>,
}

/// The parameters that mean something; others are the client's own business.
#[derive(Debug, Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    binary_data_size: Option<u64>,
    #[serde(default)]
    binary_data: Option<bool>,
    #[serde(default)]
    binary_data_output: Option<bool>,
    #[serde(default)]
    timeout: Option<serde_json::Value>,
    #[serde(default)]
    shared_memory_region: Option<serde_json::Value>,
    #[serde(default)]
    classification: Option<serde_json::Value>,
}

impl RestBody {
    pub(crate) fn new(
        ring: &Ring,
        model: Result<(ModelName, Option<Version>), Refusal>,
        headers: HeaderMap,
        body: HttpBody,
    ) -> Self {
        Self::of(model, headers, body, ring.limits.idle)
    }

    /// The same for a client that may be silent for `idle`.
    pub(crate) fn of(
        model: Result<(ModelName, Option<Version>), Refusal>,
        headers: HeaderMap,
        body: HttpBody,
        idle: Duration,
    ) -> Self {
        Self { model, headers, body, idle, binary: Binary::default() }
    }

    /// Throws away what is left of the body.
    pub(crate) async fn drain(&mut self) {
        body::drain(&mut self.body).await;
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

#[async_trait]
impl Body for RestBody {
    async fn model(&mut self) -> Result<(ModelName, Option<Version>), Refusal> {
        self.model.clone()
    }

    async fn request(&mut self, limit: u64) -> Result<InferRequest, Refusal> {
        let (model, version) = self.model.clone()?;
        let encoding = Encoding::parse(self.header("content-encoding"))?;
        let length = self.header(JSON_LENGTH).map(str::to_owned);
        let packed = body::read(&mut self.body, limit, self.idle).await?;
        let data = body::unpack(encoding, packed, limit).await?;
        let (request, binary) = if is_long(&data, length.as_deref()) {
            let read = tokio::task::spawn_blocking(move || read(&data, length.as_deref(), model, version));
            read.await.map_err(|error| Refusal::new(Code::Internal, format!("reading a request failed: {error}")))??
        } else {
            read(&data, length.as_deref(), model, version)?
        };
        self.binary = binary;
        Ok(request)
    }
}

/// Whether there is so much JSON that reading it, some 100 µs and more, would hold up the requests of others.
fn is_long(data: &Bytes, length: Option<&str>) -> bool {
    length.and_then(|length| length.trim().parse().ok()).unwrap_or(data.len()) > 64 << 10
}

fn malformed(what: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::RequestMalformed, what)
}

fn read(
    data: &Bytes,
    length: Option<&str>,
    model: ModelName,
    version: Option<Version>,
) -> Result<(InferRequest, Binary), Refusal> {
    let json_length = match length {
        None => data.len(),
        Some(text) => text.trim().parse::<usize>().ok().filter(|n| *n <= data.len()).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            malformed(format!("{JSON_LENGTH} is `{shown}`, and the body has {} bytes", data.len()))
        })?,
    };
    let (head, mut binary) = (&data[..json_length], data.slice(json_length..));
    let text = std::str::from_utf8(head).map_err(|error| not_json(&error))?;
    // The library's words about the whole text say where it is wrong.
    let not_whole = || match serde_json::from_str::<IgnoredAny>(text) {
        Err(error) => not_json(&error),
        Ok(_) => not_json(&"it is cut in two"),
    };
    let Cut { rest, values } = cut(text).ok_or_else(not_whole)?;
    let message: Message<'_> = serde_json::from_str(&rest).map_err(|error| {
        // Where it is wrong beside the data, that is at another place of the whole text.
        if error.is_data() { not_json(&error) } else { not_whole() }
    })?;
    let mut inputs = Vec::with_capacity(message.inputs.len());
    for input in message.inputs {
        inputs.push(read_input(input, &values, &mut binary)?);
    }
    if !binary.is_empty() {
        return Err(malformed(format!("{} bytes of the binary part belong to no input", binary.len()))
            .hint("each binary input names its size in parameters.binary_data_size"));
    }
    let parameters = message.parameters.unwrap_or_default();
    let mut wanted = Binary { all: parameters.binary_data_output.unwrap_or(false), named: Vec::new() };
    for output in message.outputs.into_iter().flatten() {
        let parameters = output.parameters.unwrap_or_default();
        refuse_extensions(&parameters)?;
        wanted.named.push((output.name, parameters.binary_data.unwrap_or(wanted.all)));
    }
    let timeout = parameters.timeout.as_ref().and_then(serde_json::Value::as_u64).filter(|micros| *micros > 0);
    let request = InferRequest {
        model,
        version,
        id: message.id.filter(|id| !id.is_empty()),
        inputs,
        outputs: wanted.named.iter().map(|(name, _)| name.clone()).collect(),
        timeout: timeout.map(Duration::from_micros),
    };
    Ok((request, wanted))
}

fn not_json(error: &dyn std::fmt::Display) -> Refusal {
    malformed(format!("the request is no inference request in JSON: {error}"))
        .hint("send {\"inputs\": [{\"name\": …, \"datatype\": …, \"shape\": […], \"data\": […]}]}")
}

fn refuse_extensions(parameters: &Parameters) -> Result<(), Refusal> {
    if parameters.shared_memory_region.is_some() {
        return Err(malformed("shared memory is not offered; send tensors in the request"));
    }
    if parameters.classification.is_some() {
        return Err(malformed("the classification extension is not offered; ask for the scores"));
    }
    Ok(())
}

fn read_input(input: Input<'_>, values: &[&str], binary: &mut Bytes) -> Result<Tensor, Refusal> {
    let name: String = input.name.chars().take(200).collect();
    let datatype = DataType::parse(&input.datatype).ok_or_else(|| {
        let shown: String = input.datatype.chars().take(40).collect();
        Refusal::new(Code::InputMismatch, format!("input `{name}`: there is no type `{shown}`"))
    })?;
    let parameters = input.parameters.unwrap_or_default();
    refuse_extensions(&parameters)?;
    if let Some(size) = parameters.binary_data_size {
        let size = usize::try_from(size).ok().filter(|size| *size <= binary.len()).ok_or_else(|| {
            malformed(format!("input `{name}` claims {size} bytes of the binary part, which has {} left", binary.len()))
        })?;
        return Ok(Tensor::new(name, datatype, input.shape, binary.split_to(size))?);
    }
    let data = input.data.and_then(|number| values.get(number));
    let data = data.ok_or_else(|| malformed(format!("input `{name}` has no data")))?;
    Ok(json::read(&name, datatype, input.shape, data)?)
}

/// The header that says how far the state that answered had learnt, where the model is one that learns.
const SNAPSHOT: &str = "mantlet-snapshot";

/// Writes an answer as the request asked for it.
pub(crate) fn write(reply: Reply, asked: &RestBody, prediction: PredictionId) -> Result<Response, Refusal> {
    let id = reply.id().map_or_else(|| prediction.to_string(), str::to_owned);
    let model = reply.model().route.manifest.metadata.name.clone();
    let (version, response) = reply.into_response();
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"model_name\":");
    put(&mut out, &model);
    out.extend_from_slice(format!(",\"model_version\":\"{version}\",\"id\":").as_bytes());
    put(&mut out, &id);
    out.extend_from_slice(b",\"outputs\":[");
    let mut binary = Vec::new();
    for (index, tensor) in response.outputs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        put(&mut out, &tensor.name());
        out.extend_from_slice(format!(",\"datatype\":\"{}\",\"shape\":", tensor.datatype()).as_bytes());
        put(&mut out, &tensor.shape());
        if asked.binary.wants(tensor.name()) {
            out.extend_from_slice(
                format!(",\"parameters\":{{\"binary_data_size\":{}}}", tensor.data().len()).as_bytes(),
            );
            binary.push(tensor.data().clone());
        } else {
            out.extend_from_slice(b",\"data\":");
            json::write(tensor, &mut out).map_err(|error| {
                Refusal::new(Code::OutputNotJson, error.to_string())
                    .hint("ask for it with parameters {\"binary_data\": true}, or over gRPC")
            })?;
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    let json_length = out.len();
    binary.iter().for_each(|data| out.extend_from_slice(data));

    let encoding = accepted(asked.header("accept-encoding"));
    let mut answer = Response::new(HttpBody::from(body::pack(encoding, out)));
    let headers = answer.headers_mut();
    let content = if binary.is_empty() { "application/json" } else { "application/octet-stream" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    if !binary.is_empty() {
        headers.insert(JSON_LENGTH, HeaderValue::from(json_length));
    }
    if encoding != Encoding::Identity {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.as_str()));
    }
    if let Some(snapshot) = response.snapshot {
        headers.insert(SNAPSHOT, HeaderValue::from(snapshot));
    }
    Ok(answer)
}

fn put<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing plain values into memory has no way to fail.
    let _ = serde_json::to_writer(out, value);
}

/// The first encoding of the list that we offer; clients of the protocol know gzip and deflate.
fn accepted(header: Option<&str>) -> Encoding {
    let offered = header.into_iter().flat_map(|list| list.split(','));
    offered
        .filter(|item| !item.replace(' ', "").contains(";q=0.0") && !item.trim_end().ends_with(";q=0"))
        .map(|item| item.split(';').next().unwrap_or_default().trim())
        .find_map(|name| Encoding::parse(Some(name)).ok().filter(|encoding| *encoding != Encoding::Identity))
        .unwrap_or(Encoding::Identity)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_text(data: &[u8], length: Option<&str>) -> Result<InferRequest, Refusal> {
        read(&Bytes::copy_from_slice(data), length, "m".parse().unwrap(), None).map(|(request, _)| request)
    }

    #[test]
    fn json_and_binary_inputs_mix() {
        let json = br#"{"id":"a","inputs":[{"name":"x","datatype":"INT32","shape":[1],"data":[7]},
            {"name":"y","datatype":"INT32","shape":[1],"parameters":{"binary_data_size":4}}]}"#;
        let body = [json.as_slice(), &9_i32.to_le_bytes()].concat();
        let request = read_text(&body, Some(&json.len().to_string())).unwrap();
        assert_eq!(request.id.as_deref(), Some("a"));
        assert_eq!(request.inputs[1].data().as_ref(), 9_i32.to_le_bytes());
    }

    #[test]
    fn a_lying_binary_part_is_refused() {
        let json = br#"{"inputs":[{"name":"y","datatype":"INT32","shape":[1],"parameters":{"binary_data_size":4}}]}"#;
        let length = json.len().to_string();
        let code = |body: &[u8], length: &str| read_text(body, Some(length)).unwrap_err().code;
        let (whole, short, long) = (
            [json.as_slice(), &[0; 4]].concat(),
            [json.as_slice(), &[0; 3]].concat(),
            [json.as_slice(), &[0; 5]].concat(),
        );
        assert!(read_text(&whole, Some(&length)).is_ok());
        assert_eq!(code(&short, &length), Code::RequestMalformed);
        assert_eq!(code(&long, &length), Code::RequestMalformed);
        for lie in ["99999", "-1", "18446744073709551616", "x", "10"] {
            assert_eq!(code(&whole, lie), Code::RequestMalformed, "{lie}");
        }
    }

    #[test]
    fn bare_numbers_that_are_none_are_taken_as_clients_write_them() {
        let body =
            br#"{"inputs":[{"name":"NaN \" NaN","datatype":"FP32","shape":[3],"data":[NaN, -Infinity,Infinity]}]}"#;
        let request = read_text(body, None).unwrap();
        assert_eq!(request.inputs[0].name(), "NaN \" NaN");
        let values: Vec<f64> = request.inputs[0].iter_floats().collect();
        assert!(values[0].is_nan() && values[1] == f64::NEG_INFINITY && values[2] == f64::INFINITY);
        assert!(read_text(b"{\"inputs\": NaN", None).is_err());
    }

    #[test]
    fn nonsense_is_refused_with_the_form_that_is_wanted() {
        let deep = [b"[".repeat(200_000), b"]".repeat(200_000)].concat();
        let nested =
            [br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":"#.as_slice(), &deep, b"}]}"].concat();
        for body in [&b""[..], b"{", b"[]", b"{\"inputs\":{}}", b"{\"inputs\":[{}]}", b"\xff\xfe", &deep, &nested] {
            let refusal = read_text(body, None).unwrap_err();
            assert!(matches!(refusal.code, Code::RequestMalformed | Code::InputMismatch), "{refusal}");
        }
    }

    #[test]
    fn encodings_are_chosen_from_what_is_accepted() {
        assert_eq!(accepted(Some("gzip, deflate, br")), Encoding::Gzip);
        assert_eq!(accepted(Some("br;q=1.0, deflate")), Encoding::Deflate);
        assert_eq!(accepted(Some("gzip;q=0")), Encoding::Identity);
        assert_eq!(accepted(None), Encoding::Identity);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(body: Vec<u8>, length in prop::option::of("[0-9]{0,4}")) {
            let _ = read_text(&body, length.as_deref());
        }
    }
}
