//! The one place that reads the time; tests hold the hands.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use types::Timestamp;

/// Where services get the time from.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// A clock that stands until it is set; milliseconds since 1970.
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// Now, by this clock.
    #[expect(clippy::disallowed_methods, reason = "this is where the time is read")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
            }
            Self::Manual(millis) => Timestamp(millis.load(Ordering::Relaxed)),
        }
    }

    /// Now in nanoseconds since 1970, as traces count; as fine as this clock is.
    #[expect(clippy::disallowed_methods, reason = "this is where the time is read")]
    pub fn nanos(&self) -> u64 {
        match self {
            Self::System => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            }
            Self::Manual(millis) => millis.load(Ordering::Relaxed).saturating_mul(1_000_000),
        }
    }
}
