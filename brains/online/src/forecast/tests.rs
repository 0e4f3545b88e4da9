//! Forecasts on made-up load: better than the last value, honest in their quantiles, whatever is missing.

use std::f64::consts::TAU;

use proptest::prelude::*;

use super::{horizon::pinball, *};
use crate::Random;

/// Requests a minute with a day's cycle, noise that grows with the level, and now and then a burst.
struct Load {
    random: Random,
    burst: f64,
}

impl Load {
    fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), burst: 0.0 }
    }

    fn at(&mut self, minute: u32) -> f64 {
        let level = 500.0 + 400.0 * (f64::from(minute) * TAU / 1_440.0).sin();
        self.burst *= 0.95;
        if self.random.uniform() < 0.001 {
            self.burst = 600.0;
        }
        (level + self.burst + 1.5 * level.sqrt() * self.random.normal()).max(0.0).round()
    }
}

/// Pinball losses at the horizon with this number, and the share of values below each quantile, after so many minutes.
fn score(horizon: usize, minutes: u32, after: u32, seed: u64) -> ([f64; 3], [f64; 3], [f64; 3]) {
    let (mut forecast, mut load) = (Forecast::new(Settings::every(60.0)).unwrap(), Load::new(seed));
    let ahead = forecast.settings().horizons[horizon];
    let (mut said, mut last): (Vec<Quantiles>, Vec<f64>) = (Vec::new(), Vec::new());
    let (mut ours, mut naive, mut below, mut count) = ([0.0; 3], [0.0; 3], [0.0; 3], 0.0);
    for minute in 0..minutes {
        let value = load.at(minute);
        if let Some(due) = minute.checked_sub(ahead).filter(|due| *due >= after) {
            let due = due as usize;
            let quantiles = [said[due].median, said[due].high, said[due].highest];
            for level in 0..3 {
                ours[level] += pinball(quantiles[level], value, LEVELS[level]);
                naive[level] += pinball(last[due], value, LEVELS[level]);
                below[level] += f64::from(u8::from(value <= quantiles[level]));
            }
            count += 1.0;
        }
        forecast.observe(f64::from(minute) * 60.0, value).unwrap();
        said.push(forecast.ahead(horizon).unwrap());
        last.push(value);
    }
    (ours.map(|loss| loss / count), naive.map(|loss| loss / count), below.map(|share| share / count))
}

#[test]
fn it_beats_the_last_value_and_keeps_its_promise() {
    for horizon in [0, 1, 3] {
        let (ours, naive, below) = score(horizon, 8_000, 2_880, 1);
        assert!(
            ours.iter().zip(naive).all(|(ours, naive)| *ours < 0.9 * naive),
            "{ours:?} against {naive:?} at {horizon}"
        );
        let [median, high, highest] = below;
        // An hour ahead it has learnt from every sixth minute of three days only.
        let (loose, slack) = if horizon == 3 { (0.06, 0.012) } else { (0.03, 0.005) };
        assert!((median - 0.5).abs() < 0.06 && (high - 0.9).abs() < loose, "{below:?} at {horizon}");
        assert!((highest - 0.99).abs() < slack, "{below:?} at {horizon}");
    }
}

#[test]
fn missing_intervals_are_no_outage() {
    let (mut forecast, mut load) = (Forecast::new(Settings::every(60.0)).unwrap(), Load::new(2));
    for minute in 0..3_000 {
        forecast.observe(f64::from(minute) * 60.0, load.at(minute)).unwrap();
    }
    let before = forecast.ahead(1).unwrap();
    for minute in 3_000..3_010 {
        forecast.observe(f64::from(minute) * 60.0, f64::NAN).unwrap();
    }
    let after = forecast.ahead(1).unwrap();
    assert!((after.median / before.median - 1.0).abs() < 0.1, "{before:?} {after:?}");
    // The next value is no burst either, and an interval may be left out altogether.
    forecast.observe(3_015.0 * 60.0, load.at(3_015)).unwrap();
    assert!(!forecast.is_bursting());
}

#[test]
fn a_burst_widens_for_ten_minutes() {
    let mut forecast = Forecast::new(Settings::every(60.0)).unwrap();
    let mut random = Random::new(1);
    for minute in 0..2_000 {
        forecast.observe(f64::from(minute) * 60.0, 100.0 + random.normal()).unwrap();
    }
    assert!(!forecast.is_bursting());
    forecast.observe(120_000.0, 900.0).unwrap();
    let bursting: Vec<bool> = (2_001..2_020)
        .map(|minute| {
            let is = forecast.is_bursting();
            forecast.observe(f64::from(minute) * 60.0, 100.0).unwrap();
            is
        })
        .collect();
    assert_eq!(bursting.iter().filter(|is| **is).count(), 10);
}

#[test]
fn it_is_as_small_as_it_says() {
    for interval in [1.0, 60.0, 300.0, 3_600.0] {
        let mut forecast = Forecast::new(Settings::every(interval)).unwrap();
        for count in 0..3_000 {
            forecast.observe(f64::from(count) * interval, f64::from(count % 97)).unwrap();
        }
        let bytes = forecast.save().len();
        assert!(bytes <= 16_384, "{bytes} at {interval} s");
    }
}

#[test]
fn settings_and_input_are_checked() {
    let every = Settings::every;
    for settings in [
        Settings { interval: 0.0, ..every(60.0) },
        Settings { interval: f64::NAN, ..every(60.0) },
        Settings { horizons: vec![], ..every(60.0) },
        Settings { horizons: vec![5, 5], ..every(60.0) },
        Settings { horizons: vec![0], ..every(60.0) },
        Settings { slots: 0, ..every(60.0) },
        Settings { rate: 0.0, ..every(60.0) },
    ] {
        assert!(Forecast::new(settings.clone()).is_err(), "{settings:?}");
    }
    let mut forecast = Forecast::new(every(60.0)).unwrap();
    assert!(forecast.ahead(0).unwrap().median.is_nan());
    forecast.observe(600.0, 1.0).unwrap();
    let before = forecast.clone();
    assert_eq!(forecast.observe(600.0, 1.0), Err(Error::Time { before: 600.0, now: 600.0 }));
    assert_eq!(forecast.observe(0.0, 1.0), Err(Error::Time { before: 600.0, now: 0.0 }));
    assert!(forecast.observe(660.0, f64::INFINITY).is_err() && forecast.observe(f64::NAN, 1.0).is_err());
    assert!(forecast.observe(1e30, 1.0).is_err() && forecast.ahead(9).is_err());
    assert_eq!(forecast.save(), before.save());
}

fn step() -> impl Strategy<Value = u32> {
    prop_oneof![8 => Just(1_u32), 1 => 1..50_u32, 1 => 1..100_000_u32]
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![6 => 0.0..1e3_f64, 1 => Just(0.0), 1 => -1e15..1e15_f64, 1 => Just(f64::NAN), 1 => Just(1e15)]
}

proptest! {
    #[test]
    fn quantiles_are_numbers_in_order(
        interval in prop_oneof![Just(1.0), Just(60.0), Just(3_600.0), 0.001..600_000.0_f64],
        steps in prop::collection::vec((step(), value()), 1..120),
    ) {
        let mut forecast = Forecast::new(Settings::every(interval)).unwrap();
        let (mut place, mut seen) = (0_u64, false);
        for (step, value) in steps {
            forecast.observe(place as f64 * interval, value).unwrap();
            place += u64::from(step);
            seen |= !value.is_nan();
            for horizon in 0..forecast.settings().horizons.len() {
                let said = forecast.ahead(horizon).unwrap();
                if seen {
                    prop_assert!(said.median.is_finite() && said.highest.is_finite(), "{said:?}");
                    prop_assert!(0.0 <= said.median && said.median <= said.high, "{said:?}");
                    prop_assert!(said.high <= said.highest, "{said:?}");
                }
            }
            prop_assert_eq!(forecast.check(), Ok(()));
        }
        let mut loaded = Forecast::load(&forecast.save()).unwrap();
        for value in [3.0, f64::NAN, 5.0] {
            forecast.observe(place as f64 * interval, value).unwrap();
            loaded.observe(place as f64 * interval, value).unwrap();
            place += 1;
        }
        prop_assert_eq!(loaded.save(), forecast.save());
    }

    #[test]
    fn hostile_bytes_give_an_error_or_a_sound_state(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        near in any::<bool>(),
    ) {
        let mut forecast = Forecast::new(Settings { slots: 28, ..Settings::every(3_600.0) }).unwrap();
        for count in 0..60 {
            forecast.observe(f64::from(count) * 3_600.0, f64::from(count % 24)).unwrap();
        }
        let mut bytes = forecast.save();
        let body = bytes.len() - 4;
        for (place, byte) in changes {
            // Settings and sizes come first: half of the changes go there.
            let place = if near { place.index(120.min(body)) } else { place.index(body) };
            bytes[place] = byte;
        }
        let checksum = crc32fast::hash(&bytes[..body]).to_le_bytes();
        bytes[body..].copy_from_slice(&checksum);
        if let Ok(mut loaded) = Forecast::load(&bytes) {
            let begin = loaded.first.unwrap_or(0.0);
            for count in 0..5_u32 {
                let now = begin + (loaded.interval as f64 + 1.0 + f64::from(count * count)) * loaded.settings.interval;
                let _ = loaded.observe(now, f64::from(count));
                let _ = loaded.ahead(0);
            }
        }
    }
}
