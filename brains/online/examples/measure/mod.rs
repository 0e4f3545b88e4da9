//! What the benches share: arguments, tables read from CSV, figures printed and written, areas under curves.

use std::{
    error::Error,
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub(crate) type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// `--data DIR`, else the variable `MANTLET_DATA`, else `../shared/data`; `--out FILE`; `--quick`.
pub(crate) struct Arguments {
    pub(crate) data: PathBuf,
    pub(crate) out: Option<PathBuf>,
    pub(crate) quick: bool,
}

impl Arguments {
    pub(crate) fn read() -> Result<Self> {
        let data = std::env::var_os("MANTLET_DATA").map_or_else(|| "../shared/data".into(), PathBuf::from);
        let mut arguments = Self { data, out: None, quick: false };
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            match name.as_str() {
                "--data" => arguments.data = given.next().ok_or("--data needs a folder")?.into(),
                "--out" => arguments.out = Some(given.next().ok_or("--out needs a file")?.into()),
                "--quick" => arguments.quick = true,
                other => return Err(format!("no argument is called {other}; there are --data, --out, --quick").into()),
            }
        }
        Ok(arguments)
    }
}

/// One number.
struct Figure {
    case: String,
    subject: String,
    metric: String,
    value: f64,
    unit: String,
}

/// All numbers, printed as they come.
#[derive(Default)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    pub(crate) fn add(&mut self, [case, subject, metric, unit]: [&str; 4], value: f64) -> Result<()> {
        writeln!(std::io::stdout(), "{case:<40} {subject:<32} {metric:<28} {value:>14.6} {unit}")?;
        let [case, subject, metric, unit] = [case, subject, metric, unit].map(String::from);
        self.0.push(Figure { case, subject, metric, value, unit });
        Ok(())
    }

    pub(crate) fn write(&self, out: Option<&Path>) -> Result<()> {
        let Some(out) = out else { return Ok(()) };
        let figure = |f: &Figure| {
            serde_json::json!({
                "case": f.case, "subject": f.subject, "metric": f.metric, "value": f.value, "unit": f.unit
            })
        };
        let figures: Vec<_> = self.0.iter().map(figure).collect();
        let mut file = File::create(out)?;
        serde_json::to_writer_pretty(&mut file, &serde_json::json!({ "figures": figures }))?;
        Ok(writeln!(file)?)
    }
}

/// How long something takes.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

/// A CSV file, gzipped or not: its columns' names and its rows. Quotes are not read: the files here have none.
pub(crate) fn table(path: &Path) -> Result<(Vec<String>, Vec<Vec<String>>)> {
    let file = File::open(path)?;
    let zipped = path.extension().is_some_and(|ending| ending == "gz");
    let reader: Box<dyn Read> = if zipped { Box::new(flate2::read::GzDecoder::new(file)) } else { Box::new(file) };
    let cells = |line: String| line.trim_end().split(',').map(String::from).collect::<Vec<_>>();
    let mut lines = BufReader::new(reader).lines();
    let header = cells(lines.next().ok_or("an empty file")??);
    let rows = lines.map(|line| line.map(cells)).collect::<Result<_, _>>()?;
    Ok((header, rows))
}

/// The files of a folder whose names begin so, sorted, with their names up to the first dot.
pub(crate) fn files(folder: &Path, chosen: impl Fn(&str) -> bool) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_string();
        if name.contains(".csv") && chosen(&name) {
            found.push((name.split('.').next().unwrap_or_default().to_string(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// A cell's number; NaN where there is none.
pub(crate) fn number(cell: &str) -> f64 {
    cell.parse().unwrap_or(f64::NAN)
}

/// Rows at the beginning of a series that are learnt and not judged.
const WARM_UP: usize = 500;
/// Places around an event that count for it in part.
const BUFFER: usize = 100;

/// One series of a file, with what is strange in it.
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) rows: Vec<Vec<f64>>,
    labels: Vec<bool>,
}

impl Piece {
    /// Whether anything after the warm-up is strange: else there is nothing to judge scores by.
    pub(crate) fn tells(&self) -> bool {
        self.labels.iter().skip(WARM_UP).any(|label| *label)
    }

    /// The volume of scores under the precision surface, after the warm-up.
    pub(crate) fn volume(&self, scores: &[f64]) -> f64 {
        volume(&scores[WARM_UP..], &self.labels[WARM_UP..], BUFFER)
    }
}

/// The series of a file of them: rows that follow one another and have the same name.
pub(crate) fn pieces(path: &Path) -> Result<Vec<Piece>> {
    let (header, rows) = table(path)?;
    let column = |name: &str| header.iter().position(|other| other == name);
    let (series, label) = (column("series"), column("label").ok_or("a series without labels")?);
    let left_out = ["series", "part", "t", "timestamp", "point", "changepoint", "label"];
    let used: Vec<usize> = (0..header.len()).filter(|place| !left_out.contains(&header[*place].as_str())).collect();
    let name = |row: &Vec<String>| series.map_or(String::new(), |place| row[place].clone());
    let piece = |rows: &[Vec<String>]| Piece {
        name: rows.first().map_or(String::new(), name),
        rows: rows.iter().map(|row| used.iter().map(|place| number(&row[*place])).collect()).collect(),
        labels: rows.iter().map(|row| number(&row[label]) > 0.0).collect(),
    };
    Ok(rows.chunk_by(|a, b| name(a) == name(b)).map(piece).collect())
}

/// The scores' places from the highest down, with ends of runs of equal ones.
fn falling(scores: &[f64]) -> Vec<(usize, bool)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let ends = |at: usize| order.get(at + 1).is_none_or(|next| scores[*next] != scores[order[at]]);
    order.iter().enumerate().map(|(at, place)| (*place, ends(at))).collect()
}

/// Areas under the receiver's curve and under precision over recall (average precision), and the recall at 1 % false
/// alarms.
pub(crate) fn areas(scores: &[f64], labels: &[bool]) -> (f64, f64, f64) {
    let positives = labels.iter().filter(|label| **label).count() as f64;
    let negatives = labels.len() as f64 - positives;
    let (mut hits, mut alarms) = (0.0, 0.0);
    let (mut area, mut precision, mut recall) = (0.0, 0.0, 0.0);
    let mut before = (0.0, 0.0);
    for (place, ends) in falling(scores) {
        if labels[place] {
            hits += 1.0
        } else {
            alarms += 1.0
        }
        if ends {
            area += (alarms - before.1) * (hits + before.0) / 2.0;
            precision += (hits - before.0) * hits / (hits + alarms);
            before = (hits, alarms);
            if alarms <= 0.01 * negatives {
                recall = hits / positives;
            }
        }
    }
    (area / (positives * negatives), precision / positives, recall)
}

/// The volume under the surface of precision over recall, for labels that are widened by up to `buffer` places
/// (Paparrizos et al., VLDB 2022): a mean over five widths, with 250 thresholds each.
fn volume(scores: &[f64], labels: &[bool], buffer: usize) -> f64 {
    let order = falling(scores);
    let widths = [0, buffer / 4, buffer / 2, buffer * 3 / 4, buffer];
    widths.iter().map(|width| range_precision(&order, labels, *width)).sum::<f64>() / widths.len() as f64
}

fn range_precision(order: &[(usize, bool)], labels: &[bool], width: usize) -> f64 {
    let soft = widened(labels, width);
    let mut event_of = vec![usize::MAX; labels.len()];
    let mut events = 0;
    for place in 0..soft.len() {
        if soft[place] > 0.0 {
            if place == 0 || soft[place - 1] <= 0.0 {
                events += 1;
            }
            event_of[place] = events - 1;
        }
    }
    let positives = (labels.iter().filter(|label| **label).count() as f64 + soft.iter().sum::<f64>()) / 2.0;
    let (mut found, mut found_events, mut hits) = (vec![false; events], 0, 0.0);
    let (mut area, mut before) = (0.0, 0.0);
    let step = (order.len() as f64 / 250.0).max(1.0);
    let mut next = 0.0;
    for (at, (place, ends)) in order.iter().enumerate() {
        hits += soft[*place];
        if let Some(found) = found.get_mut(event_of[*place]).filter(|found| !**found) {
            *found = true;
            found_events += 1;
        }
        if *ends && at as f64 >= next || at + 1 == order.len() {
            next = (at + 1) as f64 + step - 1.0;
            let recall = (hits / positives).min(1.0) * f64::from(found_events) / events.max(1) as f64;
            area += (recall - before) * hits / (at + 1) as f64;
            before = recall;
        }
    }
    area
}

/// Labels with slopes of half a width on both sides of each event.
fn widened(labels: &[bool], width: usize) -> Vec<f64> {
    let mut soft: Vec<f64> = labels.iter().map(|label| f64::from(u8::from(*label))).collect();
    for place in 0..labels.len() {
        let begins = labels[place] && (place == 0 || !labels[place - 1]);
        let ended = labels[place] && labels.get(place + 1).is_none_or(|next| !next);
        for distance in 1..=width / 2 {
            let slope = (1.0 - distance as f64 / width as f64).sqrt();
            let before = place.checked_sub(distance).filter(|_| begins);
            let after = Some(place + distance).filter(|after| ended && *after < labels.len());
            for near in [before, after].into_iter().flatten() {
                soft[near] = (soft[near] + slope).min(1.0);
            }
        }
    }
    soft
}
