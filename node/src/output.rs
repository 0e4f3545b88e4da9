//! How results and errors are printed.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where the command line prints")]

use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;
use types::{Code, Refusal};

use crate::cli::Format;

/// Exit code for what was refused or failed.
const FAILED: u8 = 1;
/// Exit code for a command line that can't be read.
const USAGE: u8 = 2;

/// An error that is Mantlet's own fault.
pub(crate) fn internal(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error.to_string())
}

/// A file that can't be read or written.
pub(crate) fn file(path: &std::path::Path) -> impl Fn(std::io::Error) -> Refusal {
    let shown = path.display().to_string();
    move |error| {
        Refusal::new(Code::FileUnreadable, format!("{shown}: {error}")).hint("check the path and its permissions")
    }
}

/// Prints a refusal and gives the exit code.
pub(crate) fn fail(refusal: &Refusal, format: Format) -> ExitCode {
    match format {
        Format::Json => {
            let error = json!({ "code": refusal.code, "message": refusal.message, "hint": refusal.hint });
            eprintln!("{}", json!({ "error": error }));
        }
        Format::Text => {
            eprintln!("error: {} [{}]", refusal.message, refusal.code);
            if let Some(hint) = &refusal.hint {
                eprintln!("hint: {hint}");
            }
        }
    }
    ExitCode::from(FAILED)
}

/// Prints what is wrong with a command line; help and version are no errors.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Where the terminal is gone there is nobody to tell.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// Prints a value as JSON, or lets `text` print it for people.
pub(crate) fn show<T: Serialize>(value: &T, format: Format, text: impl FnOnce(&T) -> String) {
    match format {
        Format::Json => println!("{}", serde_json::to_string(value).unwrap_or_default()),
        Format::Text => print!("{}", text(value)),
    }
}

/// Prints a line for people, on standard error.
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}

/// Prints a line for who may stop reading at any time.
///
/// # Errors
/// When nobody reads any more.
pub(crate) fn line(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

/// Prints text as it is.
pub(crate) fn raw(text: &str) {
    println!("{text}");
}

/// Columns under headings, as wide as they need to be.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut out = line(&mut headings.iter().copied());
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

/// A time as a date of UTC, for people.
pub(crate) fn date(at: types::Timestamp) -> String {
    // Civil-from-days (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let seconds = at.0 / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", of_day / 3_600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use types::Timestamp;

    use super::*;

    #[test]
    fn tables_line_up() {
        let rows = vec![vec!["a".into(), "12".into()], vec!["longer".into(), "3".into()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\na       12\nlonger  3\n");
    }

    #[test]
    fn dates_are_right_at_the_edges() {
        for (millis, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_709_251_199_000, "2024-02-29 23:59:59Z"),
            (4_102_444_800_000, "2100-01-01 00:00:00Z"),
        ] {
            assert_eq!(date(Timestamp(millis)), text);
        }
    }
}
