//! How well attackers are found in texts, connections, tables and series.
//! `cargo run --release --example detectors_bench -- [--train DIR] [--test DIR] [--out FILE] [--quick] [--only texts|tables|series]`.
//!
//! Taught, and thresholds set, on one folder; judged on the other. Where both are one folder, sources and families are left
//! out in turn.

use std::{
    error::Error,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

#[path = "detectors/corpus.rs"]
mod corpus;
#[path = "detectors/csv.rs"]
mod csv;
#[path = "detectors/grammar.rs"]
mod grammar;
#[path = "detectors/rows.rs"]
mod rows;
#[path = "detectors/series.rs"]
mod series;
#[path = "detectors/teach.rs"]
mod teach;
#[path = "detectors/texts.rs"]
mod texts;

pub(crate) type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// All numbers, printed as they come.
#[derive(Default)]
pub(crate) struct Figures(Vec<serde_json::Value>);

impl Figures {
    pub(crate) fn add(&mut self, [case, subject, metric, unit]: [&str; 4], value: f64) -> Result<()> {
        writeln!(std::io::stdout(), "{case:<44} {subject:<14} {metric:<32} {value:>10.4} {unit}")?;
        self.0.push(serde_json::json!({
            "case": case, "subject": subject, "metric": metric, "value": value, "unit": unit
        }));
        Ok(())
    }

    fn write(&self, out: &Path) -> Result<()> {
        let mut file = File::create(out)?;
        serde_json::to_writer_pretty(&mut file, &serde_json::json!({ "figures": self.0 }))?;
        Ok(writeln!(file)?)
    }
}

struct Arguments {
    train: PathBuf,
    test: PathBuf,
    out: Option<PathBuf>,
    quick: bool,
    only: Option<String>,
}

impl Arguments {
    fn read() -> Result<Self> {
        let data = std::env::var_os("MANTLET_DATA").map_or_else(|| "../shared/data".into(), PathBuf::from);
        let mut arguments = Self { train: data.clone(), test: data, out: None, quick: false, only: None };
        let mut given = std::env::args().skip(1);
        while let Some(name) = given.next() {
            let mut value = || given.next().ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--train" => arguments.train = value()?.into(),
                "--test" => arguments.test = value()?.into(),
                "--out" => arguments.out = Some(value()?.into()),
                "--only" => arguments.only = Some(value()?),
                "--quick" => arguments.quick = true,
                other => {
                    return Err(format!(
                        "no argument is called {other}; there are --train, --test, --out, --only, --quick"
                    )
                    .into());
                }
            }
        }
        Ok(arguments)
    }

    fn wants(&self, what: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == what)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let mut figures = Figures::default();
    let train = csv::folder(&arguments.train)?;
    let same = arguments.train.canonicalize()? == arguments.test.canonicalize()?;
    let test = if same { None } else { Some(csv::folder(&arguments.test)?) };
    if arguments.wants("texts") {
        texts::measure(&train, test.as_ref(), if arguments.quick { 0.1 } else { 1.0 }, &mut figures)?;
    }
    if arguments.wants("tables") {
        rows::measure(&train, test.as_ref(), if arguments.quick { 0.1 } else { 1.0 }, &mut figures)?;
    }
    if arguments.wants("series") {
        series::measure(test.as_ref().unwrap_or(&train), arguments.quick, &mut figures)?;
    }
    match &arguments.out {
        Some(out) => figures.write(out),
        None => Ok(()),
    }
}
