//! What says that it allocates nothing does not. One test alone, for memory is counted over the whole process.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

use online::{Classifier, Encoder, Feature, Value, registry::Spec};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that were allocated at a time while something is done.
fn took(mut work: impl FnMut()) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    work();
    MEMORY.peak_usage() - before
}

fn pipeline(bits: u8) -> Spec {
    let steps =
        format!(r#"[{{ "step": "scaler" }}, {{ "step": "one-hot" }}, {{ "step": "hashing", "bits": {bits} }}]"#);
    let json = format!(r#"{{ "learner": "pipeline", "steps": {steps}, "model": {{ "learner": "logistic" }} }}"#);
    serde_json::from_str(&json).unwrap()
}

#[test]
fn rows_are_encoded_and_predicted_without_allocating() {
    let mut encoder = Encoder::new(vec![Feature::number("n"), Feature::words("w", 50)]).unwrap();
    let values = [Value::Number(0.5), Value::Word("one")];
    let (mut row, mut probabilities) = ([0.0; 2], [0.0; 32]);
    encoder.learn(&values).unwrap();
    assert_eq!(took(|| encoder.encode(&values, &mut row).unwrap()), 0);
    for (bits, most) in [(4, 0), (10, 0), (11, 2 * 8 * 2_048)] {
        let mut learner = pipeline(bits).build(encoder.schema().clone(), 32, 1).unwrap();
        learner.learn(&row, 1, 1.0).unwrap();
        assert_eq!(took(|| learner.predict(&row, &mut probabilities).unwrap()), most, "{bits} bits");
        assert_eq!(took(|| learner.learn(&row, 1, 1.0).unwrap()), most, "{bits} bits");
    }
}
