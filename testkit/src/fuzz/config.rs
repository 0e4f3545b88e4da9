//! Settings: a file, or variables of the environment.

use std::{ops::RangeInclusive, path::Path, time::Duration};

use settings::{KEYS, Resolved, Settings, variable};
use types::{Code, Refusal};

use super::{seed, split};

/// A settings file, or lines of `NAME=value`: what is taken is inside its bounds, and the same when it is written as
/// the other, or handed to another process. What is refused says why and what to do.
pub fn config(data: &[u8]) {
    let Some((way, rest)) = split(data, 2) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let resolved = if way == 0 { from_file(text) } else { from_environment(variables(text)) };
    let Some(resolved) = taken(resolved) else { return };
    let Some(settings) = taken(resolved.settings()) else { return };
    bounded(&settings);
    let values = resolved.values();
    assert_eq!(values.len(), KEYS.len());
    let same = |other: Result<Resolved, Refusal>| {
        let other = other.expect("what was taken once is taken again");
        assert_eq!(other.values(), values);
        let other = other.settings().expect("what could be read once can be read again");
        assert_eq!(format!("{other:?}"), format!("{settings:?}"));
    };
    same(from_environment(values.iter().map(|(table, name, value)| (variable(table, name), value.clone()))));
    same(Resolved::given(values.clone()));
    // A file of JSON's strings: TOML's are the same but for one character.
    let line = |(table, name, value): &(String, String, String)| {
        format!("{table}.{name} = {}\n", serde_json::Value::from(value.as_str())).replace('\u{7f}', "\\u007f")
    };
    same(from_file(&values.iter().map(line).collect::<String>()));
}

fn from_file(text: &str) -> Result<Resolved, Refusal> {
    settings::resolve(Some((Path::new("mantlet.toml"), text)), [], &[])
}

fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Result<Resolved, Refusal> {
    settings::resolve(None, variables, &[])
}

fn variables(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// What was taken; a refusal must be of use.
fn taken<T>(outcome: Result<T, Refusal>) -> Option<T> {
    let Err(refusal) = &outcome else { return outcome.ok() };
    assert_eq!(refusal.code, Code::SettingsInvalid);
    assert!(!refusal.message.is_empty() && refusal.hint.as_deref().is_some_and(|hint| !hint.is_empty()), "{refusal}");
    None
}

fn bounded(settings: &Settings) {
    const COUNTS: RangeInclusive<usize> = 1..=1 << 20;
    let limits = &settings.limits;
    assert!(COUNTS.contains(&limits.connections) && COUNTS.contains(&limits.events), "{limits:?}");
    assert!(settings.sessions <= 256);
    assert!((Duration::from_secs(3)..=Duration::from_secs(3_600)).contains(&settings.life));
    assert!(!settings.listen.is_empty());
    // Times are added to a clock.
    for span in [limits.deadline, limits.longest_deadline, limits.idle, limits.keep] {
        assert!(tokio::time::Instant::now().checked_add(span).is_some(), "{limits:?}");
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let line = |key: &settings::Key| format!("{}.{} = \"{}\"\n", key.table, key.name, key.default);
    let variable = |key: &settings::Key| format!("{}={}\n", variable(key.table, key.name), key.default);
    let tokens = "[access]\njwt-issuer = \"https://issuer.example\"\njwt-keys = \"https://issuer.example/jwks.json\"\n\
                  jwt-grants = \"caller, labeller\"\n[node]\nlog-format = 'json'\ncertificates = \"3s\"\n";
    let numbers = "[gateway]\nlisten = \"127.0.0.1:0, [::1]:9443\"\nconnections = 0x10\nevents = 1_000\nidle = \"1.5s\"\n\
                   [model-server]\nsessions = 3\nsandbox = \"required\"\n";
    let wrong = "[gateway]\ndeadlin = \"5s\"\nkeep = \"100y\"\n";
    vec![
        seed(0, KEYS.iter().map(line).collect::<String>()),
        seed(0, tokens),
        seed(0, numbers),
        seed(0, wrong),
        seed(1, KEYS.iter().map(variable).collect::<String>()),
        seed(1, "MANTLET_GATEWAY__DEADLINE=6s\nMANTLET_DATA=x\nPATH=y\nMANTLET_MODEL_SERVER__SESSIONS=2"),
    ]
}
