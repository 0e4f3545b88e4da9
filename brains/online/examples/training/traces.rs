//! What candidates lose on a stream, example by example. Whoever learns from the same example on loses the same, so a run
//! is made once, as far as anybody wants it.
#![expect(clippy::unwrap_used, reason = "what can't be measured ends the bench")]

use std::time::Instant;

use online::{
    Classifier as _,
    learner::greatest,
    registry::{Model, Spec},
};

use crate::table::Table;

struct Trace {
    spec: Spec,
    begin: usize,
    model: Model,
    errors: Vec<f64>,
    seconds: f64,
}

/// Runs on one stream with one seed.
pub(crate) struct Traces<'a> {
    table: &'a Table,
    seed: u64,
    traces: Vec<Trace>,
}

impl<'a> Traces<'a> {
    pub(crate) fn new(table: &'a Table, seed: u64) -> Self {
        Self { table, seed, traces: Vec::new() }
    }

    fn trace(&mut self, spec: &Spec, begin: usize, to: usize) -> &Trace {
        let known = self.traces.iter().position(|trace| trace.begin == begin && trace.spec == *spec);
        let place = known.unwrap_or_else(|| {
            let model = spec.build(self.table.schema(), self.table.classes(), self.seed).unwrap();
            self.traces.push(Trace { spec: spec.clone(), begin, model, errors: Vec::new(), seconds: 0.0 });
            self.traces.len() - 1
        });
        let trace = &mut self.traces[place];
        trace.go_on(self.table, to);
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
}

impl Trace {
    #[expect(clippy::disallowed_methods, reason = "a bench measures time")]
    fn go_on(&mut self, table: &Table, to: usize) {
        let began = Instant::now();
        let mut probabilities = vec![0.0; table.classes()];
        for (place, row) in table.rows().enumerate().take(to).skip(self.begin + self.errors.len()) {
            let class = table.class(place);
            self.model.predict(row, &mut probabilities).unwrap();
            self.errors.push(f64::from(u8::from(greatest(&probabilities) != class)));
            self.model.learn(row, class, 1.0).unwrap();
        }
        self.seconds += began.elapsed().as_secs_f64();
    }
}
