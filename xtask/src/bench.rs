//! `cargo xtask bench NAME`: measures one promise, prints a table, and writes `target/bench/NAME.json`.
//!
//! What measures is in `evaluation/NAME`; here is what it needs: Mantlet built for release, Python, ONNX Runtime,
//! and Debian's packages. A package that can't be had is said and costs one peer, not the run.

use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{
    setup::{Environment, packages},
    shell,
    workspace::Workspace,
};

/// The generator, the proxies, and the Python that Triton is linked against.
const SERVING: [&str; 7] =
    ["wrk", "nginx-light", "haproxy", "openssl", "python3.11", "python3.11-venv", "libpython3.11"];

/// Java for MOA, and the Python that the peers run on.
const STREAMS: [&str; 3] = ["default-jre-headless", "python3.11", "python3.11-venv"];

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The promise.
    name: Name,
    /// Folder with test data, where a bench needs any; MANTLET_DATA by default.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
    /// One short round of less: shows that it runs, and measures nothing.
    #[arg(long)]
    quick: bool,
    /// Options of evaluation/NAME/bench.py itself.
    #[arg(last = true)]
    more: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// Throughput, latency, CPU and memory beside Triton, MLServer, LitServe, nginx and HAProxy.
    Serving,
    /// What is answered in time when five times too much is asked, and what that costs another namespace.
    Overload,
    /// What the node allocates for one prediction.
    Allocations,
    /// What a request costs when there are many models, callers and replicas.
    Growth,
    /// Streaming classifiers beside River's and MOA's.
    Streams,
    /// Whether memory and latency stay as they are through twenty minutes at 80 % load.
    Soak,
}

/// Brings what the bench needs, and runs it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let (name, packages) = match options.name {
        Name::Serving => ("serving", SERVING.as_slice()),
        Name::Overload => ("overload", [].as_slice()),
        Name::Allocations => ("allocations", [].as_slice()),
        Name::Growth => ("growth", ["wrk"].as_slice()),
        Name::Streams => ("streams", STREAMS.as_slice()),
        Name::Soak => ("soak", [].as_slice()),
    };
    bring(packages);
    let environment = Environment::prepare(workspace)?;
    if !matches!(options.name, Name::Allocations | Name::Streams) {
        shell::run("build Mantlet", environment.cargo().args(["build", "--release", "-p", "mantlet"]))?;
    }
    let mut bench = environment.python();
    bench.arg(workspace.root.join(format!("evaluation/{name}/bench.py")));
    bench.arg("--mantlet").arg(workspace.target.join("release/mantlet"));
    bench.arg("--onnxruntime").arg(&environment.library);
    bench.arg("--out").arg(workspace.target.join(format!("bench/{name}.json")));
    bench.args(options.quick.then_some("--quick")).args(&options.more);
    bench.envs(options.data.as_ref().map(|data| ("MANTLET_DATA", data)));
    shell::run("measure", &mut bench)
}

/// Installs Debian packages, or says why not.
fn bring(names: &[&str]) {
    let missing: Vec<&str> = names.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return;
    }
    let need = format!("the bench wants {}", missing.join(", "));
    if let Err(error) = packages::install(&missing, &need) {
        eprintln!("{error:#}: going on without");
    }
}

fn installed(name: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    let status = query.args(["--show", "--showformat", "${db:Status-Status}", name]).output();
    status.is_ok_and(|output| output.stdout.starts_with(b"installed"))
}
