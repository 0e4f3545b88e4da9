//! The sentinel's trait: what gateways see comes in, restrictions go out, and people say what they think of it.

use serde::{Deserialize, Serialize};
use types::{
    ModelName, Namespace, Timestamp,
    defence::{AgentName, Incident, Restriction, Rung, Sighting, Subject},
};

pub use crate::trainer::Say;
use crate::{Changes, Since, registry::Receipt};

/// What somebody saw lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who saw it: a gateway, or the trainer.
    pub by: String,
    /// What.
    pub sightings: Vec<Sighting>,
}

/// Asks for incidents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentsOf {
    /// Of this namespace.
    pub namespace: Namespace,
    /// Those that belong to none, too: of sources and agents.
    pub node: bool,
    /// This one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// At most so many, the newest.
    pub limit: u32,
}

/// A person's word on an action or on all of an incident's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Who says it.
    pub actor: String,
    /// In which namespace.
    pub namespace: Namespace,
    /// Whether what belongs to no namespace is meant, too.
    pub node: bool,
    /// The action's id, or the incident's.
    pub id: String,
    /// What.
    pub say: Say,
    /// Why.
    pub reason: String,
}

/// A person's restriction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restrict {
    /// Who sets it.
    pub actor: String,
    /// To whom.
    pub subject: Subject,
    /// At which model; at all where none is named.
    pub model: Option<ModelName>,
    /// How far it goes.
    pub rung: Rung,
    /// Milliseconds that it lasts; until it is undone where nothing is said.
    pub lasts_ms: Option<u64>,
    /// Why.
    pub reason: String,
}

/// What became of a word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// The incident, as it is now.
    pub incident: Incident,
    /// The ledger record of the word.
    pub receipt: Receipt,
}

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentState {
    /// Which.
    pub agent: AgentName,
    /// `off`, `shadow` or `on`; `shadow (handed back)` where people's words have handed what it learnt back to its rule.
    pub mode: String,
    /// Whether it works: it may have failed.
    pub alive: bool,
    /// How often it failed.
    pub failures: u32,
    /// The score from which on it is an alarm here; nothing while there is too little to compare with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Windows that it looked at, and that were alarms.
    pub windows: u64,
    /// See `windows`.
    pub alarms: u64,
    /// When it looked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
}

service! {
    /// Who attacks, and what is done about it.
    pub trait Sentinel, client SentinelClient, router sentinel_router, path "mantlet.Sentinel" {
        /// Takes in what was seen; what is too much is dropped, since the next report says more.
        fn report(Report) -> ();
        /// What is in force, as it changes, by its id.
        fn restrictions(Since) -> Changes<String, Restriction>;
        /// Incidents, the newest first. `incident_not_found` where one is asked for that is not there.
        fn incidents(IncidentsOf) -> Vec<Incident>;
        /// Takes a person's word; how the incident stands after it.
        fn say(Said) -> Settled;
        /// Sets a person's restriction; the incident that holds it.
        fn restrict(Restrict) -> Settled;
        /// How the agents are, in a namespace.
        fn agents(Option<Namespace>) -> Vec<AgentState>;
    }
}

/// The part of it that the trainer may use: it tells of contributors.
pub fn reports_router(inner: std::sync::Arc<dyn Sentinel>) -> axum::Router {
    let report = move |report: Report| {
        let inner = inner.clone();
        async move { inner.report(report).await }
    };
    crate::remote::serve(axum::Router::new(), "/mantlet.Sentinel/report", report)
}
