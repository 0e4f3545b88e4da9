//! A finished trace as spans of OTLP.
//!
//! Names and attributes are those of OpenTelemetry's semantic conventions where there are any, else `mantlet.*`.

use std::{ops::Range, time::Duration};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use rand::Rng;
use tokio::time::Instant;
use types::Code;

use super::{Attempt, Door, Finished};

/// Flags of a span: the trace is sampled; it is known whether the parent is remote; it is.
const SAMPLED: u32 = 0x001;
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// Spans of one gateway, as they are sent.
pub(super) fn resource(gateway: &str, spans: Vec<Span>) -> ResourceSpans {
    let attributes = vec![
        text("service.name", "mantlet"),
        text("service.instance.id", gateway),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let scope = InstrumentationScope {
        name: "mantlet.gateway".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }],
        schema_url: String::new(),
    }
}

/// Adds the spans of a trace: the prediction, its steps, its attempts.
pub(super) fn write(finished: &Finished, rng: &mut impl Rng, spans: &mut Vec<Span>) {
    let root = root(finished, rng);
    let mut began = root.start_time_unix_nano;
    let below = |parent: &Span, name: &str, time: Range<u64>, rng: &mut dyn Rng| Span {
        trace_id: parent.trace_id.clone(),
        span_id: id(rng),
        parent_span_id: parent.span_id.clone(),
        flags: SAMPLED | KNOWN,
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: time.start,
        end_time_unix_nano: time.end,
        ..Span::default()
    };
    for (number, (name, micros)) in finished.steps.iter().enumerate() {
        let ended = began + u64::from(*micros) * 1_000;
        let mut step = below(&root, name, began..ended, rng);
        if let Some(code) = finished.code.filter(|_| number == finished.last) {
            step.attributes.push(text("error.type", code.as_str()));
            step.status = status(code);
        }
        if name == "forward" {
            for attempt in &finished.trace.attempts.0 {
                let time = within(finished, attempt, began..ended);
                let mut span = below(&step, "attempt", time, rng);
                span.kind = SpanKind::Client.into();
                span.attributes = asked(attempt);
                spans.push(span);
            }
        }
        spans.push(step);
        began = ended;
    }
    spans.push(root);
}

fn root(finished: &Finished, rng: &mut impl Rng) -> Span {
    let (trace, context) = (&finished.trace, &finished.trace.context);
    let parent = context.parent();
    Span {
        trace_id: context.id().to_be_bytes().to_vec(),
        span_id: id(rng),
        parent_span_id: parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED | KNOWN | parent.map_or(0, |_| REMOTE),
        name: "predict".into(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: trace.at,
        end_time_unix_nano: trace.at + nanos(finished.took),
        attributes: described(finished),
        status: finished.code.and_then(status),
        ..Span::default()
    }
}

/// What is said of the prediction.
fn described(finished: &Finished) -> Vec<KeyValue> {
    let code = finished.code;
    let mut all = match finished.trace.door {
        Door::Rest(route) => vec![
            text("http.request.method", "POST"),
            text("http.route", route),
            number("http.response.status_code", code.map_or(200, |code| code.http().as_u16().into())),
        ],
        Door::Grpc(method) => vec![
            text("rpc.system", "grpc"),
            text("rpc.service", "inference.GRPCInferenceService"),
            text("rpc.method", method),
            number("rpc.grpc.status_code", code.map_or(0, |code| code.grpc() as u64)),
        ],
    };
    all.push(text("mantlet.prediction", finished.prediction));
    all.extend(finished.namespace.as_ref().map(|namespace| text("mantlet.namespace", namespace)));
    all.extend(finished.caller.as_ref().map(|caller| text("mantlet.caller", caller)));
    all.extend(finished.model.as_ref().map(|model| text("mantlet.model", model)));
    all.extend(finished.version.map(|version| number("mantlet.version", version.0)));
    all.push(number("mantlet.rows", finished.rows));
    all.push(number("mantlet.batch", finished.batch));
    if let Some(code) = code {
        all.push(text("error.type", code.as_str()));
        all.push(text("mantlet.refusal", code.as_str()));
    }
    all
}

/// What is said of an attempt.
fn asked(attempt: &Attempt) -> Vec<KeyValue> {
    let mut all = vec![
        text("mantlet.replica", &attempt.replica),
        number("mantlet.version", attempt.version.0),
        text("mantlet.attempt", attempt.kind),
        text("mantlet.outcome", attempt.ended.map_or("cancelled", |(_, outcome)| outcome)),
    ];
    all.extend(attempt.queued.map(|queued| seconds("mantlet.queue_seconds", queued)));
    all.extend(attempt.compute.map(|compute| seconds("mantlet.compute_seconds", compute)));
    all
}

/// When an attempt was, inside its step, whose times are rounded to microseconds.
fn within(finished: &Finished, attempt: &Attempt, step: Range<u64>) -> Range<u64> {
    let trace = &finished.trace;
    let at = |then: Instant| trace.at + nanos(then.saturating_duration_since(trace.received));
    let began = at(attempt.began).clamp(step.start, step.end);
    let ended = attempt.ended.map_or(step.end, |(then, _)| at(then)).clamp(began, step.end);
    began..ended
}

/// Errors are those of the server; what a client did wrong is none, as the conventions have it.
fn status(code: Code) -> Option<Status> {
    let status = Status { message: code.title().to_owned(), code: StatusCode::Error.into() };
    code.http().is_server_error().then_some(status)
}

fn id(rng: &mut (impl Rng + ?Sized)) -> Vec<u8> {
    // All zeros are no id.
    rng.next_u64().max(1).to_be_bytes().to_vec()
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: impl ToString) -> KeyValue {
    attribute(key, Value::StringValue(value.to_string()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn seconds(key: &str, value: Duration) -> KeyValue {
    attribute(key, Value::DoubleValue(value.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use types::{PredictionId, Version};

    use super::{
        super::{Attempts, Trace, context::Context},
        *,
    };

    fn finished(attempts: Attempts, received: Instant, code: Option<Code>) -> Finished {
        let (context, door) = (Context::new(7), Door::Rest("/v2/models/{model}/infer"));
        Finished {
            trace: Trace { context, door, received, at: 1_000_000, attempts },
            took: Duration::from_micros(100),
            prediction: PredictionId(uuid::Uuid::nil()),
            namespace: None,
            caller: None,
            model: None,
            version: None,
            rows: 1,
            batch: 1,
            steps: vec![("balance".into(), 10), ("forward".into(), 50), ("record".into(), 5)],
            last: 1,
            code,
        }
    }

    #[test]
    fn every_attempt_is_a_span_inside_forward() {
        let received = Instant::now();
        let after = |micros| received + Duration::from_micros(micros);
        let attempt = |replica: &str, kind, began, ended| Attempt {
            replica: replica.into(),
            version: Version(3),
            kind,
            began: after(began),
            ended,
            queued: None,
            compute: None,
        };
        let attempts = Attempts(vec![
            attempt("a", "first", 9, Some((after(20), "lost"))),
            attempt("b", "retry", 25, None),
            attempt("c", "hedge", 40, Some((after(61), "answered"))),
        ]);
        let finished = finished(attempts, received, None);
        let mut spans = Vec::new();
        write(&finished, &mut ChaCha8Rng::seed_from_u64(1), &mut spans);
        assert_eq!(spans.len(), finished.spans());
        let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
        assert_eq!(ids.len(), spans.len());
        let forward = spans.iter().find(|span| span.name == "forward").unwrap();
        let found: Vec<(u64, u64, &str)> = spans
            .iter()
            .filter(|span| span.parent_span_id == forward.span_id)
            .map(|span| {
                let value = span.attributes.iter().find(|it| it.key == "mantlet.outcome").unwrap().value.as_ref();
                let Some(Value::StringValue(outcome)) = &value.unwrap().value else { panic!("{span:?}") };
                (
                    (span.start_time_unix_nano - 1_000_000) / 1_000,
                    (span.end_time_unix_nano - 1_000_000) / 1_000,
                    &**outcome,
                )
            })
            .collect();
        // What the rounding of steps lets hang over is cut; who was not waited for ends with the step.
        assert_eq!(found, [(10, 20, "lost"), (25, 60, "cancelled"), (40, 60, "answered")]);
        assert!(spans.last().unwrap().parent_span_id.is_empty(), "a trace of our own has no parent");
    }

    #[test]
    fn an_error_of_ours_marks_the_step_and_the_prediction() {
        let marked = |code| {
            let mut spans = Vec::new();
            write(&finished(Attempts::default(), Instant::now(), code), &mut ChaCha8Rng::seed_from_u64(1), &mut spans);
            let marked = spans.into_iter().filter(|span| span.status.is_some());
            marked.map(|span| span.name).collect::<Vec<_>>()
        };
        assert_eq!(marked(Some(Code::ReplicaLost)), ["forward", "predict"]);
        assert_eq!(marked(Some(Code::InputMismatch)), [""; 0]);
        assert_eq!(marked(None), [""; 0]);
    }
}
