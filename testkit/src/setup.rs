//! What `cargo xtask` has set up, found by the variables it sets; where something is missing the test is skipped,
//! and says so.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// ONNX Runtime's library, when it was set up.
pub fn onnxruntime() -> Option<PathBuf> {
    let named = std::env::var_os("MANTLET_ONNXRUNTIME").map(PathBuf::from);
    named.or_else(|| Some(root().join("target/onnxruntime/libonnxruntime.so.1.28.0"))).filter(|path| path.is_file())
}

/// The Python with the clients, when it was set up.
pub fn python() -> Option<PathBuf> {
    let named = std::env::var_os("MANTLET_PYTHON").map(PathBuf::from);
    named.or_else(|| Some(root().join("target/setup/venv/bin/python"))).filter(|path| path.is_file())
}

/// The example models, when they were made.
pub fn models() -> Option<PathBuf> {
    let named = std::env::var_os("MANTLET_MODELS").map(PathBuf::from);
    named.or_else(|| Some(root().join("target/setup/models"))).filter(|path| path.is_dir())
}

/// The folder with real data, when it is there.
pub fn data() -> Option<PathBuf> {
    let named = std::env::var_os("MANTLET_DATA").map(PathBuf::from);
    named.or_else(|| Some(root().join("../shared/data"))).filter(|path| path.is_dir())
}

/// Builds the ledger's verifier in Go (`testkit/go`) into a folder; none where there is no Go.
pub fn go_verifier(into: &Path) -> Option<PathBuf> {
    let sources = Path::new("/usr/share/gocode");
    if !sources.join("src/golang.org/x/mod/sumdb/tlog").is_dir() {
        return None;
    }
    let program = into.join("verify-ledger");
    let mut build = std::process::Command::new("go");
    build.current_dir(root()).env("GO111MODULE", "off").env("GOPATH", sources).env("GOCACHE", into.join("cache"));
    build.args(["build", "-o"]).arg(&program).arg("./testkit/go/verify-ledger");
    let built = build.output().ok()?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}

/// Says that a test is skipped, and why; `cargo xtask test` lists what was said at its end.
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED: {test}: {why}");
    println!("{line}");
    if let Some(path) = std::env::var_os("MANTLET_SKIPS") {
        let mut file =
            OpenOptions::new().create(true).append(true).open(path).expect("the list of skips can be written");
        writeln!(file, "{line}").expect("the list of skips can be written");
    }
}
