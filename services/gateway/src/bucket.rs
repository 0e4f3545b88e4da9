//! A token bucket: so many at once, and from then on so many per second.

use std::time::Duration;

use tokio::time::Instant;

/// What may still come at once.
pub(crate) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(burst: f64) -> Self {
        Self { tokens: burst, filled: Instant::now() }
    }

    /// Takes one, or says how long to wait for it.
    pub(crate) fn take(&mut self, pace: f64, burst: f64) -> Result<(), Duration> {
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.filled).as_secs_f64() * pace).min(burst);
        self.filled = now;
        if self.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.tokens) / pace));
        }
        self.tokens -= 1.0;
        Ok(())
    }

    /// Notes that it was asked for something that it does not bound.
    pub(crate) fn touch(&mut self) {
        self.filled = Instant::now();
    }

    /// How long nothing was asked of it.
    pub(crate) fn idle(&self) -> Duration {
        self.filled.elapsed()
    }
}
