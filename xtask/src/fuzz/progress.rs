//! How far a target got, as libFuzzer's log tells it.

use std::fmt::Write as _;

/// Coverage: edges of the program, and features, which also count how often.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coverage {
    edges: u64,
    features: u64,
}

/// A run of a target.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Inputs that were run.
    pub(super) runs: u64,
    speed: u64,
    start: Coverage,
    end: Coverage,
    corpus: u64,
    /// Whether it crashed: libFuzzer ends at the first.
    pub(super) crashes: u32,
}

impl Progress {
    /// The table's first line.
    pub(super) const HEAD: &str =
        "target               runs   runs/s     edges          features       corpus  crashes";

    /// Reads a log.
    pub(super) fn of(log: &str) -> Self {
        let mut progress = Self::default();
        for line in log.lines() {
            if let Some(value) = statistic(line, "number_of_executed_units") {
                progress.runs = value;
            }
            if let Some(value) = statistic(line, "average_exec_per_sec") {
                progress.speed = value;
            }
            if let (true, Some(edges), Some(features)) =
                (line.starts_with('#'), after(line, " cov: "), after(line, " ft: "))
            {
                progress.end = Coverage { edges, features };
                progress.corpus = after(line, " corp: ").unwrap_or(0);
                if line.contains("INITED") {
                    progress.start = progress.end;
                }
            }
        }
        progress
    }

    /// Its line of the table.
    pub(super) fn line(&self, target: &str) -> String {
        let change = |start: u64, end: u64| format!("{start} -> {end}");
        let (edges, features) =
            (change(self.start.edges, self.end.edges), change(self.start.features, self.end.features));
        let mut line = format!("{target:14} {:10} {:8}", self.runs, self.speed);
        // Writing into a text has no way to fail.
        let _ = write!(line, "     {edges:14} {features:14} {:6} {:8}", self.corpus, self.crashes);
        line
    }
}

fn statistic(line: &str, name: &str) -> Option<u64> {
    line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok()
}

/// The number after a word.
fn after(line: &str, word: &str) -> Option<u64> {
    let (_, rest) = line.split_once(word)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_its_first_coverage_to_its_last() {
        let log = "INFO: seed corpus: files: 13\n\
                   #14\tINITED cov: 1629 ft: 2061 corp: 10/1657b exec/s: 0 rss: 36Mb\n\
                   #99\tNEW    cov: 1700 ft: 2100 corp: 12/2000b lim: 9 exec/s: 0 rss: 36Mb L: 1/2 MS: 1 Cut-\n\
                   #767321\tDONE   cov: 3590 ft: 8932 corp: 1953/269Kb lim: 686 exec/s: 47957 rss: 39Mb\n\
                   stat::number_of_executed_units: 767321\nstat::average_exec_per_sec:     47957\n";
        let progress = Progress::of(log);
        let coverage = |edges, features| Coverage { edges, features };
        assert_eq!((progress.start, progress.end), (coverage(1629, 2061), coverage(3590, 8932)));
        assert_eq!((progress.runs, progress.speed, progress.corpus), (767_321, 47_957, 1953));
        assert!(progress.line("records").contains("1629 -> 3590"));
        assert_eq!(Progress::of("nothing of the kind"), Progress::default());
    }
}
