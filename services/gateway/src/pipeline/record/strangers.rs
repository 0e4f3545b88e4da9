//! Strangers are recorded one by one only as long as they come slowly: whoever floods the port without a credential must
//! not push other people's records out of the file. Those left out are counted, and the next one says how many.

use parking_lot::Mutex;

use crate::bucket::Bucket;

/// Strangers recorded at once, and from then on per second.
const BURST: f64 = 1_000.0;
const PACE: f64 = 50.0;

/// Counts strangers.
pub(crate) struct Strangers(Mutex<State>);

struct State {
    bucket: Bucket,
    left_out: u64,
}

impl Strangers {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { bucket: Bucket::full(BURST), left_out: 0 }))
    }

    /// Whether this one is recorded, and for how many it stands: itself, and those left out before.
    pub(crate) fn admit(&self) -> Option<u64> {
        let mut state = self.0.lock();
        if state.bucket.take(PACE, BURST).is_err() {
            state.left_out += 1;
            return None;
        }
        Some(1 + std::mem::take(&mut state.left_out))
    }

    /// How many were left out and not spoken of yet; they are from now on.
    pub(crate) fn rest(&self) -> u64 {
        std::mem::take(&mut self.0.lock().left_out)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_not_written_down_one_by_one() {
        let strangers = Strangers::new();
        let admitted = (0..5_000).filter_map(|_| strangers.admit()).sum::<u64>();
        assert_eq!(admitted, 1_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        let later: Vec<u64> = (0..100).filter_map(|_| strangers.admit()).collect();
        assert_eq!((later.len(), later[0], later[1]), (50, 4_001, 1), "the first stands for all before it");
        assert_eq!((strangers.rest(), strangers.rest()), (50, 0));
    }
}
