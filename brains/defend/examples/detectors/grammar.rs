//! Texts made by grammars of ours: attacks by family, and ordinary ones that look like them.
//!
//! A template names lists in braces, `<<list>>`, one of whose entries is put there, and so on inwards.

use online::Random;

#[path = "grammar/attacks.rs"]
mod attacks;
#[path = "grammar/mutate.rs"]
pub(crate) mod mutate;
#[path = "grammar/ordinary.rs"]
mod ordinary;

pub(crate) use attacks::FAMILIES;
pub(crate) use ordinary::{AGENTS, HEADERS, KINDS};

/// One of several.
pub(crate) fn one<'a, T: ?Sized>(random: &mut Random, of: &[&'a T]) -> &'a T {
    of[random.below(of.len() as u32) as usize]
}

/// A template with its lists filled in.
pub(crate) fn filled(random: &mut Random, template: &str) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("<<") {
        out.push_str(before);
        // `<<<rand>>>`: a list between angle brackets.
        let after = after.strip_prefix('<').inspect(|_| out.push('<')).unwrap_or(after);
        if after.starts_with(' ') {
            out.push_str("<<");
            rest = after;
            continue;
        }
        let (name, after) = after.split_once(">>").unwrap_or((after, ""));
        out.push_str(&made(random, name));
        rest = after;
    }
    out + rest
}

fn made(random: &mut Random, name: &str) -> String {
    let digits =
        |random: &mut Random, n: u32| (0..n).map(|_| char::from(b'0' + random.below(10) as u8)).collect::<String>();
    match name {
        "digit" => digits(random, 1),
        "n" => {
            let n = 1 + random.below(4);
            digits(random, n)
        }
        "number" => {
            let n = 1 + random.below(12);
            digits(random, n)
        }
        "hex" => {
            let n = 2 * (2 + random.below(16));
            (0..n).map(|_| char::from(b"0123456789abcdef"[random.below(16) as usize])).collect()
        }
        "id" => {
            let n = 4 + random.below(40);
            letters(random, n, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
        }
        "rand" => {
            let n = 3 + random.below(8);
            letters(random, n, b"abcdefghijklmnopqrstuvwxyz")
        }
        "noise" => {
            let n = 2 + random.below(14);
            letters(random, n, b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,!*~:@$ ")
        }
        "byte" => format!("%{:02X}", 0xa0 + random.below(0x60)),
        "same" => {
            let count = 1 + u32::from(random.uniform() < 0.5) * 3;
            let n = digits(random, count);
            format!("{n}={n}")
        }
        "samequoted" => {
            let n = letters(random, 3, b"abcdefghijklmnopqrstuvwxyz");
            format!("{n}'='{n}")
        }
        "nulls" => {
            let n = 1 + random.below(9) as usize;
            let what = ["NULL", "null", "1", "2", "char(65)", "@@version", "'a'", "0x41"][random.below(8) as usize];
            vec![what; n].join(",")
        }
        "ups" => {
            let up = [
                "../",
                "..\\",
                "..%2f",
                "..%5c",
                "....//",
                "..%252f",
                "..//",
                "%2e%2e/",
                "..%c0%af",
                ".././",
                "%2e%2e%2f",
                "..;/",
            ];
            up[random.below(up.len() as u32) as usize].repeat(2 + random.below(7) as usize)
        }
        _ => {
            let known = attacks::LISTS.iter().chain(ordinary::LISTS).find(|(list, _)| *list == name);
            // A name that no list has stays as it is.
            let Some((_, list)) = known else { return name.to_owned() };
            let template = one(random, list);
            filled(random, template)
        }
    }
}

fn letters(random: &mut Random, n: u32, of: &[u8]) -> String {
    (0..n).map(|_| char::from(of[random.below(of.len() as u32) as usize])).collect()
}

/// An attack of a family; half of them hidden by a trick or two.
pub(crate) fn attack(random: &mut Random, family: usize) -> String {
    let (_, templates) = FAMILIES[family];
    let template = one(random, templates);
    let mut text = filled(random, template);
    // Where lists left nothing but a dash or a sign, there is no attack.
    if text.len() < 4 {
        return attack(random, family);
    }
    if random.uniform() < 0.25 {
        let before =
            one(random, &["1", "<<rand>>", "<<n>>", "<<surname>>", "<<rand>>.jpg", "x ", "test", "-1", "<<email>>"]);
        text = filled(random, before) + &text;
    }
    if random.uniform() < 0.4 { mutate::hidden(random, &text) } else { text }
}

/// An ordinary text of a kind.
pub(crate) fn ordinary(random: &mut Random, kind: usize) -> String {
    let (_, templates) = KINDS[kind];
    let template = one(random, templates);
    let text = filled(random, template);
    match random.below(6) {
        // As forms send it.
        0 => mutate::form(&text),
        1 => mutate::percent(&text, |byte| !byte.is_ascii_alphanumeric()),
        2 => text.to_lowercase(),
        _ => text,
    }
}
