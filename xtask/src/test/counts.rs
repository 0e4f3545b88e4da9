//! How many tests passed, failed and were skipped, read from what the runners write.

use std::{fmt, ops::AddAssign};

/// Tests and checks, by how they ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Counts {
    /// The totals of a JUnit report, which nextest writes; none when it is no such report.
    pub(super) fn of_junit(report: &str) -> Option<Self> {
        let (_, after) = report.split_once("<testsuites ")?;
        let (totals, _) = after.split_once('>')?;
        let number = |name: &str| -> Option<usize> {
            let (_, after) = totals.split_once(&format!("{name}=\""))?;
            after.split('"').next()?.parse().ok()
        };
        let failed = number("failures")? + number("errors")?;
        let skipped = number("skipped").unwrap_or(0);
        Some(Self { passed: number("tests")?.saturating_sub(failed + skipped), failed, skipped })
    }

    /// The sum over every `test result:` line of cargo's own runner.
    pub(super) fn of_libtest(output: &str) -> Self {
        let mut sum = Self::default();
        for line in output.lines().filter(|line| line.starts_with("test result: ")) {
            let number = |word: &str| -> usize {
                let (before, _) = line.split_once(word).unwrap_or_default();
                before.trim_end().rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
            };
            sum += Self { passed: number("passed"), failed: number("failed;"), skipped: number("ignored") };
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextest_s_report_is_read() {
        let report = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="36" skipped="4" failures="2" errors="1" uuid="0" timestamp="x" time="1.0">
    <testsuite name="a" tests="36" disabled="0" errors="1" failures="2">"#;
        assert_eq!(Counts::of_junit(report), Some(Counts { passed: 29, failed: 3, skipped: 4 }));
        assert_eq!(Counts::of_junit("<html>"), None);
    }

    #[test]
    fn cargo_s_lines_are_added_up() {
        let output = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                      test x ... ok\n\
                      test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(Counts::of_libtest(output), Counts { passed: 5, failed: 4, skipped: 1 });
        assert_eq!(Counts::of_libtest(""), Counts::default());
    }
}
