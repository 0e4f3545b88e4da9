//! The model server's trait: verify and load a bundle, answer inferences, say how it goes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use access::{Identity, tls::ServiceTls};
use async_trait::async_trait;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;
use types::{
    Code, Digest, ModelName, Namespace, Refusal, Version,
    infer::{InferRequest, InferResponse, ModelMetadata},
};
use zeroize::Zeroizing;

use crate::{
    oip::{self, proto::ModelInferRequest},
    remote,
    report::{Asked, REPORT, Report, WORK},
};

/// Loads one bundle.
#[derive(Clone, Serialize, Deserialize)]
pub struct Load {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its model.
    pub model: ModelName,
    /// Its version.
    pub version: Version,
    /// The digest it must have.
    pub digest: Digest,
    /// Where it lies.
    pub path: PathBuf,
    /// Public keys it may be signed with, PEM.
    pub keys: Vec<String>,
    /// What it takes and gives, where that is known from before: then it is loaded when first asked for.
    #[serde(default)]
    pub known: Option<ModelMetadata>,
    /// Of a streaming model, whether this is its first state here; it is loaded at once, whatever is known.
    #[serde(default)]
    pub state: Option<State>,
    /// What another server that holds the model is asked with.
    #[serde(default)]
    pub credential: Option<Zeroizing<String>>,
}

/// Which state of a streaming model is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The first one here.
    First,
    /// A newer one, which takes the place of the one that answers; a version that is gone by now stays gone.
    Newer,
}

/// Lets go of a version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unload {
    /// Its model.
    pub model: ModelName,
    /// Its version.
    pub version: Version,
}

/// Gives up memory, since the machine is short of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relieve {
    /// So many bytes of models that nobody uses right now go, and stay away from what others may take; with 0 that is as it was at
    /// the start.
    pub bytes: u64,
}

/// Asks how a replica stands, without a request to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandOf {
    /// Its model.
    pub model: ModelName,
    /// Its version.
    pub version: Version,
    /// The number by which replicas know who asks.
    pub sender: u64,
}

/// How a model server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Whether all that it holds answers as it should.
    pub ready: bool,
    /// Inferences in flight.
    pub in_flight: u32,
    /// Inferences answered since the start.
    pub answered: u64,
    /// Inferences in flight that wait for a session.
    #[serde(default)]
    pub queued: u32,
    /// Models that are in memory.
    #[serde(default)]
    pub loaded: u32,
    /// Models that were put out of memory so far, to make room for others.
    #[serde(default)]
    pub unloaded: u64,
    /// Private memory that is in use, in bytes; 0 where that is not known.
    #[serde(default)]
    pub memory: u64,
    /// Models that can't be asked right now though this process is well, and why: other servers hold them.
    #[serde(default)]
    pub away: Vec<Away>,
}

/// A model that can't be asked right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Away {
    /// The model.
    pub model: ModelName,
    /// Its version.
    pub version: Version,
    /// Why.
    pub why: String,
}

/// A new certificate for a running model server.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Renewal {
    /// The chain, PEM.
    pub chain: String,
    /// The private key, PEM.
    pub key: Zeroizing<String>,
    /// The CA its peers must come from, PEM.
    pub ca: String,
}

impl Renewal {
    /// TLS settings that show it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn tls(self) -> Result<ServiceTls, Refusal> {
        let identity = Identity { chain: self.chain, key: self.key };
        ServiceTls::new(&identity, &self.ca).map_err(|error| Refusal::new(Code::Internal, error.to_string()))
    }
}

/// A process that holds replicas of one namespace.
#[async_trait]
pub trait ModelServer: Send + Sync {
    /// Verifies, loads and warms up a bundle; returns what it takes and gives.
    async fn load(&self, load: Load) -> Result<ModelMetadata, Refusal>;

    /// Lets go of a version, once its inferences in flight have ended.
    async fn unload(&self, unload: Unload) -> Result<(), Refusal>;

    /// How it is.
    async fn status(&self) -> Result<ServerStatus, Refusal>;

    /// Gives up memory as far as it can; how many bytes its models gave up.
    async fn relieve(&self, _relieve: Relieve) -> Result<u64, Refusal> {
        Ok(0)
    }

    /// Answers one inference.
    async fn infer(&self, request: InferRequest) -> Result<InferResponse, Refusal>;

    /// The same for who counts its work; says how the replica stands where that is more than who asks knows by itself.
    async fn infer_counted(
        &self,
        request: InferRequest,
        _asked: Asked,
    ) -> Result<(InferResponse, Option<Report>), Refusal> {
        Ok((self.infer(request).await?, None))
    }

    /// How a replica stands, where somebody else than who asks has sent to it lately; nothing where it knows no more than who
    /// asks.
    async fn stand(&self, _of: StandOf) -> Result<Option<Report>, Refusal> {
        Ok(None)
    }
}

service! {
    /// The part of a model server's door that is called beside inferences: by its orchestrator, and by gateways that ask how a
    /// replica stands.
    pub trait Control, client ControlClient, router control_router, path "mantlet.ModelServer" {
        /// As [`ModelServer::load`].
        fn load(Load) -> ModelMetadata;
        /// As [`ModelServer::unload`].
        fn unload(Unload) -> ();
        /// As [`ModelServer::status`].
        fn status(()) -> ServerStatus;
        /// As [`ModelServer::relieve`].
        fn relieve(Relieve) -> u64;
        /// As [`ModelServer::stand`].
        fn stand(StandOf) -> Option<Report>;
        /// Shows another certificate from now on.
        fn renew(Renewal) -> ();
    }
}

/// Takes a new certificate in.
pub type Renew = Arc<dyn Fn(Renewal) -> Result<(), Refusal> + Send + Sync>;

struct Controlled(Arc<dyn ModelServer>, Renew);

#[async_trait]
impl Control for Controlled {
    async fn load(&self, request: Load) -> Result<ModelMetadata, Refusal> {
        self.0.load(request).await
    }
    async fn unload(&self, request: Unload) -> Result<(), Refusal> {
        self.0.unload(request).await
    }
    async fn status(&self, (): ()) -> Result<ServerStatus, Refusal> {
        self.0.status().await
    }
    async fn relieve(&self, relieve: Relieve) -> Result<u64, Refusal> {
        self.0.relieve(relieve).await
    }
    async fn stand(&self, of: StandOf) -> Result<Option<Report>, Refusal> {
        self.0.stand(of).await
    }
    async fn renew(&self, request: Renewal) -> Result<(), Refusal> {
        (self.1)(request)
    }
}

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// Metadata that carries the model's own time, in microseconds.
const COMPUTE: &str = "mantlet-compute-us";
/// Metadata that carries how long the request waited at its replica, in microseconds.
const QUEUED: &str = "mantlet-queued-us";
/// Metadata that carries the rows of the batch that the answer was computed in.
const BATCH: &str = "mantlet-batch";

/// Serves a model server to other processes: its control part, and the Open Inference Protocol's `ModelInfer`.
pub fn model_server_router(inner: Arc<dyn ModelServer>, renew: Renew) -> axum::Router {
    let control = control_router(Arc::new(Controlled(inner.clone(), renew)));
    let infer = move |request: axum::extract::Request| {
        let inner = inner.clone();
        async move {
            let service = tower::service_fn(move |request: tonic::Request<ModelInferRequest>| {
                let inner = inner.clone();
                async move { answer(&*inner, request).await.map_err(|refusal| remote::status(&refusal)) }
            });
            let codec = tonic_prost::ProstCodec::default();
            let mut grpc = tonic::server::Grpc::new(codec)
                .max_decoding_message_size(remote::MESSAGE)
                .max_encoding_message_size(remote::MESSAGE);
            grpc.unary(service, request).await
        }
    };
    control.route(INFER, axum::routing::post(infer))
}

async fn answer(
    inner: &dyn ModelServer,
    request: tonic::Request<ModelInferRequest>,
) -> Result<tonic::Response<oip::proto::ModelInferResponse>, Refusal> {
    let asked = request.metadata().get(WORK).and_then(|value| Asked::from_text(value.to_str().ok()?));
    let request = oip::read_request(request.into_inner())?;
    let (model, version, id) = (request.model.clone(), request.version, request.id.clone());
    let (response, report) = match asked {
        Some(asked) => inner.infer_counted(request, asked).await?,
        None => (inner.infer(request).await?, None),
    };
    let times = [(COMPUTE, Some(response.compute)), (QUEUED, response.queued)];
    let batch = response.batch;
    let mut answer =
        tonic::Response::new(oip::write_response(model.as_str(), version.map_or(0, |v| v.0), id.as_deref(), response));
    for (name, time) in times {
        if let Some(time) = time {
            answer.metadata_mut().insert(name, u64::try_from(time.as_micros()).unwrap_or(u64::MAX).into());
        }
    }
    answer.metadata_mut().insert(BATCH, batch.into());
    if let Some(value) = report.and_then(|report| report.to_text().try_into().ok()) {
        answer.metadata_mut().insert(REPORT, value);
    }
    Ok(answer)
}

/// The remote form of a model server.
#[derive(Debug, Clone)]
pub struct ModelServerClient {
    channel: Channel,
    control: ControlClient,
}

impl ModelServerClient {
    /// A model server behind this channel.
    pub fn new(channel: Channel) -> Self {
        Self { control: ControlClient(channel.clone()), channel }
    }

    /// Gives it another certificate to show from now on.
    ///
    /// # Errors
    /// When it is away, or can't use it.
    pub async fn renew(&self, renewal: Renewal) -> Result<(), Refusal> {
        self.control.renew(renewal).await
    }

    async fn ask(
        &self,
        request: InferRequest,
        asked: Option<Asked>,
    ) -> Result<(InferResponse, Option<Report>), Refusal> {
        let rows = request.rows();
        let message = oip::write_request(request);
        let mut grpc = tonic::client::Grpc::new(self.channel.clone())
            .max_decoding_message_size(remote::MESSAGE)
            .max_encoding_message_size(remote::MESSAGE.max(message.encoded_len()));
        grpc.ready()
            .await
            .map_err(|error| Refusal::new(Code::ReplicaLost, format!("the model server is away: {error}")))?;
        let path = http::uri::PathAndQuery::from_static(INFER);
        let codec = tonic_prost::ProstCodec::<ModelInferRequest, oip::proto::ModelInferResponse>::default();
        let mut message = tonic::Request::new(message);
        if let Some(value) = asked.and_then(|asked| asked.to_text().try_into().ok()) {
            message.metadata_mut().insert(WORK, value);
        }
        let answer = grpc.unary(message, path, codec).await.map_err(|status| remote::refusal(&status))?;
        let noted = |name| answer.metadata().get(name).and_then(|value| value.to_str().ok()?.parse().ok());
        let (compute, queued) = (noted(COMPUTE).unwrap_or(0), noted(QUEUED).map(Duration::from_micros));
        // The release before says nothing, and batches nothing.
        let batch = noted(BATCH).unwrap_or(rows);
        let report = answer.metadata().get(REPORT).and_then(|value| Report::from_text(value.to_str().ok()?));
        let answer = answer.into_inner();
        let snapshot = oip::read_snapshot(&answer);
        let outputs = oip::read_outputs(answer)?;
        let compute = Duration::from_micros(compute);
        Ok((InferResponse { outputs, compute, queued, batch, snapshot }, report))
    }
}

#[async_trait]
impl ModelServer for ModelServerClient {
    async fn load(&self, load: Load) -> Result<ModelMetadata, Refusal> {
        self.control.load(load).await
    }

    async fn unload(&self, unload: Unload) -> Result<(), Refusal> {
        self.control.unload(unload).await
    }

    async fn status(&self) -> Result<ServerStatus, Refusal> {
        self.control.status(()).await
    }

    async fn relieve(&self, relieve: Relieve) -> Result<u64, Refusal> {
        self.control.relieve(relieve).await
    }

    async fn infer(&self, request: InferRequest) -> Result<InferResponse, Refusal> {
        self.ask(request, None).await.map(|(response, _)| response)
    }

    async fn infer_counted(
        &self,
        request: InferRequest,
        asked: Asked,
    ) -> Result<(InferResponse, Option<Report>), Refusal> {
        self.ask(request, Some(asked)).await
    }

    async fn stand(&self, of: StandOf) -> Result<Option<Report>, Refusal> {
        self.control.stand(of).await
    }
}
