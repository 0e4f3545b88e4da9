//! Where a person sends requests that name no version: to one, for certain callers, and to several by shares.
//!
//! A sticky split gives a caller the same version each time: SHA-256 of the split's salt and the caller's name is its place between 0 and
//! 1, and the versions divide that line by their shares. Shares hold over callers then, not over requests; another salt is another draw.

use rpc::orchestrator::{Sent, Split};
use sha2::{Digest as _, Sha256};
use types::{CallerName, Version};

/// The version that a request of this caller is sent to; nothing where nobody says anything, or the version that answers is to answer.
/// `draw` gives a number in 0..1. O(versions), and of a sticky split one hash.
pub(crate) fn version(sent: &Sent, caller: &CallerName, draw: impl FnOnce() -> f64) -> Option<Version> {
    if let Some(pin) = sent.pins.get(caller) {
        return Some(pin.version);
    }
    let split = sent.split.as_ref()?;
    let mut at = if split.sticky { place(split, caller) } else { draw() };
    for part in &split.parts {
        at -= part.share.get();
        if at < 0.0 {
            return Some(part.version);
        }
    }
    None
}

/// Whether a caller's requests go where a person says.
pub(crate) fn is_sent(sent: &Sent, caller: &CallerName) -> bool {
    sent.split.is_some() || sent.pins.contains_key(caller)
}

/// Where a caller is between 0 and 1.
fn place(split: &Split, caller: &CallerName) -> f64 {
    let hash = Sha256::new().chain_update(&split.salt).chain_update([0]).chain_update(caller.as_str()).finalize();
    let first = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    // As many bits as a number holds.
    (first >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use rpc::orchestrator::{Part, Pin};
    use types::{Timestamp, quantity::Share};

    use super::*;

    fn split(salt: &str, sticky: bool) -> Sent {
        let part = |version, share| Part { version: Version(version), share: Share::new(share).unwrap() };
        let parts = vec![part(2, 0.1), part(3, 0.25)];
        let (author, reason, since) = ("p".into(), "r".into(), Timestamp(0));
        let split = Split { parts, sticky, salt: salt.into(), author, reason, since, expires: None };
        Sent { split: Some(split), ..Sent::default() }
    }

    fn caller(n: u32) -> CallerName {
        format!("caller{n}").parse().unwrap()
    }

    #[test]
    fn shares_hold_over_callers_each_stays_with_its_version_and_two_splits_are_independent() {
        let of = |sent: &Sent, n| version(sent, &caller(n), || panic!("nothing is drawn"));
        let (one, other) = (split("a", true), split("b", true));
        let mut counts = [[0.0_f64; 2]; 2];
        for n in 0..20_000 {
            assert_eq!(of(&one, n), of(&one, n));
            let of = [&one, &other].map(|sent| usize::from(of(sent, n) == Some(Version(3))));
            counts[of[0]][of[1]] += 1.0;
        }
        let second = (counts[1][0] + counts[1][1]) / 20_000.0;
        assert!((second - 0.25).abs() < 0.012, "four standard errors: {second}");
        let both = counts[1][1] / 20_000.0;
        assert!((both - 0.0625).abs() < 0.007, "{both}");
        let third = (0..20_000).filter(|n| of(&one, *n) == Some(Version(2))).count();
        assert!((1_830..=2_170).contains(&third), "{third}");
    }

    #[test]
    fn requests_are_drawn_and_a_pin_comes_first() {
        let mut sent = split("a", false);
        for (at, expected) in [(0.05, Some(2)), (0.2, Some(3)), (0.36, None), (0.999, None)] {
            assert_eq!(version(&sent, &caller(1), || at), expected.map(Version), "{at}");
        }
        let pin = Pin { version: Version(7), author: "p".into(), reason: "r".into(), since: Timestamp(0) };
        sent.pins.insert(caller(1), pin);
        assert_eq!(version(&sent, &caller(1), || 0.0), Some(Version(7)));
        sent.split = None;
        assert_eq!((version(&sent, &caller(2), || 0.0), is_sent(&sent, &caller(2))), (None, false));
    }
}
