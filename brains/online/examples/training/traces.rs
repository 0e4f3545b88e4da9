//! What candidates lose on a stream, example by example. Whoever learns from the same example on loses the same, so a run
//! is made once, as far as anybody wants it; where there is a folder to keep runs in, once for all measurements.
#![expect(clippy::unwrap_used, reason = "what can't be measured ends the bench")]

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use online::{
    Classifier as _,
    learner::greatest,
    registry::{Model, Spec},
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::table::Table;

struct Trace {
    spec: Spec,
    begin: usize,
    /// None of a run that was read: it is made again where somebody wants it to go on.
    model: Option<Model>,
    errors: Vec<f64>,
    seconds: f64,
}

/// Runs on one stream with one seed.
pub(crate) struct Traces<'a> {
    table: &'a Table,
    seed: u64,
    traces: Vec<Trace>,
    file: Option<PathBuf>,
    /// Whether the file lacks anything.
    grown: bool,
}

impl<'a> Traces<'a> {
    /// Those that are kept in a folder, if there is one, and those that are made.
    pub(crate) fn new(table: &'a Table, seed: u64, folder: Option<&Path>) -> Self {
        let file = folder.map(|folder| folder.join(format!("{}-{seed}.json.gz", table.name())));
        let traces = file.as_deref().and_then(|file| File::open(file).ok()).map(read).unwrap_or_default();
        Self { table, seed, traces, file, grown: false }
    }

    fn trace(&mut self, spec: &Spec, begin: usize, to: usize) -> &Trace {
        let known = self.traces.iter().position(|trace| trace.begin == begin && trace.spec == *spec);
        let place = known.unwrap_or_else(|| {
            let (spec, errors) = (spec.clone(), Vec::new());
            self.traces.push(Trace { spec, begin, model: None, errors, seconds: 0.0 });
            self.traces.len() - 1
        });
        let trace = &mut self.traces[place];
        if begin + trace.errors.len() < to {
            trace.go_on(self.table, self.seed, to);
            self.grown = true;
        }
        trace
    }

    /// Errors of the examples `from..to` of a run that began at `begin`.
    pub(crate) fn errors(&mut self, spec: &Spec, begin: usize, (from, to): (usize, usize)) -> Vec<f64> {
        self.trace(spec, begin, to).errors[from - begin..to - begin].to_vec()
    }

    /// Seconds that an example of such a run took.
    pub(crate) fn seconds(&mut self, spec: &Spec, begin: usize, to: usize) -> f64 {
        let trace = self.trace(spec, begin, to);
        trace.seconds / trace.errors.len().max(1) as f64
    }

    /// Writes what was made, where it is to be kept.
    pub(crate) fn keep(&self) {
        let Some(file) = self.file.as_deref().filter(|_| self.grown) else { return };
        let told = |trace: &Trace| {
            let errors: String = trace.errors.iter().map(|error| if *error > 0.0 { '1' } else { '0' }).collect();
            json!({ "spec": trace.spec, "begin": trace.begin, "seconds": trace.seconds, "errors": errors })
        };
        let all: Vec<Value> = self.traces.iter().map(told).collect();
        let half = file.with_extension("part");
        let mut to = GzEncoder::new(File::create(&half).unwrap(), Compression::fast());
        to.write_all(Value::from(all).to_string().as_bytes()).unwrap();
        to.finish().unwrap();
        std::fs::rename(half, file).unwrap();
    }
}

fn read(file: File) -> Vec<Trace> {
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    let trace = |mut value: Value| Trace {
        spec: serde_json::from_value(value["spec"].take()).unwrap(),
        begin: value["begin"].as_u64().unwrap() as usize,
        model: None,
        errors: value["errors"].as_str().unwrap().bytes().map(|error| f64::from(error - b'0')).collect(),
        seconds: value["seconds"].as_f64().unwrap(),
    };
    all.into_iter().map(trace).collect()
}

impl Trace {
    fn go_on(&mut self, table: &Table, seed: u64, to: usize) {
        let model = self.model.get_or_insert_with(|| {
            self.errors.clear();
            self.seconds = 0.0;
            self.spec.build(table.schema(), table.classes(), seed).unwrap()
        });
        let began = spent();
        let mut probabilities = vec![0.0; table.classes()];
        for (place, row) in table.rows().enumerate().take(to).skip(self.begin + self.errors.len()) {
            let class = table.class(place);
            model.predict(row, &mut probabilities).unwrap();
            self.errors.push(f64::from(u8::from(greatest(&probabilities) != class)));
            model.learn(row, class, 1.0).unwrap();
        }
        self.seconds += spent() - began;
    }
}

/// Seconds that this thread had of a processor.
fn spent() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
