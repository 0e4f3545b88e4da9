//! What tests of all learners have in common: a way to save any of them, and rows to learn.

use online::{Feature, Schema};
use proptest::prelude::*;

/// The trait `Learner`: one of this crate's with what tests do to it.
macro_rules! learner {
    ($of:ident) => {
        /// One with what tests do to it.
        trait Learner: $of {
            fn saved(&self) -> Vec<u8>;
            fn loaded(&self, bytes: &[u8]) -> online::Result<Box<dyn Learner>>;
        }

        impl<T: $of + online::Snapshot + 'static> Learner for T {
            fn saved(&self) -> Vec<u8> {
                self.save()
            }

            fn loaded(&self, bytes: &[u8]) -> online::Result<Box<dyn Learner>> {
                boxed(T::load(bytes))
            }
        }

        fn boxed<T: Learner + 'static>(learner: online::Result<T>) -> online::Result<Box<dyn Learner>> {
            learner.map(|learner| Box::new(learner) as Box<dyn Learner>)
        }
    };
}
pub(crate) use learner;

/// Two numbers and a word of three.
pub(crate) fn mixed() -> Schema {
    Schema::new(vec![Feature::number("a"), Feature::number("b"), Feature::words("w", 3)]).unwrap()
}

/// Any row of [`mixed`].
pub(crate) fn row() -> impl Strategy<Value = [f64; 3]> {
    let number =
        prop_oneof![Just(f64::NAN), Just(0.0), -1e3..1e3_f64, any::<f64>().prop_filter("finite", |x| x.is_finite())];
    let word = prop_oneof![Just(f64::NAN), (0..3_u32).prop_map(f64::from)];
    (number.clone(), number, word).prop_map(|(a, b, w)| [a, b, w])
}

/// How often a row comes.
pub(crate) fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![Just(1.0), Just(0.0), 0.0..100.0_f64]
}
