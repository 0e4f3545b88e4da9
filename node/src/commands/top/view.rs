//! What happened between two looks, as figures.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use types::{ModelName, Timestamp};

use super::sample::{Balancer, Counters, Sample, Totals};
use crate::{commands::scaling, output};

/// One refresh.
#[derive(Debug, Serialize)]
pub(super) struct View {
    /// When it was, in milliseconds since 1970.
    at: Timestamp,
    /// How long it spans.
    seconds: f64,
    /// Models of the namespace; the busiest first.
    models: Vec<Row>,
    /// All of them together.
    total: Figures,
    /// Every namespace of the node; nothing for who may not read metrics.
    node: Option<NodeFigures>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: ModelName,
    version: u64,
    #[serde(flatten)]
    figures: Figures,
    /// What its load says about the number of its replicas; null where it has no say.
    scaling: Value,
    /// Who chooses its replicas.
    balancer: Option<Balancer>,
}

/// Figures of a model, or of all.
#[derive(Debug, Serialize)]
struct Figures {
    requests_per_second: f64,
    errors_per_second: f64,
    /// An eighth too much at most; nothing where nothing was asked for.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    in_flight: u64,
    waiting: u64,
    replicas_ready: u64,
    replicas_wanted: u64,
    /// Mean rows of a batch.
    batch: Option<f64>,
}

#[derive(Debug, Serialize)]
struct NodeFigures {
    answers_per_second: f64,
    refusals_per_second: f64,
}

impl View {
    /// What happened from one look to the next. A counter that fell began anew.
    pub(super) fn between(before: &Sample, now: &Sample) -> Self {
        let seconds = now.instant.saturating_duration_since(before.instant).as_secs_f64().max(1e-3);
        let (mut all, mut replicas) = (Counters::default(), (0, 0));
        let mut models = Vec::with_capacity(now.models.len());
        for (name, model) in &now.models {
            let old = before.models.get(name).map(|model| &model.counters);
            let counted = since(old, &model.counters);
            add(&mut all, &counted);
            replicas = (replicas.0 + model.replicas.0, replicas.1 + model.replicas.1);
            let figures = Figures::of(&counted, model.replicas, seconds);
            let (name, balancer, scaling) = (name.clone(), model.balancer.clone(), model.scaling.clone());
            models.push(Row { name, version: model.version, figures, scaling, balancer });
        }
        models.sort_by(|a, b| b.figures.requests_per_second.total_cmp(&a.figures.requests_per_second));
        let node = now.totals.map(|totals| {
            let old = before.totals.filter(|old| old.answered <= totals.answered && old.refused <= totals.refused);
            let Totals { answered, refused } = old.unwrap_or_default();
            NodeFigures {
                answers_per_second: round((totals.answered - answered) / seconds),
                refusals_per_second: round((totals.refused - refused) / seconds),
            }
        });
        Self { at: now.at, seconds: round(seconds), models, total: Figures::of(&all, replicas, seconds), node }
    }

    /// As people read it.
    pub(super) fn text(&self) -> String {
        let headings = [
            "MODEL",
            "VERSION",
            "REQ/S",
            "ERR/S",
            "P50 MS",
            "P99 MS",
            "IN FLIGHT",
            "WAITING",
            "READY",
            "BATCH",
            "CHOICE",
            "SCALING",
        ];
        let row = |row: &Row| {
            let choice = choice(row.balancer.as_ref());
            let cells = cells(row.name.as_str(), &row.version.to_string(), &row.figures, &choice);
            cells.into_iter().chain([scaling::short(&row.scaling)]).collect()
        };
        let total = cells("all", "", &self.total, "").into_iter().chain([String::new()]).collect();
        let rows: Vec<Vec<String>> = self.models.iter().map(row).chain([total]).collect();
        let why =
            self.models.iter().filter_map(|row| Some(format!("{}: {}\n", row.name, scaling::long(&row.scaling)?)));
        let why: String = why.collect();
        let node = match &self.node {
            Some(node) => {
                format!(
                    "node: {:.1} answered/s, {:.1} refused/s in all namespaces",
                    node.answers_per_second, node.refusals_per_second
                )
            }
            None => "node: sums of all namespaces are for node-wide admins".to_owned(),
        };
        format!("{}\n{why}{node}; {}\n", output::table(&headings, &rows), output::date(self.at))
    }
}

/// Which rule acts and what the learnt one may do; by how much the latter is quicker, where both were tried.
fn choice(balancer: Option<&Balancer>) -> String {
    let Some(Balancer { mode, rule, saved }) = balancer else { return "-".to_owned() };
    let saved = saved.map_or_else(String::new, |saved| format!(" {:+.1}%", saved * 100.0));
    format!("{rule}/{mode}{saved}")
}

fn cells(name: &str, version: &str, figures: &Figures, choice: &str) -> Vec<String> {
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    vec![
        name.to_owned(),
        version.to_owned(),
        format!("{:.1}", figures.requests_per_second),
        format!("{:.1}", figures.errors_per_second),
        or_dash(figures.p50_ms),
        or_dash(figures.p99_ms),
        figures.in_flight.to_string(),
        figures.waiting.to_string(),
        format!("{}/{}", figures.replicas_ready, figures.replicas_wanted),
        or_dash(figures.batch),
        choice.to_owned(),
    ]
}

impl Figures {
    fn of(counted: &Counters, (ready, wanted): (u64, u64), seconds: f64) -> Self {
        Self {
            requests_per_second: round((counted.answered + counted.failed) as f64 / seconds),
            errors_per_second: round(counted.failed as f64 / seconds),
            p50_ms: quantile(&counted.latency, 0.5),
            p99_ms: quantile(&counted.latency, 0.99),
            in_flight: counted.in_flight,
            waiting: counted.waiting,
            replicas_ready: ready,
            replicas_wanted: wanted,
            batch: (counted.batches > 0.0).then(|| round(counted.rows as f64 / counted.batches)),
        }
    }
}

/// Three digits behind the point.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// What was counted since; what is there now of what is no counter.
fn since(before: Option<&Counters>, now: &Counters) -> Counters {
    let Some(before) = before.filter(|before| before.answered <= now.answered && before.failed <= now.failed) else {
        return now.clone();
    };
    let latency = now.latency.iter().map(|(bound, count)| {
        let before = before.latency.get(bound).copied().unwrap_or(0);
        (*bound, count.saturating_sub(before))
    });
    Counters {
        answered: now.answered - before.answered,
        failed: now.failed - before.failed,
        rows: now.rows.saturating_sub(before.rows),
        batches: now.batches - before.batches,
        latency: latency.filter(|(_, count)| *count > 0).collect(),
        in_flight: now.in_flight,
        waiting: now.waiting,
    }
}

fn add(all: &mut Counters, one: &Counters) {
    all.answered += one.answered;
    all.failed += one.failed;
    all.rows += one.rows;
    all.batches += one.batches;
    all.in_flight += one.in_flight;
    all.waiting += one.waiting;
    for (bound, count) in &one.latency {
        *all.latency.entry(*bound).or_default() += count;
    }
}

/// The bound below which this share of answers was, in milliseconds.
fn quantile(latency: &BTreeMap<u64, u64>, share: f64) -> Option<f64> {
    let total: u64 = latency.values().sum();
    let wanted = (total as f64 * share).ceil().max(1.0);
    let mut seen = 0;
    let bound = latency.iter().find(|(_, count)| {
        seen += **count;
        seen as f64 >= wanted
    });
    bound.map(|(micros, _)| *micros as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{super::sample::Model, *};

    fn counters(answered: u64, failed: u64, latency: &[(u64, u64)]) -> Counters {
        let latency = latency.iter().copied().collect();
        Counters {
            answered,
            failed,
            rows: answered * 2,
            batches: answered as f64 / 2.0,
            latency,
            in_flight: 3,
            waiting: 1,
        }
    }

    fn sample(instant: Instant, models: &[(&str, Counters)], totals: Option<Totals>) -> Sample {
        let balancer = || Balancer { mode: "on".into(), rule: "learnt".into(), saved: Some(0.125) };
        let model = |counters: &Counters| Model {
            version: 2,
            replicas: (1, 2),
            scaling: Value::Null,
            counters: counters.clone(),
            balancer: Some(balancer()),
        };
        let models = models.iter().map(|(name, counters)| (name.parse().unwrap(), model(counters))).collect();
        Sample { at: Timestamp(0), instant, models, totals }
    }

    #[test]
    fn figures_are_what_happened_between_two_looks() {
        let began = Instant::now();
        let totals = |answered| Some(Totals { answered, refused: 0.0 });
        let before = sample(began, &[("a", counters(10, 1, &[(1_000, 11)])), ("b", counters(0, 0, &[]))], totals(10.0));
        let latency = [(1_000, 11), (2_000, 97), (9_000, 3)];
        let models =
            [("a", counters(100, 11, &latency)), ("b", counters(300, 0, &[(500, 300)])), ("c", counters(0, 0, &[]))];
        let view = View::between(&before, &sample(began + Duration::from_secs(2), &models, totals(30.0)));
        let names: Vec<&str> = view.models.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["b", "a", "c"], "the busiest first");
        let a = &view.models[1].figures;
        assert_eq!((a.requests_per_second, a.errors_per_second, a.batch), (50.0, 5.0, Some(4.0)));
        assert_eq!((a.p50_ms, a.p99_ms), (Some(2.0), Some(9.0)));
        let idle = &view.models[2].figures;
        assert_eq!((idle.requests_per_second, idle.p50_ms, idle.batch), (0.0, None, None));
        assert_eq!((view.total.requests_per_second, view.total.in_flight, view.total.replicas_wanted), (200.0, 9, 6));
        assert_eq!(view.node.as_ref().unwrap().answers_per_second, 10.0);
        let text = view.text();
        assert!(text.contains("all ") && text.contains("1/2") && text.contains("10.0 answered/s"), "{text}");
        assert!(text.contains("learnt/on +12.5%"), "{text}");
    }

    #[test]
    fn counters_that_fell_began_anew() {
        let began = Instant::now();
        let before =
            sample(began, &[("a", counters(10, 0, &[(1_000, 10)]))], Some(Totals { answered: 9.0, refused: 9.0 }));
        let now =
            sample(began + Duration::from_secs(1), &[("a", counters(4, 0, &[(1_000, 4)]))], Some(Totals::default()));
        let view = View::between(&before, &now);
        assert_eq!(view.models[0].figures.requests_per_second, 4.0);
        assert_eq!(view.node.unwrap().answers_per_second, 0.0);
    }
}
