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

/// The Python that peers run on.
const PYTHON: [&str; 2] = ["python3.11", "python3.11-venv"];

/// How files of quick runs of all benches end.
pub(crate) const QUICK: &str = ".quick";

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The promise.
    name: Name,
    /// Folder with test data, where a bench needs any; MANTLET_DATA by default.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
    /// Folder that `detectors` learns from; the data folder by default.
    #[arg(long)]
    train: Option<std::path::PathBuf>,
    /// Folder that `detectors` judges on; where it is the same, families and sources are left out in turn.
    #[arg(long)]
    test: Option<std::path::PathBuf>,
    /// One short round of less: shows that it runs, and measures nothing.
    #[arg(long)]
    quick: bool,
    /// Options of evaluation/NAME/bench.py itself.
    #[arg(last = true)]
    more: Vec<String>,
    /// What the name of its file ends with, before `.json`.
    #[arg(skip)]
    ending: &'static str,
}

impl Options {
    /// A bench as it comes, part of all; a quick one leaves alone what was measured in full.
    pub(crate) fn of(name: Name, data: Option<std::path::PathBuf>, quick: bool) -> Self {
        let ending = if quick { QUICK } else { "" };
        Self { name, data, train: None, test: None, quick, more: Vec::new(), ending }
    }
}

/// The benches that there are.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Name {
    /// Throughput, latency, CPU and memory beside Triton, MLServer, LitServe, nginx and HAProxy.
    Serving,
    /// What is answered in time when five times too much is asked, and what that costs another namespace.
    Overload,
    /// What the node allocates for one prediction.
    Allocations,
    /// What a request costs when there are many models, callers and replicas.
    Growth,
    /// Streaming classifiers beside River's, MOA's and irithyll's.
    Streams,
    /// How long drift detectors run without a change, and how late they are after one.
    Drift,
    /// False promotions of the guard, and how soon it lets something better act, and hands back.
    Guard,
    /// Anomaly scores beside PyOD's and River's.
    Anomaly,
    /// False alarms of calibrated thresholds, and how far an attacker moves them.
    Calibration,
    /// False alarms of all agents together against their budget, whom that costs, and what fusing their evidence is worth.
    Budget,
    /// False and late promotions of versions, thousands of times over what the trainer decides by.
    Promotion,
    /// Forecasts of load beside the last value and yesterday's.
    Forecast,
    /// How often scalers are too late on real loads, and what they cost, beside the rules of Kubernetes and Knative.
    Autoscale,
    /// How soon a canary that is worse is taken back, and how often one that is not.
    Judge,
    /// Regressors of streams beside River's and plain rules.
    Regression,
    /// The tuner beside a grid and random search, two workers beside one, and what workers that lie cost.
    Training,
    /// How soon a model that learns while it serves is right again after everything changed, beside nightly and never.
    Retrain,
    /// Attackers beside ordinary callers, with the sentinel off, by rules alone, and on.
    Range,
    /// How well attackers are found in texts, connections, tables and series, beside rules and peers.
    Detectors,
    /// Who chooses replicas best, in simulation: round robin, least request, two choices, Prequal, ours, an oracle.
    Balance,
    /// How many replicas a model has on a running node while a day of a trace is replayed, and whether anything fails.
    Scaling,
    /// Whether memory and latency stay as they are through twenty minutes at 80 % load.
    Soak,
}

impl Name {
    /// The folder of what measures it, and Debian's packages that it wants.
    fn needs(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Serving => ("serving", &SERVING),
            Self::Overload => ("overload", &[]),
            Self::Allocations => ("allocations", &[]),
            Self::Growth => ("growth", &["wrk"]),
            Self::Streams => ("streams", &STREAMS),
            Self::Soak => ("soak", &[]),
            Self::Balance => ("balance", &[]),
            Self::Scaling => ("scaling", &[]),
            Self::Range => ("range", &["python3.11", "python3.11-venv", "slowhttptest", "wrk"]),
            Self::Retrain => ("retrain", &[]),
            Self::Training => ("training", &[]),
            Self::Detectors => ("detectors", &PYTHON),
            Self::Anomaly | Self::Regression => ("brains", &PYTHON),
            Self::Drift
            | Self::Guard
            | Self::Promotion
            | Self::Calibration
            | Self::Budget
            | Self::Forecast
            | Self::Autoscale
            | Self::Judge => ("brains", &[]),
        }
    }

    /// Whether it starts nodes.
    fn wants_a_node(self) -> bool {
        matches!(
            self,
            Self::Serving | Self::Overload | Self::Growth | Self::Scaling | Self::Soak | Self::Retrain | Self::Range
        )
    }
}

/// Brings what the bench needs, and runs it.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let (folder, packages) = options.name.needs();
    let name = options.name.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
    bring(packages);
    let environment = Environment::prepare(workspace)?;
    if options.name.wants_a_node() {
        shell::run("build Mantlet", environment.cargo().args(["build", "--release", "-p", "mantlet"]))?;
    }
    let mut bench = environment.python();
    bench.arg(workspace.root.join(format!("evaluation/{folder}/bench.py")));
    bench.args((folder != name).then_some(["--bench", &name]).into_iter().flatten());
    bench.arg("--mantlet").arg(workspace.target.join("release/mantlet"));
    bench.arg("--onnxruntime").arg(&environment.library);
    bench.arg("--out").arg(workspace.target.join(format!("bench/{name}{}.json", options.ending)));
    for (name, folder) in [("--train", &options.train), ("--test", &options.test)] {
        bench.args(folder.iter().flat_map(|folder| [std::ffi::OsStr::new(name), folder.as_os_str()]));
    }
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
