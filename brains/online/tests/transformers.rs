//! What holds for every transformer and for the encoder: bad input is an error that changes nothing, whatever goes out is a
//! row of the schema that was said, snapshots give the same rows, and memory is bounded.
#![expect(clippy::unwrap_used, reason = "helpers of tests: failing loudly is their job")]

#[path = "shared/forged.rs"]
mod forged;
mod shared;

use forged::forged;
use online::{
    Encoder, Error, Feature, Hashing, Kind, OneHot, Random, Result, Scaler, Schema, Snapshot as _, Transformer, Value,
    encode,
    transform::{
        hashing, one_hot,
        scaler::{self, By},
    },
};
use proptest::prelude::*;
use shared::{mixed, row, weight};

shared::learner!(Transformer);

/// Makes a transformer of rows of a schema.
type Make = fn(Schema) -> Result<Box<dyn Learner>>;

const ALL: [(&str, Make); 5] = [
    ("deviation", |schema| boxed(Scaler::new(scaler::Settings { by: By::Deviation }, schema, 1))),
    ("quantiles", |schema| boxed(Scaler::new(scaler::Settings { by: By::Quantiles }, schema, 1))),
    ("one-hot", |schema| boxed(OneHot::new(one_hot::Settings::default(), schema))),
    ("short one-hot", |schema| boxed(OneHot::new(one_hot::Settings { words: 2 }, schema))),
    ("hashing", |schema| boxed(Hashing::new(hashing::Settings { bits: 4, seed: 5 }, schema))),
];

/// What becomes of a row; it must be of the schema that is said.
fn transformed(transformer: &dyn Learner, row: &[f64]) -> Vec<f64> {
    let mut out = vec![f64::INFINITY; transformer.output().width()];
    transformer.transform(row, &mut out).unwrap();
    assert_eq!(transformer.output().check(&out), Ok(()), "{row:?} becomes {out:?}");
    out
}

fn bits(transformer: &dyn Learner, row: &[f64]) -> Vec<u64> {
    transformed(transformer, row).into_iter().map(f64::to_bits).collect()
}

/// A row with one in twenty values missing.
fn example(random: &mut Random) -> [f64; 3] {
    let mut row = [random.normal(), 1e6 + 100.0 * random.normal(), f64::from(random.below(3))];
    for value in &mut row {
        if random.uniform() < 0.05 {
            *value = f64::NAN;
        }
    }
    row
}

fn taught(make: Make, rows: usize) -> Box<dyn Learner> {
    let mut transformer = make(mixed()).unwrap();
    let mut random = Random::new(3);
    for _ in 0..rows {
        transformer.learn(&example(&mut random), 1.0).unwrap();
    }
    transformer
}

#[test]
fn what_is_wrong_is_an_error_and_changes_nothing() {
    for (name, make) in ALL {
        let mut transformer = taught(make, 200);
        let before = transformer.saved();
        let mut out = vec![0.0; transformer.output().width()];
        for (bad, error) in [
            (vec![], Error::Width { wanted: 3, found: 0 }),
            (vec![1.0; 4], Error::Width { wanted: 3, found: 4 }),
            (vec![f64::INFINITY, 0.0, 0.0], Error::Infinite { index: 0 }),
            (vec![0.0, 0.0, 3.0], Error::Word { index: 2, value: 3.0, words: 3 }),
            (vec![0.0, 0.0, 0.5], Error::Word { index: 2, value: 0.5, words: 3 }),
        ] {
            assert_eq!(transformer.transform(&bad, &mut out), Err(error.clone()), "{name}");
            assert_eq!(transformer.learn(&bad, 1.0), Err(error), "{name}");
        }
        let (wanted, row) = (out.len(), [0.0; 3]);
        assert_eq!(
            transformer.transform(&row, &mut out[1..]),
            Err(Error::Width { wanted, found: wanted - 1 }),
            "{name}"
        );
        for weight in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(transformer.learn(&row, weight), Err(Error::Weight(_))), "{name}");
        }
        transformer.learn(&[9.0, 9.0, 1.0], 0.0).unwrap();
        assert_eq!(transformer.saved(), before, "{name}");
    }
}

#[test]
fn a_snapshot_transforms_and_learns_as_the_one_it_was_taken_of() {
    for (name, make) in ALL {
        let mut transformer = taught(make, 700);
        let mut copy = transformer.loaded(&transformer.saved()).unwrap();
        let mut random = Random::new(9);
        for _ in 0..600 {
            let row = example(&mut random);
            assert_eq!(bits(&*transformer, &row), bits(&*copy, &row), "{name}");
            transformer.learn(&row, 1.0).unwrap();
            copy.learn(&row, 1.0).unwrap();
        }
        assert_eq!(transformer.saved(), copy.saved(), "{name}");
    }
}

#[test]
fn a_forged_snapshot_is_refused_or_harmless() {
    for (name, make) in ALL {
        let transformer = taught(make, 150);
        for bytes in forged(&transformer.saved(), 2_000) {
            let Ok(mut loaded) = transformer.loaded(&bytes) else { continue };
            let row: Vec<f64> = loaded.schema().features().iter().map(|_| 0.0).collect();
            for _ in 0..3 {
                loaded.learn(&row, 1.0).unwrap();
                transformed(&*loaded, &row);
            }
            assert!(loaded.memory() < 1 << 20, "{name}");
        }
    }
}

#[test]
fn units_do_not_matter_once_scaled() {
    for (name, make) in ALL.into_iter().take(2) {
        let transformer = taught(make, 2_000);
        let [near, far, other] = [[0.0, 1e6, 2.0], [1.0, 1e6 + 100.0, 2.0], [f64::NAN, 1e6 + 100.0, f64::NAN]]
            .map(|row| transformed(&*transformer, &row));
        assert!(near[0].abs() < 0.1 && near[1].abs() < 0.1, "{name}: {near:?}");
        assert!((far[0] - far[1]).abs() < 0.1 && far[0] > 0.2, "{name}: {far:?}");
        assert_eq!((near[2], other[1]), (2.0, far[1]), "{name}: words stay");
        assert!(other[0].is_nan() && other[2].is_nan(), "{name}: what is missing stays missing");
    }
}

#[test]
fn columns_that_say_nothing_become_nothing() {
    for (name, make) in ALL.into_iter().take(2) {
        let mut transformer = make(Schema::numeric(2).unwrap()).unwrap();
        for _ in 0..100 {
            transformer.learn(&[7.0, f64::NAN], 1.0).unwrap();
        }
        assert_eq!(transformed(&*transformer, &[7.0, 0.0])[0], 0.0, "{name}");
    }
}

#[test]
fn memory_is_bounded_whatever_the_words() {
    let schema = || Schema::new(vec![Feature::words("w", 1 << 20); 3]).unwrap();
    for (name, make) in ALL {
        let mut transformer = make(schema()).unwrap();
        let mut random = Random::new(1);
        for _ in 0..3_000 {
            let row = [random.below(1 << 20), random.below(1 << 20), random.below(9)].map(f64::from);
            transformer.learn(&row, 1.0).unwrap();
        }
        assert!(transformer.memory() < 64 << 10, "{name}: {}", transformer.memory());
    }
    assert!(OneHot::new(one_hot::Settings { words: 65_536 }, schema()).is_err(), "more than 65,536 columns");
}

fn rows() -> impl Strategy<Value = Vec<([f64; 3], f64)>> {
    prop::collection::vec((row(), weight()), 1..60)
}

/// Few words, so that some come again, and long ones that only differ late.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-f]",
        "\\PC{0,9}",
        (prop::sample::select(&["x", "é", "漢"][..]), 0..200_usize).prop_map(|(c, n)| c.repeat(n))
    ]
}

#[derive(Debug, Clone)]
enum Given {
    Number(f64),
    Word(String),
    Missing,
}

impl Given {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Number(number) => Value::Number(*number),
            Self::Word(word) => Value::Word(word),
            Self::Missing => Value::Missing,
        }
    }
}

/// Mostly what is declared: a number, then words.
fn given() -> impl Strategy<Value = Vec<Given>> {
    let number = || prop_oneof![any::<f64>(), Just(f64::NAN), -9.0..9.0_f64].prop_map(Given::Number);
    let word = || word().prop_map(Given::Word);
    let first = prop_oneof![6 => number(), 1 => word(), 1 => Just(Given::Missing)];
    let other = || prop_oneof![6 => word(), 1 => number(), 1 => Just(Given::Missing)];
    (first, other(), other(), 0..40_usize).prop_map(|(a, b, c, cut)| {
        let mut row = vec![a, b, c];
        row.truncate(if cut < 3 { cut } else { 3 });
        row
    })
}

fn encoder() -> Encoder {
    Encoder::new(vec![Feature::number("n"), Feature::words("few", 4), Feature::words("many", 100)]).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes_a_row_of_the_schema_goes_out(rows in rows()) {
        for (name, make) in ALL {
            let mut transformer = make(mixed()).unwrap();
            for (row, weight) in &rows {
                transformed(&*transformer, row);
                transformer.learn(row, *weight).unwrap();
            }
            let loaded = transformer.loaded(&transformer.saved());
            prop_assert!(loaded.is_ok(), "{name}: {:?}", loaded.err());
        }
    }

    #[test]
    fn whatever_comes_is_an_error_or_a_row(rows in prop::collection::vec(given(), 0..80)) {
        let mut encoder = encoder();
        for given in &rows {
            let values: Vec<Value<'_>> = given.iter().map(Given::value).collect();
            let (before, mut row) = (encoder.clone(), [9.0; 3]);
            let learnt = encoder.learn(&values);
            prop_assert_eq!(encoder.encode(&values, &mut row), learnt.clone());
            if learnt.is_err() {
                prop_assert_eq!(&encoder, &before);
                prop_assert_eq!(row, [9.0; 3]);
                continue;
            }
            prop_assert_eq!(encoder.schema().check(&row), Ok(()));
            for (column, value) in values.iter().enumerate() {
                if let Value::Word(word) = value {
                    prop_assert_eq!(encoder.code(column, word).map(f64::from), Some(row[column]));
                    let known = before.code(column, word).unwrap();
                    prop_assert!(known == encode::UNSEEN || f64::from(known) == row[column], "a code never changes");
                }
            }
        }
        for feature in encoder.schema().features() {
            prop_assert!(matches!(feature.kind, Kind::Numeric | Kind::Word(4 | 100)));
        }
        prop_assert!(encoder.memory() < 103 * 200 + 2_000);
        let bytes = encoder.save();
        let loaded = Encoder::load(&bytes).unwrap();
        prop_assert_eq!(&loaded, &encoder);
        prop_assert_eq!(loaded.save(), bytes);
    }
}

#[test]
fn a_forged_encoder_is_refused_or_harmless() {
    let mut encoder = encoder();
    for n in 0..60 {
        let (few, many) = (format!("{}", n % 5), format!("word {n}"));
        encoder.learn(&[1.0.into(), few.as_str().into(), many.as_str().into()]).unwrap();
    }
    for bytes in forged(&encoder.save(), 4_000) {
        let Ok(mut loaded) = Encoder::load(&bytes) else { continue };
        let width = loaded.schema().width();
        let (values, mut row) = (vec![Value::Missing; width], vec![0.0; width]);
        loaded.learn(&values).unwrap();
        loaded.encode(&values, &mut row).unwrap();
        assert_eq!(Encoder::load(&loaded.save()).as_ref(), Ok(&loaded));
    }
}
