//! The orchestrator's trait: desired state goes in, routes and status come out.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};
use types::{
    CallerName, Digest, Manifest, ModelName, Namespace, Timestamp, Version, infer::ModelMetadata, manifest::ScaleMode,
    quantity::Share,
};

use crate::{Changes, Since, registry::Receipt};

/// What is wanted of one model; written by compare-and-swap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
    /// The version that should answer.
    pub version: Version,
    /// That version's bundle.
    pub digest: Digest,
    /// That version's manifest.
    pub manifest: Manifest,
    /// Who wants it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// A version that is to be asked the same, to be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// A version that stands beside the one that is wanted: nobody gets its answers, or a share of the requests does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// Which.
    pub version: Version,
    /// Its bundle.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: Manifest,
    /// The share of the requests that it answers itself; with none, it is asked copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

/// Submits a wish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submit {
    /// What is wanted; `None` wants the model gone.
    pub desired: Option<Desired>,
    /// The model it is about.
    pub namespace: Namespace,
    /// The model it is about.
    pub model: ModelName,
    /// Who asks.
    pub actor: String,
    /// The generation that must stand; whatever stands when left out.
    #[serde(default)]
    pub expect: Option<u64>,
    /// What the ledger calls it, for example `model.rollback`.
    pub action: String,
}

/// Wants so many replicas of a model, whatever its manifest starts with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scale {
    /// The model it is about.
    pub namespace: Namespace,
    /// The model it is about.
    pub model: ModelName,
    /// How many; `None` leaves it to the manifest again.
    pub replicas: Option<u32>,
    /// Who wants it.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// A version with the share of the requests that a person gives it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub version: Version,
    /// Of the requests that name no version.
    pub share: Share,
}

/// How a person splits a model's requests; what is left goes to the version that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Versions, ascending, with shares that sum up to 1 at most.
    pub parts: Vec<Part>,
    /// Whether a caller always gets the same version; each request is drawn where not.
    pub sticky: bool,
    /// What callers are hashed with, so that two splits are independent.
    pub salt: String,
    /// Who wants it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A version that a caller's requests go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Which.
    pub version: Version,
    /// Who wants it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Where a person sends requests that name no version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Shares of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Those of certain callers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<CallerName, Pin>,
}

impl Sent {
    /// Versions of a split, at most, and callers of a model that are pinned.
    pub const MOST: (usize, usize) = (8, 256);

    /// Whether nobody says anything.
    pub fn is_empty(&self) -> bool {
        self.split.is_none() && self.pins.is_empty()
    }

    /// The versions that it names, each with its share of all requests.
    pub fn versions(&self) -> BTreeMap<Version, f64> {
        let pinned = self.pins.values().map(|pin| (pin.version, 0.0));
        let parts = self.split.iter().flat_map(|split| &split.parts);
        pinned.chain(parts.map(|part| (part.version, part.share.get()))).collect()
    }
}

/// What is to change about where requests go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SendWhat {
    /// They are split so, until then.
    Split {
        /// Versions and shares.
        parts: Vec<Part>,
        /// Whether a caller always gets the same version.
        sticky: bool,
        /// When it ends by itself.
        expires: Option<Timestamp>,
    },
    /// They are split no more.
    Unsplit,
    /// Those of this caller go to this version.
    Pin(CallerName, Version),
    /// They go where all others do.
    Unpin(CallerName),
}

/// Says where requests are to go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SendTo {
    /// The model's namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
    /// What is to change.
    pub send: SendWhat,
    /// The versions that are named, with bundle and manifest.
    pub versions: Vec<Shadow>,
    /// Who wants it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// The generation that must stand (of [`Status::sent`]); whatever stands when left out.
    #[serde(default)]
    pub expect: Option<u64>,
}

/// An accepted wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The new generation.
    pub generation: u64,
    /// What to wait for.
    pub receipt: Receipt,
}

/// A model, by namespace and name.
pub type ModelKey = (Namespace, ModelName);

/// How a model is reached: its versions, and for each the replicas that are ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRoute {
    /// The version that answers when none is named.
    pub current: Version,
    /// That version's manifest.
    pub manifest: Manifest,
    /// What it takes and gives; known once a replica was ready.
    pub metadata: Option<ModelMetadata>,
    /// Ready replicas of every version.
    pub replicas: Vec<Replica>,
    /// A version that is to be asked the same once it has a replica.
    #[serde(default)]
    pub shadow: Option<Version>,
    /// A version that answers a share of the requests that name none, once it has a replica.
    #[serde(default)]
    pub canary: Option<(Version, Share)>,
    /// Where a person sends requests that name no version: before any canary.
    #[serde(default, skip_serializing_if = "Sent::is_empty")]
    pub sent: Sent,
    /// Why there is none, when there is none.
    pub waiting: Option<String>,
    /// Whether it has no replica because nobody asks; the next request starts one.
    #[serde(default)]
    pub asleep: bool,
    /// Who wants it to have no replica, where somebody does; no request starts one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Why a model server refused the wanted version, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<types::Refusal>,
}

/// One ready replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Its id, also its model server's.
    pub id: String,
    /// Which version it is a copy of.
    pub version: Version,
    /// The socket of its model server.
    pub socket: PathBuf,
    /// The SPIFFE path of its model server.
    pub peer: String,
}

/// What is so, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
    /// The version wanted.
    pub desired: Option<Version>,
    /// The version that is asked the same, to be compared.
    #[serde(default)]
    pub shadow: Option<Version>,
    /// The share of the requests that it answers itself.
    #[serde(default)]
    pub share: Option<Share>,
    /// The version that answers, once a replica of it is ready.
    pub ready: Option<Version>,
    /// Ready replicas of the version wanted.
    pub replicas: u32,
    /// Replicas wanted.
    pub wanted: u32,
    /// Why it is not as wanted, when it is not.
    pub waiting: Option<Waiting>,
    /// Generation of the wish.
    pub generation: u64,
    /// Restarts of its model servers so far.
    pub restarts: u32,
    /// Whether none is wanted because nobody asks; the next request starts one.
    #[serde(default)]
    pub asleep: bool,
    /// Who wants it to have none, where somebody does.
    #[serde(default)]
    pub stopped: Option<String>,
    /// What its load says about the number of replicas, where it says anything.
    #[serde(default)]
    pub scaling: Option<Scaling>,
    /// Where a person sends requests, with its generation; 0 where nobody does.
    #[serde(default)]
    pub sent: (Sent, u64),
    /// Versions that requests are sent to, and that can't answer: the version that answers does.
    #[serde(default)]
    pub absent: Vec<Version>,
}

/// What a model's load says about how many replicas it needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Who acts, as the manifest says.
    pub mode: ScaleMode,
    /// How many are wanted.
    pub wanted: u32,
    /// Why.
    pub why: String,
    /// Whose word that is right now: `rule` or `forecast`.
    pub by: String,
    /// How many the other would want, with its name; nothing where only one is asked.
    pub twin: Option<(String, u32)>,
    /// How the forecast stands beside the rule, where it may act.
    #[serde(default)]
    pub comparison: Option<Comparison>,
    /// Whether somebody has set another number, which counts instead.
    pub overruled: bool,
    /// Since when so many are wanted.
    pub since: Timestamp,
    /// Seconds that a replica takes to start, as far as is known.
    pub cold_seconds: f64,
    /// Why it sleeps on though it is asked, where it does: memory is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<String>,
}

/// How the forecast stands beside the rule: blocks of time went by lot to both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Whether it is shown to cost less, and so acts but for a share of the blocks.
    pub acts: bool,
    /// Blocks that counted so far, of the rule and of the forecast.
    pub blocks: (u64, u64),
    /// What an hour costs with the rule and with the forecast, in seconds in which requests wait too long, replicas at their price
    /// among them; nothing before there was a block of each.
    pub costs: Option<(f64, f64)>,
    /// The share of costs that the forecast saves; negative where it costs more.
    pub saved: Option<f64>,
}

/// What a gateway saw of its models' load. Who says nothing for a few seconds is taken for gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loads {
    /// The gateway's name.
    pub gateway: String,
    /// Models that were asked since it last said so, or have just become idle; others are not asked there. At most [`Loads::MOST`];
    /// a gateway that has more says it in several parts.
    pub models: Vec<Load>,
}

impl Loads {
    /// The most models of one message.
    pub const MOST: usize = 1_024;
}

/// What one model was asked, over some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
    /// Over how many seconds.
    pub seconds: f64,
    /// Requests that came, those among them that were refused because too much is asked, too.
    pub requests: u64,
    /// Requests that waited, for a replica or for the machine, or were answered, on average.
    pub in_flight: f64,
    /// Requests that are there right now.
    pub open: u32,
    /// Requests that were answered, and the seconds of a replica that all of them took.
    pub served: (u64, f64),
}

/// Why a model is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The reason.
    pub reason: types::Refusal,
    /// Whether nothing will change by itself: somebody has to act.
    pub stuck: bool,
    /// Since when.
    pub since: Timestamp,
}

/// Asks what would happen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanOf {
    /// In which namespace.
    pub namespace: Namespace,
    /// What if this were deployed; as things are when left out.
    #[serde(default)]
    pub deploy: Option<Manifest>,
}

/// What would happen, what waits, and what happened lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// Steps to come if each goes well, in rounds: those of one are taken together.
    pub rounds: Vec<Vec<Action>>,
    /// Models that are not as wanted though there is nothing to do right now, and why.
    pub waiting: Vec<(ModelName, Waiting)>,
    /// The latest steps, newest first.
    pub recent: Vec<Taken>,
    /// What models' loads say about the number of their replicas.
    #[serde(default)]
    pub scaling: Vec<(ModelName, Scaling)>,
    /// Where people send requests of models.
    #[serde(default)]
    pub sent: Vec<(ModelName, Sent)>,
}

/// A step, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// `start`, `load`, `route`, `unroute`, `unload` or `drain`.
    pub step: String,
    /// The model it is about.
    pub model: Option<ModelName>,
    /// Its version.
    pub version: Option<Version>,
    /// The model server it is about.
    pub server: Option<String>,
    /// Why.
    pub why: String,
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The step.
    pub action: Action,
    /// When it was begun.
    pub begun: Timestamp,
    /// How it ended; nothing while it goes on.
    pub outcome: Option<String>,
}

/// Names a namespace, or a model in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusOf {
    /// The namespace.
    pub namespace: Namespace,
    /// The model; all when left out.
    pub model: Option<ModelName>,
}

/// Changes of routes, by model.
pub type Routes = Changes<ModelKey, ModelRoute>;

service! {
    /// Desired state in, routes and status out.
    pub trait Orchestrator, client OrchestratorClient, router orchestrator_router, path "mantlet.Orchestrator" {
        /// Submits a wish.
        fn submit(Submit) -> Submitted;
        /// Wants another number of replicas.
        fn scale(Scale) -> Submitted;
        /// Says where requests that name no version are to go.
        fn send(SendTo) -> Submitted;
        /// What would happen, and why.
        fn plan(PlanOf) -> Outlook;
        /// What is so.
        fn status(StatusOf) -> Vec<Status>;
        /// Notes what a gateway saw of its models' load.
        fn load(Loads) -> ();
        /// Follows the routes.
        fn routes(Since) -> Routes;
    }
}
