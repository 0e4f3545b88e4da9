//! libFuzzer's entry to the targets of `testkit::fuzz`: counts memory, writes seeds, and has a bug to plant.
#![forbid(unsafe_code)]

use std::{env, fs, path::Path};

#[global_allocator]
static MEMORY: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

#[doc(hidden)]
pub use libfuzzer_sys;

/// The whole of a target's file.
#[macro_export]
macro_rules! target {
    ($name:ident) => {
        $crate::libfuzzer_sys::fuzz_target!(init: $crate::begin(stringify!($name)), |data: &[u8]| {
            $crate::run(stringify!($name), data);
        });
    };
}

/// Writes the target's seeds into the folder that `MANTLET_FUZZ_SEEDS` names, before libFuzzer reads its corpus.
pub fn begin(name: &str) {
    let Some(folder) = env::var_os("MANTLET_FUZZ_SEEDS") else { return };
    for (number, seed) in (testkit::fuzz::target(name).seeds)().iter().enumerate() {
        let file = Path::new(&folder).join(format!("seed-{number:02}"));
        fs::write(&file, seed).expect("a seed can be written");
    }
}

/// Runs a target over one input.
pub fn run(name: &str, data: &[u8]) {
    testkit::fuzz::target(name).check(data);
    #[cfg(feature = "planted")]
    planted(name, data);
}

/// A bug that only a whole request reaches: a tensor of `BF16` with other than two elements, in a request without a time
/// limit. No seed is one. Each step is a branch of its own, so that libFuzzer sees how near it came.
#[cfg(feature = "planted")]
fn planted(name: &str, data: &[u8]) {
    if name != "oip_json" {
        return;
    }
    let Some(request) = testkit::fuzz::json_request(data) else { return };
    for tensor in request.inputs.iter().filter(|tensor| tensor.datatype() == types::DataType::Bf16) {
        if tensor.elements() != 2 {
            if request.timeout.is_none() {
                panic!("the planted bug was found");
            }
            std::hint::black_box(tensor.rows());
        }
    }
}
