//! Finds ONNX Runtime's shared library and refuses one that does not fit or would phone home.
//!
//! Linux libraries from 1.29 on open sockets and write a database unless the variable [`QUIET`] is `1` before
//! they start. Mantlet sets it for every model server; a library that needs it is refused where it is missing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use types::{Code, Refusal};

/// The variable that keeps ONNX Runtime from phoning home.
pub const QUIET: &str = "ORT_DISABLE_TELEMETRY";
/// The library's file name in the release that Mantlet is tested with.
pub const FILE: &str = "libonnxruntime.so.1.28.0";
/// The oldest minor version of 1.x whose interface fits.
const OLDEST: u32 = 24;
/// The first minor version that phones home unless told not to.
const PHONES: u32 = 29;

/// A library that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Where it lies.
    pub path: PathBuf,
    /// Its version, for example `1.28.0`.
    pub version: String,
}

/// Finds the library: the one named, or the first that lies where one may lie.
///
/// # Errors
/// `runtime_missing` with the commands that bring it.
pub fn find(named: Option<&Path>) -> Result<Library, Refusal> {
    if let Some(path) = named {
        // Model servers work in another folder.
        let path = std::path::absolute(path).map_err(|error| missing(format!("{}: {error}", path.display())))?;
        return inspect(&path);
    }
    let places = places();
    match places.iter().find(|path| path.is_file()) {
        Some(path) => inspect(path),
        None => {
            let looked = places.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
            Err(missing(format!("ONNX Runtime's library was not found; looked at {looked}")))
        }
    }
}

/// Where a library may lie when none is named: beside the binary, in `onnxruntime/` one level up (where
/// `cargo xtask` puts it), in `lib/` one level up, and in the system's library folders.
fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Some(folder) = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned)) {
        for place in [".", "../onnxruntime", "../lib", "../lib/mantlet"] {
            places.push(folder.join(place).join(FILE));
        }
    }
    for folder in ["/usr/local/lib", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"] {
        places.push(Path::new(folder).join("libonnxruntime.so"));
    }
    places
}

/// Looks at a library without loading it: its version stands in its symbol versions.
///
/// # Errors
/// `runtime_missing` when it can't be read, is no ONNX Runtime, or is too old.
pub fn inspect(path: &Path) -> Result<Library, Refusal> {
    let data = fs::read(path).map_err(|error| missing(format!("{}: {error}", path.display())))?;
    let version = version(&data).ok_or_else(|| missing(format!("{} is no ONNX Runtime library", path.display())))?;
    if minor(&version).is_none_or(|minor| minor < OLDEST) {
        return Err(missing(format!(
            "{} is ONNX Runtime {version}; 1.{OLDEST} is the oldest that fits",
            path.display()
        )));
    }
    Ok(Library { path: path.to_owned(), version })
}

/// Refuses a library that would phone home.
///
/// # Errors
/// `runtime_missing` when the library needs [`QUIET`] and `quiet` is not `1`.
pub fn refuse_talker(library: &Library, quiet: Option<&str>) -> Result<(), Refusal> {
    if minor(&library.version).is_some_and(|minor| minor >= PHONES) && quiet != Some("1") {
        return Err(Refusal::new(
            Code::RuntimeMissing,
            format!("ONNX Runtime {} would phone home: {QUIET}=1 is not set", library.version),
        )
        .hint(format!("set {QUIET}=1, or use ONNX Runtime 1.28.0")));
    }
    Ok(())
}

fn version(data: &[u8]) -> Option<String> {
    const MARK: &[u8] = b"VERS_1.";
    let at = data.windows(MARK.len()).position(|window| window == MARK)?;
    let rest = data.get(at + 5..at + 25)?;
    let text: String = rest.iter().map(|b| char::from(*b)).take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    (text.split('.').count() == 3).then_some(text)
}

fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

fn missing(what: String) -> Refusal {
    Refusal::new(Code::RuntimeMissing, what).hint(
        "get it with `pip download --no-deps --only-binary :all: --python-version 311 onnxruntime==1.28.0`, unzip \
         onnxruntime/capi/libonnxruntime.so.1.28.0 from the wheel, and put it beside the mantlet binary or name it \
         in the setting model-server.onnxruntime",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lib.so");
        fs::write(&path, [b"\x7fELF....".as_slice(), text, b"\0 and more bytes after it"].concat()).unwrap();
        (dir, path)
    }

    #[test]
    fn a_library_tells_its_version_without_being_loaded() {
        let (_dir, path) = library(b"VERS_1.28.0");
        assert_eq!(inspect(&path).unwrap().version, "1.28.0");
        for bad in [&b"VERS_1.20.1"[..], b"VERS_1.x", b"nothing"] {
            let (_dir, path) = library(bad);
            assert_eq!(inspect(&path).unwrap_err().code, Code::RuntimeMissing);
        }
        assert!(inspect(Path::new("/nowhere/lib.so")).unwrap_err().message.contains("/nowhere"));
    }

    #[test]
    fn a_library_that_phones_home_needs_the_variable() {
        let library = |version: &str| Library { path: PathBuf::new(), version: version.into() };
        assert!(refuse_talker(&library("1.28.0"), None).is_ok());
        assert!(refuse_talker(&library("1.29.0"), Some("1")).is_ok());
        for quiet in [None, Some("0"), Some("")] {
            assert!(refuse_talker(&library("1.32.0"), quiet).is_err());
        }
    }
}
