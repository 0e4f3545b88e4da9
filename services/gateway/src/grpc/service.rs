//! The methods of `inference.GRPCInferenceService`.

use std::sync::Arc;

use access::Principal;
use async_trait::async_trait;
use axum::{
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use prost::Message;
use rpc::oip::{
    self,
    proto::{
        InferStatistics, ModelConfig, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
        ModelInput, ModelMetadataRequest, ModelMetadataResponse, ModelOutput, ModelReadyRequest, ModelReadyResponse,
        ModelStatistics, ModelStatisticsRequest, ModelStatisticsResponse, ModelStreamInferResponse,
        RepositoryIndexRequest, RepositoryIndexResponse, ServerLiveResponse, ServerMetadataResponse,
        ServerReadyResponse, StatisticDuration, model_metadata_response::TensorMetadata,
        repository_index_response::ModelIndex,
    },
};
use types::{
    Code, DataType, ModelName, PredictionId, Refusal, Version,
    infer::{InferRequest, TensorSpec},
};

use super::frame::{self, Packed, Reader};
use crate::{
    Ring,
    extract::Sender,
    pipeline::{Body, Call, Reply, predict},
    rest,
    ring::Model,
    trace::Door,
};

type Shared = State<Arc<Ring>>;

/// Messages of one stream that are worked on at a time; answers keep their order.
const PIPELINE: usize = 16;
/// The largest request that is no inference.
const SMALL: u64 = 64 << 10;

/// A unary call that needs a principal: identify, then read, then answer.
async fn unary<Q: Message + Default, A: Message>(
    ring: &Ring,
    request: Request,
    method: impl FnOnce(&Ring, Principal, Q) -> Result<A, Refusal>,
) -> Response {
    let (parts, body) = request.into_parts();
    let outcome = async {
        let principal = rest::identify(ring, &parts)?;
        let mut reader = Reader::new(&parts.headers, body, ring.limits.idle)?;
        let message = reader.next(SMALL, false).await?.unwrap_or_default();
        let question = Q::decode(message).map_err(|error| unreadable(&error))?;
        Ok(method(ring, principal, question)?.encode_to_vec().into())
    };
    frame::unary(outcome.await, frame::accepted(&parts.headers), None)
}

fn unreadable(error: &prost::DecodeError) -> Refusal {
    Refusal::new(Code::RequestMalformed, format!("the message can't be read: {error}"))
}

pub(super) async fn server_live(State(_): Shared, _: Request) -> Response {
    frame::unary(Ok(ServerLiveResponse { live: true }.encode_to_vec().into()), Packed::Identity, None)
}

pub(super) async fn server_ready(State(_): Shared, _: Request) -> Response {
    frame::unary(Ok(ServerReadyResponse { ready: true }.encode_to_vec().into()), Packed::Identity, None)
}

pub(super) async fn server_metadata(State(ring): Shared, request: Request) -> Response {
    unary(&ring, request, |_, _, (): ()| {
        Ok(ServerMetadataResponse {
            name: rest::SERVER.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            extensions: rest::EXTENSIONS.iter().map(|name| (*name).to_owned()).collect(),
        })
    })
    .await
}

/// The model a question names, for a principal that may read it.
fn named(
    ring: &Ring,
    principal: Principal,
    name: &str,
    version: &str,
) -> Result<(ModelName, Option<Version>, Arc<Model>), Refusal> {
    let (name, version) = (name.parse::<ModelName>()?, oip::read_version(version)?);
    let model = rest::read(ring, principal, &name, version)?;
    Ok((name, version, model))
}

pub(super) async fn model_ready(State(ring): Shared, request: Request) -> Response {
    unary(&ring, request, |ring, principal, question: ModelReadyRequest| {
        let (_, version, model) = named(ring, principal, &question.name, &question.version)?;
        Ok(ModelReadyResponse { ready: rest::is_ready(&model, version) })
    })
    .await
}

pub(super) async fn model_metadata(State(ring): Shared, request: Request) -> Response {
    unary(&ring, request, |ring, principal, question: ModelMetadataRequest| {
        let (name, version, model) = named(ring, principal, &question.name, &question.version)?;
        let (inputs, outputs) = rest::specs(&model);
        let tensor = |spec: TensorSpec| TensorMetadata {
            name: spec.name,
            datatype: spec.datatype.to_string(),
            shape: spec.shape,
        };
        Ok(ModelMetadataResponse {
            name: name.to_string(),
            versions: vec![version.unwrap_or(model.route.current).to_string()],
            platform: "onnxruntime_onnx".into(),
            inputs: inputs.into_iter().map(tensor).collect(),
            outputs: outputs.into_iter().map(tensor).collect(),
        })
    })
    .await
}

pub(super) async fn model_config(State(ring): Shared, request: Request) -> Response {
    unary(&ring, request, |ring, principal, question: ModelConfigRequest| {
        let (name, _, model) = named(ring, principal, &question.name, &question.version)?;
        let (inputs, outputs) = rest::specs(&model);
        let input =
            |spec: TensorSpec| ModelInput { data_type: triton_type(spec.datatype), name: spec.name, dims: spec.shape };
        let output =
            |spec: TensorSpec| ModelOutput { data_type: triton_type(spec.datatype), name: spec.name, dims: spec.shape };
        let config = ModelConfig {
            name: name.to_string(),
            platform: "onnxruntime_onnx".into(),
            max_batch_size: 0,
            input: inputs.into_iter().map(input).collect(),
            output: outputs.into_iter().map(output).collect(),
            backend: "onnxruntime".into(),
        };
        Ok(ModelConfigResponse { config: Some(config) })
    })
    .await
}

/// Triton's numbers of element types in a model's configuration.
fn triton_type(datatype: DataType) -> i32 {
    match datatype {
        DataType::Bool => 1,
        DataType::Uint8 => 2,
        DataType::Uint16 => 3,
        DataType::Uint32 => 4,
        DataType::Uint64 => 5,
        DataType::Int8 => 6,
        DataType::Int16 => 7,
        DataType::Int32 => 8,
        DataType::Int64 => 9,
        DataType::Fp16 => 10,
        DataType::Fp32 => 11,
        DataType::Fp64 => 12,
        DataType::Bytes => 13,
        DataType::Bf16 => 14,
    }
}

fn statistic(model: &Model) -> ModelStatistics {
    use std::sync::atomic::Ordering::Relaxed;
    let statistics = &model.statistics;
    let duration = |(count, ns): (u64, u64)| Some(StatisticDuration { count, ns });
    let (success, compute) = (statistics.success.get(), statistics.compute.get());
    ModelStatistics {
        name: model.route.manifest.metadata.name.to_string(),
        version: model.route.current.to_string(),
        last_inference: statistics.last.load(Relaxed),
        inference_count: statistics.rows.load(Relaxed),
        execution_count: compute.0,
        inference_stats: Some(InferStatistics {
            success: duration(success),
            fail: duration(statistics.fail.get()),
            queue: duration((success.0, success.1.saturating_sub(compute.1))),
            compute_input: duration((compute.0, 0)),
            compute_infer: duration(compute),
            compute_output: duration((compute.0, 0)),
        }),
    }
}

pub(super) async fn model_statistics(State(ring): Shared, request: Request) -> Response {
    unary(&ring, request, |ring, principal, question: ModelStatisticsRequest| {
        let models = if question.name.is_empty() {
            rest::readable_models(ring, principal)?
        } else {
            vec![named(ring, principal, &question.name, &question.version)?.2]
        };
        Ok(ModelStatisticsResponse { model_stats: models.iter().map(|model| statistic(model)).collect() })
    })
    .await
}

pub(super) async fn repository_index(State(ring): Shared, request: Request) -> Response {
    unary(&ring, request, |ring, principal, question: RepositoryIndexRequest| {
        let models = rest::readable_models(ring, principal)?;
        let wanted = models.iter().filter(|model| !question.ready || rest::is_ready(model, None));
        let entry = |model: &Arc<Model>| ModelIndex {
            name: model.route.manifest.metadata.name.to_string(),
            version: model.route.current.to_string(),
            state: if rest::is_ready(model, None) { "READY" } else { "UNAVAILABLE" }.into(),
            reason: model.route.waiting.clone().unwrap_or_default(),
        };
        Ok(RepositoryIndexResponse { models: wanted.map(entry).collect() })
    })
    .await
}

/// The names in an inference request, and nothing of its tensors.
#[derive(Clone, PartialEq, Message)]
struct Names {
    #[prost(string, tag = "1")]
    model: String,
    #[prost(string, tag = "2")]
    version: String,
}

/// The body of a gRPC inference: still on the wire, or a message of a stream.
struct GrpcBody {
    reader: Option<Reader>,
    message: Option<Bytes>,
    largest: u64,
}

impl GrpcBody {
    async fn message(&mut self) -> Result<Bytes, Refusal> {
        if let Some(message) = &self.message {
            return Ok(message.clone());
        }
        let message = match &mut self.reader {
            Some(reader) => reader.next(self.largest, false).await?,
            None => None,
        };
        let message = message.ok_or_else(|| Refusal::new(Code::RequestMalformed, "the call carries no message"))?;
        self.message = Some(message.clone());
        Ok(message)
    }
}

#[async_trait]
impl Body for GrpcBody {
    async fn model(&mut self) -> Result<(ModelName, Option<Version>), Refusal> {
        names(self.message().await?)
    }

    async fn request(&mut self, limit: u64) -> Result<InferRequest, Refusal> {
        let message = self.message().await?;
        if message.len() as u64 > limit {
            return Err(rest::body::too_large(limit));
        }
        self::request(message)
    }
}

/// The model that a message names.
///
/// # Errors
/// `request_malformed`.
pub(crate) fn names(message: Bytes) -> Result<(ModelName, Option<Version>), Refusal> {
    let names = Names::decode(message).map_err(|error| unreadable(&error))?;
    Ok((names.model.parse()?, oip::read_version(&names.version)?))
}

/// The whole of a message.
///
/// # Errors
/// `request_malformed`, `input_mismatch`.
pub(crate) fn request(message: Bytes) -> Result<InferRequest, Refusal> {
    oip::read_request(ModelInferRequest::decode(message).map_err(|error| unreadable(&error))?)
}

fn write(reply: Reply, prediction: PredictionId) -> ModelInferResponse {
    let id = reply.id().map_or_else(|| prediction.to_string(), str::to_owned);
    let model = reply.model().route.manifest.metadata.name.clone();
    let (version, response) = reply.into_response();
    oip::write_response(model.as_str(), version.0, Some(&id), response)
}

pub(super) async fn model_infer(State(ring): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let packed = frame::accepted(&parts.headers);
    let timeout = super::timeout(&parts.headers);
    let head = rest::head(&ring, &parts, Door::Grpc("ModelInfer"), timeout.as_ref().ok().copied().flatten());
    let prediction = head.prediction;
    let outcome = async {
        timeout?;
        let reader = Reader::new(&parts.headers, body, ring.limits.idle)?;
        let mut body = GrpcBody { reader: Some(reader), message: None, largest: ring.limits.message };
        let reply = predict(&ring, Call { head, body: &mut body }).await?;
        Ok(write(reply, prediction).encode_to_vec().into())
    };
    frame::unary(outcome.await, packed, Some(prediction))
}

pub(super) async fn model_stream_infer(State(ring): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let opened = super::timeout(&parts.headers).and_then(|_| {
        rest::identify(&ring, &parts)?;
        Reader::new(&parts.headers, body, ring.limits.idle)
    });
    match opened {
        Ok(reader) => {
            let packed = frame::accepted(&parts.headers);
            frame::stream(answers(ring, Sender::of(parts), reader), packed)
        }
        Err(refusal) => super::refuse(&refusal),
    }
}

/// Answers to the messages of a stream, in order. What is wrong with one message is its answer; a credential that
/// no longer holds ends the stream.
fn answers(ring: Arc<Ring>, sender: Sender, reader: Reader) -> impl Stream<Item = Result<Bytes, Refusal>> {
    let sender = Arc::new(sender);
    let largest = ring.limits.message;
    let messages = futures::stream::unfold(Some(reader), move |reader| async move {
        let mut reader = reader?;
        match reader.next(largest, true).await {
            Ok(None) => None,
            Ok(Some(message)) => Some((Ok(message), Some(reader))),
            Err(refusal) => Some((Err(refusal), None)),
        }
    });
    messages
        .map(move |message| {
            let (ring, sender) = (ring.clone(), sender.clone());
            async move {
                let message = message?;
                let head = rest::head(&ring, &*sender, Door::Grpc("ModelStreamInfer"), None);
                rest::identify(&ring, &*sender)?;
                let prediction = head.prediction;
                let mut body = GrpcBody { reader: None, message: Some(message), largest: ring.limits.message };
                let answer = match predict(&ring, Call { head, body: &mut body }).await {
                    Ok(reply) => ModelStreamInferResponse {
                        error_message: String::new(),
                        infer_response: Some(write(reply, prediction)),
                    },
                    Err(refusal) => failed(&refusal, body.message.take().unwrap_or_default()),
                };
                Ok(answer.encode_to_vec().into())
            }
        })
        .buffered(PIPELINE)
}

/// A refused message's answer carries the message's id, so that its sender can tell which it was.
fn failed(refusal: &Refusal, message: Bytes) -> ModelStreamInferResponse {
    #[derive(Clone, PartialEq, Message)]
    struct Id {
        #[prost(string, tag = "3")]
        id: String,
    }
    let id = Id::decode(message).map(|found| found.id).unwrap_or_default();
    ModelStreamInferResponse {
        error_message: refusal.text(),
        infer_response: Some(ModelInferResponse { id, ..ModelInferResponse::default() }),
    }
}
