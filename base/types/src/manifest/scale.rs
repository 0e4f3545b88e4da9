//! How many replicas a model has, and who says so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Manifest, Source, is_default};
use crate::quantity::Span;

/// The most replicas a manifest may ask for.
const MAX_REPLICAS: u32 = 64;
/// The dearest that a replica may be: at ten late seconds a second nothing is worth one.
const DEAREST: u32 = 36_000;
/// Seconds of a block, at the least and at the most.
const BLOCKS: (u64, u64) = (2, 604_800);

/// How many replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// At least this many; 1 by default. With 0, a model that nobody asks sleeps, and is started by the next request.
    #[serde(default = "one")]
    pub min: u32,
    /// At most this many, whoever asks for more; any number by default. Where it is more than `min`, the load says how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Who says how many between `min` and `max`; `shadow` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: ScaleMode,
    /// With `min: 0`: how long nobody has asked before the model sleeps; 5m by default, 1s at least.
    #[serde(default = "minutes", skip_serializing_if = "is_minutes")]
    pub idle: Span,
    /// What an hour of a replica costs, in seconds in which requests wait longer than `slo.p99`; 180 by default: twenty seconds of a replica for one of
    /// them. At a higher price the forecast keeps fewer replicas, and is judged by that; the rule does not know it.
    #[serde(default = "usual", skip_serializing_if = "is_usual")]
    #[schemars(range(min = 1, max = 36_000))]
    pub price: u32,
    /// With `mode: on`: how long the rule and the forecast each say how many replicas there are, by lot, while it is found out which costs less; 2s at least. By
    /// default five minutes, and five times a start and a minute at least, and whole days are compared; with a length of one's own
    /// each block is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Span>,
}

/// Who says how many replicas there are. A person's number counts before all of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScaleMode {
    /// The manifest: `min`.
    Off,
    /// Knative's rule, on requests in flight.
    Rule,
    /// The rule; what the forecast would have said is told beside it.
    #[default]
    Shadow,
    /// The forecast, with a queueing model and a fast rule, as far as it is shown to cost less than the rule; what the other would have
    /// said is told beside it.
    On,
}

impl ScaleMode {
    /// Its word in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Rule => "rule",
            Self::Shadow => "shadow",
            Self::On => "on",
        }
    }
}

fn one() -> u32 {
    1
}

fn minutes() -> Span {
    Span(std::time::Duration::from_secs(300))
}

fn is_minutes(idle: &Span) -> bool {
    *idle == minutes()
}

/// Late seconds that an hour of a replica is worth: 20 seconds of it for one, as scalers are judged on load traces.
fn usual() -> u32 {
    180
}

fn is_usual(price: &u32) -> bool {
    *price == usual()
}

impl Default for Scale {
    fn default() -> Self {
        Self { min: one(), max: None, mode: ScaleMode::default(), idle: minutes(), price: usual(), block: None }
    }
}

impl Scale {
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { min, max, mode, idle, price, block } = *self;
        if min > MAX_REPLICAS || max.is_some_and(|max| max > MAX_REPLICAS || max < min.max(1)) {
            return Err(format!("spec.scale: 0 ≤ min ≤ max ≤ {MAX_REPLICAS}, and max at least 1"));
        }
        if idle.0 < std::time::Duration::from_secs(1) {
            return Err("spec.scale.idle is at least 1s".into());
        }
        if !(1..=DEAREST).contains(&price) {
            return Err(format!("spec.scale.price is a number from 1 to {DEAREST}"));
        }
        if block.is_some_and(|block| !(BLOCKS.0..=BLOCKS.1).contains(&block.0.as_secs())) {
            return Err("spec.scale.block is between 2s and 7d".into());
        }
        if min == 0 && mode == ScaleMode::Off {
            return Err("spec.scale: with min 0 and mode off nothing would ever start a replica".into());
        }
        Ok(())
    }
}

impl Manifest {
    /// How many replicas are wanted where nobody says otherwise: one at least, since a version has to show that it can be loaded.
    pub fn replicas(&self) -> u32 {
        self.spec.scale.min.max(1)
    }

    /// So many replicas, within what the manifest allows; where it names no most, that is any number.
    pub fn bounded(&self, replicas: u32) -> u32 {
        let Scale { min, max, .. } = self.spec.scale;
        replicas.clamp(min, max.unwrap_or(MAX_REPLICAS).max(min))
    }

    /// The fewest and the most replicas that the load may ask for; where the manifest names no most, that is as few as may be.
    pub fn scale_bounds(&self) -> (u32, u32) {
        let Scale { min, max, .. } = self.spec.scale;
        (min, max.unwrap_or(min).max(min).max(1))
    }

    /// Who says how many replicas there are. Of a model that another server holds it is the manifest, unless it has to sleep: more
    /// replicas of it are no more room.
    pub fn scale_mode(&self) -> ScaleMode {
        let (least, most) = self.scale_bounds();
        let outward = matches!(self.spec.source, Source::Upstream(_)) && least > 0;
        if least == most || outward { ScaleMode::Off } else { self.spec.scale.mode }
    }
}
