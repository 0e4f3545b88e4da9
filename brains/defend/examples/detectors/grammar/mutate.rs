//! The same attack, written otherwise: what WAF-A-MoLE (Demetrio et al., SAC 2020) and sqlmap's tampering are known to do.

use online::Random;

/// Ways to write an attack otherwise, by name.
pub(crate) const TRICKS: [&str; 10] =
    ["case", "percent", "double percent", "all percent", "comments", "blanks", "entities", "unicode", "form", "pieces"];

/// By one or two tricks.
pub(crate) fn hidden(random: &mut Random, text: &str) -> String {
    let first = random.below(TRICKS.len() as u32) as usize;
    let once = mutated(random, text, first);
    if random.uniform() < 0.3 {
        let second = random.below(TRICKS.len() as u32) as usize;
        return mutated(random, &once, second);
    }
    once
}

/// By the trick of this place.
pub(crate) fn mutated(random: &mut Random, text: &str, trick: usize) -> String {
    match TRICKS[trick] {
        "case" => text
            .chars()
            .map(|c| if random.uniform() < 0.5 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect(),
        "percent" => percent(text, |byte| !byte.is_ascii_alphanumeric()),
        "double percent" => percent(&percent(text, |byte| !byte.is_ascii_alphanumeric()), |byte| byte == b'%'),
        "all percent" => percent(text, |_| true),
        "comments" => text.replace(' ', "/**/"),
        "blanks" => {
            let blank = ["  ", "\t", "\n", "\u{a0}", " \t ", "\r\n"][random.below(6) as usize];
            text.replace(' ', blank)
        }
        "entities" => text
            .chars()
            .map(|c| match c {
                '<' | '>' | '"' | '\'' | '(' | ')' | ':' => format!("&#{};", u32::from(c)),
                other => other.to_string(),
            })
            .collect(),
        "unicode" => text
            .chars()
            .map(|c| match c {
                '!'..='~' if random.uniform() < 0.5 => char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c),
                other => other,
            })
            .collect(),
        "form" => form(text),
        // Words in two, as shells and SQL put them together again.
        _ => match text.find("select").or_else(|| text.find("cat")).or_else(|| text.find("alert")) {
            Some(at) => format!("{}/*{}*/{}", &text[..at], random.below(100), &text[at..]),
            None => text.to_owned() + ["-- -", "#", "/*", ";", "%00", "//"][random.below(6) as usize],
        },
    }
}

/// As a form sends it.
pub(crate) fn form(text: &str) -> String {
    percent(text, |byte| !byte.is_ascii_alphanumeric() && !b" -_.*".contains(&byte)).replace(' ', "+")
}

/// Bytes as percent signs.
pub(crate) fn percent(text: &str, which: impl Fn(u8) -> bool) -> String {
    text.bytes().map(|byte| if which(byte) { format!("%{byte:02X}") } else { char::from(byte).to_string() }).collect()
}
