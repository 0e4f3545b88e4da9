//! The W3C trace context that a client sends: `traceparent`.

use http::HeaderMap;

const HEADER: &str = "traceparent";
/// `00-` trace `-` parent `-` flags.
const LENGTH: usize = 55;

/// Which trace a prediction belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    trace: u128,
    /// The client's span, where there is one.
    parent: u64,
    flags: u8,
}

impl Context {
    /// A trace of our own.
    pub(super) fn new(trace: u128) -> Self {
        // All zeros are no id.
        Self { trace: trace.max(1), parent: 0, flags: 1 }
    }

    /// The client's trace; nothing where it sends none, several, or none that can be read.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let mut sent = headers.get_all(HEADER).iter();
        let (text, more) = (sent.next()?, sent.next());
        more.is_none().then(|| Self::parse(text.as_bytes()))?
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let version = hex(known.get(..2)?)?;
        let dashes = [2, 35, 52].iter().all(|at| known.get(*at) == Some(&b'-'));
        // Later versions may say more, behind another dash; this one says no more.
        let ends = more.is_empty() || (version > 0 && more.first() == Some(&b'-'));
        if version == 0xff || !dashes || !ends {
            return None;
        }
        let trace = hex(known.get(3..35)?)?;
        let parent = u64::try_from(hex(known.get(36..52)?)?).ok()?;
        let flags = u8::try_from(hex(known.get(53..)?)?).ok()?;
        (trace > 0 && parent > 0).then_some(Self { trace, parent, flags })
    }

    /// Whether the client wants it traced.
    pub(super) fn sampled(self) -> bool {
        self.flags & 1 == 1
    }

    /// The trace's id.
    pub(super) fn id(self) -> u128 {
        self.trace
    }

    /// The client's span.
    pub(super) fn parent(self) -> Option<u64> {
        (self.parent > 0).then_some(self.parent)
    }
}

/// Lower-case hexadecimal digits, and nothing else.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<Context> {
        Context::parse(text.as_bytes())
    }

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_writes_it() {
        let context = read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(format!("{:032x}", context.id()), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.parent(), Some(0x00f0_67aa_0ba9_02b7));
        assert!(context.sampled());
        assert!(!read("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02").unwrap().sampled());
        assert!(read("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").unwrap().sampled());
    }

    #[test]
    fn one_that_is_none_is_ignored() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let twice = ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"; 2];
        let name = http::HeaderName::from_static(HEADER);
        let headers: HeaderMap = twice.iter().map(|text| (name.clone(), text.parse().unwrap())).collect();
        assert_eq!(headers.get_all(HEADER).iter().count(), 2);
        assert_eq!(Context::read(&headers), None);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_ignored(text in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Context::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(trace in 1..u128::MAX, parent in 1..u64::MAX, flags: u8) {
            let context = read(&format!("00-{trace:032x}-{parent:016x}-{flags:02x}")).unwrap();
            prop_assert_eq!(context, Context { trace, parent, flags });
        }
    }
}
