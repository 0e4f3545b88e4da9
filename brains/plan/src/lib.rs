//! Diffs desired against observed state and yields steps.
