//! Off is a plain pool; with the second replica the learnt rule comes beside it, and nothing that was known is lost.

use proptest::prelude::*;
use rand::SeedableRng as _;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// What happens: a request comes, or one in flight ends, or the replicas are others, after so many microseconds.
type Steps = Vec<(u8, u8, u16)>;

fn steps() -> impl Strategy<Value = Steps> {
    prop::collection::vec((any::<u8>(), any::<u8>(), any::<u16>()), 0..200)
}

fn end(claim: Claim, began: Duration, outcome: Outcome) -> Ended {
    Ended { claim, ask: Ask { size: 64.0, rows: 1 }, began, outcome, work: Some(MS), report: None }
}

/// Lets it all happen to a chooser; the claims in order.
fn claims(chooser: &mut Chooser, mode: Mode, steps: &Steps, seed: u64) -> Vec<Option<Claim>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut now, mut open, mut made) = (Duration::ZERO, Vec::new(), Vec::new());
    for (kind, what, micros) in steps {
        now += Duration::from_micros(u64::from(*micros));
        match kind % 8 {
            0 => chooser.set(&(0..u64::from(what % 5)).rev().collect::<Vec<_>>(), mode, now),
            1..5 => {
                let ask = Ask { size: f64::from(*what), rows: 1 };
                let tried = [u64::from(what % 3)];
                let claim = match what % 4 {
                    0 => chooser.again(&ask, &tried, now, &mut rng),
                    _ => chooser.claim(&ask, now, &mut rng),
                };
                made.push(claim);
                open.extend(claim.map(|claim| (claim, now)));
            }
            _ if open.is_empty() => {}
            _ => {
                let (claim, began) = open.remove(usize::from(*what) % open.len());
                let outcome = match what % 8 {
                    0 => Outcome::Failed,
                    1 => Outcome::Cancelled,
                    _ => Outcome::Answered,
                };
                chooser.ended(&end(claim, began, outcome), now);
            }
        }
    }
    made
}

proptest! {
    #[test]
    fn off_the_learnt_rule_is_never_there(steps in steps(), seed in any::<u64>()) {
        let mut chooser = Chooser::new(Duration::ZERO);
        let made = claims(&mut chooser, Mode::Off, &steps, seed);
        prop_assert!(matches!(chooser, Chooser::Plain(_)) && chooser.standing().is_none());
        // No claim has a number, so nothing is told to replicas.
        prop_assert!(made.iter().flatten().all(|claim| (claim.id, claim.predicted) == (0, 0.0)));
    }

    #[test]
    fn in_shadow_it_chooses_as_off(steps in steps(), seed in any::<u64>()) {
        let keys = |mode| {
            let mut chooser = Chooser::new(Duration::ZERO);
            let made = claims(&mut chooser, mode, &steps, seed);
            (made.into_iter().map(|claim| claim.map(|claim| claim.key)).collect::<Vec<_>>(), format!("{:?}", chooser.pool()))
        };
        prop_assert_eq!(keys(Mode::Shadow), keys(Mode::Off));
    }

    #[test]
    fn on_it_claims_what_there_is(steps in steps(), seed in any::<u64>()) {
        let made = claims(&mut Chooser::new(Duration::ZERO), Mode::On, &steps, seed);
        prop_assert!(made.iter().flatten().all(|claim| claim.key < 5));
    }
}

#[test]
fn with_the_second_replica_there_is_something_to_learn() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut chooser = Chooser::new(Duration::ZERO);
    chooser.set(&[7], Mode::On, Duration::ZERO);
    let ask = Ask { size: 64.0, rows: 1 };
    let first = chooser.claim(&ask, MS, &mut rng).unwrap();
    assert_eq!((first.key, first.id, chooser.standing()), (7, 0, None));
    chooser.set(&[3, 7], Mode::On, 2 * MS);
    assert_eq!(chooser.standing(), Some(Standing::default()));
    assert_eq!(chooser.pool().in_flight(), 1, "what is under way is known");
    let second = chooser.claim(&ask, 3 * MS, &mut rng).unwrap();
    assert!(second.id > 0);
    for claim in [first, second] {
        chooser.ended(&end(claim, MS, Outcome::Answered), 4 * MS);
    }
    assert_eq!(chooser.pool().in_flight(), 0);
}

#[test]
fn what_a_replica_says_is_put_on_this_clock_and_bounded() {
    let said = Report { in_flight: 2, pace: -9.0, readings: 1e6, age: 3 * MS, mean: MS, ..Report::default() };
    let heard = heard(&said, 10 * MS);
    assert_eq!((heard.in_flight, heard.pace.log, heard.pace.weight, heard.pace.at), (2, -3.0, 24.0, 7 * MS));
    assert_eq!(super::heard(&said, MS).pace.at, Duration::ZERO, "older than this gateway");
}

#[test]
fn it_acts_once_it_is_shown_to_be_better() {
    // Work that grows with the bytes; one of four replicas takes four times as long. Requests come whoever is done.
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut chooser = Chooser::new(Duration::ZERO);
    chooser.set(&[1, 2, 3, 4], Mode::On, Duration::ZERO);
    // Of each replica, when it is done with what it has; claims by when they end.
    let (mut done, mut ends) = ([Duration::ZERO; 4], Vec::<(Duration, Claim, Ask, Duration, Duration)>::new());
    let mut requests = 0_u32;
    while !chooser.standing().is_some_and(|standing| standing.acts) && requests < 60_000 {
        requests += 1;
        let now = requests * 3 * MS;
        ends.sort_by_key(|(at, ..)| *at);
        while ends.first().is_some_and(|(at, ..)| *at <= now) {
            let (at, claim, ask, began, work) = ends.remove(0);
            let ended = Ended { claim, ask, began, outcome: Outcome::Answered, work: Some(work), report: None };
            chooser.ended(&ended, at);
        }
        let size = rng.random_range(1..14_u32);
        let ask = Ask { size: f64::from(size), rows: 1 };
        let claim = chooser.claim(&ask, now, &mut rng).unwrap();
        let work = size * MS * if claim.key == 1 { 4 } else { 1 };
        let place = claim.key as usize - 1;
        done[place] = done[place].max(now) + work;
        ends.push((done[place], claim, ask, now, work));
    }
    let standing = chooser.standing().unwrap();
    assert!(standing.acts && standing.promoted == 1 && standing.credited, "{requests}: {standing:?}");
    assert!((700..20_000).contains(&requests), "{requests}: {standing:?}");
    assert!(standing.better().is_some_and(|better| better > 0.0), "{standing:?}");
}
