//! A scaler under a clock of our own: who acts, who is told, sleep and waking, and going on where it was kept.

use std::time::Duration;

use plan::scale::{Kpa, Scaler as _};
use types::quantity::Span;

use super::*;

fn manifest(scale: Scale) -> Manifest {
    let mut manifest = Manifest::for_onnx("m".parse().unwrap(), "m.onnx");
    manifest.spec.scale = scale;
    manifest
}

fn scale(min: u32, max: u32, mode: ScaleMode) -> Scale {
    Scale { min, max: Some(max), mode, idle: Span(Duration::from_secs(20)), ..Scale::default() }
}

/// A model whose replicas answer two seconds after they are wanted, one request of 0.1 s at a time.
struct World {
    scaler: Scaler,
    at: u64,
    ready: u32,
    /// What was wanted in the last seconds.
    wanted: [u32; 2],
}

impl World {
    fn new(scale: Scale) -> Self {
        let manifest = manifest(scale);
        let scaler = Scaler::new(&manifest, terms(&manifest, 1, COLD), 0, (1, Timestamp(0))).unwrap();
        Self { scaler, at: 1_000, ready: 1, wanted: [1, 1] }
    }

    /// Goes on for so many seconds of so many requests; what was wanted in each.
    fn run(&mut self, seconds: u64, requests: f64) -> Vec<u32> {
        let second = |_| {
            let in_flight = if self.ready == 0 { requests * 2.0 } else { requests * 0.1 };
            self.tell(requests, in_flight)
        };
        (0..seconds).map(second).collect()
    }

    fn tell(&mut self, requests: f64, in_flight: f64) -> u32 {
        self.tell_open(requests, in_flight, in_flight.ceil() as u32)
    }

    fn tell_open(&mut self, requests: f64, in_flight: f64, open: u32) -> u32 {
        self.at += 1;
        let starting = self.wanted[1].saturating_sub(self.ready);
        let served = (requests as u64, requests * 0.1);
        let second = Second { requests, in_flight, open, served, ready: self.ready, starting, overruled: false };
        self.scaler.second(self.at, second, Timestamp(self.at * 1_000));
        let wanted = self.scaler.said().wanted;
        self.ready = wanted.min(self.wanted[0]);
        self.wanted = [self.wanted[1], wanted];
        wanted
    }
}

#[test]
fn the_load_brings_replicas_and_takes_them_away() {
    for mode in [ScaleMode::Rule, ScaleMode::Shadow, ScaleMode::On] {
        let mut world = World::new(scale(1, 4, mode));
        let calm = world.run(120, 2.0);
        assert_eq!(calm.last(), Some(&1), "{mode:?}: {calm:?}");
        let busy = world.run(120, 25.0);
        assert_eq!(busy.last(), Some(&4), "{mode:?}: {busy:?}");
        assert!(world.scaler.said().why.contains("at most 4"), "{}", world.scaler.said().why);
        // The forecast is in no hurry: what came once may come again.
        let calm = world.run(3_600, 1.0);
        assert_eq!(calm.last(), Some(&1), "{mode:?}: {calm:?}");
        // With `on` another block may be the other's, which wants more still.
        let falls = calm.windows(2).all(|pair| pair[1] <= pair[0]);
        assert!(falls || mode == ScaleMode::On, "{mode:?}: {calm:?}");
    }
}

#[test]
fn the_rule_acts_as_if_it_were_alone_whoever_watches() {
    let loads: Vec<f64> =
        (0..900).map(|n| f64::from((n * 7_919) % 31) + if n > 400 && n < 500 { 60.0 } else { 0.0 }).collect();
    let run = |mode| {
        let mut world = World::new(scale(1, 9, mode));
        loads.iter().map(|load| world.tell(*load, load * 0.1)).collect::<Vec<_>>()
    };
    let mut alone = Kpa::new(terms(&manifest(scale(1, 9, ScaleMode::Rule)), 1, COLD), TARGET);
    let (mut at, mut ready, mut wanted) = (1_000, 1_u32, [1, 1]);
    let plain: Vec<u32> = loads
        .iter()
        .map(|load| {
            at += 1;
            let starting = u32::saturating_sub(wanted[1], ready);
            let seen = Seen { requests: *load, in_flight: load * 0.1, service: 0.1, ready, starting };
            let said = alone.second(at, &seen);
            ready = said.min(wanted[0]);
            wanted = [wanted[1], said];
            said
        })
        .collect();
    assert_eq!(run(ScaleMode::Rule), plain);
    assert_eq!(run(ScaleMode::Shadow), plain);
    assert_ne!(run(ScaleMode::On), plain);
    for (mode, twin) in [(ScaleMode::Rule, None), (ScaleMode::Shadow, Some("forecast"))] {
        let mut world = World::new(scale(1, 9, mode));
        world.run(30, 5.0);
        let scaling = world.scaler.scaling(false, COLD);
        assert_eq!((scaling.by.as_str(), scaling.twin.as_ref().map(|(name, _)| name.as_str())), ("rule", twin));
        assert_eq!(scaling.comparison, None);
    }
}

#[test]
fn with_on_blocks_of_time_go_to_both_and_a_number_of_somebody_else_is_nobodys_block() {
    let mut world = World::new(Scale { block: Some(Span(Duration::from_secs(10))), ..scale(1, 9, ScaleMode::On) });
    let mut by = std::collections::BTreeMap::new();
    for _ in 0..400 {
        world.run(1, 5.0);
        let scaling = world.scaler.scaling(false, COLD);
        let (twin, _) = scaling.twin.unwrap();
        assert_ne!(twin, scaling.by);
        *by.entry(scaling.by).or_insert(0) += 1;
    }
    assert!(by.len() == 2 && by.values().all(|seconds| *seconds > 100), "{by:?}");
    let blocks = world.scaler.standing().blocks;
    assert!(blocks.0 + blocks.1 >= 38, "{blocks:?}");
    let (at, ready) = (world.at, world.ready);
    for second in 1..200 {
        let told =
            Second { requests: 5.0, in_flight: 0.5, open: 1, served: (5, 0.5), ready, starting: 0, overruled: true };
        world.scaler.second(at + second, told, Timestamp(0));
    }
    let now = world.scaler.standing().blocks;
    assert!(now.0 + now.1 <= blocks.0 + blocks.1 + 1, "{blocks:?}, then {now:?}");
}

#[test]
fn who_is_not_asked_sleeps_and_wakes_with_one_replica_however_many_wait() {
    for mode in [ScaleMode::Rule, ScaleMode::On] {
        let mut world = World::new(scale(0, 8, mode));
        let awake = world.run(30, 3.0);
        assert!(awake.iter().all(|wanted| *wanted >= 1), "{awake:?}");
        let idle = world.run(400, 0.0);
        let slept = idle.iter().position(|wanted| *wanted == 0).unwrap();
        assert_eq!(slept, 19, "twenty seconds after the last request");
        assert!(idle[slept..].iter().all(|wanted| *wanted == 0));
        assert_eq!(world.scaler.said().why, "nobody has asked for 20s");
        // Fifty wait until the first replica is there.
        world.scaler.wake(Timestamp(world.at * 1_000));
        assert_eq!(world.scaler.said().wanted, 1);
        world.wanted[1] = 1;
        // What is said of the second in which it became ready, and of the next, is of the wait, too.
        let waited = [(20.0, 50.0, 50), (0.0, 50.0, 50), (0.0, 30.0, 50), (0.0, 10.0, 0)];
        let waking: Vec<u32> = waited.into_iter().map(|(came, mean, open)| world.tell_open(came, mean, open)).collect();
        assert_eq!(waking, [1, 1, 1, 1], "{mode:?}");
        assert_eq!(world.ready, 1);
        let after = world.run(30, 3.0);
        assert!(after.iter().all(|wanted| *wanted == 1), "{mode:?}: {after:?}");
    }
}

#[test]
fn a_second_that_says_of_a_request_wakes_as_well_and_a_slow_start_is_no_silence() {
    let mut world = World::new(scale(0, 2, ScaleMode::On));
    world.run(100, 0.0);
    assert!(world.scaler.sleeps());
    assert_eq!(world.tell(1.0, 0.5), 1);
    // It takes longer to start than it may be idle.
    for _ in 0..60 {
        world.ready = 0;
        world.wanted = [0, 1];
        assert_eq!(world.tell(0.0, 0.0), 1);
    }
    world.ready = 1;
    let idle = world.run(40, 0.0);
    assert_eq!(idle.last(), Some(&0));
    world.scaler.touch(Timestamp(0));
    assert_eq!(world.scaler.said().wanted, 1, "who decides anew sees it start");
}

#[test]
fn silence_of_every_gateway_is_no_silence_of_callers() {
    let mut world = World::new(scale(0, 8, ScaleMode::On));
    world.run(300, 30.0);
    let before = world.scaler.said().wanted;
    assert!(before > 1);
    for _ in 0..600 {
        assert_eq!(world.tell(f64::NAN, 0.0), before);
    }
    assert!(world.scaler.said().why.contains("no gateway"));
}

#[test]
fn it_goes_on_where_it_was_kept() {
    for mode in [ScaleMode::Rule, ScaleMode::Shadow, ScaleMode::On] {
        let mut world = World::new(scale(0, 8, mode));
        world.run(500, 20.0);
        let text = serde_json::to_string(&world.scaler.kept(3.0)).unwrap();
        let kept: Kept = serde_json::from_str(&text).unwrap();
        let manifest = manifest(scale(0, 8, mode));
        let scaler = Scaler::resume(&manifest, terms(&manifest, 1, COLD), 7, &kept).unwrap();
        let mut again = World { scaler, ..World::new(scale(0, 8, mode)) };
        (again.at, again.ready, again.wanted) = (world.at, world.ready, world.wanted);
        for load in [20.0, 60.0, 60.0, 0.0, 10.0].into_iter().cycle().take(600) {
            assert_eq!(world.tell(load, load * 0.1), again.tell(load, load * 0.1), "{mode:?}");
            assert_eq!(world.scaler.said(), again.scaler.said());
        }
        // What can't be read begins anew, with what was wanted.
        let torn = Kept { guarded: "%".into(), service: f64::NAN, ..kept };
        let torn = Scaler::resume(&manifest, terms(&manifest, 1, COLD), 7, &torn).unwrap();
        assert_eq!(torn.said().wanted, world_wanted(&text));
    }
}

fn world_wanted(text: &str) -> u32 {
    serde_json::from_str::<Kept>(text).unwrap().said.wanted
}

#[test]
fn a_clock_that_goes_back_is_no_time_that_passes() {
    let mut world = World::new(scale(0, 8, ScaleMode::On));
    world.run(10, 5.0);
    world.at = 3;
    let wanted = world.run(100, 5.0);
    assert!(wanted.iter().all(|wanted| *wanted >= 1), "{wanted:?}");
    assert_eq!(world.run(20, 0.0).last(), Some(&0));
}

#[test]
fn other_bounds_and_another_mode_are_taken_in() {
    let mut world = World::new(scale(1, 8, ScaleMode::On));
    world.run(300, 50.0);
    assert!(world.scaler.said().wanted > 3);
    let narrow = manifest(scale(1, 3, ScaleMode::Rule));
    let narrowed = terms(&narrow, 1, COLD);
    assert!(world.scaler.differs(&narrow, narrowed));
    world.scaler.set(&narrow, narrowed);
    assert!(!world.scaler.differs(&narrow, narrowed));
    assert_eq!(world.run(4, 50.0).last(), Some(&3));
    assert_eq!(world.scaler.said().twin, None);
}
