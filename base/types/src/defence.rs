//! Attackers and what is done about them: whom evidence is about, what was seen, how far an answer goes, and how long.

use std::{
    fmt,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{CallerName, ModelName, Namespace, Timestamp, manifest::Autonomy};

/// Whom evidence and actions are about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A named holder of credentials.
    Caller(Namespace, CallerName),
    /// A network address that nobody has identified at: what it sent had no good credential.
    Source(String),
    /// Who found out what was right for a model.
    Contributor(Namespace, ModelName, String),
    /// A model's bundles, as somebody sends them.
    Bundle(Namespace, ModelName),
    /// An agent of the sentinel, which may be wrong itself.
    Agent(AgentName),
}

impl Subject {
    /// Its namespace; a source has none.
    pub fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Caller(namespace, _) | Self::Contributor(namespace, ..) | Self::Bundle(namespace, _) => {
                Some(namespace)
            }
            Self::Source(_) | Self::Agent(_) => None,
        }
    }

    /// A number for it, which stays the same from one start of a program to the next.
    pub fn number(&self) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(self)
    }

    /// Whether it has shown a credential, so that nobody else can be meant.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Source(_))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller(namespace, caller) => write!(f, "caller:{namespace}/{caller}"),
            Self::Source(address) => write!(f, "source:{address}"),
            Self::Contributor(namespace, model, name) => write!(f, "contributor:{namespace}/{model}/{name}"),
            Self::Bundle(namespace, model) => write!(f, "bundle:{namespace}/{model}"),
            Self::Agent(agent) => write!(f, "agent:{agent}"),
        }
    }
}

/// A text that names no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no subject: it is caller:NAMESPACE/NAME, source:ADDRESS, contributor:NAMESPACE/MODEL/NAME or bundle:NAMESPACE/MODEL"
)]
pub struct SubjectError(String);

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let wrong = || SubjectError(text.chars().take(80).collect());
        let (kind, rest) = text.split_once(':').ok_or_else(wrong)?;
        let namespaced = || rest.split_once('/').ok_or_else(wrong);
        Ok(match kind {
            "caller" => {
                let (namespace, caller) = namespaced()?;
                Self::Caller(namespace.parse().map_err(|_| wrong())?, caller.parse().map_err(|_| wrong())?)
            }
            "bundle" => {
                let (namespace, model) = namespaced()?;
                Self::Bundle(namespace.parse().map_err(|_| wrong())?, model.parse().map_err(|_| wrong())?)
            }
            "contributor" => {
                let (namespace, rest) = namespaced()?;
                let (model, name) = rest.split_once('/').ok_or_else(wrong)?;
                let (namespace, model) = (namespace.parse().map_err(|_| wrong())?, model.parse().map_err(|_| wrong())?);
                Self::Contributor(namespace, model, name.to_owned())
            }
            "agent" => Self::Agent(*AgentName::ALL.iter().find(|agent| agent.as_str() == rest).ok_or_else(wrong)?),
            "source" if !rest.is_empty() => Self::Source(rest.to_owned()),
            _ => return Err(wrong()),
        })
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $( $(#[$case_doc:meta])* $case:ident = $word:literal, )* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $( $(#[$case_doc])* $case, )* }

        impl $name {
            /// Every one there is.
            pub const ALL: &[Self] = &[$( Self::$case, )*];

            /// Its word.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$case => $word, )* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// An agent of the sentinel.
    AgentName {
        /// Injection, traversal and scanners in text.
        Intruder = "intruder",
        /// Each caller's rhythm, mix, errors and sizes; floods and expensive inputs.
        Caller = "caller",
        /// Model stealing by queries.
        Extraction = "extraction",
        /// Black-box search for inputs that are answered wrongly.
        Evasion = "evasion",
        /// Labels, and who sends them.
        Poisoner = "poisoner",
        /// Bundles, signatures, graphs and snapshots.
        Supply = "supply",
    }
}

words! {
    /// What agents look at: those of one group see the same, so their evidence is not multiplied.
    Group {
        /// What is sent.
        Payload = "payload",
        /// How it is sent.
        Behaviour = "behaviour",
        /// What the answers give away.
        Queries = "queries",
        /// Labels.
        Labels = "labels",
        /// What models come as.
        Bundles = "bundles",
    }
}

impl AgentName {
    /// What it looks at.
    pub fn group(self) -> Group {
        match self {
            Self::Intruder => Group::Payload,
            Self::Caller => Group::Behaviour,
            Self::Extraction | Self::Evasion => Group::Queries,
            Self::Poisoner => Group::Labels,
            Self::Supply => Group::Bundles,
        }
    }
}

words! {
    /// How far an answer to an attacker goes; each rung holds what is below it.
    Rung {
        /// It is watched.
        Observe = "observe",
        /// It is slowed down.
        Throttle = "throttle",
        /// Its answers tell less, and come later.
        Degrade = "degrade",
        /// It is not answered where it attacks.
        Quarantine = "quarantine",
        /// It is not answered at all.
        Block = "block",
        /// It is not answered until a person says so.
        Revoke = "revoke",
    }
}

/// How much of an answer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// All of it.
    #[default]
    Full,
    /// Scores to one decimal.
    Rounded,
    /// Which class it is, without its score.
    Label,
}

/// What a restriction does to each request.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Measures {
    /// Requests a second that are answered; all of them where it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Milliseconds by which an answer is held back.
    #[serde(default)]
    pub delay_ms: u64,
    /// How much of an answer is told.
    #[serde(default)]
    pub output: Output,
    /// Whether nothing is answered.
    #[serde(default)]
    pub refuse: bool,
}

/// What is done to a subject for a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restriction {
    /// Its id, which `mantlet undo` takes.
    pub id: String,
    /// To whom.
    pub subject: Subject,
    /// At which model; at all of its namespace where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// How far it goes.
    pub rung: Rung,
    /// What it does.
    pub measures: Measures,
    /// When it ends; not by itself where that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Since when.
    pub since: Timestamp,
    /// Why, in words.
    pub reason: String,
    /// Who set it: `sentinel`, or a person.
    pub author: String,
    /// The incident it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
}

/// What a detector makes of a subject's window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// For which agent.
    pub agent: AgentName,
    /// How unusual it is: at least 0, ratios mean something.
    pub score: f64,
    /// What a rule says that holds whatever was learnt: the natural logarithm of how much likelier that is of an attacker; 0 says
    /// nothing.
    #[serde(default)]
    pub rule: f64,
    /// What the plain twin says, which acts in the place of what was learnt while that does not; as above.
    #[serde(default)]
    pub twin: f64,
    /// Whether the rule is one of certainty: no honest caller does that.
    #[serde(default)]
    pub certain: bool,
    /// What was seen, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
}

/// What was seen of a subject in a window of time so far; a later one of the same window takes its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// Of whom.
    pub subject: Subject,
    /// At which model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelName>,
    /// How far agents may go there, where the model says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
    /// Whether it is an admin.
    #[serde(default)]
    pub admin: bool,
    /// The window: the time by its length.
    pub window: u64,
    /// Its length in milliseconds.
    #[serde(default = "minute")]
    pub length_ms: u64,
    /// When it was seen last.
    pub at: Timestamp,
    /// What was counted.
    pub counts: Counts,
    /// What detectors beside the requests made of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readings: Vec<Reading>,
}

fn minute() -> u64 {
    60_000
}

/// What was counted of a subject in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Rows asked.
    pub rows: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Microseconds that models computed.
    pub cost_us: u64,
    /// Requests refused for what was in them.
    pub faults: u64,
    /// Requests for what is not there, or not for it.
    pub misses: u64,
    /// Requests that a restriction or limit kept out.
    pub kept_out: u64,
    /// The most faults and misses in a row.
    pub streak: u64,
    /// Different paths and models that were asked for.
    pub places: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
            cost_us: self.cost_us + other.cost_us,
            faults: self.faults + other.faults,
            misses: self.misses + other.misses,
            kept_out: self.kept_out + other.kept_out,
            streak: self.streak.max(other.streak),
            places: self.places.max(other.places),
        }
    }
}

/// How an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IncidentState {
    /// Nothing is done about it.
    Open,
    /// Something is.
    Contained,
    /// It is over.
    Closed,
}

/// How an action stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActionState {
    /// A person is asked.
    Proposed,
    /// It is in force.
    Acting,
    /// Its time is over, or a milder or stricter one has taken its place.
    Ended,
    /// A person took it back.
    Undone,
    /// A person said no.
    Rejected,
}

/// An action of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// What it does or would do.
    pub restriction: Restriction,
    /// How it stands.
    pub state: ActionState,
    /// What a person said of it, and who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
}

/// Something that happened in an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// What, in words.
    pub what: String,
}

/// A technique of MITRE ATLAS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Technique {
    /// Its id: `AML.T0024`.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What belongs together: evidence of one subject, what was done, and how it went on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its id.
    pub id: String,
    /// In which namespace; of a source, the one it knocked at is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Who.
    pub subject: Subject,
    /// How it stands.
    pub state: IncidentState,
    /// What happens, in a sentence.
    pub summary: String,
    /// How likely it is that the subject is hostile, from 0 to 1.
    pub probability: f64,
    /// Agents that found something.
    pub agents: Vec<AgentName>,
    /// What such attacks are called.
    pub techniques: Vec<Technique>,
    /// Models it was about.
    pub models: Vec<ModelName>,
    /// When it began.
    pub opened: Timestamp,
    /// When something happened last.
    pub updated: Timestamp,
    /// What happened, the oldest first.
    pub timeline: Vec<Moment>,
    /// What was done, the oldest first.
    pub actions: Vec<Taken>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_reads_back_from_its_text() {
        for text in [
            "caller:bank/teller",
            "source:10.0.0.7",
            "contributor:bank/fraud/eve/7",
            "bundle:bank/fraud",
            "agent:evasion",
        ] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(subject.to_string(), text);
            assert_eq!(serde_json::from_str::<Subject>(&serde_json::to_string(&subject).unwrap()).unwrap(), subject);
        }
        for text in ["", "caller:bank", "caller:/x", "source:", "planet:a/b", "contributor:bank/fraud", "agent:x"] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }

    #[test]
    fn rungs_are_in_their_order_and_counts_add_up() {
        assert!(Rung::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        let one = Counts { requests: 2, streak: 3, places: 4, ..Counts::default() };
        let both = one.with(Counts { requests: 5, streak: 1, places: 9, ..Counts::default() });
        assert_eq!((both.requests, both.streak, both.places), (7, 3, 9));
    }
}
