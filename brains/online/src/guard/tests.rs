//! What holds for every guard, whatever it sees: each line of the module's list is a property here.

use proptest::prelude::*;

use super::*;

use crate::Random;

mod crowd;

fn settings() -> Settings {
    Settings { mode: Mode::On, season: None, ..Settings::default() }
}

fn guard(settings: Settings) -> Guard {
    Guard::new(settings).unwrap()
}

/// Losses of champion and challenger that disagree on this share of labels, the challenger better by `advantage`.
fn losses(random: &mut Random, disagreement: f64, advantage: f64) -> (f64, f64) {
    let draw = random.uniform();
    match draw {
        _ if draw < (disagreement + advantage) / 2.0 => (1.0, 0.0),
        _ if draw < disagreement => (0.0, 1.0),
        _ => (0.0, 0.0),
    }
}

fn label(now: f64, champion: f64, challengers: &[f64]) -> Label<'_> {
    Label { requested: now, champion, challengers, slice: None, contributor: None }
}

/// Labels until this is said, at most so many.
fn until(guard: &mut Guard, said: Why, most: u32, mut draw: impl FnMut(f64) -> (f64, f64)) -> Option<u32> {
    let begin = guard.now.map_or(0.0, |now| now + 1.0);
    (0..most).find(|count| {
        let now = begin + f64::from(*count);
        let (champion, challenger) = draw(now);
        guard.paired(&label(now, champion, &[challenger]), now).unwrap().why == said
    })
}

#[test]
fn a_better_one_is_promoted_soon() {
    let runs = 60;
    let mut times: Vec<u32> = (0..runs)
        .map(|seed| {
            let mut random = Random::new(seed);
            let draw = |_| losses(&mut random, 0.1, 0.02);
            until(&mut guard(settings()), Why::Promoted, 20_000, draw).unwrap_or(20_000)
        })
        .collect();
    times.sort_unstable();
    assert!(times[57] <= 7_500, "{times:?}");
}

#[test]
fn one_that_is_no_better_is_rarely_promoted() {
    let runs = 200;
    let promoted = (0..runs).filter(|seed| {
        let mut random = Random::new(*seed);
        let draw = |_| losses(&mut random, 0.1, 0.0);
        until(&mut guard(settings()), Why::Promoted, 4_000, draw).is_some()
    });
    let promoted = promoted.count();
    assert!(promoted <= 10, "{promoted} of {runs}");
}

#[test]
fn five_that_are_no_better_are_no_likelier() {
    let runs = 60;
    let promoted = (0..runs).filter(|seed| {
        let (mut random, mut guard) = (Random::new(*seed), guard(Settings { challengers: 5, ..settings() }));
        (0..2_000).any(|count| {
            let draws: [f64; 5] = std::array::from_fn(|_| f64::from(u8::from(random.uniform() < 0.2)));
            let (now, champion) = (f64::from(count), f64::from(u8::from(random.uniform() < 0.2)));
            guard.paired(&label(now, champion, &draws), now).unwrap().why == Why::Promoted
        })
    });
    let promoted = promoted.count();
    assert!(promoted <= 4, "{promoted} of {runs}");
}

#[test]
fn better_by_day_only_is_not_promoted() {
    let day = 1_000.0;
    let promoted = (0..60).filter(|seed| {
        let mut random = Random::new(*seed);
        let draw = |now: f64| losses(&mut random, 0.2, 0.15 * (now / day * std::f64::consts::TAU).sin());
        until(&mut guard(Settings { season: Some(day), ..settings() }), Why::Promoted, 5_000, draw).is_some()
    });
    let promoted = promoted.count();
    assert!(promoted <= 4, "{promoted} of 60");
}

#[test]
fn whoever_falls_hands_back() {
    let mut times: Vec<u32> = (0..60)
        .map(|seed| {
            let (mut random, mut guard) = (Random::new(seed), guard(settings()));
            until(&mut guard, Why::Promoted, 20_000, |_| losses(&mut random, 0.2, 0.1)).unwrap();
            assert_eq!(guard.acting(), Act::Challenger(0));
            let time = until(&mut guard, Why::HandedBack, 9_000, |_| losses(&mut random, 0.2, -0.1)).unwrap();
            assert_eq!(guard.acting(), Act::Champion);
            // It has to prove itself anew, at a higher price.
            let Why::TooFew { labels: 0, .. } = guard.standing(0).unwrap() else { panic!("{:?}", guard.standing(0)) };
            time
        })
        .collect();
    times.sort_unstable();
    assert!(times[30] <= 500, "{times:?}");
}

#[test]
fn attempts_cost_more_each_time() {
    let mut guard = guard(settings());
    let needed = |guard: &mut Guard, begin: u32| {
        for count in begin..begin + 100 {
            guard.paired(&label(f64::from(count), 0.0, &[0.0]), f64::from(count)).unwrap();
        }
        let Some(Why::Unproven { needed, .. }) = guard.standing(0) else { panic!("{:?}", guard.standing(0)) };
        needed
    };
    let first = needed(&mut guard, 0);
    assert!((first - (1.0 / evidence_alpha(1)).ln()).abs() < 1e-9);
    guard.drift(Alarm::Raised);
    guard.drift(Alarm::Raised);
    let second = needed(&mut guard, 100);
    assert!((second - (1.0 / evidence_alpha(2)).ln()).abs() < 1e-9, "an attempt without labels is none");
}

fn evidence_alpha(attempt: u32) -> f64 {
    crate::evidence::spending::retry(0.05, attempt)
}

#[test]
fn one_contributor_convinces_nobody() {
    let tell = |contributors: &[Option<u64>]| {
        let mut guard = guard(settings());
        for count in 0..3_000 {
            let now = f64::from(count);
            let contributor = contributors[count as usize % contributors.len()];
            let challengers = [f64::from(count % 2)];
            // Whoever has a number says that the challenger is better; the trusted ones see no difference.
            let champion = if contributor.is_some() { 1.0 } else { challengers[0] };
            let seen = Label { contributor, ..label(now, champion, &challengers) };
            guard.paired(&seen, now).unwrap();
        }
        guard.acting()
    };
    assert_eq!(tell(&[Some(7)]), Act::Champion);
    assert_eq!(tell(&[Some(7), Some(7), Some(7), None]), Act::Champion);
    let many: Vec<Option<u64>> = (0..50).map(Some).collect();
    assert_eq!(tell(&many), Act::Challenger(0));
}

#[test]
fn a_slice_that_suffers_vetoes() {
    let run = |share: u32| {
        let mut guard = guard(Settings { slices: 2, ..settings() });
        let mut last = Why::Off;
        for count in 0..4_000 {
            let now = f64::from(count);
            let suffers = count % share == 0;
            let (champion, challenger) = if suffers { (0.0, 1.0) } else { (f64::from(count % 2), 0.0) };
            let challengers = [challenger];
            let seen = Label { slice: Some(u16::from(suffers)), ..label(now, champion, &challengers) };
            last = guard.paired(&seen, now).unwrap().why;
        }
        (guard.acting(), last)
    };
    assert_eq!(run(10), (Act::Champion, Why::SliceWorse { slice: 1 }));
    // Less than one label in twenty is too small a slice.
    assert_eq!(run(40).0, Act::Challenger(0));
}

#[test]
fn a_collapse_vetoes_unless_an_alarm_stands() {
    let run = |alarm: bool| {
        let mut guard = guard(settings());
        guard.clean_set(0, 0.9, 0.6).unwrap();
        if alarm {
            guard.drift(Alarm::Raised);
        }
        until(&mut guard, Why::Promoted, 1_000, |_| (1.0, 0.0)).is_some()
    };
    assert!(!run(false) && run(true));
}

#[test]
fn labels_from_before_do_not_count() {
    let mut guard = guard(settings());
    guard.paired(&label(10.0, 1.0, &[0.0]), 10.0).unwrap();
    guard.drift(Alarm::Raised);
    let late = guard.paired(&label(9.0, 1.0, &[0.0]), 11.0).unwrap();
    assert_eq!(late.why, Why::Late);
    let counted = guard.paired(&label(11.0, 1.0, &[0.0]), 12.0).unwrap();
    assert_eq!(counted.why, Why::TooFew { labels: 1, least: 100 });
}

#[test]
fn by_lot_the_better_one_is_found_and_lost_again() {
    let mut random = Random::new(5);
    let mut guard = guard(Settings { evidence: Evidence::Split, ..settings() });
    let run = |guard: &mut Guard, random: &mut Random, rates: (f64, f64), said: Why| {
        let begin = guard.now.map_or(0.0, |now| now + 1.0);
        (0..400_000).find(|count| {
            let lot = guard.lot(0.05, random.uniform()).unwrap();
            let rate = if lot.arm() == Act::Champion { rates.0 } else { rates.1 };
            let (now, loss) = (begin + f64::from(*count), f64::from(u8::from(random.uniform() < rate)));
            guard.split(&Outcome { lot, requested: now, loss, slice: None }, now).unwrap().why == said
        })
    };
    assert!(run(&mut guard, &mut random, (0.3, 0.2), Why::Promoted).is_some());
    assert_eq!(guard.acting(), Act::Challenger(0));
    assert!(run(&mut guard, &mut random, (0.2, 0.4), Why::HandedBack).is_some());
    // Paired evidence is none for this guard.
    assert_eq!(guard.paired(&label(1e9, 1.0, &[0.0]), 1e9).unwrap().why, Why::OtherEvidence);
}

#[test]
fn lots_have_the_odds_they_say() {
    let mut guard = guard(Settings { challengers: 3, evidence: Evidence::Split, ..settings() });
    for acting in [None, Some(0), Some(1), Some(2)] {
        guard.acting = acting;
        let mut random = Random::new(1);
        let mut drawn = [0_u32; 4];
        for _ in 0..20_000 {
            let lot = guard.lot(0.3, random.uniform()).unwrap();
            let place = match lot.arm() {
                Act::Champion => 0,
                Act::Challenger(number) => usize::from(number) + 1,
            };
            drawn[place] += 1;
        }
        for (place, count) in drawn.iter().enumerate() {
            let acts = acting.map_or(0, |number| usize::from(number) + 1) == place;
            let wanted = if acts { 14_000.0 } else { 2_000.0 };
            assert!((f64::from(*count) - wanted).abs() < 300.0, "{acting:?}: {drawn:?}");
        }
    }
}

#[test]
fn simulation_earns_a_shadow_and_no_more() {
    let mut guard = guard(Settings { begin: Mode::Off, ..settings() });
    assert_eq!(guard.earned(0), Some(Mode::Off));
    assert_eq!(guard.paired(&label(0.0, 1.0, &[0.0]), 0.0).unwrap().why, Why::NoShadow);
    let earned = (0..1_000).find(|_| guard.simulated(0, 1.0, 0.0, 1.0).unwrap().why == Why::EarnedShadow);
    assert!(earned.is_some_and(|labels| labels < 110), "{earned:?}");
    assert_eq!((guard.earned(0), guard.acting()), (Some(Mode::Shadow), Act::Champion));
    for _ in 0..1_000 {
        assert_eq!(guard.simulated(0, 1.0, 0.0, 1.0).unwrap().why, Why::Simulated);
    }
    assert_eq!(guard.acting(), Act::Champion);
    assert!(guard.simulated(1, 1.0, 0.0, 1.0).is_err());
}

#[test]
fn whom_the_operator_stops_has_to_prove_itself_anew() {
    let mut guard = guard(settings());
    until(&mut guard, Why::Promoted, 1_000, |_| (1.0, 0.0)).unwrap();
    guard.permit(Mode::Shadow);
    assert_eq!(guard.acting(), Act::Champion);
    assert!(matches!(guard.standing(0), Some(Why::TooFew { labels: 0, .. })));
    guard.permit(Mode::On);
    assert_eq!(guard.acting(), Act::Champion);
}

#[test]
fn a_trial_is_as_small_as_it_says() {
    let bytes = guard(settings()).save().len();
    assert!(bytes < 1_700, "{bytes}");
}

#[test]
fn its_memory_is_that_of_its_trials() {
    let memory = |challengers, slices| guard(Settings { challengers, slices, ..settings() }).memory();
    let (one, two, sliced) = (memory(1, 0), memory(2, 0), memory(1, 10));
    assert!((1_000..1_600).contains(&(two - one)), "{one} {two}");
    assert_eq!(sliced - one, 10 * size_of::<crate::evidence::EProcess>());
    let mut guard = guard(settings());
    until(&mut guard, Why::Promoted, 1_000, |_| (1.0, 0.0)).unwrap();
    assert_eq!(guard.memory(), one);
    assert_eq!(Switchback::new(600.0, 60.0, 1, 7).unwrap().memory(), size_of::<Switchback>());
}

/// Anything that may happen to a guard.
#[derive(Debug, Clone)]
enum Event {
    Paired { champion: f64, challengers: [f64; 2], slice: Option<u16>, contributor: Option<u64>, late: f64 },
    Split { share: f64, draw: f64, loss: f64 },
    Simulated { challenger: u16, champion: f64, loss: f64 },
    Drift(bool),
    Clean { challenger: u16, champion: f64, share: f64 },
    Wait(f64),
}

fn loss() -> impl Strategy<Value = f64> {
    let wrong = prop_oneof![Just(f64::NAN), Just(-0.5), Just(f64::INFINITY)];
    prop_oneof![6 => Just(0.0), 6 => Just(1.0), 4 => 0.0..=1.0_f64, 3 => wrong]
}

fn event() -> impl Strategy<Value = Event> {
    let paired = (loss(), [loss(), loss()], prop::option::of(0..3_u16), prop::option::of(0..5_u64), -1.0..20.0_f64);
    prop_oneof![
        12 => paired.prop_map(|(champion, challengers, slice, contributor, late)| {
            Event::Paired { champion, challengers, slice, contributor, late }
        }),
        6 => (0.0..1.0_f64, 0.0..1.0_f64, loss()).prop_map(|(share, draw, loss)| Event::Split { share, draw, loss }),
        4 => (0..3_u16, loss(), loss()).prop_map(|(challenger, champion, loss)| {
            Event::Simulated { challenger, champion, loss }
        }),
        1 => any::<bool>().prop_map(Event::Drift),
        1 => (0..3_u16, loss(), loss()).prop_map(|(challenger, champion, share)| {
            Event::Clean { challenger, champion, share }
        }),
        1 => (-5.0..50.0_f64).prop_map(Event::Wait),
    ]
}

/// Lets it happen; whether it was refused.
fn happen(guard: &mut Guard, event: &Event, now: &mut f64) -> Result<()> {
    match event {
        Event::Paired { champion, challengers, slice, contributor, late } => {
            *now += 1.0;
            let (slice, contributor) = (*slice, *contributor);
            let seen = Label { requested: *now - late, champion: *champion, challengers, slice, contributor };
            guard.paired(&seen, *now).map(|_| ())
        }
        Event::Split { share, draw, loss } => {
            *now += 1.0;
            let lot = guard.lot(*share, *draw)?;
            guard.split(&Outcome { lot, requested: *now, loss: *loss, slice: None }, *now).map(|_| ())
        }
        Event::Simulated { challenger, champion, loss } => {
            guard.simulated(*challenger, *champion, *loss, *now).map(|_| ())
        }
        Event::Drift(raised) => {
            guard.drift(if *raised { Alarm::Raised } else { Alarm::Cleared });
            Ok(())
        }
        Event::Clean { challenger, champion, share } => guard.clean_set(*challenger, *champion, *share),
        Event::Wait(seconds) => {
            *now += seconds;
            Ok(())
        }
    }
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let evidence = prop_oneof![Just(Evidence::Paired), Just(Evidence::Split), Just(Evidence::Simulated)];
    let begin = prop_oneof![Just(Mode::Off), Just(Mode::Shadow)];
    (evidence, begin, prop::option::of(5.0..50.0_f64), 1..20_u32, 0.05..0.5_f64).prop_map(
        |(evidence, begin, season, least, alpha)| {
            let cap = 1.0;
            Settings { evidence, begin, season, least, alpha, cap, challengers: 2, slices: 2, ..settings() }
        },
    )
}

proptest! {
    #[test]
    fn off_is_the_champion(settings in any_settings(), events in prop::collection::vec(event(), 0..60)) {
        let mut guard = guard(Settings { mode: Mode::Off, ..settings });
        let (before, mut now) = (guard.save(), 0.0);
        for event in &events {
            let _ = happen(&mut guard, event, &mut now);
        }
        prop_assert_eq!(guard.acting(), Act::Champion);
        prop_assert_eq!(guard.save(), before);
    }

    #[test]
    fn shadow_never_acts(settings in any_settings(), events in prop::collection::vec(event(), 0..200)) {
        let mut guard = guard(Settings { mode: Mode::Shadow, ..settings });
        let mut now = 0.0;
        for event in &events {
            let _ = happen(&mut guard, event, &mut now);
            prop_assert_eq!(guard.acting(), Act::Champion);
        }
    }

    #[test]
    fn simulated_evidence_never_acts(settings in any_settings(), events in prop::collection::vec(event(), 0..200)) {
        let mut guard = guard(Settings { evidence: Evidence::Simulated, ..settings });
        let mut now = 0.0;
        for event in &events {
            let _ = happen(&mut guard, event, &mut now);
            prop_assert_eq!(guard.acting(), Act::Champion);
        }
    }

    #[test]
    fn nobody_acts_unproven(settings in any_settings(), events in prop::collection::vec(event(), 0..200)) {
        let mut guard = guard(settings);
        let mut now = 0.0;
        for event in &events {
            let before = guard.clone();
            let _ = happen(&mut guard, event, &mut now);
            let Act::Challenger(acting) = guard.acting() else { continue };
            if before.acting() == Act::Champion && before.settings.season.is_some() {
                // With a season the proof is what was known before this label.
                prop_assert_eq!(before.standing(acting), Some(Why::Proven));
            } else if before.acting() == Act::Champion {
                prop_assert_eq!(guard.standing(acting), Some(Why::Proven));
            }
        }
    }

    #[test]
    fn bad_input_changes_nothing_and_states_stay_sound(
        settings in any_settings(), events in prop::collection::vec(event(), 0..100),
    ) {
        let mut guard = guard(settings);
        let mut now = 0.0;
        for event in &events {
            let before = guard.clone();
            if happen(&mut guard, event, &mut now).is_err() {
                prop_assert_eq!(&guard, &before);
            }
            prop_assert_eq!(guard.check(), Ok(()));
            prop_assert_eq!(guard.save().len().div_ceil(4_096), 1);
        }
    }

    #[test]
    fn saved_and_loaded_it_goes_on_alike(settings in any_settings(), events in prop::collection::vec(event(), 2..80)) {
        let mut guard = guard(settings);
        let mut now = 0.0;
        let (first, second) = events.split_at(events.len() / 2);
        for event in first {
            let _ = happen(&mut guard, event, &mut now);
        }
        let (mut loaded, mut later) = (Guard::load(&guard.save()).unwrap(), now);
        for event in second {
            let (here, there) = (happen(&mut guard, event, &mut now), happen(&mut loaded, event, &mut later));
            prop_assert_eq!(here.is_err(), there.is_err());
            prop_assert_eq!(loaded.acting(), guard.acting());
        }
        prop_assert_eq!(loaded.save(), guard.save());
    }

    #[test]
    fn hostile_bytes_give_an_error_or_a_sound_state(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut guard = guard(Settings { challengers: 2, slices: 2, ..settings() });
        let mut now = 0.0;
        for event in &events {
            let _ = happen(&mut guard, event, &mut now);
        }
        let mut bytes = guard.save();
        let body = bytes.len() - 4;
        for (place, byte) in changes {
            bytes[place.index(body)] = byte;
        }
        let checksum = crc32fast::hash(&bytes[..body]).to_le_bytes();
        bytes[body..].copy_from_slice(&checksum);
        let Ok(mut loaded) = Guard::load(&bytes) else { return Ok(()) };
        now = loaded.now.unwrap_or(0.0).clamp(-1e15, 1e15);
        for event in &events {
            let _ = happen(&mut loaded, event, &mut now);
            let _ = (loaded.standing(0), loaded.acting());
        }
        prop_assert!(loaded.settings.mode == Mode::On || loaded.acting() == Act::Champion);
    }

    #[test]
    fn attempts_are_paid_for(settings in any_settings(), events in prop::collection::vec(event(), 0..200)) {
        // Simulated attempts are free: they put nobody in front of users.
        let mut guard = guard(Settings { begin: Mode::Shadow, ..settings });
        let (mut now, mut before) = (0.0, [0.0; 2]);
        for event in &events {
            let _ = happen(&mut guard, event, &mut now);
            for (before, trial) in before.iter_mut().zip(&guard.trials) {
                let needed = trial.needed(&guard.settings);
                prop_assert!(needed >= *before);
                *before = needed;
            }
        }
    }

    #[test]
    fn whoever_labels_alone_convinces_nobody(
        contributor in any::<u64>(), seed in any::<u64>(), cap in 0.01..0.99_f64, advantage in 0.0..0.5_f64,
    ) {
        let (mut random, mut guard) = (Random::new(seed), guard(Settings { cap, seed, ..settings() }));
        for count in 0..500 {
            let (champion, challenger) = losses(&mut random, 0.5, advantage);
            let (now, challengers) = (f64::from(count), [challenger]);
            let seen = Label { contributor: Some(contributor), ..label(now, champion, &challengers) };
            guard.paired(&seen, now).unwrap();
            prop_assert_eq!(guard.acting(), Act::Champion);
        }
    }

    #[test]
    fn a_slice_or_a_collapse_vetoes(seed in any::<u64>(), share in 0.3..0.4_f64, fall in 0.21..1.0_f64, slice in any::<bool>()) {
        let (mut random, mut guard) = (Random::new(seed), guard(Settings { slices: 2, ..settings() }));
        if !slice {
            guard.clean_set(0, 1.0, 1.0 - fall).unwrap();
        }
        // It is far better everywhere but in the slice, where it is always worse.
        for count in 0..2_000 {
            let suffers = slice && random.uniform() < share;
            let (champion, challenger) = if suffers { (0.0, 1.0) } else { losses(&mut random, 0.9, 0.8) };
            let (now, challengers) = (f64::from(count), [challenger]);
            let seen = Label { slice: Some(u16::from(suffers)), ..label(now, champion, &challengers) };
            let why = guard.paired(&seen, now).unwrap().why;
            prop_assert!(guard.acting() == Act::Champion, "{why:?} at {count}");
        }
    }

    #[test]
    fn old_labels_do_not_count(late in 0.001..1e6_f64, better in 0.0..=1.0_f64) {
        let mut guard = guard(settings());
        guard.paired(&label(1e6, better, &[0.0]), 1e6).unwrap();
        guard.drift(Alarm::Raised);
        let before = guard.clone();
        let challengers = [0.0];
        let seen = Label { requested: 1e6 - late, ..label(0.0, better, &challengers) };
        prop_assert_eq!(guard.paired(&seen, 1e6).unwrap().why, Why::Late);
        prop_assert_eq!(guard, before);
    }

    #[test]
    fn whoever_got_worse_hands_back(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut guard = guard(settings());
        prop_assume!(until(&mut guard, Why::Promoted, 5_000, |_| losses(&mut random, 0.3, 0.2)).is_some());
        prop_assert!(until(&mut guard, Why::HandedBack, 30, |_| (0.0, 1.0)).is_some());
    }
}
