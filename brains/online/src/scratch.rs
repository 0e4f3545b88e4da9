//! Room for a few numbers on the stack, so that a prediction allocates only where there are many classes.

/// Classes up to which nothing is allocated.
pub(crate) const CLASSES_INLINE: usize = 32;

/// Works on so many zeros: on the stack up to `N`, else on the heap.
pub(crate) fn with_places<const N: usize, T>(count: usize, work: impl FnOnce(&mut [f64]) -> T) -> T {
    let mut places = [0.0; N];
    match places.get_mut(..count) {
        Some(places) => work(places),
        None => work(&mut vec![0.0; count]),
    }
}
