//! A small world that carries plans out at once, and what must hold in it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use types::{Code, Digest, Refusal};

use super::*;
use crate::{Crashes, Trouble, check::check};

fn model(name: &str) -> ModelId {
    ModelId { namespace: "default".parse().unwrap(), name: name.parse().unwrap() }
}

fn digest(version: u64) -> Digest {
    Digest::of(&version.to_le_bytes())
}

fn wish(version: u64, replicas: u32) -> Wish {
    Wish { version: Version(version), digest: digest(version), replicas }
}

/// Plans, audits, and carries out; servers start ready unless `ready` says otherwise.
#[derive(Default)]
struct World {
    inputs: Inputs,
    names: u32,
    generation: u64,
}

impl World {
    fn step(&mut self, now: u64, ready: bool) -> (Plan, Report) {
        let names = &mut self.names;
        let mut name = || {
            *names += 1;
            ServerId(format!("s{names:03}"))
        };
        let (plan, report) = plan(&self.inputs, self.generation, Timestamp(now), &mut name);
        assert_eq!(check(&self.inputs, &plan), Vec::<String>::new(), "{plan:?} from {:?}", self.inputs);
        self.generation = plan.generation;
        for step in plan.steps.clone() {
            match step {
                Step::Start { server, model, version, .. } => {
                    let state = if ready { State::Ready } else { State::Starting };
                    self.inputs.servers.insert(server, Server { model, version, state });
                }
                Step::Route { model, version, digest } => {
                    self.inputs.current.insert(model, (version, digest));
                }
                Step::Unroute { model } => {
                    self.inputs.current.remove(&model);
                }
                Step::Drain { server } => {
                    self.inputs.servers.remove(&server);
                }
            }
        }
        (plan, report)
    }

    fn settle(&mut self, now: u64) {
        for _ in 0..5 {
            let _ = self.step(now, true);
        }
    }

    fn of(&self, name: &str, version: u64) -> usize {
        self.inputs.servers.values().filter(|s| s.model == model(name) && s.version == Version(version)).count()
    }
}

#[test]
fn a_first_deploy_starts_its_replicas_and_then_there_is_nothing_to_do() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("m"), wish(1, 2));
    let (plan, report) = world.step(0, false);
    assert_eq!(plan.steps.len(), 3, "two starts and a route: {:?}", plan.steps);
    assert_eq!(report.waiting[&model("m")], WaitingOn::Starting(2));
    let (plan, report) = world.step(0, false);
    assert_eq!((plan.steps.len(), report.waiting[&model("m")].clone()), (0, WaitingOn::Starting(2)));
    world.inputs.servers.values_mut().for_each(|server| server.state = State::Ready);
    let (plan, report) = world.step(0, false);
    assert_eq!((plan.steps, report), (vec![], Report::default()));
}

#[test]
fn a_new_version_takes_over_when_it_is_ready_and_not_before() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("m"), wish(1, 2));
    world.settle(0);
    world.inputs.wishes.insert(model("m"), wish(2, 2));
    let _ = world.step(0, false);
    assert_eq!((world.of("m", 1), world.of("m", 2)), (2, 2), "the old one stays while the new one starts");
    assert_eq!(world.inputs.current[&model("m")].0, Version(1));
    world.inputs.servers.values_mut().for_each(|server| server.state = State::Ready);
    world.settle(0);
    assert_eq!((world.of("m", 1), world.of("m", 2)), (0, 2));
    assert_eq!(world.inputs.current[&model("m")].0, Version(2));
}

#[test]
fn a_version_that_can_not_be_loaded_leaves_the_old_one_answering_and_healed() {
    let mut world = World::default();
    world.inputs.wishes.insert(model("m"), wish(1, 1));
    world.settle(0);
    world.inputs.wishes.insert(model("m"), wish(2, 1));
    let refusal = Refusal::new(Code::LoadFailed, "broken");
    let trouble = Trouble { refused: Some(refusal.clone()), ..Trouble::default() };
    world.inputs.trouble.insert((model("m"), Version(2)), trouble);
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
    world.inputs.trouble.insert((model("m"), Version(1)), Trouble { crashes: crashes.clone(), refused: None });
    let (plan, report) = world.step(1_000, true);
    assert!(!plan.steps.iter().any(|step| matches!(step, Step::Start { .. })));
    assert_eq!((report.waiting[&model("m")].clone(), report.again_at), (WaitingOn::Backoff(at), Some(at)));
    let (plan, _) = world.step(at.0, true);
    assert!(plan.steps.iter().any(|step| matches!(step, Step::Start { .. })));

    world.inputs.servers.clear();
    for n in 0..5 {
        crashes.note(Timestamp(2_000 + n), false, &mut rng);
    }
    world.inputs.trouble.insert((model("m"), Version(1)), Trouble { crashes, refused: None });
    let (plan, report) = world.step(200_000, true);
    assert_eq!((plan.steps.len(), report.waiting[&model("m")].clone()), (0, WaitingOn::CrashLoop(5)));
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

fn state() -> impl Strategy<Value = State> {
    prop_oneof![Just(State::Starting), Just(State::Ready), Just(State::Draining)]
}

fn inputs() -> impl Strategy<Value = Inputs> {
    let names = || prop::sample::select(vec!["a", "b", "c"]);
    let wishes = prop::collection::btree_map(names(), (1..4_u64, 0..4_u32), 0..3);
    let servers = prop::collection::vec((names(), 1..4_u64, state()), 0..10);
    let current = prop::collection::btree_map(names(), 1..4_u64, 0..3);
    (wishes, servers, current).prop_map(|(wishes, servers, current)| Inputs {
        wishes: wishes.into_iter().map(|(name, (version, n))| (model(name), wish(version, n))).collect(),
        servers: servers
            .into_iter()
            .enumerate()
            .map(|(n, (name, version, state))| {
                (ServerId(format!("old{n}")), Server { model: model(name), version: Version(version), state })
            })
            .collect(),
        current: current.into_iter().map(|(name, v)| (model(name), (Version(v), digest(v)))).collect(),
        trouble: BTreeMap::new(),
    })
}

proptest! {
    #[test]
    fn every_plan_passes_the_audit_and_the_world_settles(inputs in inputs()) {
        let mut world = World { inputs, ..World::default() };
        for _ in 0..6 {
            let _ = world.step(0, true);
            world.inputs.servers.retain(|_, server| server.state != State::Draining);
            world.inputs.servers.values_mut().for_each(|server| server.state = State::Ready);
        }
        let (plan, report) = world.step(0, true);
        prop_assert_eq!(plan.steps, vec![], "a settled world needs nothing");
        prop_assert_eq!(report, Report::default());
        for (model, wish) in &world.inputs.wishes {
            let of = world.inputs.servers.values().filter(|s| s.model == *model).collect::<Vec<_>>();
            prop_assert_eq!(of.len(), wish.replicas as usize);
            prop_assert!(of.iter().all(|s| s.version == wish.version));
        }
    }

    #[test]
    fn planning_twice_gives_the_same(inputs in inputs()) {
        let name = || { let mut n = 0; move || { n += 1; ServerId(format!("n{n}")) } };
        let once = plan(&inputs, 4, Timestamp(9), &mut name());
        prop_assert_eq!(once, plan(&inputs, 4, Timestamp(9), &mut name()));
    }
}
