//! A model that another server holds, asked by the Open Inference Protocol's REST form.
//!
//! Tensors travel in binary where the server says that it reads them, else as JSON. Redirects are not followed, no proxy
//! is used, and an answer is at most as large as one of our own.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use reqwest::{
    Certificate, Client, Method, RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use rpc::model_server::Load;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use types::{
    Code, DataType, Refusal, Tensor,
    infer::{InferRequest, InferResponse, ModelMetadata, TensorSpec},
    manifest, refusal,
    tensor::{
        self,
        cut::{Cut, cut},
    },
};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long anything but an inference may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an inference may be silent; its own deadline is sooner.
const SILENCE: Duration = Duration::from_secs(120);
/// Bytes of an answer, at most.
const LONGEST: usize = 256 << 20;
/// How often it is asked whether it is ready.
const PROBE: Duration = Duration::from_secs(2);
const JSON_LENGTH: &str = "inference-header-content-length";

/// The way to a model of another server.
pub(crate) struct Upstream {
    http: Client,
    /// The server.
    base: String,
    /// The model there.
    model: String,
    /// Whether it reads and writes binary tensors.
    binary: Mutex<Option<bool>>,
    health: Mutex<Health>,
}

#[derive(Debug)]
struct Health {
    asked: Instant,
    asking: bool,
    away: Option<String>,
}

#[derive(Deserialize)]
struct Server {
    #[serde(default)]
    extensions: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

#[derive(Deserialize)]
struct Answer {
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Parameters,
    #[serde(default)]
    data: Option<usize>,
}

#[derive(Default, Deserialize)]
struct Parameters {
    #[serde(default)]
    binary_data_size: Option<usize>,
}

fn failed(what: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::LoadFailed, what)
}

impl Upstream {
    /// The way there, not gone yet.
    pub(crate) fn new(source: &manifest::Upstream, load: &Load) -> Result<Self, Refusal> {
        let mut headers = HeaderMap::new();
        if let Some(credential) = &load.credential {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", credential.as_str()))
                .map_err(|_| failed("the secret is no token"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut builder = Client::builder()
            .default_headers(headers)
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE);
        if let Some(pem) = &source.ca {
            let certificates = Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|error| failed(format!("spec.source.upstream.ca is no certificate: {error}")))?;
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder.build().map_err(|error| failed(format!("a client can't be made: {error}")))?;
        let base = source.url.trim_end_matches('/').to_owned();
        let name = source.model.as_deref().unwrap_or(load.model.as_str());
        let version = source.version.as_ref().map(|version| format!("/versions/{}", escaped(version)));
        let model = format!("{base}/v2/models/{}{}", escaped(name), version.unwrap_or_default());
        let health = Health { asked: Instant::now(), asking: false, away: None };
        Ok(Self { http, base, model, binary: Mutex::new(None), health: Mutex::new(health) })
    }

    /// What the model takes and gives.
    ///
    /// # Errors
    /// When the server can't be asked, does not know the model, or keeps its state.
    pub(crate) async fn metadata(&self) -> Result<ModelMetadata, Refusal> {
        self.learn_form().await.map_err(|refusal| failed(refusal.message))?;
        let metadata: Metadata = self.get(&self.model).await.map_err(|refusal| failed(refusal.message))?;
        // Only Triton tells, and only where it is told to keep state at all.
        let config: Result<Value, Refusal> = self.get(&format!("{}/config", self.model)).await;
        if config.is_ok_and(|config| config.get("sequence_batching").is_some()) {
            let what = format!("{} keeps the state of sequences, and Mantlet repeats requests", self.model);
            return Err(Refusal::new(Code::ModelUnsupported, what)
                .hint("let state travel in the request, as inputs and outputs of the model"));
        }
        let specs = |specs: Vec<Spec>| {
            let spec = |Spec { name, datatype, shape }| {
                let datatype = DataType::parse(&datatype)
                    .ok_or_else(|| failed(format!("`{name}` is {datatype}, which the protocol does not know")))?;
                Ok(TensorSpec { name, datatype, shape, classes: Vec::new() })
            };
            specs.into_iter().map(spec).collect::<Result<Vec<_>, Refusal>>()
        };
        Ok(ModelMetadata { inputs: specs(metadata.inputs)?, outputs: specs(metadata.outputs)? })
    }

    /// Whether it reads and writes binary tensors; asked once.
    async fn learn_form(&self) -> Result<bool, Refusal> {
        let known = *self.binary.lock();
        if let Some(binary) = known {
            return Ok(binary);
        }
        let server: Server = self.get(&format!("{}/v2", self.base)).await?;
        let binary = server.extensions.iter().any(|extension| extension == "binary_tensor_data");
        *self.binary.lock() = Some(binary);
        Ok(binary)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, Refusal> {
        let response = self.send(self.http.request(Method::GET, url).timeout(PATIENCE)).await?;
        let (_, body) = whole(response).await?;
        serde_json::from_slice(&body).map_err(|error| strange(url, &error))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Refusal> {
        let lost = |error: reqwest::Error| {
            let why = refusal::cause(&error.without_url());
            Refusal::new(Code::ReplicaLost, format!("{} does not answer: {why}", self.base))
        };
        let response = request.send().await.map_err(lost)?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        Err(self.refused(response).await)
    }

    async fn refused(&self, response: Response) -> Refusal {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = whole(response).await.map(|(_, body)| body).unwrap_or_default();
        let said: Option<Value> = serde_json::from_slice(&body).ok();
        let said = said.and_then(|said| Some(said.get("error")?.as_str()?.chars().take(300).collect::<String>()));
        let what = format!("{} said {status}: {}", self.base, said.as_deref().unwrap_or("no reason"));
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                Refusal::new(Code::Overloaded, what).retry_after(Duration::from_secs(after.unwrap_or(1).clamp(1, 60)))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Refusal::new(Code::InferenceFailed, what)
                .hint("set the secret anew that its manifest names: `mantlet secrets set NAME < token`"),
            StatusCode::NOT_FOUND => Refusal::new(Code::ModelNotReady, what),
            status if status.is_server_error() => Refusal::new(Code::ReplicaLost, what),
            _ => Refusal::new(Code::InferenceFailed, what),
        }
    }

    /// Asks for one inference.
    pub(crate) async fn infer(&self, request: &InferRequest) -> Result<InferResponse, Refusal> {
        let binary = self.learn_form().await?;
        let (head, tail) = write(request, binary)?;
        let mut call = self.http.request(Method::POST, format!("{}/infer", self.model));
        if binary {
            call = call.header(JSON_LENGTH, head.len()).header("content-type", "application/octet-stream");
        } else {
            call = call.header("content-type", "application/json");
        }
        let body = if tail.is_empty() {
            head.into()
        } else {
            let parts: Vec<Bytes> = std::iter::once(Bytes::from(head)).chain(tail).collect();
            reqwest::Body::wrap_stream(futures::stream::iter(parts.into_iter().map(Ok::<_, std::convert::Infallible>)))
        };
        let started = Instant::now();
        let (headers, body) = whole(self.send(call.body(body)).await?).await?;
        let compute = started.elapsed();
        let outputs = read(&headers, body).map_err(|what| strange(&self.model, &what))?;
        Ok(InferResponse { outputs, compute, queued: Some(Duration::ZERO), batch: request.rows(), snapshot: None })
    }

    /// Why it can't be asked right now, as known; asks again now and then.
    pub(crate) fn away(self: &std::sync::Arc<Self>) -> Option<String> {
        let mut health = self.health.lock();
        if !health.asking && health.asked.elapsed() >= PROBE {
            health.asking = true;
            let upstream = self.clone();
            tokio::spawn(async move {
                let url = format!("{}/ready", upstream.model);
                let asked = upstream.send(upstream.http.request(Method::GET, url).timeout(PATIENCE)).await;
                let away = asked.err().map(|refusal| refusal.message.into_owned());
                *upstream.health.lock() = Health { asked: Instant::now(), asking: false, away };
            });
        }
        health.away.clone()
    }
}

fn strange(what: &str, why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::InferenceFailed, format!("{what} gave an answer that can't be read: {why}"))
}

/// A segment of a path.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

async fn whole(mut response: Response) -> Result<(HeaderMap, Bytes), Refusal> {
    let lost = |error: reqwest::Error| {
        Refusal::new(Code::ReplicaLost, format!("the answer broke off: {}", error.without_url()))
    };
    let headers = std::mem::take(response.headers_mut());
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > LONGEST {
            return Err(Refusal::new(Code::InferenceFailed, format!("the answer is longer than {LONGEST} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((headers, body.freeze()))
}

/// The JSON of a request, and what follows it in binary.
fn write(request: &InferRequest, binary: bool) -> Result<(Vec<u8>, Vec<Bytes>), Refusal> {
    let mut head = br#"{"inputs":["#.to_vec();
    let mut tail = Vec::new();
    for (index, input) in request.inputs.iter().enumerate() {
        if index > 0 {
            head.push(b',');
        }
        let mut tensor = json!({ "name": input.name(), "shape": input.shape(), "datatype": input.datatype().as_str() });
        if binary {
            tensor["parameters"] = json!({ "binary_data_size": input.data().len() });
            head.extend_from_slice(tensor.to_string().as_bytes());
            tail.push(input.data().clone());
            continue;
        }
        head.extend_from_slice(tensor.to_string().trim_end_matches('}').as_bytes());
        head.extend_from_slice(br#","data":"#);
        tensor::json::write(input, &mut head)?;
        head.push(b'}');
    }
    let wish = |name: &String| match binary {
        true => json!({ "name": name, "parameters": { "binary_data": true } }),
        false => json!({ "name": name }),
    };
    let outputs: Vec<Value> = request.outputs.iter().map(wish).collect();
    let mut rest = serde_json::Map::new();
    if !outputs.is_empty() {
        rest.insert("outputs".into(), outputs.into());
    }
    if binary {
        rest.insert("parameters".into(), json!({ "binary_data_output": true }));
    }
    head.push(b']');
    for (name, value) in rest {
        head.extend_from_slice(format!(",{}:{value}", Value::from(name)).as_bytes());
    }
    head.push(b'}');
    Ok((head, tail))
}

fn read(headers: &HeaderMap, body: Bytes) -> Result<Vec<Tensor>, String> {
    let length = headers.get(JSON_LENGTH).map(|value| value.to_str().ok()?.parse::<usize>().ok());
    let length = match length {
        None => body.len(),
        Some(length) => length.filter(|length| *length <= body.len()).ok_or("its header is longer than all of it")?,
    };
    let mut binary = body.slice(length..);
    let text = std::str::from_utf8(&body[..length]).map_err(|error| error.to_string())?;
    let Cut { rest, values } = cut(text).ok_or("it ends in the middle")?;
    let answer: Answer = serde_json::from_str(&rest).map_err(|error| error.to_string())?;
    let tensor = |output: Output| {
        let Output { name, datatype, shape, parameters, data } = output;
        let datatype = DataType::parse(&datatype).ok_or_else(|| format!("`{name}` is {datatype}"))?;
        if let Some(size) = parameters.binary_data_size {
            if size > binary.len() {
                return Err(format!("`{name}` has {size} bytes, of which {} came", binary.len()));
            }
            return Tensor::new(name, datatype, shape, binary.split_to(size)).map_err(|error| error.to_string());
        }
        let data = data.and_then(|number| values.get(number)).ok_or_else(|| format!("`{name}` has no data"))?;
        tensor::json::read(&name, datatype, shape, data).map_err(|error| error.to_string())
    };
    answer.outputs.into_iter().map(tensor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> InferRequest {
        let x = Tensor::new("x", DataType::Int32, vec![2], [1_i32, 2].map(i32::to_le_bytes).concat().into()).unwrap();
        let s = Tensor::from_elements("s", vec![1], [&b"a\"b"[..]]).unwrap();
        InferRequest {
            model: "m".parse().unwrap(),
            version: None,
            id: None,
            inputs: vec![x, s],
            outputs: vec!["y".into()],
            timeout: None,
        }
    }

    #[test]
    fn a_request_is_json_or_json_before_bytes() {
        let (head, tail) = write(&request(), false).unwrap();
        let head: Value = serde_json::from_slice(&head).unwrap();
        assert_eq!(head["inputs"][0], json!({ "name": "x", "shape": [2], "datatype": "INT32", "data": [1, 2] }));
        assert_eq!((&head["inputs"][1]["data"], &head["outputs"]), (&json!(["a\"b"]), &json!([{ "name": "y" }])));
        assert!(tail.is_empty());
        let (head, tail) = write(&request(), true).unwrap();
        let head: Value = serde_json::from_slice(&head).unwrap();
        assert_eq!(head["inputs"][0]["parameters"]["binary_data_size"], 8);
        assert_eq!(head["parameters"]["binary_data_output"], true);
        assert_eq!(tail.concat(), [&[1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0][..], b"a\"b"].concat());
    }

    #[test]
    fn an_answer_is_read_in_both_forms_and_nonsense_is_told() {
        let json = br#"{"outputs":[{"name":"y","datatype":"FP32","shape":[2],"data":[1.5,2]}]}"#;
        let outputs = read(&HeaderMap::new(), Bytes::from_static(json)).unwrap();
        assert_eq!(outputs[0].iter_floats().collect::<Vec<_>>(), [1.5, 2.0]);
        let head = r#"{"outputs":[{"name":"y","datatype":"UINT8","shape":[2],"parameters":{"binary_data_size":2}}]}"#;
        let mut headers = HeaderMap::new();
        headers.insert(JSON_LENGTH, HeaderValue::from(head.len()));
        let body = Bytes::from([head.as_bytes(), &[7, 8]].concat());
        assert_eq!(read(&headers, body.clone()).unwrap()[0].data().as_ref(), [7, 8]);
        assert!(read(&headers, body.slice(..head.len() + 1)).unwrap_err().contains("of which 1 came"));
        assert!(read(&headers, body.slice(..9)).is_err());
        for bad in ["", "[]", r#"{"outputs":[{"name":"y","datatype":"FP32","shape":[2]}]}"#, r#"{"outputs":[{"data":["#]
        {
            assert!(read(&HeaderMap::new(), Bytes::from(bad)).is_err(), "{bad}");
        }
    }
}
