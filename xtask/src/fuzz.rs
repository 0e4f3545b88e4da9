//! `cargo xtask fuzz`: libFuzzer over the parsers of untrusted bytes, from good inputs, with a table at the end.
//!
//! The targets are functions of `testkit::fuzz`; `testkit/fuzz` is what cargo-fuzz builds, a workspace of its own.
//! Corpus and crashes stay below `target/fuzz`. `--plant` builds a bug in, which must be found.

mod progress;

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use self::progress::Progress;
use crate::{
    setup::{packages, tools},
    shell,
    workspace::Workspace,
};

/// What `cargo xtask fuzz` compiles when it is not there.
const CARGO_FUZZ: (&str, &str) = ("cargo-fuzz", "0.13.2");
/// The longest input, in bytes.
const LONGEST: u32 = 4_096;
/// The target with the planted bug, and the runs that it is to be found in.
const PLANTED: (&str, u64) = ("oip_json", 20_000_000);

/// What to run, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A target of testkit/fuzz; all of them by default.
    target: Option<String>,
    /// Inputs for each target.
    #[arg(long, default_value_t = 10_000_000)]
    runs: u64,
    /// Minutes for each target, at the most.
    #[arg(long)]
    minutes: Option<u64>,
    /// Builds a bug in, and fails unless it is found.
    #[arg(long)]
    plant: bool,
}

/// Where things are.
struct Fuzz<'a> {
    workspace: &'a Workspace,
    /// `target/fuzz`.
    home: PathBuf,
}

/// Runs what is asked for; whether no target crashed, or the planted bug was found.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    let fuzz = Fuzz { workspace, home: workspace.target.join("fuzz") };
    packages::c_compiler()?;
    fuzz.install()?;
    if options.plant {
        return fuzz.plant(options);
    }
    let all = fuzz.targets()?;
    let wanted: Vec<&str> = match &options.target {
        None => all.iter().map(String::as_str).collect(),
        Some(name) if all.contains(name) => vec![name],
        Some(name) => bail!("there is no target `{name}`; there are {}", all.join(", ")),
    };
    fuzz.build(&[])?;
    let mut table = Vec::new();
    for target in wanted {
        table.push((target, fuzz.target(target, "corpus", options.runs, options.minutes)?));
    }
    println!("\n{}", Progress::HEAD);
    table.iter().for_each(|(target, progress)| println!("{}", progress.line(target)));
    Ok(table.iter().all(|(_, progress)| progress.crashes == 0))
}

impl Fuzz<'_> {
    fn setup(&self) -> PathBuf {
        self.workspace.target.join("setup")
    }

    /// cargo-fuzz at the version that is pinned here.
    fn install(&self) -> Result<()> {
        let (name, version) = CARGO_FUZZ;
        let installed = shell::capture(Command::new(self.setup().join("bin").join(name)).arg("--version"));
        if installed.is_ok_and(|text| text.trim().ends_with(version)) {
            return Ok(());
        }
        tools::compile(name, version, &self.setup())
    }

    /// The names of the targets: their files in `testkit/fuzz/fuzz_targets`.
    fn targets(&self) -> Result<Vec<String>> {
        let folder = self.workspace.root.join("testkit/fuzz/fuzz_targets");
        let entries: Result<Vec<_>, _> = fs::read_dir(&folder).and_then(Iterator::collect);
        let entries = entries.with_context(|| format!("`{}` can't be read", folder.display()))?;
        let names = entries.iter().map(fs::DirEntry::path);
        let mut names: Vec<String> =
            names.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Builds every target, of the versions that the product is built of.
    fn build(&self, more: &[&str]) -> Result<()> {
        let lock = |folder: &str| self.workspace.root.join(folder).join("Cargo.lock");
        fs::copy(lock(""), lock("testkit/fuzz")).context("Cargo.lock can't be copied to testkit/fuzz")?;
        let mut command = Command::new(self.setup().join("bin/cargo-fuzz"));
        // Everything is safe Rust: a sanitizer finds no more, and needs another toolchain.
        command.args(["fuzz", "build", "--sanitizer", "none", "--fuzz-dir", "testkit/fuzz", "--target-dir"]);
        command.arg(self.home.join("build")).args(more).current_dir(&self.workspace.root);
        shell::run("build the fuzz targets", &mut command)
    }

    /// Runs one target from its seeds and from what earlier runs have found.
    fn target(&self, name: &str, corpus: &str, runs: u64, minutes: Option<u64>) -> Result<Progress> {
        let (corpus, crashes) = (self.home.join(corpus).join(name), self.home.join("crashes").join(name));
        for folder in [&corpus, &crashes] {
            fs::create_dir_all(folder).with_context(|| format!("`{}` can't be made", folder.display()))?;
        }
        let mut command = Command::new(self.program(name)?);
        command.env("MANTLET_FUZZ_SEEDS", &corpus).current_dir(&self.workspace.root);
        command.args(["-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"]);
        command.arg(format!("-max_len={LONGEST}")).arg(format!("-runs={runs}"));
        command.args(minutes.map(|minutes| format!("-max_total_time={}", minutes * 60)));
        command.arg(format!("-artifact_prefix={}/", crashes.display())).arg(&corpus);
        let log = self.home.join(format!("{name}.log"));
        let file = fs::File::create(&log).with_context(|| format!("`{}` can't be written", log.display()))?;
        let (out, shown) = (file.try_clone().context("the log can't be shared")?, self.workspace.shown(&log));
        let mut ended = None;
        shell::step(&format!("fuzz {name}, into {shown}"), || {
            ended = Some(command.stdout(out).stderr(file).status().context("the target can't be started")?);
            Ok(())
        })?;
        let text = fs::read(&log).with_context(|| format!("`{shown}` can't be read"))?;
        let mut progress = Progress::of(&String::from_utf8_lossy(&text));
        progress.crashes = u32::from(!ended.is_some_and(|status| status.success()));
        if progress.crashes > 0 {
            eprintln!("error: {name} crashed: see {shown}, and {}", self.workspace.shown(&crashes));
        }
        Ok(progress)
    }

    /// The program that cargo-fuzz built, whatever the machine is called there.
    fn program(&self, name: &str) -> Result<PathBuf> {
        let folder = self.home.join("build");
        let machines = fs::read_dir(&folder).with_context(|| format!("`{}` can't be read", folder.display()))?;
        let mut programs = machines.filter_map(|entry| Some(entry.ok()?.path().join("release").join(name)));
        programs.find(|path| path.is_file()).with_context(|| format!("cargo-fuzz built no `{name}`"))
    }

    /// Shows that fuzzing can fail: a bug that is known must be found, from the seeds alone.
    fn plant(&self, options: &Options) -> Result<bool> {
        let (name, runs) = PLANTED;
        self.build(&["--features", "planted"])?;
        let corpus = self.home.join("planted").join(name);
        if corpus.exists() {
            fs::remove_dir_all(&corpus).with_context(|| format!("`{}` can't be removed", corpus.display()))?;
        }
        let progress = self.target(name, "planted", runs, options.minutes);
        // What is left behind must not be taken for the real targets.
        fs::remove_file(self.program(name)?).context("the planted target can't be removed")?;
        let progress = progress?;
        println!("\n{}\n{}", Progress::HEAD, progress.line(name));
        let log = fs::read(self.home.join(format!("{name}.log"))).context("the log can't be read")?;
        let found = String::from_utf8_lossy(&log).contains("the planted bug was found");
        ensure!(found, "the planted bug was not found in {} runs: fuzzing does not do its work", progress.runs);
        println!("the planted bug was found after {} runs", progress.runs);
        Ok(true)
    }
}
