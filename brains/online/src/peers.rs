//! Who disagrees with a model more than others do at the same time: whose labels are not to teach it.
//!
//! After a drift everybody's labels disagree with what was learnt before, and the honest ones most of all. So nobody is
//! held against the model, but against the others who labelled the same class lately.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Snapshot, error::within, evidence::EDetector};

/// The most contributors that are told apart, and the most classes; those beyond share a place.
const CONTRIBUTORS: usize = 65_536;
const CLASSES: usize = 4_096;

/// When somebody is held to be one who should not teach. Each field's comment begins with its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// 0.05: by how much more than others one may disagree, 0 … 0.5.
    pub margin: f64,
    /// 10,000: labels of an honest contributor between two false alarms, at least, where labels do not depend on each other.
    pub run_length: f64,
    /// 100: labels of a class after which an older one counts half, 10 … 10⁶. Shorter finds less, and in a drift suspects fewer
    /// of the honest.
    pub half_life: f64,
    /// 20: labels of others that there must be lately of a class before anybody is compared with them, 1 … 10⁴.
    pub least: f64,
    /// 4,096: contributors that are remembered, 2 … 65,536; beyond, who labelled least recently is forgotten.
    pub remembered: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { margin: 0.05, run_length: 10_000.0, half_life: 100.0, least: 20.0, remembered: 4_096 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("the margin", self.margin, (0.0, 0.5), "from 0 to 0.5")?;
        within("the run length", self.run_length, (10.0, 1e9), "from 10 to 10⁹ labels")?;
        within("the half-life", self.half_life, (10.0, 1e6), "from 10 to 10⁶ labels")?;
        within("the least of others", self.least, (1.0, 1e4), "from 1 to 10⁴ labels")?;
        within("the contributors", f64::from(self.remembered), (2.0, CONTRIBUTORS as f64), "from 2 to 65,536")?;
        Ok(())
    }
}

/// Labels of a class, and how many of them disagreed with the model; older ones count less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Cell {
    labels: f64,
    disagreed: f64,
    /// Up to which label of the class that holds.
    at: u64,
}

impl Cell {
    fn faded(self, now: u64, keep: f64) -> Self {
        let faded = keep.powf(now.saturating_sub(self.at) as f64);
        Self { labels: self.labels * faded, disagreed: self.disagreed * faded, at: now }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Contributor {
    detector: EDetector,
    cells: BTreeMap<u32, Cell>,
    labels: u64,
    disagreed: u64,
    /// The last label of all that was this one's.
    last: u64,
    suspect: bool,
}

/// What is known of a contributor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Labels taken in.
    pub labels: u64,
    /// Those that disagreed with the model.
    pub disagreed: u64,
    /// Whether an alarm stands.
    pub suspect: bool,
    /// How near the next alarm is: the e-detector's level over its run length.
    pub level: f64,
}

/// Compares contributors with one another, label by label.
///
/// A label disagrees when the model had answered another class. For each class the share of others' labels that disagreed
/// lately is the odds that this one's had; what it has more, less a margin, is a harm that an
/// [e-detector](crate::evidence::EDetector) bets on. So whoever labels the hard classes is compared with others who do,
/// and a drift, which all see alike, moves nobody. A contributor's own labels are taken out of what it is compared with.
///
/// It can't see labels that agree with the model, nor a majority that is wrong together: half of all contributors, alike,
/// are the truth here.
///
/// O(log contributors + log classes) a label; some 200 bytes a contributor and 40 a class of each.
///
/// ```
/// use online::{Random, peers::{Peers, Settings}};
///
/// let mut peers = Peers::new(Settings::default())?;
/// let mut random = Random::new(1);
/// let found = (0..10_000).find(|_| {
///     let (who, class) = (random.below(5) as u64, random.below(2) as u32);
///     // Nine of ten answers are right; the last of five turns every label round.
///     let right = random.uniform() < 0.9;
///     peers.observe(who, class, right == (who == 4)) == Ok(true)
/// });
/// assert!(found.is_some_and(|labels| labels < 500));
/// assert!(peers.standing(4).unwrap().suspect && !peers.standing(0).unwrap().suspect);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    settings: Settings,
    cells: BTreeMap<u32, Cell>,
    contributors: BTreeMap<u64, Contributor>,
    labels: u64,
}

impl Peers {
    /// One that knows nobody.
    ///
    /// # Errors
    /// [`Error::Range`] for settings out of their ranges.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self { settings, cells: BTreeMap::new(), contributors: BTreeMap::new(), labels: 0 })
    }

    /// Takes in whether a contributor's label of this class disagreed with the model. Says whether that makes it a suspect,
    /// once; what suspects say counts for nobody any more.
    ///
    /// # Errors
    /// Never for what is given; as [`EDetector::observe`] otherwise.
    pub fn observe(&mut self, contributor: u64, class: u32, disagrees: bool) -> Result<bool> {
        let class = class.min(CLASSES as u32 - 1);
        let keep = 0.5_f64.powf(1.0 / self.settings.half_life);
        let now = self.cells.get(&class).map_or(0, |cell| cell.at);
        let all = self.cells.get(&class).copied().unwrap_or_default();
        if !self.contributors.contains_key(&contributor) {
            self.make_room();
            let known = Contributor {
                detector: EDetector::new(self.settings.run_length)?,
                cells: BTreeMap::new(),
                labels: 0,
                disagreed: 0,
                last: 0,
                suspect: false,
            };
            self.contributors.insert(contributor, known);
        }
        self.labels = self.labels.saturating_add(1);
        let Some(known) = self.contributors.get_mut(&contributor) else { return Ok(false) };
        known.labels = known.labels.saturating_add(1);
        known.disagreed = known.disagreed.saturating_add(u64::from(disagrees));
        known.last = self.labels;
        let said = f64::from(u8::from(disagrees));
        let own = known.cells.get(&class).copied().unwrap_or_default().faded(now, keep);
        let others = ((all.labels - own.labels).max(0.0), (all.disagreed - own.disagreed).max(0.0));
        let mut alarm = false;
        if !known.suspect && others.0 >= self.settings.least {
            // As if others had disagreed half a time more: nobody is held against a share of nothing.
            let share = ((others.1 + 0.5) / (others.0 + 1.0)).clamp(0.0, 1.0);
            // Where next to all disagree a wide margin would go below what a harm can be.
            alarm = known.detector.observe((said - share - self.settings.margin).max(-1.0))?;
        }
        if alarm {
            known.suspect = true;
            // Others are no longer compared with it.
            let own = std::mem::take(&mut known.cells);
            for (class, own) in own {
                if let Some(cell) = self.cells.get_mut(&class) {
                    let own = own.faded(cell.at, keep);
                    cell.labels = (cell.labels - own.labels).max(0.0);
                    cell.disagreed = (cell.disagreed - own.disagreed).max(0.0);
                }
            }
        } else if !known.suspect {
            for cells in [&mut self.cells, &mut known.cells] {
                let cell = cells.entry(class).or_default();
                // The whole fades by one label at a time, its parts by as many as went by.
                *cell = cell.faded(now.saturating_add(1), keep);
                cell.labels += 1.0;
                cell.disagreed += said;
            }
        }
        Ok(alarm)
    }

    /// What is known of a contributor.
    pub fn standing(&self, contributor: u64) -> Option<Standing> {
        self.contributors.get(&contributor).map(|known| self.stands(known))
    }

    /// How many contributors are known.
    pub fn len(&self) -> usize {
        self.contributors.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.contributors.is_empty()
    }

    /// All contributors that are known, with how they stand.
    pub fn standings(&self) -> impl Iterator<Item = (u64, Standing)> + '_ {
        self.contributors.iter().map(|(contributor, known)| (*contributor, self.stands(known)))
    }

    /// Whether an alarm stands against a contributor.
    pub fn is_suspect(&self, contributor: u64) -> bool {
        self.contributors.get(&contributor).is_some_and(|known| known.suspect)
    }

    /// Somebody looked, and trusts the contributor again: it begins anew.
    pub fn trust(&mut self, contributor: u64) {
        if let Some(known) = self.contributors.get_mut(&contributor) {
            known.suspect = false;
            known.detector.reset();
        }
    }

    /// Somebody knows better: the contributor is a suspect, whatever it said.
    pub fn distrust(&mut self, contributor: u64) {
        if let Some(known) = self.contributors.get_mut(&contributor) {
            known.suspect = true;
        }
    }

    /// Bytes that it takes, estimated from what it holds.
    pub fn memory(&self) -> usize {
        let cell = size_of::<(u32, Cell)>() * 3 / 2;
        let cells = self.cells.len() + self.contributors.values().map(|known| known.cells.len()).sum::<usize>();
        size_of::<Self>() + cells * cell + self.contributors.len() * size_of::<(u64, Contributor)>() * 3 / 2
    }

    fn stands(&self, known: &Contributor) -> Standing {
        let Contributor { labels, disagreed, suspect, detector, .. } = known;
        let level = detector.level() / self.settings.run_length;
        Standing { labels: *labels, disagreed: *disagreed, suspect: *suspect, level }
    }

    /// Forgets who labelled least recently, suspects last.
    fn make_room(&mut self) {
        while self.contributors.len() >= self.settings.remembered as usize {
            let oldest = self.contributors.iter().min_by_key(|(_, known)| (known.suspect, known.last));
            let Some(oldest) = oldest.map(|(contributor, _)| *contributor) else { return };
            self.contributors.remove(&oldest);
        }
    }
}

impl Snapshot for Peers {
    const KIND: &'static str = "peers";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check().map_err(|_| Error::Snapshot("has settings out of their ranges"))?;
        let sound = |cells: &BTreeMap<u32, Cell>| {
            cells.len() <= CLASSES
                && cells.values().all(|cell| {
                    cell.labels.is_finite()
                        && (0.0..=cell.labels + 1e-6).contains(&cell.disagreed)
                        && cell.labels >= 0.0
                })
        };
        let known = self.contributors.len() <= self.settings.remembered as usize
            && self.contributors.values().all(|known| known.detector.check().is_ok() && sound(&known.cells));
        let lengths = self.contributors.values().all(|known| known.detector.run_length() == self.settings.run_length);
        match known && lengths && sound(&self.cells) {
            true => Ok(()),
            false => Err(Error::Snapshot("has contributors that can't be")),
        }
    }
}

#[cfg(test)]
mod tests;
