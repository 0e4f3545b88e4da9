//! What a tuner may try: kinds of learners with dials, and how much of the past each learns from.

use std::fmt::Debug;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::rungs::Window;
use crate::{
    Error, Random, Result,
    error::{finite, within},
    registry::{RegressorSpec, Spec},
};

/// The most kinds, the most dials of a kind, and the most values of a dial.
const KINDS: usize = 64;
const DIALS: usize = 8;
const VALUES: usize = 64;
/// Combinations of a kind up to which each is tried at most once by keeping count; beyond, by looking.
const COUNTED: usize = 4_096;

/// Specifications that a tuner can try: those of the registry.
pub trait Tunable: Debug + Clone + PartialEq + Serialize + DeserializeOwned {
    /// The kind of a tuner's snapshot.
    const KIND: &'static str;
}

impl Tunable for Spec {
    const KIND: &'static str = "tuner of classifiers";
}

impl Tunable for RegressorSpec {
    const KIND: &'static str = "tuner of regressors";
}

/// One thing to try.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "S: Tunable", deny_unknown_fields)]
pub struct Candidate<S> {
    /// The learner and its settings.
    #[serde(with = "text")]
    pub spec: S,
    /// What of the past it learns from.
    #[serde(default)]
    pub window: Window,
}

/// What may be tried.
///
/// ```
/// use online::tune::{Dial, Kind, Space, Values, Window};
///
/// let kind = |json: &str, setting: &str, values| -> Result<_, Box<dyn std::error::Error>> {
///     Ok(Kind { base: serde_json::from_str(json)?, dials: vec![Dial { setting: setting.into(), values }] })
/// };
/// let steps = r#"{ "learner": "pipeline", "steps": [{ "step": "scaler" }], "model": { "learner": "logistic" } }"#;
/// let space = Space::<online::registry::Spec> {
///     kinds: vec![
///         kind(r#"{ "learner": "adaptive-random-forest" }"#, "trees", Values::Wholes(vec![3, 10, 30]))?,
///         kind(steps, "model.alpha", Values::Numbers(vec![0.03, 0.1, 0.3]))?,
///     ],
///     windows: vec![Window::All, Window::Recent],
/// };
/// space.check()?;
/// assert_eq!(space.grid()?.map(|grid| grid.len()), Some(12));
/// let wrong = Space { kinds: vec![kind(steps, "model.alfa", Values::Numbers(vec![0.1]))?], windows: vec![Window::All] };
/// assert!(wrong.check().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "S: Tunable", deny_unknown_fields)]
pub struct Space<S> {
    /// Kinds of learners, up to 64.
    pub kinds: Vec<Kind<S>>,
    /// What of the past may be learnt from; each kind with each.
    pub windows: Vec<Window>,
}

/// A kind of learner, and what of its settings may be changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "S: Tunable", deny_unknown_fields)]
pub struct Kind<S> {
    /// The learner, with the settings that stay.
    #[serde(with = "text")]
    pub base: S,
    /// Settings that change, up to 8.
    #[serde(default)]
    pub dials: Vec<Dial>,
}

/// A setting that changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dial {
    /// Its name as a manifest has it; with dots where it is inside another: `alpha`, `tree.grace`, `model.alpha`.
    pub setting: String,
    /// What it may be.
    pub values: Values,
}

/// Values of a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Values {
    /// These numbers, up to 64.
    Numbers(Vec<f64>),
    /// These whole numbers, up to 64.
    Wholes(Vec<u64>),
    /// These words, up to 64.
    Words(Vec<String>),
    /// Any number from the first to the second, each as likely.
    Between(f64, f64),
    /// Any number from the first to the second, both above 0, each order of magnitude as likely.
    Magnitudes(f64, f64),
}

impl Values {
    /// How many there are; nothing for a range.
    fn count(&self) -> Option<usize> {
        match self {
            Self::Numbers(numbers) => Some(numbers.len()),
            Self::Wholes(wholes) => Some(wholes.len()),
            Self::Words(words) => Some(words.len()),
            Self::Between(..) | Self::Magnitudes(..) => None,
        }
    }

    /// The value at a place; of a range, at that part of the way.
    fn value(&self, place: usize, way: f64) -> Option<Value> {
        match self {
            Self::Numbers(numbers) => numbers.get(place).map(|number| Value::from(*number)),
            Self::Wholes(wholes) => wholes.get(place).map(|whole| Value::from(*whole)),
            Self::Words(words) => words.get(place).map(|word| Value::from(word.as_str())),
            Self::Between(low, high) => Some(Value::from(low + (high - low) * way)),
            Self::Magnitudes(low, high) => Some(Value::from((low.ln() + (high.ln() - low.ln()) * way).exp())),
        }
    }

    fn check(&self) -> Result<()> {
        if let Some(count) = self.count() {
            within("the number of a dial's values", count as f64, (1.0, VALUES as f64), "from 1 to 64")?;
        }
        match self {
            Self::Numbers(numbers) => {
                numbers.iter().try_for_each(|number| finite("a dial's value", *number).map(|_| ()))
            }
            Self::Between(low, high) | Self::Magnitudes(low, high) => {
                let least = if matches!(self, Self::Between(..)) { -1e100 } else { 1e-100 };
                within("a dial's least value", *low, (least, 1e100), "a number, above 0 for magnitudes")?;
                within("a dial's greatest value", *high, (*low, 1e100), "at least its least").map(|_| ())
            }
            Self::Wholes(_) | Self::Words(_) => Ok(()),
        }
    }
}

impl<S: Tunable> Kind<S> {
    /// How many combinations of its dials there are; nothing where one is a range.
    pub fn count(&self) -> Option<usize> {
        self.dials.iter().try_fold(1_usize, |all, dial| Some(all.saturating_mul(dial.values.count()?)))
    }

    /// The specification that a choice for each dial gives: of a list the place, of a range the part of the way.
    fn spec(&self, mut choose: impl FnMut(&Values) -> (usize, f64)) -> Result<S> {
        let mut json = serde_json::to_value(&self.base).map_err(|_| Error::Unknown("the kind's base".into()))?;
        for dial in &self.dials {
            let (place, way) = choose(&dial.values);
            let unknown = || Error::Unknown(dial.setting.clone());
            let value = dial.values.value(place, way).ok_or_else(unknown)?;
            set(&mut json, &dial.setting, value).ok_or_else(unknown)?;
        }
        // A setting that nobody knows, or of another type, is found here.
        serde_json::from_value(json).map_err(|error| Error::Unknown(error.to_string()))
    }

    /// The combination of this number: the first dial changes first.
    fn numbered(&self, mut number: usize) -> Result<S> {
        self.spec(|values| {
            let count = values.count().unwrap_or(1).max(1);
            let place = number % count;
            number /= count;
            (place, 0.0)
        })
    }

    /// Any combination.
    fn drawn(&self, random: &mut Random) -> Result<S> {
        self.spec(|values| (random.below(values.count().unwrap_or(1) as u32) as usize, random.uniform()))
    }

    fn check(&self) -> Result<()> {
        within("the number of dials", self.dials.len() as f64, (0.0, DIALS as f64), "from 0 to 8")?;
        self.dials.iter().try_for_each(|dial| dial.values.check())?;
        // Each value of each dial once: they do not depend on each other.
        let most = self.dials.iter().filter_map(|dial| dial.values.count()).max().unwrap_or(1);
        (0..most).try_for_each(|place| {
            self.spec(|values| (place.min(values.count().unwrap_or(1).saturating_sub(1)), 1.0)).map(|_| ())
        })
    }
}

/// Puts a value where dots lead to; nothing where that is inside of what is no object.
fn set(json: &mut Value, path: &str, value: Value) -> Option<()> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let object = json.as_object_mut()?;
    match rest {
        Some(rest) => set(object.get_mut(first)?, rest, value),
        None => {
            object.insert(first.to_owned(), value);
            Some(())
        }
    }
}

impl<S: Tunable> Space<S> {
    /// Whether it can be searched.
    ///
    /// # Errors
    /// [`Error::Range`] for no kind or window, or too much of anything; [`Error::Unknown`] for a setting that a learner does
    /// not have, or a value of another type. Whether values are in range is found out by who builds the learner.
    pub fn check(&self) -> Result<()> {
        within("the number of kinds", self.kinds.len() as f64, (1.0, KINDS as f64), "from 1 to 64")?;
        within("the number of windows", self.windows.len() as f64, (1.0, 3.0), "from 1 to 3")?;
        self.kinds.iter().try_for_each(Kind::check)
    }

    /// Every candidate there is, kind by kind; nothing where a dial is a range, or where they are more than 4,096 of a kind.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn grid(&self) -> Result<Option<Vec<Candidate<S>>>> {
        let mut grid = Vec::new();
        for kind in 0..self.kinds.len() {
            let Some(count) = self.count(kind) else { return Ok(None) };
            for number in 0..count {
                grid.push(self.numbered(kind, number)?);
            }
        }
        Ok(Some(grid))
    }

    /// How many candidates of a kind there are, if they are counted.
    pub(super) fn count(&self, kind: usize) -> Option<usize> {
        let count = self.kinds.get(kind)?.count()?.saturating_mul(self.windows.len());
        (count <= COUNTED).then_some(count)
    }

    /// The candidate of a kind with this number.
    pub(super) fn numbered(&self, kind: usize, number: usize) -> Result<Candidate<S>> {
        let missing = || Error::Unknown(format!("kind {kind}"));
        let windows = self.windows.len().max(1);
        let window = self.windows.get(number % windows).copied().unwrap_or_default();
        Ok(Candidate { spec: self.kinds.get(kind).ok_or_else(missing)?.numbered(number / windows)?, window })
    }

    /// Any candidate of a kind.
    pub(super) fn drawn(&self, kind: usize, random: &mut Random) -> Result<Candidate<S>> {
        let missing = || Error::Unknown(format!("kind {kind}"));
        let spec = self.kinds.get(kind).ok_or_else(missing)?.drawn(random)?;
        let window = self.windows.get(random.below(self.windows.len() as u32) as usize).copied().unwrap_or_default();
        Ok(Candidate { spec, window })
    }
}

/// A kind of the registry with dials.
fn kind<S: Tunable>(json: &str, dials: &[(&str, Values)]) -> Option<Kind<S>> {
    let dial = |(setting, values): &(&str, Values)| Dial { setting: (*setting).to_owned(), values: values.clone() };
    Some(Kind { base: serde_json::from_str(json).ok()?, dials: dials.iter().map(dial).collect() })
}

impl Space<Spec> {
    /// What to search when nobody knows better: six kinds of classifiers, from quick to strong, with the settings that
    /// change their answers most, from all of the past, since the last drift, or of late.
    ///
    /// Ranges are wide around the registry's defaults. Left out are [`auto`](crate::Auto), which mixes kinds itself and may
    /// be the champion, and leveraging bagging and the adaptive tree, which are seldom best.
    pub fn classifiers() -> Self {
        let (trees, columns) = (Values::Wholes(vec![5, 10, 20]), Values::Numbers(vec![0.3, 0.6, 0.9]));
        let forest = [("trees", trees), ("columns", columns), ("lambda", Values::Numbers(vec![1.0, 6.0]))];
        let kinds = [
            kind(
                r#"{ "learner": "logistic" }"#,
                &[("alpha", Values::Magnitudes(0.01, 1.0)), ("l2", Values::Magnitudes(1e-6, 1e-2))],
            ),
            kind(r#"{ "learner": "naive-bayes" }"#, &[]),
            kind(
                r#"{ "learner": "hoeffding-tree" }"#,
                &[("grace", Values::Numbers(vec![50.0, 200.0])), ("tie", Values::Numbers(vec![0.05, 0.2]))],
            ),
            kind(r#"{ "learner": "adaptive-random-forest" }"#, &forest),
            kind(r#"{ "learner": "streaming-random-patches" }"#, &forest),
            kind(
                r#"{ "learner": "gradient-boosted-trees", "steps": 30 }"#,
                &[("rate", Values::Magnitudes(0.05, 0.5)), ("columns", Values::Numbers(vec![0.5, 0.75, 1.0]))],
            ),
            kind(r#"{ "learner": "neighbours" }"#, &[("neighbours", Values::Wholes(vec![1, 5, 15]))]),
        ];
        Self { kinds: kinds.into_iter().flatten().collect(), windows: Window::EVERY.to_vec() }
    }
}

impl Space<RegressorSpec> {
    /// As [`Space::classifiers`] is for classes: forests, one tree, and a linear one.
    pub fn regressors() -> Self {
        let kinds = [
            kind(r#"{ "learner": "linear" }"#, &[("rate", Values::Magnitudes(0.01, 1.0))]),
            kind(r#"{ "learner": "fimt-dd" }"#, &[]),
            kind(r#"{ "learner": "regression-forest" }"#, &[("trees", Values::Wholes(vec![5, 10, 20]))]),
        ];
        Self { kinds: kinds.into_iter().flatten().collect(), windows: Window::EVERY.to_vec() }
    }
}

/// A specification inside a snapshot is the JSON that a manifest would have: its form says by name what it is, which the
/// snapshot's own can't read. Where people read it is as it is.
pub(super) mod text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _, ser::Error as _};

    use super::Tunable;

    pub(in crate::tune) fn serialize<S: Tunable, T: Serializer>(spec: &S, to: T) -> Result<T::Ok, T::Error> {
        if to.is_human_readable() {
            return spec.serialize(to);
        }
        to.serialize_str(&serde_json::to_string(spec).map_err(T::Error::custom)?)
    }

    pub(in crate::tune) fn deserialize<'de, S: Tunable, D: Deserializer<'de>>(from: D) -> Result<S, D::Error> {
        if from.is_human_readable() {
            return S::deserialize(from);
        }
        serde_json::from_str(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
