//! What a job gets: examples of a model as Parquet, one column for each column of its inputs, beside `label`, `at`,
//! `prediction` and `row`. What is in a row is what was asked then, so nothing is known in it that came later.

use std::{collections::VecDeque, fs::File, path::Path, sync::Arc};

use parquet::{
    basic::{Compression, ConvertedType, Repetition, Type as Physical},
    data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type},
    errors::ParquetError,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::types::Type,
};
use rpc::orchestrator::ModelKey;
use store::Streams;
use streaming::Cell;
use types::{
    Code, DataType, Manifest, Refusal, Timestamp,
    event::JOINED,
    manifest::{Train, Window},
};

use crate::joined::{Entry, Example, Said};

/// Entries of the joined log that are read at a time, and rows that are written together.
const PAGE: u32 = 1_000;
const GROUP: usize = 20_000;

/// Columns that every file has.
const OWN: [&str; 4] = ["label", "at", "prediction", "row"];

/// Which entries were read, and how many examples were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) entries: [u64; 2],
    pub(super) examples: u64,
}

/// What of the joined log is wanted.
pub(super) struct Selection<'a> {
    pub(super) model: &'a ModelKey,
    pub(super) manifest: &'a Manifest,
    pub(super) train: &'a Train,
    /// When all was as before the last drift, where there was one.
    pub(super) drifted: Option<Timestamp>,
    pub(super) now: Timestamp,
}

impl Selection<'_> {
    /// Writes what is wanted of the joined log into a file. Takes as much memory as some 20,000 rows need, or as many as
    /// the window names.
    ///
    /// # Errors
    /// When the log can't be read, or the file not be written.
    pub(super) async fn write(&self, streams: &dyn Streams, path: &Path) -> Result<Selected, Refusal> {
        let since = match self.train.window {
            Window::All | Window::Examples(_) => Timestamp(0),
            Window::SinceDrift => self.drifted.unwrap_or(Timestamp(0)),
            Window::Last(span) => {
                let span = u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
                Timestamp(self.now.0.saturating_sub(span))
            }
        };
        let newest = match self.train.window {
            Window::Examples(count) => usize::try_from(count).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let mut table = Table::create(self.manifest, path)?;
        let (mut held, mut next, mut first) = (VecDeque::new(), 0, None);
        let mut selected = Selected { entries: [0, 0], examples: 0 };
        loop {
            let entries = streams.read(JOINED, next, PAGE).await?;
            let Some(last) = entries.last() else { break };
            first = first.or(entries.first().map(|entry| entry.sequence));
            next = last.sequence + 1;
            for entry in &entries {
                let Ok(Entry::Example(example)) = serde_json::from_slice(&entry.data) else { continue };
                if example.at < since || !self.wants(&example) {
                    continue;
                }
                held.push_back(example);
                if held.len() > newest {
                    held.pop_front();
                }
            }
            // Of a window of the newest, all are held until it is known which those are.
            if newest == usize::MAX && held.len() >= GROUP {
                selected.examples += table.write(&mut held)?;
            }
        }
        while !held.is_empty() {
            let mut group: VecDeque<Example> = held.drain(..held.len().min(GROUP)).collect();
            selected.examples += table.write(&mut group)?;
        }
        table.close()?;
        selected.entries = [first.unwrap_or(next), next];
        Ok(selected)
    }

    fn wants(&self, example: &Example) -> bool {
        if (&example.namespace, &example.model) != (&self.model.0, &self.model.1) {
            return false;
        }
        let Some(row) = &example.features else { return false };
        let mut columns = columns(self.manifest);
        // Versions with other inputs were asked something else.
        row.len() == columns.len()
            && columns.drain(..).zip(row).all(|(column, cell)| {
                let fits = matches!(
                    (column.words, cell),
                    (true, Cell::Word(_)) | (false, Cell::Number(_)) | (_, Cell::Missing(()))
                );
                let only = self.train.only.get(&column.input);
                fits && only.is_none_or(|only| only.iter().any(|value| is(cell, value)))
            })
    }
}

/// Whether a cell holds a value of the manifest.
fn is(cell: &Cell, value: &serde_json::Value) -> bool {
    match cell {
        Cell::Number(number) => value.as_f64() == Some(*number),
        Cell::Word(word) => value.as_str() == Some(word),
        Cell::Missing(()) => value.is_null(),
    }
}

/// A column of the file.
struct Column {
    name: String,
    input: String,
    words: bool,
}

/// Columns of a model's inputs: an input of one column is called by its name, of several by name and number.
fn columns(manifest: &Manifest) -> Vec<Column> {
    let of = |input: &types::manifest::Input| {
        let count = streaming::columns(input);
        let name = |place: usize| if count == 1 { input.name.clone() } else { format!("{}_{place}", input.name) };
        let words = input.datatype == DataType::Bytes;
        (0..count).map(|place| Column { name: name(place), input: input.name.clone(), words }).collect::<Vec<_>>()
    };
    manifest.spec.inputs.iter().flat_map(of).collect()
}

/// A file that is written, group by group.
struct Table {
    writer: SerializedFileWriter<File>,
    columns: Vec<Column>,
    /// Names of classes, where there are.
    classes: Vec<String>,
    numbers: bool,
}

fn broken(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::StorageUnavailable, format!("the examples can't be written: {error}"))
}

impl Table {
    fn create(manifest: &Manifest, path: &Path) -> Result<Self, Refusal> {
        let columns = columns(manifest);
        if let Some(column) = columns.iter().find(|column| OWN.contains(&column.name.as_str())) {
            return Err(broken(format!("input `{}` is called as a column of its own would be", column.input)));
        }
        let task = manifest.spec.task.as_ref();
        let classes = task.map(|task| task.classes.clone()).unwrap_or_default();
        let numbers = classes.is_empty();
        let field = |name: &str, physical, converted| {
            let built = Type::primitive_type_builder(name, physical).with_converted_type(converted);
            built.with_repetition(Repetition::OPTIONAL).build().map(Arc::new)
        };
        let text = |name: &str| field(name, Physical::BYTE_ARRAY, ConvertedType::UTF8);
        let number = |name: &str| field(name, Physical::DOUBLE, ConvertedType::NONE);
        let mut fields = Vec::with_capacity(columns.len() + 4);
        let schema = || -> Result<Type, ParquetError> {
            for column in &columns {
                fields.push(if column.words { text(&column.name)? } else { number(&column.name)? });
            }
            fields.push(if numbers { number("label")? } else { text("label")? });
            fields.push(field("at", Physical::INT64, ConvertedType::TIMESTAMP_MILLIS)?);
            fields.push(text("prediction")?);
            fields.push(field("row", Physical::INT64, ConvertedType::NONE)?);
            Type::group_type_builder("examples").with_fields(fields).build()
        };
        let schema = schema().map_err(broken)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let file = File::create(path).map_err(broken)?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(broken)?;
        Ok(Self { writer, columns, classes, numbers })
    }

    /// Writes these as one group; returns how many there were.
    fn write(&mut self, examples: &mut VecDeque<Example>) -> Result<u64, Refusal> {
        self.try_write(examples).map_err(broken)?;
        let count = examples.len() as u64;
        examples.clear();
        Ok(count)
    }

    fn try_write(&mut self, examples: &VecDeque<Example>) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        let mut place = 0;
        let cell =
            |example: &'_ Example, place: usize| example.features.as_ref().and_then(|row| row.get(place)).cloned();
        while let Some(mut column) = group.next_column()? {
            match self.columns.get(place) {
                Some(Column { words: true, .. }) => {
                    let words = examples.iter().map(|example| match cell(example, place) {
                        Some(Cell::Word(word)) => Some(ByteArray::from(word.into_bytes())),
                        _ => None,
                    });
                    let (words, there) = optional(words);
                    column.typed::<ByteArrayType>().write_batch(&words, Some(&there), None)?;
                }
                Some(_) => {
                    let numbers = examples.iter().map(|example| match cell(example, place) {
                        Some(Cell::Number(number)) => Some(number),
                        _ => None,
                    });
                    let (numbers, there) = optional(numbers);
                    column.typed::<DoubleType>().write_batch(&numbers, Some(&there), None)?;
                }
                None => {
                    let all = vec![1; examples.len()];
                    match place - self.columns.len() {
                        0 if self.numbers => {
                            let (labels, there) = optional(examples.iter().map(|example| number(&example.truth)));
                            column.typed::<DoubleType>().write_batch(&labels, Some(&there), None)?;
                        }
                        0 => {
                            let named = |example: &Example| match &example.truth {
                                Said::Class(class) => {
                                    self.classes.get(*class).map(|name| ByteArray::from(name.as_str()))
                                }
                                _ => None,
                            };
                            let (labels, there) = optional(examples.iter().map(named));
                            column.typed::<ByteArrayType>().write_batch(&labels, Some(&there), None)?;
                        }
                        1 => {
                            let at = examples.iter().map(|example| i64::try_from(example.at.0).unwrap_or(i64::MAX));
                            let at = at.collect::<Vec<_>>();
                            column.typed::<Int64Type>().write_batch(&at, Some(&all), None)?;
                        }
                        2 => {
                            let ids = examples.iter().map(|example| example.prediction.to_string().into_bytes());
                            let ids = ids.map(ByteArray::from).collect::<Vec<_>>();
                            column.typed::<ByteArrayType>().write_batch(&ids, Some(&all), None)?;
                        }
                        _ => {
                            let rows = examples.iter().map(|example| i64::try_from(example.row).unwrap_or(i64::MAX));
                            let rows = rows.collect::<Vec<_>>();
                            column.typed::<Int64Type>().write_batch(&rows, Some(&all), None)?;
                        }
                    }
                }
            }
            column.close()?;
            place += 1;
        }
        group.close()?;
        Ok(())
    }

    fn close(self) -> Result<(), Refusal> {
        let file = self.writer.into_inner().map_err(broken)?;
        file.sync_all().map_err(broken)
    }
}

/// Values that are there, and for each row whether it is.
fn optional<T>(values: impl Iterator<Item = Option<T>>) -> (Vec<T>, Vec<i16>) {
    let (mut there, mut is) = (Vec::new(), Vec::new());
    for value in values {
        is.push(i16::from(value.is_some()));
        there.extend(value);
    }
    (there, is)
}

fn number(truth: &Said) -> Option<f64> {
    match truth {
        Said::Number(number) => Some(*number),
        Said::Class(class) => Some(*class as f64),
        Said::Probabilities(_) => None,
    }
}
