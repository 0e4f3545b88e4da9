//! Payloads and requests: taught on one folder, judged on the other; or by leaving out a family, or a source.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use defend::intruder::{HIT, Intruder, Normal, Rules, Site};
use online::Random;

use super::{
    Figures, Result,
    corpus::{self, Example, What},
    csv::{Kind, Table},
    grammar::mutate,
    teach::{is_kept, score, taught},
};

/// Families with fewer rows are not told apart.
const FEW: usize = 10;

/// Nats from which on a request surprises a site: one in two hundred. Half of the false alarms are the site's.
const SURPRISE: f64 = 5.3;

/// What a subject says of examples.
struct Judged<'a> {
    example: &'a Example,
    alarm: bool,
}

/// Both folders, or one by leaving out.
pub(crate) fn measure(
    train: &BTreeMap<Kind, Vec<Table>>,
    test: Option<&BTreeMap<Kind, Vec<Table>>>,
    share: f64,
    figures: &mut Figures,
) -> Result<()> {
    let mut known = corpus::of_files(train);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    if share < 1.0 {
        let each = (1.0 / share) as usize;
        known.retain(|example| {
            let count = counts.entry(example.source.clone()).or_default();
            *count += 1;
            *count % each == 1 || each == 1
        });
    }
    let made = corpus::made(share);
    speed(&made, figures)?;
    match test {
        Some(test) => other_folder(&known, &made, &corpus::of_files(test), figures),
        None => folds(&known, &made, figures),
    }
}

/// How long texts of about one kilobyte take, and a short one.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn speed(made: &[Example], figures: &mut Figures) -> Result<()> {
    let prose =
        made.iter().filter(|example| example.source == "made prose").filter_map(|example| match &example.what {
            What::Text(text, _) => Some(text.as_str()),
            What::Request(_) => None,
        });
    let prose: Vec<&str> = prose.collect();
    let long: Vec<String> = prose.chunks(20).map(|texts| texts.join(" ")).collect();
    let intruder = Intruder::shipped();
    let bytes: usize = long.iter().map(String::len).sum();
    let begun = std::time::Instant::now();
    let sum: f64 = long.iter().map(|text| intruder.score(text)).sum();
    figures.add(["speed", "ours", "us_per_kb", "µs"], begun.elapsed().as_secs_f64() * 1e6 / bytes as f64 * 1024.0)?;
    let begun = std::time::Instant::now();
    let other: f64 = prose.iter().map(|text| intruder.score(text)).sum();
    figures.add(["speed", "ours", "us_per_text", "µs"], begun.elapsed().as_secs_f64() * 1e6 / prose.len() as f64)?;
    figures.add(["speed", "ours", "memory", "MB"], intruder.memory() as f64 / 1e6)?;
    // What was measured must not be left out by the compiler.
    if sum.is_nan() || other.is_nan() { Err("a score is no number".into()) } else { Ok(()) }
}

fn other_folder(known: &[Example], made: &[Example], asked: &[Example], figures: &mut Figures) -> Result<()> {
    let all: Vec<&Example> = known.iter().chain(made).collect();
    let ours = taught(&all, 1);
    let (rules, shipped) = (Rules::new(), Intruder::shipped());
    let mut sources: BTreeMap<&str, Vec<&Example>> = BTreeMap::new();
    for example in asked {
        sources.entry(&example.source).or_default().push(example);
    }
    for (source, rows) in sources {
        both(source, "ours", &ours, &rows, figures)?;
        both(source, "ours shipped", &shipped, &rows, figures)?;
        report(source, "ours, at once", &judged(&rows, |example| at_once(&ours, example)), figures)?;
        report(source, "rules", &judged(&rows, |example| rules_hit(&rules, example)), figures)?;
        mutations(source, &ours, &rows, figures)?;
    }
    Ok(())
}

fn folds(known: &[Example], made: &[Example], figures: &mut Figures) -> Result<()> {
    let rules = Rules::new();
    let shipped = Intruder::shipped();
    let ordinary: Vec<&Example> = made.iter().filter(|example| !example.hostile).collect();
    report(
        "made ordinary",
        "ours shipped, at once",
        &judged(&ordinary, |example| at_once(&shipped, example)),
        figures,
    )?;
    let sources: BTreeSet<&str> = known.iter().map(|example| example.source.as_str()).collect();
    for source in sources {
        let (left, taken): (Vec<&Example>, Vec<&Example>) = known.iter().partition(|example| example.source == source);
        let all: Vec<&Example> = taken.into_iter().chain(made).collect();
        let ours = taught(&all, 1);
        let case = format!("{source}, source left out");
        both(&case, "ours", &ours, &left, figures)?;
        both(&case, "ours shipped", &Intruder::shipped(), &left, figures)?;
        report(&case, "ours, at once", &judged(&left, |example| at_once(&ours, example)), figures)?;
        report(&case, "rules", &judged(&left, |example| rules_hit(&rules, example)), figures)?;
        mutations(&case, &ours, &left, figures)?;
    }
    let families: BTreeSet<String> = known
        .iter()
        .filter(|example| example.hostile && matches!(example.what, What::Text(..)))
        .map(|example| family_of(&example.family))
        .collect();
    for family in families {
        let is_left = |example: &Example| example.hostile && family_of(&example.family) == family;
        let all: Vec<&Example> = known.iter().chain(made).filter(|example| !is_left(example)).collect();
        let ours = taught(&all, 1);
        let kept =
            all.iter().enumerate().filter(|(place, example)| is_kept(*place) && !example.hostile && !example.is_made());
        let texts = |example: &&Example| matches!(example.what, What::Text(..));
        let asked: Vec<&Example> = kept
            .map(|(_, example)| *example)
            .chain(known.iter().filter(|example| is_left(example)))
            .filter(texts)
            .collect();
        let case = format!("{family}, family left out");
        report(&case, "ours", &judged(&asked, |example| is_alarm(&ours, example)), figures)?;
        report(&case, "rules", &judged(&asked, |example| rules_hit(&rules, example)), figures)?;
    }
    made_families(known, made, figures)
}

/// Families that only grammars make, each left out in turn: what is made is all there is to judge by.
fn made_families(known: &[Example], made: &[Example], figures: &mut Figures) -> Result<()> {
    let rules = Rules::new();
    let seen: BTreeSet<String> = known.iter().map(|example| family_of(&example.family)).collect();
    let families: BTreeSet<&str> = made
        .iter()
        .filter(|example| example.hostile && !seen.contains(&example.family))
        .map(|example| example.family.as_str())
        .collect();
    for family in families {
        let is_left = |example: &Example| example.hostile && example.family == family;
        let all: Vec<&Example> = known.iter().chain(made).filter(|example| !is_left(example)).collect();
        let ours = taught(&all, 1);
        let left: Vec<&Example> = made.iter().filter(|example| is_left(example)).collect();
        let case = format!("made {family}, family left out");
        report(&case, "ours", &judged(&left, |example| is_alarm(&ours, example)), figures)?;
        report(&case, "rules", &judged(&left, |example| rules_hit(&rules, example)), figures)?;
    }
    Ok(())
}

/// Families of files by the names that grammars have for them.
fn family_of(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    let starts = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let known = match () {
        () if starts(&["sql"]) => "sqli",
        () if starts(&["xss", "script"]) => "xss",
        () if starts(&["traversal", "lfi", "rfi", "inclusion"]) => "traversal",
        () if starts(&["cmd", "command", "shell", "os_"]) => "command",
        () if starts(&["ssti", "template"]) => "template",
        () if starts(&["ldap"]) => "ldap",
        () if starts(&["xpath"]) => "xpath",
        () if starts(&["nosql"]) => "nosql",
        () if starts(&["ssi", "xxe"]) => "xml",
        () if starts(&["crlf", "split"]) => "crlf",
        () => return name,
    };
    known.to_owned()
}

/// Whether rules alone call any part hostile.
fn rules_hit(rules: &Rules, example: &Example) -> bool {
    let of = |text: &[u8]| rules.score(&Normal::new(text)) >= HIT;
    match &example.what {
        What::Text(text, _) => of(text.as_bytes()),
        What::Request(asked) => asked.with(|request| request.pieces().iter().any(|piece| of(&piece.text))),
    }
}

/// Whether any part is so clearly hostile that it would be refused at once.
fn at_once(intruder: &Intruder, example: &Example) -> bool {
    let of = |texts: &[&[u8]]| {
        intruder.reflex(texts.iter().copied(), texts.iter().map(|text| text.len()).sum(), 0).is_some()
    };
    match &example.what {
        What::Text(text, _) => of(&[text.as_bytes()]),
        What::Request(asked) => asked.with(|request| {
            let pieces = request.pieces();
            of(&pieces.iter().map(|piece| piece.text.as_slice()).collect::<Vec<_>>())
        }),
    }
}

/// A detector's figures. Of requests they are those with what the site says beside it, and then those of texts alone.
fn both(case: &str, subject: &str, ours: &Intruder, rows: &[&Example], figures: &mut Figures) -> Result<()> {
    let texts = judged(rows, |example| is_alarm(ours, example));
    if rows.iter().all(|example| matches!(example.what, What::Text(..))) {
        return report(case, subject, &texts, figures);
    }
    report(case, &format!("{subject}, texts alone"), &texts, figures)?;
    report(case, subject, &with_site(texts), figures)
}

/// The same with a site's surprise: the site learns as requests come, without labels, from what was not called hostile.
fn with_site(mut texts: Vec<Judged<'_>>) -> Vec<Judged<'_>> {
    let mut site = Site::default();
    for one in &mut texts {
        if let What::Request(asked) = &one.example.what {
            asked.with(|request| {
                one.alarm |= site.surprise(request) >= SURPRISE;
                if !one.alarm {
                    site.learn(request);
                }
            });
        }
    }
    texts
}

fn is_alarm(intruder: &Intruder, example: &Example) -> bool {
    let thresholds = intruder.thresholds();
    let threshold = if matches!(example.what, What::Text(..)) { thresholds.text } else { thresholds.request };
    score(intruder, example) >= threshold
}

fn judged<'a>(rows: &[&'a Example], alarm: impl Fn(&Example) -> bool) -> Vec<Judged<'a>> {
    rows.iter().map(|example| Judged { example, alarm: alarm(example) }).collect()
}

/// False alarms, recall, and recall by family.
fn report(case: &str, subject: &str, judged: &[Judged<'_>], figures: &mut Figures) -> Result<()> {
    let is_text = judged.first().is_some_and(|one| matches!(one.example.what, What::Text(..)));
    let unit = if is_text { "payloads" } else { "requests" };
    let share = |wanted: &dyn Fn(&Example) -> bool| {
        let of: Vec<bool> = judged.iter().filter(|one| wanted(one.example)).map(|one| one.alarm).collect();
        (!of.is_empty()).then(|| (of.iter().filter(|alarm| **alarm).count() as f64 / of.len() as f64, of.len()))
    };
    if let Some((value, _)) = share(&|example| !example.hostile) {
        figures.add([case, subject, "realised_fa", unit], value)?;
    }
    if let Some((value, _)) = share(&|example| example.hostile) {
        figures.add([case, subject, "recall", unit], value)?;
    }
    let families: BTreeSet<&str> =
        judged.iter().filter(|one| one.example.hostile).map(|one| one.example.family.as_str()).collect();
    let mut recalls = Vec::new();
    for family in families {
        if let Some((value, count)) = share(&|example| example.hostile && example.family == family)
            && count >= FEW
        {
            figures.add([case, subject, &format!("recall:{family}"), unit], value)?;
            recalls.push(value);
        }
    }
    if !recalls.is_empty() {
        figures.add([case, subject, "macro_recall", unit], recalls.iter().sum::<f64>() / recalls.len() as f64)?;
    }
    if let Some(folder) = std::env::var_os("MANTLET_MISSES") {
        misses(Path::new(&folder), case, subject, judged)?;
    }
    Ok(())
}

/// What was missed and what was falsely called hostile, for people to read.
fn misses(folder: &Path, case: &str, subject: &str, judged: &[Judged<'_>]) -> Result<()> {
    let wrong = judged.iter().filter(|one| one.alarm != one.example.hostile);
    let line = |one: &Judged<'_>| match &one.example.what {
        What::Text(text, _) => format!("{} {text:?}\n", one.example.family),
        What::Request(asked) => {
            format!("{} {} {} {:?} | {}\n", one.example.family, asked.method, asked.target, asked.headers, asked.body)
        }
    };
    std::fs::create_dir_all(folder)?;
    Ok(std::fs::write(folder.join(format!("{case} {subject}.txt")), wrong.map(line).collect::<String>())?)
}

/// Recall on attacks that are found, each written otherwise.
fn mutations(case: &str, ours: &Intruder, rows: &[&Example], figures: &mut Figures) -> Result<()> {
    let hostile = rows.iter().filter(|example| example.hostile && is_alarm(ours, example));
    let found: Vec<&str> = hostile
        .filter_map(|example| match &example.what {
            What::Text(text, _) => Some(text.as_str()),
            What::Request(_) => None,
        })
        .step_by(7)
        .take(1_000)
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    let mut random = Random::new(3);
    let mut worst: f64 = 1.0;
    for (trick, name) in mutate::TRICKS.iter().enumerate() {
        let still = found.iter().filter(|text| ours.is_hostile(mutate::mutated(&mut random, text, trick))).count();
        let share = still as f64 / found.len() as f64;
        figures.add([case, "ours", &format!("mutated_recall:{name}"), ""], share)?;
        worst = worst.min(share);
    }
    figures.add([case, "ours", "mutated_recall", ""], worst)
}
