//! What is worth least goes first, no more than is needed, and nothing flaps.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
/// A tenth stays free of a thousand.
const RESERVE: f64 = 0.1;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn model(name: &str) -> ModelId {
    ModelId { namespace: "bank".parse().unwrap(), name: name.parse().unwrap() }
}

fn candidate(name: &str, requests: f64, cold: f64, mib: u64) -> Candidate {
    Candidate { model: model(name), requests, cold, bytes: mib * MIB, since: Duration::ZERO }
}

fn free(mib: u64) -> Memory {
    Memory { total: 1_000 * MIB, free: mib * MIB }
}

fn names(models: &[ModelId]) -> Vec<&str> {
    models.iter().map(|model| model.name.as_str()).collect()
}

#[test]
fn worth_is_requests_times_start_per_byte() {
    let base = candidate("a", 9.0, 2.0, 100);
    assert!((base.worth() * (100 * MIB) as f64 - 20.0).abs() < 1e-9);
    assert!(candidate("a", 99.0, 2.0, 100).worth() > base.worth());
    assert!(candidate("a", 9.0, 4.0, 100).worth() > base.worth());
    assert!(candidate("a", 9.0, 2.0, 50).worth() > base.worth());
    let strange = Candidate { requests: f64::NAN, cold: f64::INFINITY, bytes: 0, ..base };
    assert!(strange.worth().is_finite() && strange.worth() > 0.0);
}

#[test]
fn requests_fade() {
    let mut recent = Recent::default();
    recent.note(100.0, s(0));
    recent.note(f64::NAN, s(1));
    assert!((recent.count(s(600)) / (100.0 / std::f64::consts::E) - 1.0).abs() < 0.01);
    recent.note(10.0, s(6_000));
    assert!((recent.count(s(6_000)) - 10.0).abs() < 0.1);
    // A clock that goes back takes nothing away and adds nothing.
    assert!((recent.count(s(5_000)) - 10.0).abs() < 0.1);
}

#[test]
fn those_worth_least_go_until_there_is_more_than_the_reserve() {
    let mut pressure = Pressure::new(RESERVE);
    let all = [
        candidate("asked", 500.0, 2.0, 100),
        candidate("idle", 0.0, 2.0, 60),
        candidate("slow", 0.0, 90.0, 60),
        candidate("large", 3.0, 2.0, 300),
    ];
    assert_eq!(pressure.lacking(free(100), s(100)), 0, "as much as is to stay free is free");
    assert!(!pressure.is_short());
    let lacking = pressure.lacking(free(70), s(100));
    assert_eq!((lacking, pressure.is_short()), (80 * MIB, true));
    let gone = pressure.unload(lacking, &all, s(100));
    assert_eq!(names(&gone), ["large"], "3 requests for 300 MiB are worth less than none for 60");
    // What goes shows later: nothing further is done until then.
    assert_eq!(pressure.lacking(free(70), s(105)), 0);
    assert!(pressure.is_short());
    // Between the reserve and half more it stays short, and is made good.
    assert_eq!(pressure.lacking(free(120), s(111)), 30 * MIB);
    assert_eq!(names(&pressure.unload(30 * MIB, &all[..3], s(111))), ["idle"]);
    assert_eq!(pressure.lacking(free(150), s(130)), 0);
    assert!(!pressure.is_short());
    assert_eq!(pressure.lacking(free(120), s(131)), 0, "short again only below the reserve");
}

#[test]
fn who_has_just_come_stays() {
    let mut pressure = Pressure::new(RESERVE);
    let fresh = Candidate { since: s(90), ..candidate("fresh", 0.0, 1.0, 500) };
    assert!(pressure.unload(MIB, std::slice::from_ref(&fresh), s(100)).is_empty());
    assert_eq!(names(&pressure.unload(MIB, &[fresh], s(120))), ["fresh"]);
}

#[test]
fn nothing_goes_without_a_reserve() {
    let mut pressure = Pressure::new(0.0);
    assert_eq!(pressure.lacking(free(0), s(1)), 0);
    assert_eq!(pressure.admit(u64::MAX, free(0), s(1)), Ok(()));
}

#[test]
fn who_is_asked_again_comes_back_where_there_is_room_and_says_how_much_is_lacking_where_not() {
    let mut pressure = Pressure::new(RESERVE);
    assert_eq!(pressure.admit(100 * MIB, free(150), s(0)), Err(50 * MIB));
    assert_eq!(pressure.admit(100 * MIB, free(250), s(0)), Ok(()));
    // What was let in is not free any more, though it does not show yet.
    assert_eq!(pressure.admit(100 * MIB, free(250), s(1)), Err(50 * MIB));
    assert_eq!(pressure.admit(100 * MIB, free(250), s(11)), Ok(()));
}

#[test]
fn others_go_only_for_one_that_is_worth_twice_as_much() {
    let mut pressure = Pressure::new(RESERVE);
    let asked = candidate("asked", 9.0, 2.0, 100);
    let there = [candidate("idle", 0.0, 2.0, 100), candidate("equal", 9.0, 2.0, 100)];
    assert_eq!(names(&pressure.displace(50 * MIB, &asked, &there, s(100))), ["idle"]);
    assert!(pressure.displace(50 * MIB, &asked, &there, s(105)).is_empty(), "it does not show yet");
    assert!(pressure.displace(150 * MIB, &asked, &there, s(200)).is_empty(), "not enough: nobody goes in vain");
}

/// Models that do not fit together, each of which asks all the time while it is not there.
fn take_turns(sizes: &[u64], seconds: u64) -> BTreeMap<String, u32> {
    let mut pressure = Pressure::new(RESERVE);
    let mut there: BTreeMap<ModelId, Candidate> = BTreeMap::new();
    let mut starts: BTreeMap<String, u32> = BTreeMap::new();
    for second in 0..seconds {
        let now = s(second);
        let taken: u64 = there.values().map(|candidate| candidate.bytes).sum();
        let memory = Memory { total: 1_000 * MIB, free: (1_000 * MIB).saturating_sub(taken) };
        let loaded: Vec<Candidate> = there.values().cloned().collect();
        let lacking = pressure.lacking(memory, now);
        for gone in pressure.unload(lacking, &loaded, now) {
            there.remove(&gone);
        }
        for (number, mib) in sizes.iter().enumerate() {
            let asked = Candidate { since: now, ..candidate(&format!("m{number}"), second as f64 % 7.0, 1.0, *mib) };
            if there.contains_key(&asked.model) {
                continue;
            }
            match pressure.admit(asked.bytes, memory, now) {
                Ok(()) => {
                    *starts.entry(asked.model.name.to_string()).or_default() += 1;
                    there.insert(asked.model.clone(), asked);
                }
                Err(lacking) => {
                    let loaded: Vec<Candidate> = there.values().cloned().collect();
                    for gone in pressure.displace(lacking, &asked, &loaded, now) {
                        there.remove(&gone);
                    }
                }
            }
        }
    }
    starts
}

proptest! {
    #[test]
    fn no_model_starts_oftener_than_it_stays(sizes in prop::collection::vec(50..900_u64, 1..8)) {
        for (model, starts) in take_turns(&sizes, 600) {
            // Each stay is half a minute at least, so ten minutes have room for twenty of them, and the one that lasts.
            prop_assert!(starts <= 21, "{model} started {starts} times with {sizes:?}");
        }
    }

    #[test]
    fn no_more_goes_than_is_needed(
        lacking in 0..2_000_u64,
        mibs in prop::collection::vec((0..500_u64, 0.0..100.0_f64), 0..10),
    ) {
        let all: Vec<Candidate> =
            mibs.iter().enumerate().map(|(n, (mib, requests))| candidate(&format!("m{n}"), *requests, 1.0, *mib)).collect();
        let gone = Pressure::new(RESERVE).unload(lacking * MIB, &all, s(1_000));
        let bytes = |models: &[ModelId]| -> u64 {
            models.iter().filter_map(|model| all.iter().find(|one| one.model == *model)).map(|one| one.bytes).sum()
        };
        // Without the last one of them it would not be enough.
        prop_assert!(gone.is_empty() || bytes(&gone[..gone.len() - 1]) < lacking * MIB);
        prop_assert!(bytes(&gone) >= lacking * MIB || gone.len() == all.iter().filter(|one| one.bytes > 0).count());
    }
}
