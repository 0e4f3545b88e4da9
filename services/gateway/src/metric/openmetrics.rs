//! Prometheus' text form as OpenMetrics 1.0, which has room for exemplars.
//!
//! What differs: a counter's family is named without `_total`, types stand before help, bounds are written as floats,
//! no line is empty, and the last one says so.

use http::HeaderMap;

/// The type of such an answer.
pub(crate) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a client asks for it.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(http::header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accept.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|name| name.trim() == "application/openmetrics-text"))
}

/// Writes it; `exemplar` is asked for a bucket's, by the sample's name, its step, and its bound.
pub(super) fn render(text: &str, exemplar: impl Fn(&str, Option<&str>, f64) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    let (mut help, mut counter) = (None, false);
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, help)| help.replace('"', "\\\""));
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            counter = kind == "counter";
            let family = if counter { name.strip_suffix("_total").unwrap_or(name) } else { name };
            out.push_str(&format!("# TYPE {family} {kind}\n"));
            if let Some(help) = help.take() {
                out.push_str(&format!("# HELP {family} {help}\n"));
            }
        } else if !line.starts_with('#') {
            sample(&mut out, line, counter, &exemplar);
        }
    }
    out.push_str("# EOF\n");
    out
}

fn sample(out: &mut String, line: &str, counter: bool, exemplar: &impl Fn(&str, Option<&str>, f64) -> Option<String>) {
    let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap_or(line.len()));
    out.push_str(name);
    if counter && !name.ends_with("_total") {
        out.push_str("_total");
    }
    let bound = label(rest, "le").filter(|_| name.ends_with("_bucket"));
    match bound.filter(|bound| !bound.contains(['.', 'I'])) {
        Some(whole) => out.push_str(&rest.replacen(&format!("le=\"{whole}\""), &format!("le=\"{whole}.0\""), 1)),
        None => out.push_str(rest),
    }
    let bound = bound.and_then(|bound| bound.replace("+Inf", "inf").parse().ok());
    if let Some(exemplar) = bound.and_then(|bound| exemplar(name, label(rest, "step"), bound)) {
        out.push_str(" # ");
        out.push_str(&exemplar);
    }
    out.push('\n');
}

/// A label's value, where that needs no escapes, as none that is asked for does.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let start = format!("{name}=\"");
    let at = labels
        .match_indices(&start)
        .map(|(at, _)| at)
        .find(|at| matches!(labels.as_bytes()[..*at].last(), Some(b'{' | b',')))?;
    labels[at + start.len()..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text_becomes_open_metrics() {
        let text = "# HELP a_total what \"a\" is\n# TYPE a_total counter\na_total{step=\"x\"} 3\n\n\
                    # TYPE b gauge\nb 1.5\n\n\
                    # HELP c_seconds times\n# TYPE c_seconds histogram\nc_seconds_bucket{step=\"x\",le=\"0.5\"} 1\n\
                    c_seconds_bucket{step=\"x\",le=\"1\"} 2\nc_seconds_bucket{step=\"x\",le=\"+Inf\"} 2\n\
                    c_seconds_sum{step=\"x\"} 1.2\nc_seconds_count{step=\"x\"} 2\n\n";
        let exemplar = |name: &str, step: Option<&str>, le: f64| {
            (name == "c_seconds_bucket" && step == Some("x") && le == 1.0)
                .then(|| "{trace_id=\"7\"} 0.7 1.000".to_owned())
        };
        assert_eq!(
            render(text, exemplar),
            "# TYPE a counter\n# HELP a what \\\"a\\\" is\na_total{step=\"x\"} 3\n# TYPE b gauge\nb 1.5\n\
             # TYPE c_seconds histogram\n# HELP c_seconds times\nc_seconds_bucket{step=\"x\",le=\"0.5\"} 1\n\
             c_seconds_bucket{step=\"x\",le=\"1.0\"} 2 # {trace_id=\"7\"} 0.7 1.000\n\
             c_seconds_bucket{step=\"x\",le=\"+Inf\"} 2\nc_seconds_sum{step=\"x\"} 1.2\nc_seconds_count{step=\"x\"} 2\n# EOF\n"
        );
    }

    #[test]
    fn it_is_given_to_who_asks_for_it() {
        let of = |accept: &'static str| {
            wanted(&HeaderMap::from_iter([(http::header::ACCEPT, http::HeaderValue::from_static(accept))]))
        };
        assert!(of(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,*/*;q=0.1"
        ));
        assert!(!of("text/plain, */*"));
        assert!(!wanted(&HeaderMap::new()));
    }
}
