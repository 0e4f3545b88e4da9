//! Who turns labels round is found, and in drift nobody else is.

use proptest::prelude::*;

use super::*;
use crate::Random;

/// A stream of labels: contributor 0 has this share of them and turns this share of its own round.
struct World {
    random: Random,
    peers: Peers,
    share: f64,
    flips: f64,
    honest: u32,
}

impl World {
    fn new(seed: u64, share: f64, flips: f64) -> Self {
        Self { random: Random::new(seed), peers: Peers::new(Settings::default()).unwrap(), share, flips, honest: 19 }
    }

    /// One label where the model is right so often; whether contributor 0 became a suspect.
    fn step(&mut self, right: f64) -> bool {
        let random = &mut self.random;
        let hostile = random.uniform() < self.share;
        let who = if hostile { 0 } else { 1 + random.below(self.honest) as u64 };
        let truth = u32::from(random.uniform() < 0.3);
        let answer = if random.uniform() < right { truth } else { 1 - truth };
        let label = if hostile && random.uniform() < self.flips { 1 - truth } else { truth };
        self.peers.observe(who, label, label != answer).contains(&0)
    }

    /// Labels of contributor 0 until it is found, of so many in all.
    fn found(&mut self, right: f64, labels: u32) -> Option<u64> {
        (0..labels).find(|_| self.step(right))?;
        self.peers.standing(0).map(|standing| standing.labels)
    }
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

#[test]
fn whoever_turns_labels_round_is_found_soon() {
    for (share, flips, most) in [(0.2, 1.0, 60), (0.2, 0.5, 150), (0.2, 0.2, 600), (0.05, 1.0, 60), (0.4, 1.0, 80)] {
        let found: Vec<u64> =
            (0..40).map(|seed| World::new(seed, share, flips).found(0.9, 60_000).unwrap_or(u64::MAX)).collect();
        let median = median(found);
        assert!(median <= most, "{share} of the labels, {flips} of them turned: found after {median}");
    }
}

#[test]
fn the_honest_are_seldom_suspected_even_when_everything_changes() {
    let mut suspects = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, 0.0, 0.0);
        for label in 0..20_000 {
            // The model is right, suddenly wrong, and learns.
            let since = label % 5_000;
            let right = if since < 500 { 0.2 + 0.7 * f64::from(since) / 500.0 } else { 0.9 };
            world.step(right);
        }
        suspects += world.peers.standings().filter(|(_, standing)| standing.suspect).count();
    }
    // 380 contributors through four drifts each.
    assert!(suspects <= 7, "{suspects} honest ones are suspected");
}

#[test]
fn whoever_labels_the_hard_class_is_compared_with_others_who_do() {
    let mut peers = Peers::new(Settings::default()).unwrap();
    let mut random = Random::new(3);
    for _ in 0..20_000 {
        // Contributors 0 and 1 label the hard class alone, the others the easy one.
        let who = random.below(6) as u64;
        let (class, wrong) = if who < 2 { (1, 0.6) } else { (0, 0.05) };
        peers.observe(who, class, random.uniform() < wrong);
    }
    assert!(peers.standings().all(|(_, standing)| !standing.suspect));
}

#[test]
fn a_person_has_the_last_word() {
    let mut world = World::new(1, 0.2, 1.0);
    assert!(world.found(0.9, 10_000).is_some() && world.peers.is_suspect(0));
    world.peers.trust(0);
    assert!(!world.peers.is_suspect(0));
    assert!(world.found(0.9, 10_000).is_some(), "it is found again");
    world.peers.distrust(5);
    assert!(world.peers.is_suspect(5) && !world.peers.is_suspect(6));
    assert_eq!(world.peers.standing(99), None);
}

#[test]
fn a_hard_spell_or_labels_in_bulk_move_nobody() {
    let mut suspects = 0;
    for seed in 0..20 {
        let (mut peers, mut random) = (Peers::new(Settings::default()).unwrap(), Random::new(seed));
        for batch in 0..2_000 {
            // Rows come in spells of which the model knows all or nothing; every other time one contributor labels them all.
            let (right, alone) = (if random.uniform() < 0.5 { 0.95 } else { 0.1 }, random.below(5) as u64);
            for _ in 0..20 {
                let who = if batch % 2 == 0 { alone } else { random.below(5) as u64 };
                peers.observe(who, random.below(3), random.uniform() > right);
            }
        }
        suspects += peers.standings().filter(|(_, standing)| standing.suspect).count();
    }
    assert!(suspects <= 2, "{suspects} of 100 honest ones are suspected");
}

#[test]
fn a_bet_is_worth_one_on_average_where_all_are_alike() {
    // Every way in which 5 of 12 labels may disagree, of which 4 are one contributor's.
    let (mut sum, mut ways) = ([0.0; 2], 0.0);
    for place in 0_u32..1 << 12 {
        if place.count_ones() != 5 {
            continue;
        }
        let mut block = Block::default();
        // Every third is that one's, each of the others somebody else's.
        (0..12).for_each(|label| block.add(if label % 3 == 0 { 0 } else { label }, place >> label & 1 == 1));
        let worth = block.worth(block.shares()[&0], 1.0, &[2.0, 10.0]).unwrap();
        (0..2).for_each(|bet| sum[bet] += worth[bet]);
        ways += 1.0;
    }
    assert!(sum.iter().all(|sum| (sum / ways - 1.0_f64).abs() < 1e-12), "{sum:?} of {ways}");
}

#[test]
fn of_too_many_the_least_recent_are_forgotten() {
    let settings = Settings { remembered: 10, ..Settings::default() };
    let mut peers = Peers::new(settings).unwrap();
    for who in 0..100 {
        peers.observe(who, 0, false);
    }
    assert_eq!(peers.standings().map(|(who, _)| who).collect::<Vec<_>>(), (90..100).collect::<Vec<_>>());
    assert!(peers.memory() < 10_000);
}

proptest! {
    #[test]
    fn whatever_comes_it_goes_on_alike_after_it_was_saved(
        labels in prop::collection::vec((0..5_u64, any::<u32>(), any::<bool>()), 1..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut peers = Peers::new(Settings { block: 8, run_length: 10.0, ..Settings::default() }).unwrap();
        let cut = cut.index(labels.len());
        let mut loaded = None;
        for (place, (who, class, disagrees)) in labels.into_iter().enumerate() {
            if place == cut {
                loaded = Some(Peers::load(&peers.save()).unwrap());
            }
            let alarm = peers.observe(who, class, disagrees);
            if let Some(loaded) = &mut loaded {
                prop_assert_eq!(alarm, loaded.observe(who, class, disagrees));
            }
        }
        prop_assert_eq!(Some(peers), loaded);
    }
}

#[test]
fn settings_have_ranges() {
    for settings in [
        Settings { odds: f64::NAN, ..Settings::default() },
        Settings { odds: 0.5, ..Settings::default() },
        Settings { run_length: 1.0, ..Settings::default() },
        Settings { block: 65, ..Settings::default() },
        Settings { remembered: 1, ..Settings::default() },
    ] {
        assert!(Peers::new(settings).is_err());
    }
}
