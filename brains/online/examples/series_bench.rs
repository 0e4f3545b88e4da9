//! Series scored by candidates for [`Series`]' settings: a line of JSON for each series and each `--settings JSON`, of
//! what differs from the default, with the volume under its precision surface and the time a row took. `cargo run
//! --release --example series_bench -- [--data DIR] --settings '{"window": 16}' [--settings …]`. What chooses among
//! them is evaluation/brains/choose-series.py.

use online::anomaly::{Series, series};
use serde_json::{Value, json};

#[expect(dead_code, reason = "other benches take the rest")]
mod measure;
use measure::{Result, files, pieces, timed};

fn main() -> Result<()> {
    let mut data = std::path::PathBuf::from("../shared/data");
    let mut candidates = Vec::new();
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next().ok_or(format!("{name} needs a value"))?;
        match name.as_str() {
            "--data" => data = value.into(),
            "--settings" => candidates.push(value),
            other => return Err(format!("no argument is called {other}; there are --data, --settings").into()),
        }
    }
    for (case, path) in files(&data.join("anomaly"), |name| !name.starts_with("adbench_"))? {
        for piece in pieces(&path)?.iter().filter(|piece| piece.tells()) {
            for candidate in &candidates {
                let mut scorer = Series::new(piece.rows[0].len(), settings(candidate)?)?;
                let score = |row: &Vec<f64>| Ok(scorer.score_and_learn(row)?);
                let (scores, time) = timed(|| piece.rows.iter().map(score).collect::<Result<Vec<f64>>>());
                let microseconds = time.as_secs_f64() * 1e6 / piece.rows.len() as f64;
                let volume = piece.volume(&scores?);
                let line = json!({
                    "case": case, "series": piece.name, "settings": candidate, "vus_pr": volume, "us": microseconds
                });
                print(&line)?;
            }
        }
    }
    Ok(())
}

/// The default settings with what a candidate has instead.
fn settings(candidate: &str) -> Result<series::Settings> {
    let mut settings = serde_json::to_value(series::Settings::default())?;
    let candidate: serde_json::Map<String, Value> = serde_json::from_str(candidate)?;
    candidate.into_iter().for_each(|(name, value)| settings[name] = value);
    Ok(serde_json::from_value(settings)?)
}

fn print(line: &Value) -> Result<()> {
    use std::io::Write;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
