//! `cargo xtask test`: everything that must hold, in one command; what CI runs.
//!
//! A check that fails stops no other; only a build that fails does, since the rest needs it. The last line is
//! always `N passed, N failed, N skipped`.

mod counts;
mod models;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

use self::counts::Counts;
use crate::{
    setup::{self, Environment},
    shell::{self, Stopwatch},
    tidy,
    workspace::Workspace,
};

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Passed,
    Failed,
    NotRun,
}

/// A line of the table at the end.
struct Line {
    what: &'static str,
    ended: Ended,
    seconds: f64,
}

/// What has been run so far.
#[derive(Default)]
struct Report {
    lines: Vec<Line>,
    counts: Counts,
}

/// Runs everything; whether all of it passed.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let mut report = Report::default();
    let mut prepared = None;
    report.check("setup", || {
        // Only the tests read the ledger with Go.
        setup::go()?;
        prepared = Some(Environment::prepare(workspace)?);
        Ok(())
    });
    if let Some(environment) = prepared {
        report.checks(workspace, &environment);
        report.tests(workspace, &environment)?;
    }
    report.print();
    Ok(report.counts.failed == 0)
}

impl Report {
    /// What can be told without running Mantlet.
    fn checks(&mut self, workspace: &Workspace, environment: &Environment) {
        let cargo = |words: &str| shell::execute(environment.cargo().args(words.split(' ')));
        self.check("fmt", || cargo("fmt --all --check"));
        self.check("clippy", || cargo("clippy --workspace --all-targets --all-features -- -D warnings"));
        self.check("tidy", || {
            ensure!(tidy::run(workspace)?, "the house rules are broken, see above");
            Ok(())
        });
        self.check("deny", || {
            let arguments = ["check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
            shell::execute(environment.tool("cargo-deny").args(arguments))
        });
        self.check("shear", || shell::execute(environment.tool("cargo-shear").arg("shear")));
    }

    /// What runs Mantlet.
    fn tests(&mut self, workspace: &Workspace, environment: &Environment) -> Result<()> {
        let cargo = |words: &str| {
            let mut command = environment.cargo();
            command.args(words.split(' '));
            command
        };
        // The same packages, targets and features as below, so that nothing is built twice.
        let built =
            self.check("build", || shell::execute(&mut cargo("build --workspace --all-targets --all-features")));
        if !built {
            self.skip(&["models", "nextest", "doctests"]);
            return Ok(());
        }
        self.check("models", || models::make(workspace, environment));
        let skips = Skips::begin(environment)?;
        // Here whatever CARGO_TARGET_DIR says: nextest's store lies below the root.
        let junit = workspace.root.join("target/nextest/default/junit.xml");
        let _ = fs::remove_file(&junit);
        self.tested("nextest", || {
            let mut command = environment.tool("cargo-nextest");
            command.args(["nextest", "run", "--workspace", "--all-features", "--no-fail-fast"]);
            let ended = shell::execute(command.env("MANTLET_SKIPS", &skips.file));
            let counts = fs::read_to_string(&junit).ok().and_then(|text| Counts::of_junit(&text));
            Ok((counts.unwrap_or_default(), ended))
        });
        self.tested("doctests", || {
            let (output, ended) = shell::watch(&mut cargo("test --doc --workspace --all-features"))?;
            Ok((Counts::of_libtest(&output), ended))
        });
        self.skipped(&skips.read()?, environment.data.is_some());
        Ok(())
    }

    /// One step that either holds or does not.
    fn check(&mut self, what: &'static str, work: impl FnOnce() -> Result<()>) -> bool {
        let passed = self.timed(what, work);
        self.counts += Counts { passed: usize::from(passed), failed: usize::from(!passed), skipped: 0 };
        passed
    }

    /// One step that counts its own tests.
    fn tested(&mut self, what: &'static str, work: impl FnOnce() -> Result<(Counts, Result<()>)>) {
        let mut counts = Counts::default();
        let passed = self.timed(what, || {
            let (counted, ended) = work()?;
            counts = counted;
            ended
        });
        if !passed && counts.failed == 0 {
            counts.failed = 1;
        }
        self.counts += counts;
    }

    fn timed(&mut self, what: &'static str, work: impl FnOnce() -> Result<()>) -> bool {
        let watch = Stopwatch::start();
        let result = shell::step(what, work);
        if let Err(error) = &result {
            eprintln!("error: {error:#}");
        }
        let ended = if result.is_ok() { Ended::Passed } else { Ended::Failed };
        self.lines.push(Line { what, ended, seconds: watch.elapsed().as_secs_f64() });
        result.is_ok()
    }

    fn skip(&mut self, steps: &[&'static str]) {
        self.lines.extend(steps.iter().map(|what| Line { what, ended: Ended::NotRun, seconds: 0.0 }));
    }

    /// Counts tests that said they could not run; a failure where their data is there.
    fn skipped(&mut self, lines: &[String], data_is_there: bool) {
        for line in lines {
            println!("{line}");
        }
        self.counts.skipped += lines.len();
        // The runner took them for passed.
        self.counts.passed = self.counts.passed.saturating_sub(lines.len());
        if data_is_there && !lines.is_empty() {
            eprintln!("error: MANTLET_DATA is there, so no test may be skipped");
            self.counts.failed += 1;
        }
    }

    fn print(&self) {
        println!();
        for Line { what, ended, seconds } in &self.lines {
            let ended = match ended {
                Ended::Passed => "ok",
                Ended::Failed => "FAILED",
                Ended::NotRun => "not run",
            };
            println!("{what:10} {ended:8} {seconds:8.1} s");
        }
        println!();
        println!("{}", self.counts);
    }
}

/// The file that tests append `SKIPPED: test: why` to; the runner hides what a test that passes prints.
struct Skips {
    file: PathBuf,
}

impl Skips {
    fn begin(environment: &Environment) -> Result<Self> {
        let file = environment.setup.join("skips.txt");
        fs::write(&file, "").with_context(|| format!("`{}` can't be written", file.display()))?;
        Ok(Self { file })
    }

    fn read(&self) -> Result<Vec<String>> {
        let text =
            fs::read_to_string(&self.file).with_context(|| format!("`{}` can't be read", self.file.display()))?;
        let mut lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        lines.sort();
        lines.dedup();
        Ok(lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_is_counted_once_and_stops_nothing() {
        let mut report = Report::default();
        assert!(report.check("fmt", || Ok(())));
        assert!(!report.check("clippy", || anyhow::bail!("a warning")));
        report
            .tested("nextest", || Ok((Counts { passed: 7, failed: 2, skipped: 0 }, Err(anyhow::anyhow!("2 failed")))));
        report.tested("doctests", || anyhow::bail!("does not build"));
        assert_eq!(report.counts.to_string(), "8 passed, 4 failed, 0 skipped");
        assert_eq!(report.lines.len(), 4);
    }

    #[test]
    fn skipped_tests_did_not_pass_and_fail_where_their_data_is_there() {
        let skipped = |data_is_there| {
            let mut report = Report { counts: Counts { passed: 5, ..Counts::default() }, ..Report::default() };
            report.skipped(&["SKIPPED: a: no data".to_owned()], data_is_there);
            report.counts.to_string()
        };
        assert_eq!(skipped(false), "4 passed, 0 failed, 1 skipped");
        assert_eq!(skipped(true), "4 passed, 1 failed, 1 skipped");
    }
}
