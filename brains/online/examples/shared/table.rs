//! A table of a CSV file, packed or not: numbers, words by code, missing cells, and the class in the last column.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a table that can't be read ends the example")]

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path};

use online::{Feature, Kind, Schema};

/// Columns that say when, and are no features.
const TIMES: [&str; 5] = ["timestamp", "date", "date_time", "ts", "batch"];

/// Rows of a labelled stream, in order of arrival.
pub(crate) struct Table {
    name: String,
    features: Vec<Feature>,
    cells: Vec<f64>,
    labels: Vec<usize>,
    classes: usize,
}

impl Table {
    /// Reads a file whose last column is the class.
    pub(crate) fn read(path: &Path) -> Self {
        let text = text(path);
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap().split(',').collect();
        let raw: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
        let (label, columns) = header.split_last().unwrap();
        assert_eq!(*label, "label", "{}: the last column is the class", path.display());
        let kept: Vec<usize> = (0..columns.len()).filter(|&column| !TIMES.contains(&columns[column])).collect();
        let mut cells = vec![f64::NAN; raw.len() * kept.len()];
        let mut features = Vec::new();
        for (place, &column) in kept.iter().enumerate() {
            let values = raw.iter().map(|row| row[column].trim_matches('"'));
            let worded = values.clone().any(|value| !value.is_empty() && value.parse::<f64>().is_err());
            let mut codes = BTreeMap::new();
            for (row, value) in values.enumerate().filter(|(_, value)| !value.is_empty()) {
                let next = codes.len();
                let cell = if worded { *codes.entry(value).or_insert(next) as f64 } else { value.parse().unwrap() };
                cells[row * kept.len() + place] = cell;
            }
            let kind = if worded { Kind::Word(codes.len() as u32) } else { Kind::Numeric };
            features.push(Feature { name: columns[column].to_owned(), kind });
        }
        let mut codes = BTreeMap::new();
        let labels: Vec<usize> = raw
            .iter()
            .map(|row| {
                let next = codes.len();
                *codes.entry(row[header.len() - 1]).or_insert(next)
            })
            .collect();
        let name = path.file_name().unwrap().to_string_lossy();
        let name = name.trim_end_matches(".gz").trim_end_matches(".csv").to_owned();
        Self { name, features, cells, labels, classes: codes.len().max(2) }
    }

    /// The file's name without endings.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its features.
    pub(crate) fn schema(&self) -> Schema {
        Schema::new(self.features.clone()).unwrap()
    }

    /// How many classes there are.
    pub(crate) fn classes(&self) -> usize {
        self.classes
    }

    /// How many rows.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// A row's features.
    pub(crate) fn row(&self, place: usize) -> &[f64] {
        let width = self.features.len();
        &self.cells[place * width..(place + 1) * width]
    }

    /// All rows, in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.cells.chunks_exact(self.features.len())
    }

    /// A row's class.
    pub(crate) fn class(&self, place: usize) -> usize {
        self.labels[place]
    }
}

/// A file's text.
pub(crate) fn text(path: &Path) -> String {
    let mut text = String::new();
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|end| end == "gz") {
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    } else {
        std::io::BufReader::new(file).read_to_string(&mut text).unwrap();
    }
    text
}
