//! ONNX Runtime's shared library, taken from its Python package and checked against a known digest.
//!
//! Not the newest release: from 1.29 on, the Linux packages send telemetry unless told not to.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{python::Venv, stamp};
use crate::{shell, workspace::Workspace};

const VERSION: &str = "1.28.0";
const FILE: &str = "libonnxruntime.so.1.28.0";
/// Each processor's name on PyPI, and the SHA-256 of the library in the package for CPython 3.11.
const KNOWN: [(&str, &str); 2] = [
    ("x86_64", "aa4079d18f4ea7a5f3a94d80cd4bbe0f2740436626622d64d793803a20381083"),
    ("aarch64", "23a37c2994bc273e1d59a4f49af6cba5bf1cfbc29f04907ec27df375aba50a7d"),
];

/// The library below `target/onnxruntime/`, fetched when it is not there.
pub(crate) fn library(workspace: &Workspace, setup: &Path, venv: &Venv) -> Result<PathBuf> {
    let (processor, digest) = known()?;
    let folder = workspace.target.join("onnxruntime");
    let library = folder.join(FILE);
    if library.exists() {
        refuse_unless(&library, digest)?;
        eprintln!("{}: there already", workspace.shown(&library));
        return Ok(library);
    }
    fs::create_dir_all(&folder).with_context(|| format!("`{}` can't be made", folder.display()))?;
    // The packages of other Python releases are built apart and may hold another library.
    let installed = venv.packages()?.join("onnxruntime/capi").join(FILE);
    if stamp::sha256(&installed).is_ok_and(|found| found == digest) {
        eprintln!("{}: copied from the virtual environment", workspace.shown(&library));
        return place(&installed, &library);
    }
    let unpacked = setup.join("onnxruntime");
    stamp::remove(&unpacked)?;
    let what = format!("{}: from PyPI's onnxruntime {VERSION}", workspace.shown(&library));
    shell::run(&what, fetch(venv, processor).arg("--target").arg(&unpacked))?;
    let fetched = unpacked.join("onnxruntime/capi").join(FILE);
    refuse_unless(&fetched, digest)?;
    let library = place(&fetched, &library)?;
    stamp::remove(&unpacked)?;
    Ok(library)
}

fn known() -> Result<(&'static str, &'static str)> {
    let here = std::env::consts::ARCH;
    if std::env::consts::OS != "linux" {
        bail!("set-up knows ONNX Runtime for Linux only, not for {}", std::env::consts::OS);
    }
    let found = KNOWN.into_iter().find(|(processor, _)| *processor == here);
    found.with_context(|| {
        format!("set-up knows no digest of ONNX Runtime for {here}: add it to xtask/src/setup/onnxruntime.rs")
    })
}

fn fetch(venv: &Venv, processor: &str) -> std::process::Command {
    let mut command = venv.pip("install");
    command.args(["--no-deps", "--only-binary", ":all:", "--implementation", "cp", "--python-version", "311"]);
    command.args(["--abi", "cp311", "--platform", &format!("manylinux_2_27_{processor}")]);
    command.arg(format!("onnxruntime=={VERSION}"));
    command
}

fn refuse_unless(library: &Path, digest: &str) -> Result<()> {
    let found = stamp::sha256(library)?;
    if found == digest {
        return Ok(());
    }
    bail!("`{}` has SHA-256 {found}, expected {digest}: delete it and try again", library.display())
}

/// Copies under a temporary name first: a library half copied must not look like one that is there.
fn place(from: &Path, to: &Path) -> Result<PathBuf> {
    let partial = to.with_extension("partial");
    let failed = || format!("`{}` can't be copied to `{}`", from.display(), to.display());
    fs::copy(from, &partial).with_context(failed)?;
    fs::rename(&partial, to).with_context(failed)?;
    Ok(to.to_owned())
}
