//! The trainer's trait: how right the versions of a model were, by the labels that came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{ModelName, Namespace, Timestamp, Version, clean::CleanRow, manifest::Webhook};
pub use types::{
    manifest::AlarmKind,
    rollout::{Evidence, Stand},
    told::Told,
};

use crate::registry::Snapshot;

/// Names a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvaluationOf {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
}

/// How right a model's versions were.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Those with labels, the newest first.
    pub versions: Vec<VersionEvaluation>,
    /// What became of labels for this model, and of those whose prediction nobody knows.
    pub labels: BTreeMap<String, LabelCount>,
    /// Until when events were looked at.
    pub watermark: Option<Timestamp>,
    /// Versions that learn from labels, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learning: Vec<Learning>,
    /// What has drifted lately, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<VersionAlarm>,
    /// Who found out what was right: those whose labels are held back, then those who disagree most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributors: Vec<Contributor>,
}

/// Who found out what was right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contributor {
    /// Its name.
    pub name: String,
    /// Labels of classes.
    pub labels: u64,
    /// Those that disagreed with what was answered.
    pub disagreed: u64,
    /// Whether its labels are held back: they teach nobody, and judge nobody.
    pub held_back: bool,
    /// How near that is: 1 is an alarm.
    pub level: f64,
}

/// Rows that were asked so long ago, and how many of them have a label: an even draw of them all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    /// Asked at least so many milliseconds ago.
    pub from_ms: u64,
    /// And less than so many.
    pub to_ms: u64,
    /// Rows that are followed.
    pub rows: u64,
    /// Those with a label.
    pub labelled: u64,
}

/// A clean set for a model: rows that no feedback can touch, and that bound collapse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PutClean {
    /// Who gives it.
    pub actor: String,
    /// The model's namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
    /// The rows.
    pub rows: Vec<CleanRow>,
    /// Whether it holds while a drift alarm stands, too.
    pub strict: bool,
}

/// Asks for a model's clean set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanOf {
    /// The model's namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
}

/// What is told of a clean set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanSet {
    /// Its rows.
    pub rows: u64,
    /// Whether it holds while a drift alarm stands, too.
    pub strict: bool,
    /// Who gave it.
    pub by: String,
    /// When.
    pub given: Timestamp,
}

/// A person's word on a contributor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Who says it.
    pub actor: String,
    /// The model's namespace.
    pub namespace: Namespace,
    /// The model.
    pub model: ModelName,
    /// The contributor.
    pub contributor: String,
    /// Whether its labels may teach.
    pub trust: bool,
    /// Why.
    pub reason: String,
}

/// A column that moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shift {
    /// Its name.
    pub column: String,
    /// How far: the population stability index.
    pub effect: f64,
    /// The evidence, an e-value: on average 1 at most without a change.
    pub evidence: f64,
}

/// Something drifted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// When it was found.
    pub at: Timestamp,
    /// What.
    pub kind: AlarmKind,
    /// What moved most, and by how much, in words.
    pub what: String,
    /// When all was still as before, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What moved most, first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<Shift>,
}

/// An alarm of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionAlarm {
    /// Which.
    pub version: Version,
    /// What happened.
    #[serde(flatten)]
    pub alarm: Alarm,
    /// Whether whom the manifest names knows of it; nothing where it names nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
}

/// Asks whether a webhook can be called here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckWebhook {
    /// Whose secret it names.
    pub namespace: Namespace,
    /// The webhook.
    pub webhook: Webhook,
}

/// What a streaming version has learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    /// Which one.
    pub version: Version,
    /// Examples learnt.
    pub learnt: u64,
    /// The next entry of the joined log that it takes in.
    pub offset: u64,
    /// Entries of the joined log that it has not looked at.
    pub behind: u64,
    /// The state that answers; nothing before the first label.
    pub snapshot: Option<Snapshot>,
    /// For how long the oldest example waits that is learnt, and not in the state that answers; in milliseconds.
    pub staleness_ms: u64,
    /// How often what was learnt was thrown away, since it was no number or far worse than before.
    pub collapses: u64,
    /// Bytes that it takes.
    pub memory: u64,
    /// How right it was with each example before it learnt it: the figures of an evaluation.
    pub figures: Option<Value>,
    /// What the state that answers is worth on the clean set: the share that it is right about, or its mean absolute error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<f64>,
}

/// Asks for examples: predictions with their labels, as versions learn them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExamplesOf {
    /// The model's namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
    /// From this entry of the joined log on.
    pub from: u64,
    /// At most this many.
    pub limit: u32,
}

/// Examples of a model, in the order in which its versions learn them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Examples {
    /// One object each; `offset` is its place in the joined log.
    pub examples: Vec<Value>,
    /// Where to ask on; nothing at the end.
    pub next: Option<u64>,
}

/// How right a version was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionEvaluation {
    /// Which one.
    pub version: Version,
    /// `classification` or `regression`.
    pub kind: String,
    /// Names of its classes, in the order of their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Rows with a label.
    pub labelled: u64,
    /// How long labels took to come: the median of the last ones, in milliseconds.
    pub label_age_ms: Option<u64>,
    /// Which share of its rows has a label, by how long ago they were asked; the youngest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub coverage: Vec<Covered>,
    /// The figures: since the start, of the short and of the long window, and faded.
    pub figures: Value,
    /// The same for each slice of the traffic, where the manifest names slices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SliceEvaluation>,
}

/// How right a version was in a slice of the traffic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceEvaluation {
    /// The value of the input that makes the slice.
    pub slice: String,
    /// Rows with a label.
    pub labelled: u64,
    /// The figures.
    pub figures: Value,
}

/// How many labels ended so, and why the last of them did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelCount {
    /// How many.
    pub count: u64,
    /// The last one, and what was wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// A champion and a challenger of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The model; a reader knows it.
    pub model: ModelName,
    /// The version that answered when the challenger came.
    pub champion: Version,
    /// The version that would like to.
    pub challenger: Version,
    /// How it stands.
    pub stand: Stand,
    /// What is known now.
    pub evidence: Evidence,
    /// What was known when it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<Evidence>,
    /// What is lacking, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What a person said of it, and who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
    /// How it stands while it answers a share of the requests, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// Who has it wait, if somebody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// A part of the inputs where both versions differ far more than elsewhere, seen without labels, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// What was seen without labels where no such part is found; or why nothing is seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<String>,
}

/// A challenger that waits, since somebody said so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// What a person says of a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Say {
    /// It may answer.
    Approve,
    /// It may not.
    Reject,
    /// It may no longer: the champion answers again.
    Undo,
}

/// What a person says of a challenger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// It may answer.
    Approve,
    /// It may not.
    Reject,
    /// It may no longer: the champion answers again.
    Undo,
    /// It waits: it keeps its share of the requests, and gets no more.
    Pause,
    /// It goes on.
    Resume,
}

/// A person's word on a challenger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Who says it.
    pub actor: String,
    /// The model's namespace.
    pub namespace: Namespace,
    /// The model.
    pub model: ModelName,
    /// The challenger.
    pub challenger: Version,
    /// What.
    pub say: Ruling,
    /// Why.
    pub reason: String,
}

/// Asks for a new version of a model, trained by its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retrain {
    /// Who asks.
    pub actor: String,
    /// The model's namespace.
    pub namespace: Namespace,
    /// The model.
    pub model: ModelName,
    /// Why.
    pub reason: String,
}

/// Lets a version that learns forget what it has learnt since an earlier state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revert {
    /// The model's namespace.
    pub namespace: Namespace,
    /// The model, of which the version is meant that answers.
    pub model: ModelName,
    /// The number of that state; the one before the newest when left out.
    pub snapshot: Option<u64>,
}

/// Asks why a challenger stands as it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// The model's namespace.
    pub namespace: Namespace,
    /// The model.
    pub model: ModelName,
    /// The challenger.
    pub challenger: Version,
}

/// A decision that was come to once more, from the joined log alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// How the challenger stands, as it is kept.
    pub rollout: Rollout,
    /// What follows from the log: whether the challenger is to answer, a person to be asked, or the champion to answer
    /// again; by the entry of the log after which it does.
    pub verdicts: Vec<(u64, String)>,
    /// What speaks for it by the log, up to the same entry.
    pub evidence: Evidence,
    /// Whether both say the same.
    pub agrees: bool,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Others are before it.
    Waiting,
    /// It trains.
    Running,
    /// It has made a version.
    Done,
    /// It has not.
    Failed,
}

/// A job that trains a new version of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id; ids of later ones are greater.
    pub id: String,
    /// The model's namespace.
    pub namespace: Namespace,
    /// The model.
    pub model: ModelName,
    /// What the node's settings call it.
    pub job: String,
    /// How far it is.
    pub state: JobState,
    /// Who asked for it, and why.
    pub why: String,
    /// When it was asked for, begun, and ended.
    pub asked: Timestamp,
    /// See `asked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// See `asked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Examples that it got, and which entries of the joined log they are from: the first, and the one after the last.
    pub examples: u64,
    /// See `examples`.
    pub entries: [u64; 2],
    /// How often it was begun.
    pub attempts: u32,
    /// The version that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What it says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The last lines that it printed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

service! {
    /// What was learnt about models from labels.
    pub trait Trainer, client TrainerClient, router trainer_router, path "mantlet.Trainer" {
        /// How right a model's versions were.
        fn evaluation(EvaluationOf) -> Evaluation;
        /// Predictions of a model with their labels.
        fn examples(ExamplesOf) -> Examples;
        /// Challengers of a namespace, and how they stand.
        fn rollouts(Namespace) -> Vec<Rollout>;
        /// Takes a person's word on a challenger.
        fn decide(Word) -> Rollout;
        /// Takes a person's word on a contributor.
        fn look_at(Look) -> ();
        /// Comes to a decision on a challenger again.
        fn explain(Explain) -> Explanation;
        /// Goes back to an earlier state of a version that learns.
        fn revert(Revert) -> Learning;
        /// Asks for a new version of a model, trained by its job.
        fn retrain(Retrain) -> Job;
        /// The jobs of a namespace, the newest first.
        fn jobs(Namespace) -> Vec<Job>;
        /// Gives a model that learns a clean set, in place of the one before.
        fn put_clean(PutClean) -> CleanSet;
        /// A model's clean set, where there is one.
        fn clean(CleanOf) -> Option<CleanSet>;
        /// Takes a model's clean set away.
        fn remove_clean(CleanOf) -> ();
        /// The names of jobs that models may be trained by.
        fn job_names(()) -> Vec<String>;
        /// Refuses a webhook that can't be called: `webhook_not_allowed`, `secret_not_found`, `manifest_invalid`.
        fn check_webhook(CheckWebhook) -> ();
    }
}
