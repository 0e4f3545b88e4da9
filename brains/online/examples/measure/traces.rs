//! Loads of a folder: every `traces/*.csv*` with the columns `timestamp` and `value`, split by `series` where there is one.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Seconds of a day.
pub(crate) const DAY: f64 = 86_400.0;

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Zeros that nobody can have counted become missing.
fn mask(values: &mut [f64], interval: f64) {
    let hour = ((3_600.0 / interval) as usize).clamp(3, 3_600);
    let mut recent: VecDeque<f64> = VecDeque::new();
    let mut usual = 0.0;
    for (place, value) in values.iter_mut().enumerate() {
        if *value == 0.0 && usual >= 20.0 {
            *value = f64::NAN;
            continue;
        }
        recent.push_back(*value);
        if recent.len() > hour {
            recent.pop_front();
        }
        // A median every few values will do.
        if place % 16 == 0 || recent.len() < 16 {
            usual = median(recent.make_contiguous());
        }
    }
}

pub(crate) struct Trace {
    /// The file without endings, and the series where it has several.
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) interval: f64,
    pub(crate) values: Vec<f64>,
}

/// Seconds since 1970 of `YYYY-MM-DDTHH:MM:SS[.…][Z]`.
fn seconds(text: &str) -> Option<f64> {
    let (date, time) = text.trim_end_matches('Z').split_once(['T', ' '])?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    // Days from the civil date, with the year begun in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day
            - 719_469;
    let mut time = time.split(':').map(|part| part.parse::<f64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next().flatten().unwrap_or(0.0));
    Some(days as f64 * DAY + hour * 3_600.0 + minute * 60.0 + second)
}

fn read(path: &Path) -> Result<Vec<Trace>> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut reader: Box<dyn Read> = if name.ends_with(".gz") { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    reader.read_to_string(&mut text)?;
    let name = name.trim_end_matches(".gz").trim_end_matches(".csv").to_owned();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let column = |wanted: &str| columns.iter().position(|column| *column == wanted);
    let (Some(time), Some(value), series) = (column("timestamp"), column("value"), column("series")) else {
        return Ok(Vec::new());
    };
    let mut rows: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let Some(at) = cells.get(time).and_then(|cell| seconds(cell).or_else(|| cell.parse().ok())) else { continue };
        let value = cells.get(value).and_then(|cell| cell.trim().parse().ok()).unwrap_or(f64::NAN);
        let key = series.and_then(|place| cells.get(place)).map_or_else(String::new, |series| format!(" {series}"));
        rows.entry(key).or_default().push((at, value));
    }
    Ok(rows.into_iter().filter_map(|(series, rows)| trace(&name, &series, &rows)).collect())
}

/// Rows put on a grid of the median interval; intervals without a row are missing.
fn trace(file: &str, series: &str, rows: &[(f64, f64)]) -> Option<Trace> {
    let gaps: Vec<f64> = rows.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    let interval = median(&gaps);
    if rows.len() < 100 || interval.is_nan() || interval <= 0.0 {
        return None;
    }
    let places = rows.iter().map(|(at, value)| (((at - rows[0].0) / interval).round(), value));
    let mut values = Vec::new();
    for (place, value) in places.filter(|(place, _)| (0.0..1e7).contains(place)) {
        let place = place as usize;
        if values.len() <= place {
            values.resize(place + 1, f64::NAN);
        }
        values[place] = *value;
    }
    mask(&mut values, interval);
    Some(Trace { name: format!("{file}{series}"), file: file.to_owned(), interval, values })
}

pub(crate) fn traces(folder: &Path) -> Result<Vec<Trace>> {
    let folder = folder.join("traces");
    let listed = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = listed.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.to_string_lossy().trim_end_matches(".gz").ends_with(".csv"));
    paths.sort();
    let mut traces = Vec::new();
    for path in paths {
        traces.extend(read(&path)?);
    }
    Ok(traces)
}
