//! Who found out what was right, and whose labels are held back: those who disagree with the model far more than others do
//! at the same time.

use std::collections::BTreeMap;

use online::peers::{Influence, Peers, Settings};
use rpc::trainer::Contributor;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::joined::{Example, Said};

/// Contributors that are told, at most.
const TOLD: usize = 50;
/// How near its alarm a contributor is whose labels are held to a bound however long it is known.
const DOUBT: f64 = 0.001;

/// The contributors of a model.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Contributors {
    /// Nothing before the first.
    #[serde(with = "streaming::kept::maybe")]
    peers: Option<Peers>,
    /// Names of those that are remembered.
    names: BTreeMap<u64, String>,
    /// How much each may teach.
    #[serde(default)]
    influence: Influence,
}

/// A contributor's number.
pub(crate) fn number(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    digest.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Contributors {
    /// Takes an example in; returns who is suspected from now on.
    pub(crate) fn take(&mut self, example: &Example) -> Vec<String> {
        let (answer, class) = match (&example.answer, &example.truth) {
            (Said::Probabilities(said), Said::Class(class)) => (online::learner::greatest(said), *class),
            (Said::Class(said), Said::Class(class)) => (*said, *class),
            // Numbers have no classes that others labelled, too.
            _ => return Vec::new(),
        };
        let contributor = number(&example.contributor);
        self.influence.observe(contributor);
        let Some(peers) = self.peers() else { return Vec::new() };
        let class = u32::try_from(class).unwrap_or(u32::MAX);
        let suspected = peers.observe(contributor, class, answer != class as usize);
        self.names.entry(contributor).or_insert_with(|| example.contributor.clone());
        if let Some(peers) = &self.peers
            && self.names.len() > peers.len()
        {
            self.names.retain(|contributor, _| peers.standing(*contributor).is_some());
        }
        suspected.iter().filter_map(|contributor| self.names.get(contributor).cloned()).collect()
    }

    fn peers(&mut self) -> Option<&mut Peers> {
        if self.peers.is_none() {
            self.peers = Peers::new(Settings::default()).ok();
        }
        self.peers.as_mut()
    }

    /// Whether a contributor's labels are held back.
    pub(crate) fn is_suspect(&self, name: &str) -> bool {
        self.peers.as_ref().is_some_and(|peers| peers.is_suspect(number(name)))
    }

    /// What a label of a contributor weighs.
    pub(crate) fn influence(&self, name: &str) -> f64 {
        let contributor = number(name);
        let standing = self.peers.as_ref().and_then(|peers| peers.standing(contributor));
        self.influence.weight(contributor, standing.is_some_and(|standing| standing.level >= DOUBT))
    }

    /// Whether a contributor is known.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.contains_key(&number(name))
    }

    /// A person looked at a contributor.
    pub(crate) fn look(&mut self, name: &str, trust: bool) {
        let Some(peers) = &mut self.peers else { return };
        if trust { peers.trust(number(name)) } else { peers.distrust(number(name)) }
    }

    /// For people: suspects first, then those who are nearest to it.
    pub(crate) fn report(&self) -> Vec<Contributor> {
        let Some(peers) = &self.peers else { return Vec::new() };
        let told = peers.standings().filter_map(|(contributor, standing)| {
            Some(Contributor {
                name: self.names.get(&contributor)?.clone(),
                labels: standing.labels,
                disagreed: standing.disagreed,
                held_back: standing.suspect,
                level: standing.level,
            })
        });
        let mut told: Vec<Contributor> = told.collect();
        told.sort_by(|a, b| b.held_back.cmp(&a.held_back).then(b.level.total_cmp(&a.level)));
        told.truncate(TOLD);
        told
    }
}
