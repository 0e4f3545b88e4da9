//! Each scaler by what it is known for.

use online::Snapshot as _;

use super::*;

const TERMS: Terms = Terms { lanes: 1, slo: 1.0, cold: 5.0, bounds: (1, 500), price: PRICE };

fn seen(requests: f64, ready: u32) -> Seen {
    Seen { requests, in_flight: requests * 0.1, service: 0.1, ready, starting: 0 }
}

/// What is wanted after each of so many seconds of a load that is answered at once.
fn run(scaler: &mut dyn Scaler, from: u64, seconds: u64, requests: f64, ready: &mut u32) -> Vec<u32> {
    (from..from + seconds)
        .map(|at| {
            *ready = scaler.second(at, &seen(requests, *ready));
            *ready
        })
        .collect()
}

#[test]
fn hpa_doubles_at_most_and_takes_five_minutes_to_shrink() {
    let (mut hpa, mut ready) = (Hpa::new(TERMS, 0.5), 1);
    run(&mut hpa, 1, 300, 40.0, &mut ready);
    assert_eq!(ready, 8, "4 busy lanes at a target of a half");
    let up = run(&mut hpa, 301, 45, 400.0, &mut ready);
    assert_eq!((up[14], up[29], up[44]), (16, 32, 64), "{up:?}");
    let down = run(&mut hpa, 346, 400, 40.0, &mut ready);
    assert!(down[..280].iter().all(|wanted| *wanted >= 64), "five minutes");
    assert_eq!(down.last(), Some(&8));
}

#[test]
fn hpa_counts_what_starts_as_idle() {
    let mut hpa = Hpa::new(TERMS, 0.5);
    let mut wanted = 0;
    for at in 1..=60 {
        // Two are ready and overloaded, the rest never get ready.
        wanted = hpa.second(at, &Seen { starting: wanted.max(2) - 2, ..seen(20.0, 2) });
    }
    assert_eq!(wanted, 4, "2 busy lanes need four");
}

#[test]
fn kpa_panics_and_does_not_shrink_in_panic() {
    let (mut kpa, mut ready) = (Kpa::new(TERMS, 0.7), 1);
    run(&mut kpa, 0, 120, 70.0, &mut ready);
    assert_eq!(ready, 10);
    let burst = run(&mut kpa, 120, 10, 700.0, &mut ready);
    assert_eq!(burst.last(), Some(&100), "over six seconds: {burst:?}");
    let calm = run(&mut kpa, 130, 50, 70.0, &mut ready);
    assert!(calm.iter().all(|wanted| *wanted >= 100), "{calm:?}");
    run(&mut kpa, 180, 200, 70.0, &mut ready);
    assert_eq!(ready, 10);
}

#[test]
fn ahead_is_there_before_the_load_is_late_and_never_blocks_up() {
    let (mut ahead, mut ready) = (Ahead::new(TERMS).unwrap(), 1);
    run(&mut ahead, 1, 1_200, 40.0, &mut ready);
    assert!((5..=9).contains(&ready), "4 busy lanes and room: {ready}");
    // Ten times as much, and what waits, is asked for within seconds.
    let wanted = ahead.second(1_201, &Seen { in_flight: 400.0, ..seen(400.0, ready) });
    assert!(wanted >= 20, "{wanted}");
    let wanted = ahead.second(1_202, &Seen { in_flight: 700.0, ..seen(400.0, ready) });
    assert!(wanted >= 30, "{wanted}");
    let mut again = Ahead::load(&ahead.save()).unwrap();
    for at in 1_203..1_400 {
        assert_eq!(
            again.second(at, &seen(40.0, 40)),
            ahead.second(at, &seen(40.0, 40)),
            "it goes on where it was saved"
        );
    }
}

#[test]
fn who_could_not_count_learns_nothing_and_bounds_hold() {
    let terms = Terms { bounds: (2, 5), ..TERMS };
    let mut ahead = Ahead::new(terms).unwrap();
    for at in 1..400 {
        let wanted = ahead.second(at, &seen(if at % 3 == 0 { f64::NAN } else { 1_000.0 }, 5));
        assert!((2..=5).contains(&wanted));
    }
    assert_eq!(Hpa::new(terms, 0.5).second(15, &seen(0.0, 2)), 2);
    assert_eq!(Kpa::new(terms, 0.5).second(2, &seen(9_999.0, 2)), 5);
}

#[test]
fn other_terms_are_taken_in_and_what_was_learnt_stays() {
    let (mut ahead, mut kpa, mut ready) = (Ahead::new(TERMS).unwrap(), Kpa::new(TERMS, 0.7), 1);
    run(&mut ahead, 1, 1_200, 40.0, &mut ready);
    run(&mut kpa, 1, 1_200, 40.0, &mut ready);
    let narrow = Terms { bounds: (1, 3), ..TERMS };
    let (mut narrowed, staffed) = (ahead.clone(), ahead.staffed());
    narrowed.set(narrow).unwrap();
    assert!((narrowed.staffed() - staffed).abs() < 1e-9 && staffed > 3.0, "{staffed}");
    assert_eq!(narrowed.second(1_201, &seen(40.0, ready)), 3);
    assert!(narrowed.set(Terms { cold: 1e9, ..TERMS }).is_err());
    let mut slower = ahead.clone();
    slower.set(Terms { cold: 60.0, ..TERMS }).unwrap();
    assert!(
        run(&mut slower, 1_201, 120, 40.0, &mut ready).iter().all(|wanted| *wanted >= 5),
        "it begins to forecast anew"
    );
    let mut again = Kpa::load(&kpa.save()).unwrap();
    for at in 1_201..1_300 {
        assert_eq!(again.second(at, &seen(90.0, 6)), kpa.second(at, &seen(90.0, 6)));
    }
    kpa.set(narrow);
    assert_eq!(kpa.second(1_300, &seen(900.0, 6)), 3);
}

#[test]
fn a_dearer_replica_is_bought_less_and_the_usual_price_is_what_it_was() {
    let staffed = |price| {
        let (mut ahead, mut ready) = (Ahead::new(Terms { price, ..TERMS }).unwrap(), 1);
        run(&mut ahead, 1, 2_000, 60.0, &mut ready);
        ahead.staffed()
    };
    let by_price: Vec<f64> = [0.1, 1.0, 10.0, 100.0].map(|times| staffed(times * PRICE)).to_vec();
    assert!(by_price.windows(2).all(|pair| pair[1] <= pair[0]), "{by_price:?}");
    assert!(by_price[3] >= 6.0, "never fewer than the load: {by_price:?}");
}

#[test]
fn after_a_rare_burst_a_young_forecast_lets_go_within_minutes() {
    for burst in [20, 60, 180] {
        let (mut ahead, mut ready) = (Ahead::new(TERMS).unwrap(), 1);
        run(&mut ahead, 1, 3_600, 1.0, &mut ready);
        assert_eq!(ready, 1);
        let busy = run(&mut ahead, 3_601, burst, 25.0, &mut ready);
        assert!(*busy.last().unwrap() >= 3, "{busy:?}");
        let calm = run(&mut ahead, 3_601 + burst, 7_200, 1.0, &mut ready);
        let more = calm.iter().filter(|wanted| **wanted > 1).count();
        // Five minutes and thirty starts of what came lately, then five in which fewer were enough.
        assert!((300..900).contains(&more), "{burst}: {more} s");
    }
}
