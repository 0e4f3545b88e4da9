//! Requests: from traces of tokens, from service times that were measured, and from distributions.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use testkit::sim::Load;

/// Work per token of the prompt and of the answer, in seconds.
const PER_TOKEN: (f64, f64) = (0.000_3, 0.020);
/// Requests of a load that is drawn.
const DRAWN: usize = 30_000;
/// Mean work of requests that are drawn, in seconds.
const MEAN: f64 = 0.025;
/// The most requests of a trace.
const MOST: usize = 40_000;

/// A request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// When it comes, in seconds.
    pub(crate) at: f64,
    /// Its work, in seconds on a replica of speed 1.
    pub(crate) work: f64,
    /// What is known of it beforehand.
    pub(crate) size: f64,
    pub(crate) rows: u32,
}

/// Requests in order, at a rate of their own.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    pub(crate) name: String,
    arrivals: Vec<Arrival>,
    /// Whether a seed draws anew instead of beginning elsewhere in the trace.
    drawn: bool,
}

impl Requests {
    /// The mean work of a request, in seconds.
    pub(crate) fn mean_work(&self) -> f64 {
        self.arrivals.iter().map(|arrival| arrival.work).sum::<f64>() / self.arrivals.len().max(1) as f64
    }

    /// The requests of this seed, at a pace that gives this much work a second. A trace begins elsewhere for each seed,
    /// and goes on from its end to its start.
    pub(crate) fn at(&self, work_per_second: f64, seed: u64, quick: bool) -> Vec<Arrival> {
        let mut arrivals = if self.drawn { poisson(self, seed) } else { turned(&self.arrivals, seed) };
        if quick {
            arrivals.truncate(4_000);
        }
        let work: f64 = arrivals.iter().map(|arrival| arrival.work).sum();
        let span = arrivals.last().map_or(1.0, |last| last.at).max(1e-9);
        let stretch = work / work_per_second / span;
        arrivals.iter_mut().for_each(|arrival| arrival.at *= stretch);
        arrivals
    }
}

fn turned(arrivals: &[Arrival], seed: u64) -> Vec<Arrival> {
    let start = (seed as usize * arrivals.len()) / 7 % arrivals.len().max(1);
    let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else { return Vec::new() };
    let span = last.at - first.at + (last.at - first.at) / arrivals.len() as f64;
    let begin = arrivals[start].at;
    let after = arrivals[start..].iter().map(|arrival| Arrival { at: arrival.at - begin, ..*arrival });
    let before = arrivals[..start].iter().map(|arrival| Arrival { at: arrival.at - begin + span, ..*arrival });
    after.chain(before).collect()
}

/// Arrivals at moments of their own, each with the size and work of one that is drawn.
fn poisson(requests: &Requests, seed: u64) -> Vec<Arrival> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let load = Load { rate: 1.0, work: 1.0, spread: 0.0 };
    let mut now = 0.0;
    let mut one = || {
        now += load.draw(&mut rng).0.as_secs_f64();
        let drawn = requests.arrivals[rng.random_range(0..requests.arrivals.len())];
        Arrival { at: now, ..drawn }
    };
    (0..DRAWN).map(|_| one()).collect()
}

/// Work that is drawn: 25 ms on average, some three times as much; half of its spread is told by the size.
pub(crate) fn drawn() -> Requests {
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let told = Load { rate: 1.0, work: 1.0, spread: 0.5 };
    let mut one = || {
        let (size, rest) = (told.draw(&mut rng).1, told.draw(&mut rng).1);
        Arrival { at: 0.0, work: MEAN * size * rest, size: size * 1_000.0, rows: 1 }
    };
    Requests { name: "drawn".into(), arrivals: (0..DRAWN).map(|_| one()).collect(), drawn: true }
}

/// Service times that were measured of real models: a model, its rows, milliseconds.
pub(crate) fn measured(path: &Path) -> Option<Requests> {
    let text = std::fs::read_to_string(path).ok()?;
    let parse = |line: &str| {
        let mut fields = line.split(',');
        let (bytes, rows, millis) = (fields.nth(1)?, fields.next()?, fields.next()?);
        let (size, rows): (f64, u32) = (bytes.trim().parse().ok()?, rows.trim().parse().ok()?);
        Some(Arrival { at: 0.0, work: millis.trim().parse::<f64>().ok()? / 1e3, size, rows })
    };
    let arrivals: Vec<_> = text.lines().skip(1).filter_map(parse).collect();
    (!arrivals.is_empty()).then(|| Requests { name: "measured".into(), arrivals, drawn: true })
}

/// Every request trace of a folder: files in `traces` with the columns `context_tokens` and `generated_tokens`.
pub(crate) fn traces(data: &Path) -> Vec<Requests> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(data.join("traces")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| trace(path)).collect()
}

fn trace(path: &Path) -> Option<Requests> {
    let name = path.file_name()?.to_str()?;
    if !name.trim_end_matches(".gz").ends_with(".csv") {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let mut text = String::new();
    if name.ends_with(".gz") {
        GzDecoder::new(&bytes[..]).read_to_string(&mut text).ok()?;
    } else {
        text = String::from_utf8(bytes).ok()?;
    }
    let mut lines = text.lines();
    let header: Vec<String> = lines.next()?.split(',').map(|name| name.trim().to_lowercase()).collect();
    let column = |wanted: &str| header.iter().position(|name| name == wanted);
    let (context, generated) = (column("context_tokens")?, column("generated_tokens")?);
    let (millis, timestamp) = (column("t_ms"), column("timestamp"));
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let number = |place: usize| fields.get(place)?.parse::<f64>().ok();
        let (context, generated) = (number(context)?, number(generated)?);
        let at = match (millis, timestamp) {
            (Some(place), _) => number(place)? / 1e3,
            (None, Some(place)) => seconds(fields.get(place)?)?,
            (None, None) => return None,
        };
        let work = (PER_TOKEN.0 * context + PER_TOKEN.1 * generated).max(1e-3);
        Some(Arrival { at, work, size: context.max(0.0), rows: 1 })
    };
    let mut arrivals: Vec<Arrival> = lines.filter_map(parse).collect();
    arrivals.sort_by(|a, b| a.at.total_cmp(&b.at));
    arrivals.truncate(MOST);
    let name = name.trim_end_matches(".gz").trim_end_matches(".csv").to_owned();
    (arrivals.len() > 100).then_some(Requests { name, arrivals, drawn: false })
}

/// Seconds of a number, or of a date and time such as `2023-11-16T18:15:46.680590Z` or `2023-11-16 18:15:46.68`.
fn seconds(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    let text = text.trim_end_matches('Z');
    let text = text.split_once('+').map_or(text, |(text, _)| text);
    let (date, time) = text.split_once(['T', ' '])?;
    let parts = |text: &str, by: char| text.split(by).map(|part| part.parse::<f64>().ok()).collect::<Option<Vec<_>>>();
    let (date, time) = (parts(date, '-')?, parts(time, ':')?);
    let [year, month, day] = date[..] else { return None };
    let [hour, minute, second] = time[..] else { return None };
    // Days from a fixed day, with years that begin in March so that the leap day comes last.
    let (year, month) = if month > 2.0 { (year, month - 3.0) } else { (year - 1.0, month + 9.0) };
    let leaps = (year / 4.0).floor() - (year / 100.0).floor() + (year / 400.0).floor();
    let days = 365.0 * year + leaps + ((153.0 * month + 2.0) / 5.0).floor() + day;
    Some(days * 86_400.0 + hour * 3_600.0 + minute * 60.0 + second)
}
