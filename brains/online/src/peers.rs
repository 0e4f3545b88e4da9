//! Who disagrees with a model more than others do at the same time: whose labels are not to teach it.
//!
//! After a drift everybody's labels disagree with what was learnt before, and the honest ones most of all. So nobody is
//! held against the model, but against the others who labelled the same class at the same time.

mod blocks;
mod influence;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Snapshot, error::within};
use blocks::Block;
pub use influence::Influence;

/// The most contributors that are told apart, and the most classes; those beyond share a place.
const CONTRIBUTORS: usize = 65_536;
const CLASSES: usize = 4_096;
/// How many times the odds that are allowed a liar may have: bets are spread over these.
const TIMES: [f64; 5] = [1.5, 2.5, 5.0, 12.0, 40.0];
/// What a block may count, at most: whoever labels in bulk shares a block with others now and then, on both sides of a
/// drift, and one block must not decide.
const MOST: f64 = 20.0;

/// When somebody is held to be one who should not teach. Each field's comment begins with its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// 1.5: how many times the odds of others to disagree an honest contributor may have, 1 … 10.
    pub odds: f64,
    /// 10,000: blocks of an honest contributor between two false alarms, at least.
    pub run_length: f64,
    /// 24: labels of a class that are compared with one another, 8 … 64. Fewer are nearer in time, more tell more.
    pub block: u32,
    /// 4,096: contributors that are remembered, 2 … 65,536; beyond, who labelled least recently is forgotten.
    pub remembered: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { odds: 1.5, run_length: 10_000.0, block: 24, remembered: 4_096 }
    }
}

impl Settings {
    fn check(&self) -> Result<()> {
        within("the odds", self.odds, (1.0, 10.0), "from 1 to 10")?;
        within("the run length", self.run_length, (10.0, 1e9), "from 10 to 10⁹ blocks")?;
        within("a block", f64::from(self.block), (8.0, 64.0), "from 8 to 64 labels")?;
        within("the contributors", f64::from(self.remembered), (2.0, CONTRIBUTORS as f64), "from 2 to 65,536")?;
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Contributor {
    /// For each of [`TIMES`], a Shiryaev–Roberts sum: what bets begun at any block are worth together.
    levels: [f64; TIMES.len()],
    labels: u64,
    disagreed: u64,
    /// The last label of all that was this one's.
    last: u64,
    suspect: bool,
}

impl Contributor {
    fn level(&self) -> f64 {
        self.levels.iter().sum::<f64>() / TIMES.len() as f64
    }
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
    /// How near the next alarm is: what bets against it are worth over the run length.
    pub level: f64,
}

/// Compares contributors with one another, block by block.
///
/// A label disagrees when the model had answered another class. Labels of a class are gathered in blocks. If all who labelled
/// in a block are alike, which of its labels disagree is a matter of lot: how many of one contributor's do is hypergeometric,
/// whatever the model is worth just then, and however that changes from block to block. Against that a likelihood ratio bets
/// that its odds are more than allowed (Fisher's noncentral hypergeometric distribution), a mixture over how many times more;
/// an e-detector (Shin, Ramdas and Rinaldo, NEJSDS 2023) adds up what bets begun at any block are worth. So whoever labels the hard
/// classes is compared with others who do, a drift or a hard spell moves nobody, and who labels alone is not compared; of labels that one
/// contributor gives in a row the first alone counts.
///
/// It can't see labels that agree with the model, nor a majority that is wrong together: half of all contributors, alike,
/// are the truth here. Who is given harder rows of a class than others is held against them; `odds` allows for some.
///
/// O(log contributors + log classes) a label, and O(block²) for each who labelled in a full block: some 100 ns a label. Some 150 bytes a
/// contributor and 16 for each label of a block.
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
///     peers.observe(who, class, right == (who == 4)) == [4]
/// });
/// assert!(found.is_some_and(|labels| labels < 500));
/// assert!(peers.standing(4).unwrap().suspect && !peers.standing(0).unwrap().suspect);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    settings: Settings,
    /// Of each class the labels that are no block yet.
    open: BTreeMap<u32, Block>,
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
        Ok(Self { settings, open: BTreeMap::new(), contributors: BTreeMap::new(), labels: 0 })
    }

    /// Takes in whether a contributor's label of this class disagreed with the model. Says who becomes a suspect by that, if
    /// anybody does: whoever labelled in the block that it fills. What suspects say counts for nobody any more.
    pub fn observe(&mut self, contributor: u64, class: u32, disagrees: bool) -> Vec<u64> {
        let class = class.min(CLASSES as u32 - 1);
        if !self.contributors.contains_key(&contributor) {
            self.make_room();
        }
        self.labels = self.labels.saturating_add(1);
        let fresh = || Contributor { levels: [0.0; TIMES.len()], labels: 0, disagreed: 0, last: 0, suspect: false };
        let known = self.contributors.entry(contributor).or_insert_with(fresh);
        known.labels = known.labels.saturating_add(1);
        known.disagreed = known.disagreed.saturating_add(u64::from(disagrees));
        known.last = self.labels;
        if known.suspect {
            return Vec::new();
        }
        let block = self.open.entry(class).or_default();
        block.add(contributor, disagrees);
        match block.full(self.settings.block) {
            Some(full) => self.compare(&full),
            None => Vec::new(),
        }
    }

    /// Bets on every contributor of a block; returns those who are suspects now.
    fn compare(&mut self, block: &Block) -> Vec<u64> {
        let mut suspects = Vec::new();
        for (contributor, share) in block.shares() {
            let Some(known) = self.contributors.get_mut(&contributor) else { continue };
            let Some(worth) = block.worth(share, self.settings.odds, &TIMES) else { continue };
            for (level, worth) in known.levels.iter_mut().zip(worth) {
                *level = (worth.min(MOST) * (1.0 + *level)).min(f64::MAX / MOST);
            }
            if known.level() >= self.settings.run_length {
                known.suspect = true;
                suspects.push(contributor);
            }
        }
        for block in self.open.values_mut() {
            // Others are no longer compared with them.
            block.retain(|contributor| !suspects.contains(&contributor));
        }
        suspects
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
            known.levels = [0.0; TIMES.len()];
        }
    }

    /// Somebody knows better: the contributor is a suspect, whatever it said.
    pub fn distrust(&mut self, contributor: u64) {
        if let Some(known) = self.contributors.get_mut(&contributor) {
            known.suspect = true;
            self.open.values_mut().for_each(|block| block.retain(|other| other != contributor));
        }
    }

    /// Bytes that it takes, estimated from what it holds.
    pub fn memory(&self) -> usize {
        let blocks: usize = self.open.values().map(Block::memory).sum();
        size_of::<Self>() + blocks + self.contributors.len() * size_of::<(u64, Contributor)>() * 3 / 2
    }

    fn stands(&self, known: &Contributor) -> Standing {
        let Contributor { labels, disagreed, suspect, .. } = known;
        let level = known.level() / self.settings.run_length;
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
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        self.settings.check().map_err(|_| Error::Snapshot("has settings out of their ranges"))?;
        let known = self.contributors.len() <= self.settings.remembered as usize
            && self
                .contributors
                .values()
                .all(|known| known.levels.iter().all(|level| (0.0..=f64::MAX / MOST).contains(level)));
        let open =
            self.open.len() <= CLASSES && self.open.values().all(|block| block.len() < self.settings.block as usize);
        match known && open {
            true => Ok(()),
            false => Err(Error::Snapshot("has contributors that can't be")),
        }
    }
}

#[cfg(test)]
mod tests;
