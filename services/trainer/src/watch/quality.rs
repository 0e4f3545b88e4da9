//! Whether what a version is asked is worse kept than before: values that are missing, requests that are refused for what is in them.
//!
//! That is no drift of the world, but of whoever sends: a column that is empty since a deploy, a number that became a word. Rows
//! that lack what was always there are held back from learning while it lasts, for a day at most; then that is how rows are.

use std::time::Duration;

use online::drift::{Adwin, State, adwin::Settings};
use rpc::trainer::{Alarm, AlarmKind};
use serde::{Deserialize, Serialize};
use types::Timestamp;

/// The least rise of a share that is worth an alarm.
const LEAST: f64 = 0.02;
/// Up to this share of missing values, a column is one that is always there.
const NEVER: f64 = 0.01;
/// Rows that say what is usual, before anything is held back.
const USUAL: u64 = 500;
/// The weight of a new row in what a column is like right now, and usually.
const NOW: f64 = 1.0 / 64.0;
const SLOW: f64 = 1.0 / 4_096.0;
/// How long rows are held back at most.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Columns that an alarm names.
const NAMED: usize = 5;

/// How well kept the inputs of a version are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Quality {
    refused: Share,
    missing: Share,
    columns: Vec<Column>,
    rows: u64,
    /// Columns whose rows are held back where they are missing, and since when.
    held: Vec<(u32, Timestamp)>,
}

/// A share of rows or requests, and whether it rose.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Share {
    /// ADWIN (Bifet and Gavaldà, SDM 2007); nothing before the first.
    #[serde(with = "streaming::kept::maybe")]
    adwin: Option<Adwin>,
    well: Option<Timestamp>,
}

/// How often a column is missing: usually, and right now.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Column {
    usual: f64,
    now: f64,
}

impl Share {
    /// Takes one in; the share before and now, where it rose.
    fn take(&mut self, yes: bool) -> Option<[f64; 2]> {
        let adwin = match &mut self.adwin {
            Some(adwin) => adwin,
            none => none.insert(Adwin::new(Settings::default()).ok()?),
        };
        let before = adwin.mean();
        let risen = adwin.update_rising(f64::from(u8::from(yes))) == Ok(State::Drift);
        (risen && adwin.mean() - before >= LEAST).then(|| [before, adwin.mean()])
    }

    fn alarm(&mut self, yes: bool, at: Timestamp, what: impl FnOnce([f64; 2]) -> String) -> Option<Alarm> {
        let Some(shares) = self.take(yes) else {
            self.well = Some(at);
            return None;
        };
        Some(Alarm { at, kind: AlarmKind::Quality, what: what(shares), since: self.well, moved: Vec::new() })
    }
}

impl Quality {
    /// Takes in whether a request was refused for what was in it.
    pub(super) fn request(&mut self, refused: bool, at: Timestamp) -> Option<Alarm> {
        let what = |[before, now]: [f64; 2]| {
            format!("requests refused for their inputs: {} ({} before)", percent(now), percent(before))
        };
        self.refused.alarm(refused, at, what)
    }

    /// Takes in a row; `NaN` is a missing value.
    pub(super) fn row(&mut self, row: &[f64], name: impl Fn(usize) -> String, at: Timestamp) -> Option<Alarm> {
        self.columns.resize(row.len(), Column::default());
        self.rows += 1;
        let (now, slow) = (NOW.max(1.0 / self.rows as f64), SLOW.max(1.0 / self.rows as f64));
        for (place, (column, value)) in self.columns.iter_mut().zip(row).enumerate() {
            let missing = f64::from(u8::from(value.is_nan()));
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            let mut held = self.held.iter().any(|(held, _)| *held == place);
            if value.is_nan() && !held && self.rows > USUAL && column.usual <= NEVER && column.now > LEAST {
                self.held.push((place, at));
                held = true;
            }
            column.now += now * (missing - column.now);
            // What is usual stands still while rows are held back.
            if !held {
                column.usual += slow * (missing - column.usual);
            }
        }
        self.release(at);
        let columns = &self.columns;
        let what = |[before, now]: [f64; 2]| {
            let mut worst: Vec<usize> = (0..columns.len()).collect();
            let rise = |place: &usize| columns[*place].now - columns[*place].usual;
            worst.sort_by(|a, b| rise(b).total_cmp(&rise(a)));
            let of = |place: usize| {
                format!("{} in {} ({} before)", name(place), percent(columns[place].now), percent(columns[place].usual))
            };
            let named: Vec<String> = worst.into_iter().filter(|p| rise(p) > 0.0).take(NAMED).map(of).collect();
            format!("rows with missing values: {} ({} before): {}", percent(now), percent(before), named.join(", "))
        };
        self.missing.alarm(row.iter().any(|value| value.is_nan()), at, what)
    }

    /// Columns that are there again, or that have been held back for as long as that goes: how rows are now is usual then.
    fn release(&mut self, at: Timestamp) {
        let columns = &mut self.columns;
        self.held.retain(|(place, since)| {
            let Some(column) = columns.get_mut(*place as usize) else { return false };
            if at.since(*since) >= LONGEST {
                column.usual = column.now;
                return false;
            }
            column.now > LEAST / 2.0
        });
    }

    /// Columns, by their place, whose rows are held back from learning where they are missing.
    pub(super) fn held(&self) -> impl Iterator<Item = usize> + '_ {
        self.held.iter().map(|(place, _)| *place as usize)
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(place: usize) -> String {
        ["amount", "country"][place].into()
    }

    /// Rows from a number on, the second column missing every so often; what is alarmed about.
    fn rows(quality: &mut Quality, from: u64, count: u64, every: u64) -> Vec<Alarm> {
        let row = |n: u64| if every > 0 && n.is_multiple_of(every) { [1.0, f64::NAN] } else { [1.0, 2.0] };
        (from..from + count).filter_map(|n| quality.row(&row(n), name, Timestamp(n))).collect()
    }

    #[test]
    fn a_column_that_goes_missing_is_named_and_held_back_until_it_is_back() {
        let mut quality = Quality::default();
        assert_eq!(rows(&mut quality, 0, 3_000, 0), []);
        let alarms = rows(&mut quality, 3_000, 300, 2);
        assert!(alarms[0].what.contains("country in "), "{alarms:?}");
        assert!(alarms[0].since >= Some(Timestamp(2_990)) && alarms[0].at < Timestamp(3_100), "{alarms:?}");
        assert_eq!(quality.held().collect::<Vec<_>>(), [1]);
        let mut kept: Quality = serde_json::from_value(serde_json::to_value(&quality).unwrap()).unwrap();
        assert_eq!(rows(&mut kept, 3_300, 1_000, 0), []);
        assert_eq!(kept.held().count(), 0);
    }

    #[test]
    fn what_was_always_so_is_no_alarm_and_nothing_is_held_back() {
        let mut quality = Quality::default();
        assert_eq!(rows(&mut quality, 0, 20_000, 5), []);
        assert_eq!(quality.held().count(), 0);
        let refused =
            |quality: &mut Quality, n: u64, every: u64| quality.request(n.is_multiple_of(every), Timestamp(n));
        assert_eq!((0..5_000).filter_map(|n| refused(&mut quality, n, 50)).collect::<Vec<_>>(), []);
        let alarms: Vec<Alarm> = (5_000..5_400).filter_map(|n| refused(&mut quality, n, 2)).collect();
        assert!(alarms[0].what.starts_with("requests refused for their inputs: "), "{alarms:?}");
    }

    #[test]
    fn after_a_day_that_is_how_rows_are() {
        let mut quality = Quality::default();
        rows(&mut quality, 0, 3_000, 0);
        rows(&mut quality, 3_000, 300, 2);
        assert_eq!(quality.held().count(), 1);
        rows(&mut quality, 3_300 + 86_400_000, 300, 2);
        assert_eq!(quality.held().count(), 0);
        rows(&mut quality, 3_600 + 86_400_000, 3_000, 2);
        assert_eq!(quality.held().count(), 0, "it is the usual");
    }
}
