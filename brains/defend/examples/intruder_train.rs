//! Teaches the detector that the product comes with, and writes its weights.
//! `cargo run --release --example intruder_train -- --data DIR --out brains/defend/src/intruder/weights.bin`.
//!
//! By grammars of ours, and by files whose licences allow it: http_params and web_payloads (MIT), the access log
//! (Apache-2.0). CSIC 2010 has no licence, so nothing is learnt from it. The file has no text of anybody: weights of hashed
//! pieces. It is the same each time.

use std::{collections::BTreeSet, error::Error, io::Write, path::PathBuf};

#[path = "detectors/corpus.rs"]
mod corpus;
#[path = "detectors/csv.rs"]
mod csv;
#[path = "detectors/grammar.rs"]
mod grammar;
#[path = "detectors/teach.rs"]
mod teach;

pub(crate) type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Files that it may learn from, by how their names begin.
const ALLOWED: [&str; 3] = ["http_params", "web_payloads", "access_log"];

fn main() -> Result<()> {
    let mut given = std::env::args().skip(1);
    let (mut data, mut out) = (PathBuf::from("../shared/data"), None);
    while let Some(name) = given.next() {
        let value = given.next().ok_or("each argument needs a value")?;
        match name.as_str() {
            "--data" => data = value.into(),
            "--out" => out = Some(PathBuf::from(value)),
            other => return Err(format!("no argument is called {other}; there are --data and --out").into()),
        }
    }
    let files = corpus::of_files(&csv::folder(&data)?);
    let made = corpus::made(1.0);
    let allowed = files.iter().filter(|example| ALLOWED.iter().any(|name| example.source.starts_with(name)));
    let examples: Vec<&corpus::Example> = allowed.chain(&made).collect();
    let intruder = teach::taught(&examples, 1);
    let weights = intruder.weights();
    let found = intruder.thresholds();
    let families: BTreeSet<&str> = examples.iter().map(|example| example.family.as_str()).collect();
    writeln!(std::io::stdout(), "{} examples of {families:?}", examples.len())?;
    writeln!(std::io::stdout(), "{} bytes, thresholds {found:?}", weights.len())?;
    match out {
        Some(out) => Ok(std::fs::write(out, weights)?),
        None => Ok(()),
    }
}
