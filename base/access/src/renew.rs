//! What is replaced while it is in use: certificates, before they expire.

use std::sync::Arc;

use parking_lot::RwLock;

/// A value that whoever holds a clone of this sees replaced; what was taken before stays as it was.
pub struct Renewable<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Renewable<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Renewable<T> {
    /// Holds this value until another comes.
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// The newest value.
    pub fn current(&self) -> Arc<T> {
        self.0.read().clone()
    }

    /// Replaces the value for whoever asks from now on.
    pub fn replace(&self, value: T) {
        *self.0.write() = Arc::new(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_stays_and_what_is_asked_for_is_new() {
        let held = Renewable::new(1);
        let (other, before) = (held.clone(), held.current());
        held.replace(2);
        assert_eq!((*before, *other.current()), (1, 2));
    }
}
