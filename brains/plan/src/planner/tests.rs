//! A small world that carries plans out at once, and what must hold in it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use types::{Code, Digest, Refusal, Version};

use super::*;
use crate::{Beside, Crashes, Server, Spread, Trouble, check::check, foresee, foresee::carry_out};

fn model(name: &str) -> ModelId {
    ModelId { namespace: "default".parse().unwrap(), name: name.parse().unwrap() }
}

fn digest(version: u64) -> Digest {
    Digest::of(&version.to_le_bytes())
}

fn wish(version: u64, replicas: u32) -> Wish {
    Wish {
        version: Version(version),
        digest: digest(version),
        replicas,
        needs: Needs::default(),
        shadow: None,
        split: Vec::new(),
    }
}

fn replica(name: &str, version: u64) -> Replica {
    Replica { model: model(name), version: Version(version) }
}

fn current(version: u64) -> Current {
    Current { version: Version(version), digest: digest(version), needs: Needs::default() }
}

/// Plans, audits, and carries out; replicas start ready unless `ready` says otherwise.
#[derive(Default)]
struct World {
    inputs: Inputs,
    names: u32,
    generation: u64,
}

impl World {
    fn step(&mut self, now: u64, ready: bool) -> (Vec<Step>, Report) {
        let names = &mut self.names;
        let mut name = || {
            *names += 1;
            ServerId(format!("s{names:03}"))
        };
        let (plan, report) = plan(&self.inputs, self.generation, Timestamp(now), &mut name);
        assert_eq!(check(&self.inputs, &plan), Vec::<String>::new(), "{plan:?} from {:?}", self.inputs);
        self.generation = plan.generation;
        let steps: Vec<Step> = plan.steps.into_iter().map(|planned| planned.step).collect();
        for step in &steps {
            carry_out(&mut self.inputs, step, if ready { State::Ready } else { State::Starting });
        }
        (steps, report)
    }

    fn settle(&mut self, now: u64) {
        for _ in 0..5 {
            let _ = self.step(now, true);
        }
    }

    fn make_ready(&mut self) {
        for state in self.inputs.servers.values_mut().flat_map(|server| server.replicas.values_mut()) {
            *state = State::Ready;
        }
    }

    fn of(&self, name: &str, version: u64) -> usize {
        self.inputs.servers.values().filter(|s| s.replicas.contains_key(&replica(name, version))).count()
    }

    fn servers(&self, room: Room) -> usize {
        self.inputs.servers.values().filter(|server| server.room == room).count()
    }
}

#[test]
fn a_first_deploy_starts_its_replicas_and_then_there_is_nothing_to_do() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("m"), wish(1, 2));
    let (steps, report) = world.step(0, false);
    assert_eq!(steps.len(), 5, "two starts, two loads and a route: {steps:?}");
    assert_eq!(report.waiting[&model("m")], WaitingOn::Starting(2));
    let (steps, report) = world.step(0, false);
    assert_eq!((steps.len(), report.waiting[&model("m")].clone()), (0, WaitingOn::Starting(2)));
    world.make_ready();
    assert_eq!(world.step(0, false), (vec![], Report::default()));
}

#[test]
fn a_new_version_takes_over_when_it_is_ready_and_not_before() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("m"), wish(1, 2));
    world.settle(0);
    world.inputs.wishes.insert(model("m"), wish(2, 2));
    let _ = world.step(0, false);
    assert_eq!((world.of("m", 1), world.of("m", 2)), (2, 2), "the old one stays while the new one starts");
    // One of two is not as many as answer now.
    let (first, _) = world.inputs.servers.iter().find(|(_, s)| s.replicas.contains_key(&replica("m", 2))).unwrap();
    let first = first.clone();
    world.inputs.servers.get_mut(&first).unwrap().replicas.insert(replica("m", 2), State::Ready);
    let (steps, _) = world.step(0, false);
    assert_eq!((steps, world.inputs.current[&model("m")].version), (vec![], Version(1)));
    world.make_ready();
    world.settle(0);
    assert_eq!((world.of("m", 1), world.of("m", 2)), (0, 2));
    assert_eq!(world.inputs.current[&model("m")].version, Version(2));
}

#[test]
fn a_version_that_can_not_be_loaded_leaves_the_old_one_answering_and_healed() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("m"), wish(1, 1));
    world.settle(0);
    world.inputs.wishes.insert(model("m"), wish(2, 1));
    let refusal = Refusal::new(Code::LoadFailed, "broken");
    let trouble = Trouble { refused: Some(refusal.clone()), ..Trouble::default() };
    world.inputs.trouble.insert(replica("m", 2), trouble);
    world.inputs.servers.clear();
    let (_, report) = world.step(0, true);
    assert_eq!(report.waiting[&model("m")], WaitingOn::Refused(refusal));
    assert_eq!((world.of("m", 1), world.of("m", 2)), (1, 0), "the old version is started again");
}

#[test]
fn a_crashed_replica_waits_for_its_time_and_a_loop_for_a_person() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("m"), wish(1, 1));
    let (mut crashes, mut rng) = (Crashes::default(), ChaCha8Rng::seed_from_u64(1));
    crashes.note(Timestamp(1_000), false, &mut rng);
    let at = crashes.retry_at().unwrap();
    world.inputs.trouble.insert(replica("m", 1), Trouble { crashes: crashes.clone(), refused: None });
    let (steps, report) = world.step(1_000, true);
    assert!(!steps.iter().any(|step| matches!(step, Step::Start { .. })));
    assert_eq!((report.waiting[&model("m")].clone(), report.again_at), (WaitingOn::Backoff(at), Some(at)));
    let (steps, _) = world.step(at.0, true);
    assert!(steps.iter().any(|step| matches!(step, Step::Start { .. })));

    world.inputs.servers.clear();
    for n in 0..5 {
        crashes.note(Timestamp(2_000 + n), false, &mut rng);
    }
    world.inputs.trouble.insert(replica("m", 1), Trouble { crashes, refused: None });
    let (steps, report) = world.step(200_000, true);
    assert_eq!((steps.len(), report.waiting[&model("m")].clone()), (0, WaitingOn::CrashLoop(5)));
}

#[test]
fn a_model_that_sleeps_keeps_its_route_and_a_new_version_of_it_is_loaded_before_it_answers() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("a"), wish(1, 1));
    world.settle(0);
    world.inputs.wishes.insert(model("a"), wish(1, 0));
    let (steps, report) = world.step(1, true);
    assert!(matches!(steps[..], [Step::Drain { .. }]) && report.waiting.is_empty(), "{steps:?}");
    world.settle(2);
    assert_eq!((world.of("a", 1), world.inputs.current[&model("a")]), (0, current(1)));
    assert!(world.step(3, true).0.is_empty(), "it sleeps on");
    world.inputs.wishes.insert(model("a"), wish(2, 0));
    let (steps, _) = world.step(4, false);
    assert!(matches!(steps[..], [Step::Start { .. }, Step::Load { .. }]), "{steps:?}");
    world.make_ready();
    world.settle(5);
    assert_eq!((world.of("a", 2), world.inputs.current[&model("a")]), (0, current(2)), "then it sleeps, too");
}

#[test]
fn what_nobody_wants_is_unrouted_and_drained() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("m"), wish(1, 2));
    world.settle(0);
    world.inputs.wishes.clear();
    world.settle(0);
    assert!(world.inputs.servers.is_empty() && world.inputs.current.is_empty());
}

#[test]
fn replicas_share_beyond_the_servers_that_hold_one_and_two_copies_never_do() {
    let mut world = World::default();
    world.inputs.spread = Spread { alone: 2, shared: 1_000 };
    for name in ["a", "b", "c", "d"] {
        world.inputs.wishes.insert(model(name), wish(1, 1));
    }
    world.inputs.wishes.insert(model("e"), wish(1, 2));
    let pinned = Needs { memory: 10, pinned: true, outward: false };
    world.inputs.wishes.insert(model("p"), Wish { needs: pinned, ..wish(1, 1) });
    world.inputs.wishes.insert(model("q"), Wish { needs: Needs { memory: 1_001, ..Needs::default() }, ..wish(1, 1) });
    let other = ModelId { namespace: "other".parse().unwrap(), name: "z".parse().unwrap() };
    world.inputs.wishes.insert(other, wish(1, 1));
    world.settle(0);
    assert_eq!(world.servers(Room::One), 4, "two, the pinned one, the large one");
    assert_eq!(world.servers(Room::Many), 3, "two for the copies of e, one for the other namespace");
    // A new version sits as the one before did, and nothing is left of the one before.
    world.inputs.wishes.insert(model("a"), wish(2, 1));
    world.inputs.wishes.insert(model("c"), wish(2, 1));
    world.settle(0);
    assert_eq!((world.servers(Room::One), world.servers(Room::Many)), (4, 3), "{:?}", world.inputs.servers);
    assert_eq!((world.of("a", 1), world.of("c", 1), world.of("c", 2)), (0, 0, 1));
    // The last one out ends the server.
    world.inputs.wishes.clear();
    world.settle(0);
    assert!(world.inputs.servers.is_empty());
}

#[test]
fn what_is_foreseen_is_what_happens() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("m"), wish(1, 2));
    world.settle(0);
    world.inputs.wishes.insert(model("m"), wish(2, 1));
    let mut names = 0;
    let mut name = || {
        names += 1;
        ServerId(format!("s{:03}", 2 + names))
    };
    let foreseen: Vec<Step> =
        foresee(&world.inputs, Timestamp(0), &mut name).into_iter().flatten().map(|planned| planned.step).collect();
    let mut happened = Vec::new();
    for _ in 0..4 {
        happened.extend(world.step(0, true).0);
    }
    assert_eq!(foreseen, happened);
    assert_eq!(happened.len(), 5, "start, load, route, two drains: {happened:?}");
}

#[test]
fn models_of_other_servers_share_one_that_asks_them() {
    let mut world = World::default();
    let outward = Needs { outward: true, ..Needs::default() };
    for name in ["a", "b"] {
        world.inputs.wishes.insert(model(name), Wish { needs: outward, ..wish(1, 1) });
    }
    world.inputs.wishes.insert(model("c"), wish(1, 1));
    world.settle(0);
    assert_eq!((world.servers(Room::One), world.servers(Room::Many)), (1, 1));
    // One that comes home sits among its own.
    world.inputs.wishes.insert(model("a"), wish(2, 1));
    world.settle(0);
    assert_eq!((world.servers(Room::One), world.servers(Room::Many), world.of("a", 1)), (2, 1, 0));
}

#[test]
fn who_crashed_while_loading_loads_alone() {
    let mut world = World::default();
    world.inputs.spread = Spread { alone: 0, shared: 1_000 };
    world.inputs.wishes.insert(model("a"), wish(1, 1));
    world.inputs.wishes.insert(model("b"), wish(1, 1));
    let (mut crashes, mut rng) = (Crashes::default(), ChaCha8Rng::seed_from_u64(1));
    crashes.note(Timestamp(1), false, &mut rng);
    world.inputs.trouble.insert(replica("b", 1), Trouble { crashes, refused: None });
    world.settle(60_000);
    assert_eq!((world.servers(Room::One), world.servers(Room::Many)), (1, 1));
}

#[test]
fn a_shadow_has_one_replica_beside_who_answers_and_takes_over_without_a_gap() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("a"), wish(1, 2));
    world.settle(0);
    world.inputs.wishes.insert(model("a"), Wish { shadow: Some(Beside { of: current(2), replicas: 1 }), ..wish(1, 2) });
    world.settle(1);
    let count = |world: &World, version| {
        let held = world.inputs.servers.values().flat_map(|server| server.replicas.keys());
        held.filter(|held| **held == replica("a", version)).count()
    };
    assert_eq!((count(&world, 1), count(&world, 2)), (2, 1));
    assert_eq!(world.inputs.current[&model("a")].version, Version(1), "nobody gets its answers");
    // It is promoted, and the one before shadows it from now on.
    world.inputs.wishes.insert(model("a"), Wish { shadow: Some(Beside { of: current(1), replicas: 1 }), ..wish(2, 2) });
    let (steps, _) = world.step(2, true);
    let lost = |step: &Step| matches!(step, Step::Drain { .. } | Step::Unload { .. });
    assert!(!steps.iter().any(lost), "who answers keeps answering: {steps:?}");
    world.settle(3);
    assert_eq!((count(&world, 1), count(&world, 2)), (1, 2));
    assert_eq!(world.inputs.current[&model("a")].version, Version(2));
    world.inputs.wishes.insert(model("a"), wish(2, 2));
    world.settle(4);
    assert_eq!((count(&world, 1), count(&world, 2)), (0, 2));
}

#[test]
fn versions_that_a_person_gives_requests_to_are_kept_while_that_lasts_whatever_else_happens() {
    let mut world = World::default();
    let beside = |version, replicas| Beside { of: current(version), replicas };
    let split = vec![beside(2, 1), beside(3, 2), beside(1, 1)];
    world.inputs.wishes.insert(model("a"), Wish { split: split.clone(), ..wish(1, 2) });
    world.settle(0);
    let count = |world: &World| [1, 2, 3, 4].map(|version| world.of("a", version));
    assert_eq!(count(&world), [2, 1, 2, 0], "the one that answers has its own");
    let shadow = Some(Beside { of: current(2), replicas: 2 });
    world.inputs.wishes.insert(model("a"), Wish { split: split.clone(), shadow, ..wish(1, 2) });
    world.settle(1);
    assert_eq!(count(&world), [2, 2, 2, 0], "as many as either wants");
    world.inputs.wishes.insert(model("a"), Wish { split, ..wish(4, 2) });
    world.settle(2);
    assert_eq!(count(&world), [1, 1, 2, 2], "another one answers: the one before has its share");
    world.inputs.wishes.insert(model("a"), wish(4, 2));
    world.settle(3);
    assert_eq!(count(&world), [0, 0, 0, 2]);
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Starting), Just(State::Ready), Just(State::Draining)]
}

fn inputs() -> impl Strategy<Value = Inputs> {
    let names = || prop::sample::select(vec!["a", "b", "c"]);
    let wishes = prop::collection::btree_map(names(), (1..4_u64, 0..4_u32, any::<bool>(), (0..4_u64, 0..4_u64)), 0..3);
    let replicas = prop::collection::vec((names(), 1..4_u64, state()), 0..5);
    let servers = prop::collection::vec((replicas, any::<bool>(), any::<bool>()), 0..6);
    let currents = prop::collection::btree_map(names(), 1..4_u64, 0..3);
    (wishes, servers, currents, 0..4_u32).prop_map(|(wishes, servers, currents, alone)| Inputs {
        wishes: wishes
            .into_iter()
            .map(|(name, (version, n, pinned, (shadow, split)))| {
                let needs = Needs { memory: 0, pinned, outward: false };
                let shadow = (shadow > 0).then(|| Beside { of: current(shadow), replicas: 1 + shadow as u32 % 3 });
                let beside = |version: u64| Beside { of: current(version), replicas: 1 + version as u32 % 2 };
                let split = (1..=split).rev().take(2).map(beside).collect();
                (model(name), Wish { needs, shadow, split, ..wish(version, n) })
            })
            .collect(),
        servers: servers
            .into_iter()
            .enumerate()
            .map(|(n, (replicas, many, draining))| {
                let room = if many { Room::Many } else { Room::One };
                let replicas = replicas.into_iter().map(|(name, version, state)| (replica(name, version), state));
                let replicas = replicas.take(if many { usize::MAX } else { 1 }).collect();
                let namespace = "default".parse().unwrap();
                (ServerId(format!("old{n}")), Server { namespace, room, outward: false, draining, replicas })
            })
            .collect(),
        current: currents.into_iter().map(|(name, version)| (model(name), current(version))).collect(),
        trouble: BTreeMap::new(),
        spread: Spread { alone, shared: 1_000 },
    })
}

proptest! {
    #[test]
    fn every_plan_passes_the_audit_and_the_world_settles(inputs in inputs()) {
        let mut world = World { inputs, ..World::default() };
        for _ in 0..6 {
            let _ = world.step(0, true);
            world.inputs.servers.retain(|_, server| !server.draining);
            for server in world.inputs.servers.values_mut() {
                server.replicas.retain(|_, state| *state != State::Draining);
            }
            world.make_ready();
        }
        let (steps, report) = world.step(0, true);
        prop_assert_eq!(steps, vec![], "a settled world needs nothing");
        prop_assert_eq!(report, Report::default());
        prop_assert!(world.inputs.servers.values().all(|server| !server.replicas.is_empty()));
        for (model, wish) in &world.inputs.wishes {
            let of = world.inputs.servers.values().flat_map(|s| s.replicas.keys()).filter(|r| r.model == *model);
            let of: Vec<_> = of.collect();
            let mut beside: BTreeMap<Version, u32> = BTreeMap::new();
            for Beside { of, replicas } in wish.shadow.iter().chain(&wish.split) {
                let most = beside.entry(of.version).or_default();
                *most = (*most).max(wish.replicas.min(*replicas));
            }
            beside.remove(&wish.version);
            let (answer, rest): (Vec<_>, Vec<_>) = of.into_iter().partition(|of| of.version == wish.version);
            prop_assert_eq!(answer.len(), wish.replicas as usize);
            for (version, replicas) in &beside {
                prop_assert_eq!(rest.iter().filter(|of| of.version == *version).count() as u32, *replicas);
            }
            prop_assert!(rest.iter().all(|replica| beside.contains_key(&replica.version)));
        }
    }

    #[test]
    fn planning_twice_gives_the_same(inputs in inputs()) {
        let name = || { let mut n = 0; move || { n += 1; ServerId(format!("n{n}")) } };
        let once = plan(&inputs, 4, Timestamp(9), &mut name());
        prop_assert_eq!(once, plan(&inputs, 4, Timestamp(9), &mut name()));
    }
}
