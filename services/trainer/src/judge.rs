//! What is known of a model from its labels: how right each version was, and what became of the labels.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use metrics::{counter, gauge};
use online::{
    Snapshot as _,
    evaluate::{Answer, Classes, Numbers, Settings},
};
use rpc::{
    orchestrator::ModelKey,
    trainer::{Contributor, LabelCount, SliceEvaluation, VersionAlarm, VersionEvaluation},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use types::{Code, Manifest, Refusal, Version};

use crate::{
    contributors::Contributors,
    errors::Errors,
    joined::{Example, Reason, Refused, Said},
};

/// Figures of an evaluation that are metrics, too.
const SHOWN: [&str; 6] = ["accuracy", "balanced_accuracy", "log_loss", "auc", "mae", "rmse"];
/// Versions that are judged at a time; beyond, the oldest is forgotten.
const VERSIONS: usize = 16;
/// Ages of labels that a median is taken of.
const AGES: usize = 101;
/// Classes of a model that answers with a class and names none.
const UNNAMED: usize = 1_024;

/// What is known of a model.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    versions: BTreeMap<Version, Judge>,
    labels: BTreeMap<String, LabelCount>,
    contributors: Contributors,
}

/// What is known of a version.
#[derive(Debug)]
struct Judge {
    figures: Figures,
    classes: Vec<String>,
    labelled: u64,
    ages: VecDeque<u64>,
    /// Whether it errs more than before.
    errors: Errors,
    /// How right it was in each slice of the traffic, and how many labels that has.
    slices: BTreeMap<u16, (u64, Figures)>,
    /// What the slices are called.
    names: Vec<String>,
}

#[derive(Debug)]
enum Figures {
    Classes(Box<Classes>),
    Numbers(Box<Numbers>),
}

impl Judged {
    /// Takes an example in; returns who is suspected from now on, and whether its version errs more than before. `manifest` is its version's, where it is known;
    /// only a version's first example needs it.
    pub(crate) fn take(&mut self, example: &Example, manifest: Option<&Manifest>) -> (Vec<String>, bool) {
        let suspected = self.contributors.take(example);
        let slice = manifest.zip(example.features.as_ref()).and_then(|(manifest, row)| streaming::slice(manifest, row));
        let taken = match self.versions.entry(example.version) {
            Entry::Occupied(known) => known.into_mut().take(example, slice),
            Entry::Vacant(place) => {
                Judge::new(example, manifest).and_then(|judge| place.insert(judge).take(example, slice))
            }
        };
        while self.versions.len() > VERSIONS {
            self.versions.pop_first();
        }
        match &taken {
            Ok(_) => count(&mut self.labels, "joined", None),
            Err(why) => count(&mut self.labels, Reason::WrongType.as_str(), Some(why.clone())),
        }
        (suspected, taken == Ok(true))
    }

    /// Shows how right each version was over the short window, and what became of the labels, as metrics.
    pub(crate) fn measure(&self, (namespace, model): &ModelKey) {
        for (version, judge) in &self.versions {
            let report = judge.report(*version);
            for figure in SHOWN {
                let Some(value) = report.figures["short"][figure].as_f64() else { continue };
                let labels = [
                    ("namespace", namespace.to_string()),
                    ("model", model.to_string()),
                    ("version", version.to_string()),
                    ("figure", figure.to_owned()),
                ];
                gauge!("mantlet_trainer_evaluation", &labels).set(value);
            }
        }
        for (what, count) in &self.labels {
            let labels =
                [("namespace", namespace.to_string()), ("model", model.to_string()), ("outcome", what.clone())];
            counter!("mantlet_trainer_labels_total", &labels).absolute(count.count);
        }
    }

    /// Whether none of the versions that were judged is among these any more.
    pub(crate) fn is_of_another(&self, versions: &[Version]) -> bool {
        !self.versions.is_empty() && self.versions.keys().all(|version| !versions.contains(version))
    }

    /// Who found out what was right.
    pub(crate) fn contributors(&mut self) -> &mut Contributors {
        &mut self.contributors
    }

    /// Whether a contributor's labels are held back.
    pub(crate) fn is_suspect(&self, contributor: &str) -> bool {
        self.contributors.is_suspect(contributor)
    }

    /// What a label of a contributor weighs.
    pub(crate) fn influence(&self, contributor: &str) -> f64 {
        self.contributors.influence(contributor)
    }

    /// Contributors for people: suspects first, then those who disagree most.
    pub(crate) fn standings(&self) -> Vec<Contributor> {
        self.contributors.report()
    }

    /// Counts a label that teaches nothing.
    pub(crate) fn refuse(&mut self, refused: &Refused) {
        refuse(&mut self.labels, refused);
    }

    /// What became of the labels.
    pub(crate) fn labels(&self) -> &BTreeMap<String, LabelCount> {
        &self.labels
    }

    /// Which versions err more than before.
    pub(crate) fn alarms(&self) -> Vec<VersionAlarm> {
        let of = |(version, judge): (&Version, &Judge)| {
            let version = *version;
            judge.errors.alarms().map(move |alarm| VersionAlarm { version, alarm, told: None }).collect::<Vec<_>>()
        };
        self.versions.iter().flat_map(of).collect()
    }

    /// How right the versions were, the newest first.
    pub(crate) fn report(&self) -> Vec<VersionEvaluation> {
        self.versions.iter().rev().map(|(version, judge)| judge.report(*version)).collect()
    }
}

/// Counts a label that teaches nothing, and remembers the last one's reason.
pub(crate) fn refuse(labels: &mut BTreeMap<String, LabelCount>, refused: &Refused) {
    let why = format!("prediction {}, row {}: {}", refused.prediction, refused.row, refused.why);
    count(labels, refused.reason.as_str(), Some(why));
}

fn count(labels: &mut BTreeMap<String, LabelCount>, what: &str, last: Option<String>) {
    let count = labels.entry(what.to_owned()).or_default();
    count.count += 1;
    count.last = last.or(count.last.take());
}

impl Judge {
    fn new(example: &Example, manifest: Option<&Manifest>) -> Result<Self, String> {
        let task = manifest.and_then(|manifest| manifest.spec.task.as_ref());
        let classes = task.map(|task| task.classes.clone()).unwrap_or_default();
        let names = manifest.map(|manifest| manifest.slices().to_vec()).unwrap_or_default();
        let figures = match &example.answer {
            Said::Number(_) => {
                Numbers::new(Settings::default(), 0.5).map(|numbers| Figures::Numbers(Box::new(numbers)))
            }
            said => {
                let count = match said {
                    Said::Probabilities(said) => said.len(),
                    _ if classes.is_empty() => UNNAMED,
                    _ => classes.len(),
                };
                let positive = task.and_then(|task| task.positive.as_ref());
                let positive = positive.and_then(|positive| classes.iter().position(|class| class == positive));
                // Of two classes the second is what scores are about, unless somebody says otherwise.
                let positive = positive.or((count == 2).then_some(1));
                Classes::new(Settings::default(), count, positive).map(|classes| Figures::Classes(Box::new(classes)))
            }
        };
        let figures = figures.map_err(|error| error.to_string())?;
        let (slices, errors) = (BTreeMap::new(), Errors::default());
        Ok(Self { figures, classes, labelled: 0, ages: VecDeque::new(), errors, slices, names })
    }

    fn take(&mut self, example: &Example, slice: Option<u16>) -> Result<bool, String> {
        self.figures.take(example)?;
        if let Some(slice) = slice {
            let fresh = || self.figures.fresh().map(|figures| (0, figures));
            let known = match self.slices.entry(slice) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(fresh()?),
            };
            known.0 += 1;
            known.1.take(example)?;
        }
        let drifts = self.errors.take(example);
        self.labelled += 1;
        let age = example.received.since(example.at).as_millis();
        self.ages.push_back(u64::try_from(age).unwrap_or(u64::MAX));
        if self.ages.len() > AGES {
            self.ages.pop_front();
        }
        Ok(drifts)
    }

    fn report(&self, version: Version) -> VersionEvaluation {
        let mut ages: Vec<u64> = self.ages.iter().copied().collect();
        ages.sort_unstable();
        let kind = match &self.figures {
            Figures::Classes(_) => "classification",
            Figures::Numbers(_) => "regression",
        };
        let slice = |(slice, (labelled, figures)): (&u16, &(u64, Figures))| SliceEvaluation {
            slice: self.names.get(usize::from(*slice)).cloned().unwrap_or_default(),
            labelled: *labelled,
            figures: figures.report(),
        };
        VersionEvaluation {
            version,
            kind: kind.to_owned(),
            classes: self.classes.clone(),
            labelled: self.labelled,
            label_age_ms: ages.get(ages.len() / 2).copied(),
            coverage: Vec::new(),
            figures: self.figures.report(),
            slices: self.slices.iter().map(slice).collect(),
        }
    }
}

impl Figures {
    fn take(&mut self, example: &Example) -> Result<(), String> {
        match (self, &example.answer, &example.truth) {
            (Self::Classes(judge), Said::Probabilities(said), Said::Class(class)) => {
                judge.observe(Answer::Probabilities(said), *class)
            }
            (Self::Classes(judge), Said::Class(said), Said::Class(class)) => {
                judge.observe(Answer::Class(*said), *class)
            }
            (Self::Numbers(judge), Said::Number(said), Said::Number(number)) => judge.observe(*said, *number),
            _ => return Err("the answer is of another kind than those before".into()),
        }
        .map_err(|error| error.to_string())
    }

    /// As these were in the beginning.
    fn fresh(&self) -> Result<Self, String> {
        match self {
            Self::Classes(judge) => judge.fresh().map(|judge| Self::Classes(Box::new(judge))),
            Self::Numbers(judge) => judge.fresh().map(|judge| Self::Numbers(Box::new(judge))),
        }
        .map_err(|error| error.to_string())
    }

    fn report(&self) -> serde_json::Value {
        match self {
            Self::Classes(judge) => json!(judge.report()),
            Self::Numbers(judge) => json!(judge.report()),
        }
    }

    fn save(&self) -> String {
        BASE64_STANDARD.encode(match self {
            Self::Classes(judge) => judge.save(),
            Self::Numbers(judge) => judge.save(),
        })
    }

    fn load(text: &str) -> Result<Self, Refusal> {
        let unreadable =
            |why: String| Refusal::new(Code::StorageUnavailable, format!("an evaluation can't be read: {why}"));
        let bytes = BASE64_STANDARD.decode(text).map_err(|error| unreadable(error.to_string()))?;
        match Classes::load(&bytes) {
            Ok(classes) => Ok(Self::Classes(Box::new(classes))),
            Err(_) => {
                let numbers = Numbers::load(&bytes).map_err(|error| unreadable(error.to_string()))?;
                Ok(Self::Numbers(Box::new(numbers)))
            }
        }
    }
}

/// What is known of a model, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    versions: Vec<KeptVersion>,
    labels: BTreeMap<String, LabelCount>,
    #[serde(default)]
    contributors: Contributors,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptVersion {
    version: Version,
    classes: Vec<String>,
    labelled: u64,
    ages: VecDeque<u64>,
    #[serde(default)]
    errors: Errors,
    /// A snapshot in base64, of which kind it says itself.
    figures: String,
    #[serde(default)]
    slices: BTreeMap<u16, (u64, String)>,
    #[serde(default)]
    names: Vec<String>,
}

impl Kept {
    pub(crate) fn of(judged: &Judged) -> Self {
        let one = |(version, judge): (&Version, &Judge)| KeptVersion {
            version: *version,
            classes: judge.classes.clone(),
            labelled: judge.labelled,
            ages: judge.ages.clone(),
            errors: judge.errors.clone(),
            figures: judge.figures.save(),
            slices: judge
                .slices
                .iter()
                .map(|(slice, (labelled, figures))| (*slice, (*labelled, figures.save())))
                .collect(),
            names: judge.names.clone(),
        };
        Self {
            versions: judged.versions.iter().map(one).collect(),
            labels: judged.labels.clone(),
            contributors: judged.contributors.clone(),
        }
    }

    /// # Errors
    /// `storage_unavailable` when a snapshot can't be read.
    pub(crate) fn judged(self) -> Result<Judged, Refusal> {
        let one = |kept: KeptVersion| {
            let KeptVersion { version, classes, labelled, ages, errors, figures, slices, names } = kept;
            let figures = Figures::load(&figures)?;
            let slice =
                |(slice, (labelled, figures)): (u16, (u64, String))| Ok((slice, (labelled, Figures::load(&figures)?)));
            let slices = slices.into_iter().map(slice).collect::<Result<_, Refusal>>()?;
            Ok((version, Judge { figures, classes, labelled, ages, errors, slices, names }))
        };
        let versions = self.versions.into_iter().map(one).collect::<Result<_, Refusal>>()?;
        Ok(Judged { versions, labels: self.labels, contributors: self.contributors })
    }
}
