//! Whoever acts hands back when a crowd says so, and not when one contributor does.

use super::*;

/// A guard whose challenger acts, and the time of its last label.
fn acting(settings: Settings) -> (Guard, f64) {
    let mut guard = guard(settings);
    until(&mut guard, Why::Promoted, 1_000, |_| (1.0, 0.0)).unwrap();
    let now = guard.now.unwrap();
    (guard, now)
}

/// Labels until it hands back, each by the contributor and with the losses that are drawn.
fn handed_back(
    guard: &mut Guard,
    now: f64,
    most: u32,
    mut draw: impl FnMut() -> (Option<u64>, (f64, f64)),
) -> Option<u32> {
    (1..=most).find(|count| {
        let (contributor, (champion, challenger)) = draw();
        let (now, challengers) = (now + f64::from(*count), [challenger]);
        let seen = Label { contributor, ..label(now, champion, &challengers) };
        guard.paired(&seen, now).unwrap().why == Why::HandedBack
    })
}

#[test]
fn a_crowd_that_sees_a_fall_of_ten_points_hands_back_soon() {
    for contributors in [5, 10, 50] {
        for (before, after) in
            [((0.10, 0.02), (0.10, -0.10)), ((0.10, 0.02), (0.20, -0.10)), ((0.10, 0.02), (0.20, -0.08))]
        {
            let times = (0..40).map(|seed| {
                let (mut random, (mut guard, now)) = (Random::new(seed), acting(settings()));
                let who = |random: &mut Random| Some(u64::from(random.below(contributors)));
                let good =
                    handed_back(&mut guard, now, 2_000, || (who(&mut random), losses(&mut random, before.0, before.1)));
                assert_eq!(good, None, "{contributors} of {seed}");
                let draw = || (who(&mut random), losses(&mut random, after.0, after.1));
                handed_back(&mut guard, now + 2_000.0, 9_000, draw).unwrap()
            });
            let mean = times.map(f64::from).sum::<f64>() / 40.0;
            assert!(mean <= 500.0, "{contributors}, {after:?}: {mean}");
        }
    }
}

#[test]
fn one_contributor_adds_little_to_the_noise_of_others() {
    let handed_back = |attacks: bool| {
        let run = |seed: &u64| {
            let (mut random, (mut guard, now)) = (Random::new(*seed), acting(settings()));
            let mut count = 0;
            let draw = || {
                count += 1;
                match attacks && count % 2 == 0 {
                    true => (Some(u64::MAX), (0.0, 1.0)),
                    false => (Some(u64::from(random.below(20))), losses(&mut random, 0.2, 0.02)),
                }
            };
            handed_back(&mut guard, now, 10_000, draw).is_some()
        };
        (0..50).filter(run).count()
    };
    let (alone, attacked) = (handed_back(false), handed_back(true));
    assert!(attacked <= alone + 2, "{alone} and {attacked} of 50");
}

#[test]
fn the_last_contributor_there_is_can_hand_back() {
    let (mut guard, now) = acting(settings());
    let crowd = handed_back(&mut guard, now, 500, || (None, (0.0, 0.0)));
    assert_eq!(crowd, None);
    let time = handed_back(&mut guard, now + 500.0, 1_000, || (Some(7), (0.0, 1.0)));
    assert!(time.is_some_and(|labels| (100..140).contains(&labels)), "{time:?}");
}

proptest! {
    #[test]
    fn a_crowd_that_sees_constant_harm_hands_back(seed in any::<u64>(), contributors in 4..200_u64, good in 0..300_u32) {
        let (mut guard, now) = acting(Settings { seed, ..settings() });
        let mut next = 0;
        let mut who = || {
            next += 1;
            Some(next % contributors)
        };
        // It does well for a while, by all of them.
        prop_assert_eq!(handed_back(&mut guard, now, good, || (who(), (1.0, 0.0))), None);
        let time = handed_back(&mut guard, now + f64::from(good), 200, || (who(), (0.0, 1.0)));
        prop_assert!(time.is_some_and(|labels| labels <= 30), "{time:?}");
    }

    #[test]
    fn one_contributor_in_a_crowd_hands_nobody_back(
        seed in any::<u64>(),
        others in prop::option::of(2..60_u32),
        share in 0.01..0.8_f64,
        better in 0.0..0.5_f64,
        harm in 0.1..=1.0_f64,
    ) {
        let mut random = Random::new(seed);
        let (mut guard, now) = acting(Settings { seed, ..settings() });
        // To the others, who may be trusted, it is as good as the champion or better; one says that it is worse.
        let time = handed_back(&mut guard, now, 3_000, || {
            if random.uniform() < share {
                return (Some(u64::MAX), (0.0, harm));
            }
            let who = others.map(|others| u64::from(random.below(others)));
            (who, (f64::from(u8::from(random.uniform() < better)), 0.0))
        });
        prop_assert_eq!(time, None);
    }
}
