//! State as bytes: what is saved is what is loaded, bit for bit, and nothing else is loaded at all.
//!
//! ```text
//! "mantlet online\n" · kind's length (1) · kind · version (2) · state (postcard) · CRC-32 of all before (4)
//! ```
//!
//! Numbers are little-endian. The checksum finds damage, not malice: whoever keeps snapshots signs them. Even so a hostile
//! one ends in an error: lengths are read against the bytes that are there, and [`Snapshot::check`] looks at what they say.

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

const MAGIC: &[u8] = b"mantlet online\n";
const CHECKSUM: usize = 4;

/// What can be saved and loaded.
pub trait Snapshot: Serialize + DeserializeOwned {
    /// What it is, up to 255 bytes; no two kinds share one.
    const KIND: &'static str;
    /// Counts up whenever the state's form changes.
    const VERSION: u16;

    /// Looks at a state that was just read: sizes that fit together, indices that lead somewhere, numbers that are finite.
    ///
    /// # Errors
    /// [`Error::Snapshot`] says what is wrong.
    fn check(&self) -> Result<()>;

    /// The state as bytes.
    fn save(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let kind = &Self::KIND.as_bytes()[..Self::KIND.len().min(255)];
        bytes.push(kind.len() as u8);
        bytes.extend_from_slice(kind);
        bytes.extend_from_slice(&Self::VERSION.to_le_bytes());
        // Postcard refuses only sequences of unknown length, and no state here has any.
        bytes.extend(postcard::to_allocvec(self).unwrap_or_default());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// A state from its bytes.
    ///
    /// # Errors
    /// [`Error::Snapshot`] when they are not those of such a state.
    fn load(bytes: &[u8]) -> Result<Self> {
        let (kind, version, state) = open(bytes)?;
        if kind != Self::KIND.as_bytes() {
            return Err(Error::Snapshot("is of another kind"));
        }
        if version != Self::VERSION {
            return Err(Error::Snapshot("has another version"));
        }
        let (state, rest) = postcard::take_from_bytes::<Self>(state).map_err(|_| Error::Snapshot("can't be read"))?;
        if !rest.is_empty() {
            return Err(Error::Snapshot("goes on after its end"));
        }
        state.check()?;
        Ok(state)
    }
}

/// The kind that a snapshot says it is of.
///
/// # Errors
/// [`Error::Snapshot`] when it is none, or damaged.
pub fn kind(bytes: &[u8]) -> Result<&str> {
    let (kind, ..) = open(bytes)?;
    std::str::from_utf8(kind).map_err(|_| Error::Snapshot("can't be read"))
}

/// Kind, version and state of a snapshot that is whole.
fn open(bytes: &[u8]) -> Result<(&[u8], u16, &[u8])> {
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(Error::Snapshot("is too short"))?;
    let rest = body.strip_prefix(MAGIC).ok_or(Error::Snapshot("is none: it does not begin as one"))?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err(Error::Snapshot("is damaged: its checksum differs"));
    }
    let (&length, rest) = rest.split_first().ok_or(Error::Snapshot("is too short"))?;
    let (kind, rest) = rest.split_at_checked(usize::from(length)).ok_or(Error::Snapshot("is too short"))?;
    let (version, state) = rest.split_first_chunk::<2>().ok_or(Error::Snapshot("is too short"))?;
    Ok((kind, u16::from_le_bytes(*version), state))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sums(Vec<f64>);

    impl Snapshot for Sums {
        const KIND: &'static str = "sums";
        const VERSION: u16 = 3;

        fn check(&self) -> Result<()> {
            if self.0.len() > 3 { Err(Error::Snapshot("has too many sums")) } else { Ok(()) }
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let sums = Sums(vec![0.1, -0.0, f64::MIN_POSITIVE]);
        let loaded = Sums::load(&sums.save()).unwrap();
        assert_eq!(
            loaded.0.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
            sums.0.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        assert_eq!(kind(&sums.save()), Ok("sums"));
    }

    #[test]
    fn nothing_else_is_loaded() {
        let bytes = Sums(vec![1.0, 2.0]).save();
        for place in 0..bytes.len() {
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[place] ^= 1 << bit;
                assert!(Sums::load(&other).is_err(), "bit {bit} of byte {place}");
            }
            assert!(Sums::load(&bytes[..place]).is_err(), "the first {place} bytes");
        }
        assert_eq!(Sums::load(&Sums(vec![0.0; 4]).save()), Err(Error::Snapshot("has too many sums")));
    }

    #[test]
    fn a_length_is_not_believed() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(b"\x04sums\x03\x00");
        bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        assert_eq!(Sums::load(&bytes), Err(Error::Snapshot("can't be read")));
    }
}
