//! CSV files, gzipped or not, with quoted cells; and which files of a folder are of which kind.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::Result;

/// A file's columns and rows. A row that is short has empty cells.
pub(crate) struct Table {
    /// The file's name without endings.
    pub(crate) name: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let mut bytes = Vec::new();
        if path.extension().is_some_and(|ending| ending == "gz") {
            flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes)?;
        } else {
            std::io::BufReader::new(file).read_to_end(&mut bytes)?;
        }
        let mut rows = cells(&String::from_utf8_lossy(&bytes)).into_iter();
        let header: Vec<String> = rows.next().unwrap_or_default().iter().map(|name| name.trim().to_owned()).collect();
        let width = header.len();
        let rows = rows.filter(|row| row.len() > 1 || row.iter().any(|cell| !cell.is_empty()));
        let rows = rows.map(|mut row| {
            row.resize(width, String::new());
            row
        });
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(Self { name: name.split('.').next().unwrap_or_default().to_owned(), rows: rows.collect(), header })
    }

    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|other| other.eq_ignore_ascii_case(name))
    }

    pub(crate) fn has(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.column(name).is_some())
    }

    /// A row's cell; empty where there is no such column.
    pub(crate) fn cell<'a>(&self, row: &'a [String], name: &str) -> &'a str {
        self.column(name).and_then(|place| row.get(place)).map_or("", String::as_str)
    }

    /// Whether a row is an attack, or strange.
    pub(crate) fn is_bad(&self, row: &[String]) -> bool {
        !matches!(
            self.cell(row, "label").trim().to_ascii_lowercase().as_str(),
            "0" | "0.0" | "" | "normal" | "norm" | "benign" | "false"
        )
    }

    /// What kind of attack a row is: the first of the columns that name it.
    pub(crate) fn family(&self, row: &[String]) -> String {
        let named = FAMILY_COLUMNS.iter().map(|name| self.cell(row, name).trim()).find(|cell| !cell.is_empty());
        named.unwrap_or(if self.is_bad(row) { "attack" } else { "normal" }).to_owned()
    }
}

/// Columns that say of which kind an attack is. They are never features.
pub(crate) const FAMILY_COLUMNS: [&str; 6] = ["attack_type", "family", "attack", "attack_cat", "category", "type"];

fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut quoted = false;
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '"' if quoted && signs.peek() == Some(&'"') => {
                signs.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() => quoted = true,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted && signs.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows
}

/// What a file is for, by the rules of the data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Payloads,
    Requests,
    Log,
    Connections,
    Labelled,
    Series,
    Anomalies,
}

/// The files of a folder by kind, sorted by name.
pub(crate) fn folder(data: &Path) -> Result<BTreeMap<Kind, Vec<Table>>> {
    let mut found: BTreeMap<Kind, Vec<Table>> = BTreeMap::new();
    for part in ["intrusion", "health", "anomaly"] {
        let Ok(entries) = std::fs::read_dir(data.join(part)) else { continue };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in
            paths.iter().filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".csv")))
        {
            let table = Table::read(path)?;
            if let Some(kind) = kind(part, &table) {
                found.entry(kind).or_default().push(table);
            }
        }
    }
    Ok(found)
}

fn kind(part: &str, table: &Table) -> Option<Kind> {
    let labelled = table.has(&["label"]);
    match part {
        "anomaly" if !labelled => None,
        "anomaly" if table.name.starts_with("adbench_") => Some(Kind::Anomalies),
        "anomaly" if table.has(&["series"]) || table.has(&["value"]) => Some(Kind::Series),
        "anomaly" => Some(Kind::Anomalies),
        "intrusion" if table.has(&["payload"]) && labelled => Some(Kind::Payloads),
        "intrusion" if table.has(&["method", "url"]) && labelled => Some(Kind::Requests),
        "intrusion" if table.name.starts_with("access_log") => Some(Kind::Log),
        "intrusion" if table.name.starts_with("nsl_kdd") && labelled => Some(Kind::Connections),
        _ => labelled.then_some(Kind::Labelled),
    }
}
