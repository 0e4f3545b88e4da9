//! How far off the regressors are on every regression stream, beside the last value and the same hour of yesterday. `cargo
//! run --release --example regress_bench -- [--data DIR] [--out FILE] [--quick]`.
//!
//! Test, then train, in order of arrival. Of a column that says when a row came, the hour and the weekday are features;
//! no value of the target is.

use std::collections::BTreeMap;

use online::{
    Feature, Kind, Linear, RegressionForest, RegressionTree, Regressor, Schema,
    evaluate::{Numbers, Settings},
    fimt_dd, forest, linear,
};

#[expect(dead_code, reason = "other benches take the rest")]
mod measure;
use measure::{Arguments, Figures, Result, number, table, timed};

/// Columns that say when.
const TIMES: [&str; 5] = ["timestamp", "date", "date_time", "ts", "batch"];
/// Rows of a day, for the twin, where rows come every hour.
const DAY: usize = 24;

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let mut figures = Figures::default();
    let folder = arguments.data.join("streams");
    let targets: BTreeMap<String, String> = serde_json::from_slice(&std::fs::read(folder.join("targets.json"))?)?;
    let seeds = if arguments.quick { 1 } else { 5 };
    for (file, target) in targets {
        let (header, rows) = table(&folder.join(&file))?;
        let case = file.split('.').next().unwrap_or_default();
        let stream = Stream::of(&header, &rows, &target)?;
        for (subject, new) in subjects() {
            let mut sums = [0.0; 4];
            for seed in 0..seeds {
                let mut learner = new(stream.schema.clone(), seed)?;
                let mut judge = Numbers::new(Settings::default(), 0.5)?;
                let (done, time) = timed(|| -> Result<()> {
                    for (row, target) in stream.rows() {
                        judge.observe(learner.predict(row)?, target)?;
                        learner.learn(row, target, 1.0)?;
                    }
                    Ok(())
                });
                done?;
                let said = judge.report().since_start;
                let speed = stream.targets.len() as f64 / time.as_secs_f64();
                let found = [said.mae.unwrap_or(f64::NAN), said.of_last.unwrap_or(f64::NAN), speed];
                sums.iter_mut().zip(found).for_each(|(sum, found)| *sum += found / f64::from(seeds));
                sums[3] = sums[3].max(learner.memory() as f64 / 1e6);
            }
            for ((metric, unit), sum) in
                [("mae", ""), ("mae_of_last", ""), ("rows_per_s", "rows/s"), ("memory", "MB")].into_iter().zip(sums)
            {
                figures.add([case, subject, metric, unit], sum)?;
            }
        }
        for (subject, back) in [("last value", 1), ("same hour of yesterday", DAY)] {
            let pairs = stream.targets.iter().zip(stream.targets.iter().skip(back));
            let mae = pairs.map(|(said, target)| (target - said).abs()).sum::<f64>();
            figures.add([case, subject, "mae", ""], mae / stream.targets.len().saturating_sub(back).max(1) as f64)?;
        }
    }
    figures.write(arguments.out.as_deref())
}

type Make = fn(Schema, u32) -> Result<Box<dyn Regressor>>;

fn subjects() -> [(&'static str, Make); 4] {
    [
        ("ours forest-10", |schema, seed| {
            Ok(Box::new(RegressionForest::new(forest::Settings::of(10), schema, seed.into())?))
        }),
        ("ours fimt-dd", |schema, seed| {
            Ok(Box::new(RegressionTree::new(fimt_dd::Settings::default(), schema, seed.into())?))
        }),
        ("ours linear", |schema, _| Ok(Box::new(Linear::new(linear::Settings::default(), schema)?))),
        ("ours linear, median", |schema, _| {
            let estimate = linear::Estimate::Quantile(0.5);
            Ok(Box::new(Linear::new(linear::Settings { estimate, ..linear::Settings::default() }, schema)?))
        }),
    ]
}

/// Rows in order of arrival, and what is to be foretold of each.
struct Stream {
    schema: Schema,
    cells: Vec<f64>,
    targets: Vec<f64>,
}

impl Stream {
    fn of(header: &[String], rows: &[Vec<String>], target: &str) -> Result<Self> {
        let place = header.iter().position(|name| name == target).ok_or(format!("no column is called {target}"))?;
        let is_time = |name: &String| TIMES.contains(&name.as_str());
        let numbers: Vec<usize> = (0..header.len()).filter(|n| *n != place && !is_time(&header[*n])).collect();
        // The column that tells the most of when: one with a time of day, where there is one.
        let time =
            (0..header.len()).filter(|n| is_time(&header[*n])).max_by_key(|n| rows.first().map(|row| row[*n].len()));
        let mut cells = Vec::new();
        for row in rows {
            cells.extend(numbers.iter().map(|n| number(&row[*n])));
            cells.extend(time.into_iter().flat_map(|n| when(&row[n])));
        }
        let named = |name: &str| Feature { name: name.to_owned(), kind: Kind::Numeric };
        let mut features: Vec<Feature> = numbers.iter().map(|n| named(&header[*n])).collect();
        features.extend(time.into_iter().flat_map(|_| [named("hour"), named("weekday")]));
        let targets = rows.iter().map(|row| number(&row[place])).collect();
        Ok(Self { schema: Schema::new(features)?, cells, targets })
    }

    /// Those with a target.
    fn rows(&self) -> impl Iterator<Item = (&[f64], f64)> {
        let all = self.cells.chunks_exact(self.schema.width()).zip(self.targets.iter().copied());
        all.filter(|(_, target)| target.is_finite())
    }
}

/// The hour and the weekday of `YYYY-MM-DD HH:…`; missing where there is none.
fn when(text: &str) -> [f64; 2] {
    let part = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<i64>().ok());
    let hour = part(11, 13).map_or(f64::NAN, |hour| hour as f64);
    let (Some(year), Some(month), Some(day)) = (part(0, 4), part(5, 7), part(8, 10)) else { return [hour, f64::NAN] };
    // Zeller's congruence, the week from Saturday on.
    let (year, month) = if month < 3 { (year - 1, month + 12) } else { (year, month) };
    let weekday = (day + 13 * (month + 1) / 5 + year + year / 4 - year / 100 + year / 400).rem_euclid(7);
    [hour, weekday as f64]
}
