//! Takes the values of `data` out of a message's JSON: they are most of it, and [a reader of their own](super::json) is
//! faster.

use std::ops::Range;

use memchr::{memchr, memchr2, memchr3};

/// A message's JSON without its `data`: in place of each stands its number among `values`.
#[derive(Debug)]
pub struct Cut<'a> {
    /// The text without them.
    pub rest: String,
    /// They, in their order.
    pub values: Vec<&'a str>,
}

/// Cuts; `None` for a text that ends in the middle of something.
///
/// Takes O(text), most of it as fast as memory can be searched for three bytes. What is no JSON stays no JSON.
pub fn cut(text: &str) -> Option<Cut<'_>> {
    let bytes = text.as_bytes();
    let (mut rest, mut values) = (String::with_capacity(text.len().min(1_024)), Vec::new());
    let (mut kept, mut at) = (0, 0);
    while let Some(quote) = memchr(b'"', bytes.get(at..)?) {
        let string = string(bytes, at + quote)?;
        at = string.end;
        let colon = skip_space(bytes, at);
        if bytes.get(string) != Some(br#""data""#) || bytes.get(colon) != Some(&b':') {
            continue;
        }
        let start = skip_space(bytes, colon + 1);
        let end = value(bytes, start)?;
        rest.push_str(text.get(kept..start)?);
        rest.push_str(&values.len().to_string());
        values.push(text.get(start..end)?);
        (kept, at) = (end, end);
    }
    rest.push_str(text.get(kept..)?);
    Some(Cut { rest, values })
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

/// A string that begins here, with its quotes.
fn string(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let mut at = start + 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(start..at + 1);
        }
        at += 2;
    }
}

/// The end of a value that begins here.
fn value(bytes: &[u8], start: usize) -> Option<usize> {
    let (open, close) = match bytes.get(start)? {
        b'[' => (b'[', b']'),
        b'{' => (b'{', b'}'),
        b'"' => return string(bytes, start).map(|string| string.end),
        _ => {
            let end = bytes.get(start..)?.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n'));
            return Some(end.map_or(bytes.len(), |length| start + length));
        }
    };
    let (mut at, mut level) = (start, 0_usize);
    loop {
        at += memchr3(open, close, b'"', bytes.get(at..)?)?;
        match bytes.get(at)? {
            b'"' => at = string(bytes, at)?.end,
            byte => {
                level = if *byte == open { level + 1 } else { level - 1 };
                at += 1;
            }
        }
        if level == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, Vec<&str>) {
        let cut = cut(text).unwrap();
        (cut.rest, cut.values)
    }

    #[test]
    fn the_values_of_data_are_cut_out_whatever_they_are() {
        for (text, rest, values) in [
            (r#"{"inputs":[{"data" : [1, [2]] }]}"#, r#"{"inputs":[{"data" : 0 }]}"#, vec!["[1, [2]]"]),
            (r#"[{"data":[]},{"data":"a\"]"}]"#, r#"[{"data":0},{"data":1}]"#, vec!["[]", r#""a\"]""#]),
            (r#"{"data":["]","\"[",{}]}"#, r#"{"data":0}"#, vec![r#"["]","\"[",{}]"#]),
            (r#"{"data":7,"a":8}"#, r#"{"data":0,"a":8}"#, vec!["7"]),
            (r#"{"data":{"data":{}}}"#, r#"{"data":0}"#, vec![r#"{"data":{}}"#]),
            (r#"{"a":"data","data ":1}"#, r#"{"a":"data","data ":1}"#, vec![]),
            (r#"{"a":"\"data\":[1]"}"#, r#"{"a":"\"data\":[1]"}"#, vec![]),
            ("no json", "no json", vec![]),
        ] {
            assert_eq!(parts(text), (rest.to_owned(), values), "{text}");
        }
    }

    #[test]
    fn what_ends_in_the_middle_is_not_cut() {
        for text in [r#"{"data":["#, r#"{"data":[1"#, r#"{"data":["]"#, r#"{"data"#, r#"{"data":"a\"#, r#"{"data":{"#] {
            assert!(cut(text).is_none(), "{text}");
        }
    }
}
