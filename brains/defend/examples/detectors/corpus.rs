//! Texts to teach and to judge by: those of files, and those that grammars make.

use defend::intruder::{Part, Request};
use online::Random;

use super::{
    csv::{Kind, Table},
    grammar,
};
use std::collections::BTreeMap;

/// Texts that a grammar makes of each family and each kind.
const MADE: usize = 2_500;

/// A request with what it owns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let headers: Vec<(&str, &str)> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        look(&Request { method: &self.method, target: &self.target, headers: &headers, body: self.body.as_bytes() })
    }
}

/// What is taught or judged.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Text(String, Part),
    Request(Box<Asked>),
}

/// One example, and where it is from.
#[derive(Debug, Clone)]
pub(crate) struct Example {
    pub(crate) what: What,
    pub(crate) hostile: bool,
    pub(crate) family: String,
    pub(crate) source: String,
}

impl Example {
    pub(crate) fn is_made(&self) -> bool {
        self.source.starts_with("made ")
    }
}

/// Every example of a folder's payloads, requests and logs.
pub(crate) fn of_files(files: &BTreeMap<Kind, Vec<Table>>) -> Vec<Example> {
    let mut out = Vec::new();
    let tables = |kind| files.get(&kind).into_iter().flatten();
    for table in tables(Kind::Payloads) {
        out.extend(table.rows.iter().filter(|row| !table.cell(row, "payload").is_empty()).map(|row| Example {
            what: What::Text(table.cell(row, "payload").to_owned(), Part::Value),
            hostile: table.is_bad(row),
            family: table.family(row),
            source: table.name.clone(),
        }));
    }
    for table in tables(Kind::Requests).chain(tables(Kind::Log)) {
        out.extend(table.rows.iter().map(|row| Example {
            what: What::Request(Box::new(asked(table, row))),
            hostile: table.has(&["label"]) && table.is_bad(row),
            family: table.family(row),
            source: table.name.clone(),
        }));
    }
    out
}

/// Columns of requests that are no headers.
const NO_HEADERS: [&str; 14] = [
    "method",
    "url",
    "body",
    "label",
    "headers",
    "timestamp",
    "client",
    "status",
    "bytes",
    "content_length",
    "length",
    "id",
    "protocol",
    "host",
];

fn asked(table: &Table, row: &[String]) -> Asked {
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, cell) in table.header.iter().zip(row) {
        let known = NO_HEADERS.iter().chain(&super::csv::FAMILY_COLUMNS).any(|other| other.eq_ignore_ascii_case(name));
        if !known && !cell.is_empty() && cell != "-" {
            headers.push((name.replace('_', "-"), cell.clone()));
        }
    }
    headers.extend(header_lines(table.cell(row, "headers")));
    Asked {
        method: table.cell(row, "method").to_owned(),
        target: table.cell(row, "url").to_owned(),
        headers,
        body: table.cell(row, "body").to_owned(),
    }
}

/// Headers of one column: lines, or the same with `\n` written out, or an object of JSON.
fn header_lines(text: &str) -> Vec<(String, String)> {
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text) {
        return object.into_iter().map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned())).collect();
    }
    let text = text.replace("\\r\\n", "\n").replace("\\n", "\n");
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    text.lines().filter_map(pair).collect()
}

/// What grammars make, the same each time.
pub(crate) fn made(share: f64) -> Vec<Example> {
    let mut random = Random::new(8);
    let count = (MADE as f64 * share) as usize;
    let mut out = Vec::new();
    for (place, (name, _)) in grammar::FAMILIES.iter().enumerate() {
        for n in 0..count {
            let part = match (*name, n % 8) {
                ("probe", _) => Part::Path,
                ("traversal", 0..2) => Part::Path,
                (_, 2) => Part::Body,
                (_, 3) => Part::Header,
                (_, 4) if n % 16 == 4 => Part::Name,
                _ => Part::Value,
            };
            let text = grammar::attack(&mut random, place);
            out.push(Example {
                what: What::Text(text, part),
                hostile: true,
                family: (*name).to_owned(),
                source: format!("made {name}"),
            });
        }
    }
    for (place, (name, _)) in grammar::KINDS.iter().enumerate() {
        for n in 0..count {
            let part = match (*name, n % 8) {
                ("paths", _) => Part::Path,
                ("parameters", _) => Part::Name,
                (_, 0..2) => Part::Body,
                (_, 2) => Part::Header,
                _ => Part::Value,
            };
            let text = grammar::ordinary(&mut random, place);
            out.push(ordinary(What::Text(text, part), name));
        }
    }
    for _ in 0..count {
        let template = grammar::one(&mut random, grammar::AGENTS);
        let agent = grammar::filled(&mut random, template);
        out.push(ordinary(What::Text(agent, Part::Header), "agents"));
        let template = grammar::one(&mut random, grammar::HEADERS);
        let value = grammar::filled(&mut random, template);
        out.push(ordinary(What::Text(value, Part::Header), "headers"));
        out.push(ordinary(What::Request(Box::new(ordinary_request(&mut random))), "requests"));
    }
    out
}

fn ordinary(what: What, kind: &str) -> Example {
    Example { what, hostile: false, family: "normal".into(), source: format!("made {kind}") }
}

/// A request of a site that does not exist.
fn ordinary_request(random: &mut Random) -> Asked {
    let kind = |name: &str| grammar::KINDS.iter().position(|(kind, _)| *kind == name).unwrap_or(0);
    let pairs = |random: &mut Random| {
        let count = random.below(7);
        let pair = |random: &mut Random| {
            let kinds = ["values", "values", "values", "names", "prose", "data", "addresses", "sqlwords", "code"];
            let place = if random.uniform() < 0.8 { random.below(4) } else { random.below(kinds.len() as u32) };
            let value = grammar::ordinary(random, kind(kinds[place as usize]));
            let name = grammar::filled(
                random,
                grammar::one(&mut random.clone(), &["<<rand>>", "<<rand>>", "id", "q", "<<rand>>_<<rand>>"]),
            );
            format!("{name}={}", grammar::mutate::form(&value))
        };
        (0..count).map(|_| pair(random)).collect::<Vec<_>>().join("&")
    };
    let query = pairs(random);
    let path = grammar::ordinary(random, kind("paths"));
    let target = if query.is_empty() || random.uniform() < 0.4 { path } else { format!("{path}?{query}") };
    let body = if random.uniform() < 0.3 { pairs(random) } else { String::new() };
    let template = grammar::one(random, grammar::AGENTS);
    let mut headers = vec![("User-Agent".to_owned(), grammar::filled(random, template))];
    for name in ["Accept", "Accept-Language", "Referer", "X-Requested-With"] {
        if random.uniform() < 0.6 {
            let template = grammar::one(random, grammar::HEADERS);
            headers.push((name.to_owned(), grammar::filled(random, template)));
        }
    }
    let method = if body.is_empty() { "GET" } else { "POST" };
    Asked { method: method.into(), target, headers, body }
}
