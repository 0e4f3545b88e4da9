//! Every fuzz target over its seeds and over mutations of them, the same ones in each run.
#![expect(clippy::panic, reason = "helpers of tests: failing loudly is their job")]

use std::sync::Mutex;

use peak_alloc::PeakAlloc;
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use testkit::fuzz::Target;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
/// Memory is counted over the whole process, so targets take turns in it.
static TURN: Mutex<()> = Mutex::new(());

/// How a seed is changed.
#[derive(Debug, Clone)]
enum Change {
    /// Cut off here.
    Cut(Index),
    /// One bit of it.
    Flip(Index, u32),
    /// Its beginning, and another's end.
    Splice(Index, Index, Index),
    /// A number at a boundary instead of the one that stands there in digits.
    Digits(Index, &'static str),
    /// The same in bytes, in either order.
    Bytes(Index, [u8; 8], usize),
    /// A part of it twice.
    Twice(Index, Index),
}

const DIGITS: [&str; 10] = [
    "0",
    "-1",
    "255",
    "2147483648",
    "-9223372036854775808",
    "9223372036854775807",
    "18446744073709551616",
    "1e999",
    "0.1",
    "1e-400",
];
const NUMBERS: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<Index>;
    let bytes = (prop::sample::select(&NUMBERS[..]), any::<bool>())
        .prop_map(|(number, big)| if big { number.to_be_bytes() } else { number.to_le_bytes() });
    let change = prop_oneof![
        at().prop_map(Change::Cut),
        (at(), 0..8_u32).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), at(), at()).prop_map(|(other, from, to)| Change::Splice(other, from, to)),
        (at(), prop::sample::select(&DIGITS[..])).prop_map(|(at, digits)| Change::Digits(at, digits)),
        (at(), bytes, prop::sample::select(&[1_usize, 2, 4, 8][..]))
            .prop_map(|(at, bytes, width)| Change::Bytes(at, bytes, width)),
        (at(), at()).prop_map(|(from, to)| Change::Twice(from, to)),
    ];
    prop::collection::vec(change, 1..4)
}

fn apply(change: &Change, data: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    if data.is_empty() {
        return;
    }
    match change {
        Change::Cut(at) => data.truncate(at.index(data.len())),
        Change::Flip(at, bit) => {
            let at = at.index(data.len());
            data[at] ^= 1 << bit;
        }
        Change::Splice(other, from, to) => {
            let other = other.get(seeds);
            data.truncate(from.index(data.len()));
            data.extend_from_slice(&other[to.index(other.len() + 1)..]);
        }
        Change::Digits(at, digits) => {
            let Some(start) = nth_number(data, *at) else { return };
            let length = data[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            data.splice(start..start + length, digits.bytes());
        }
        Change::Bytes(at, bytes, width) => {
            let at = at.index(data.len());
            let end = data.len().min(at + width);
            data[at..end].copy_from_slice(&bytes[8 - (end - at)..]);
        }
        Change::Twice(from, to) => {
            let (from, to) = (from.index(data.len()), to.index(data.len()));
            let part = data[from.min(to)..from.max(to)].to_vec();
            data.splice(from..from, part);
        }
    }
}

/// Where one of the numbers in digits begins.
fn nth_number(data: &[u8], at: Index) -> Option<usize> {
    let digit = |index: usize| data.get(index).is_some_and(u8::is_ascii_digit);
    let starts: Vec<usize> = (0..data.len()).filter(|i| digit(*i) && (*i == 0 || !digit(i - 1))).collect();
    (!starts.is_empty()).then(|| *at.get(&starts))
}

fn holds(target: &Target) {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let seeds = (target.seeds)();
    for seed in seeds.iter().map(Vec::as_slice).chain([&[][..]]) {
        target.check(seed);
    }
    let config = Config { cases: 2_000, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mutations = (any::<Index>(), changes()).prop_map(|(seed, changes)| {
        let mut data = seed.get(&seeds).clone();
        changes.iter().for_each(|change| apply(change, &mut data, &seeds));
        data
    });
    let outcome = runner.run(&mutations, |data| {
        target.check(&data);
        Ok::<_, TestCaseError>(())
    });
    if let Err(error) = outcome {
        panic!("{}: {error}", target.name);
    }
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(
            #[test]
            fn $name() {
                holds(testkit::fuzz::target(stringify!($name)));
            }
        )*

        #[test]
        fn every_target_is_run_here() {
            let names = testkit::fuzz::TARGETS.map(|target| target.name);
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets!(oip_json, binary_header, grpc_frame, bundle, onnx, manifest, checkpoint, records, jwt, config, snapshot);
