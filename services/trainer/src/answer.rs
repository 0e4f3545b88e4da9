//! What a prediction answered for a row, and what a label says that the right answer was.

use types::{
    DataType, Tensor,
    event::Label,
    manifest::{Task, TaskKind},
};

/// A row's answer, as an evaluation takes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// The probability of each class.
    Probabilities(Vec<f64>),
    /// A class.
    Class(usize),
    /// A number.
    Number(f64),
}

/// A right answer, as an evaluation takes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Truth {
    /// A class, from 0.
    Class(usize),
    /// A number.
    Number(f64),
}

/// How far from 1 probabilities may sum up to, by rounding.
const ROUNDING: f64 = 1e-3;

/// What was answered for a row.
///
/// Of a classification the task's output holds probabilities (`[rows, classes]`), or the class (`[rows]`); where none is
/// named, the first float output with a column for each class is taken, else the first output of whole numbers or words. Of
/// a regression it is the named output, or the first float output.
///
/// # Errors
/// Why there is none, in words.
pub(crate) fn answer(task: &Task, outputs: &[Tensor], row: usize) -> Result<Answer, String> {
    match task.kind {
        TaskKind::Classification => class(task, outputs, row),
        TaskKind::Regression => number(task, outputs, row),
        TaskKind::Anomaly | TaskKind::Other => Err("labels judge classifications and regressions alone".into()),
    }
}

fn class(task: &Task, outputs: &[Tensor], row: usize) -> Result<Answer, String> {
    let named = named(task, outputs)?;
    let scores = |tensor: &&Tensor| tensor.datatype().is_float() && columns(tensor) >= 2;
    let labels = |tensor: &&Tensor| !tensor.datatype().is_float() && columns(tensor) == 1;
    if let Some(tensor) = named.iter().copied().find(scores) {
        let columns = columns(tensor);
        let said: Vec<f64> = tensor.iter_floats().skip(row * columns).take(columns).collect();
        return probabilities(said, tensor.name());
    }
    // One score alone is the probability of the second class.
    if let ([tensor], true) = (named.as_slice(), task.classes.len() == 2)
        && tensor.datatype().is_float()
        && columns(tensor) == 1
    {
        let second = tensor.iter_floats().nth(row).ok_or_else(|| missing(tensor, row))?;
        return probabilities(vec![1.0 - second, second], tensor.name());
    }
    let Some(tensor) = named.iter().copied().find(labels) else {
        return Err("no output holds a probability for each class, or a class".into());
    };
    let said = match tensor.datatype() {
        DataType::Bytes => {
            tensor.iter_bytes().nth(row).map(|word| Label::Word(String::from_utf8_lossy(word).into_owned()))
        }
        DataType::Bool => tensor.data().get(row).map(|value| Label::Flag(*value != 0)),
        _ => tensor.iter_numbers().nth(row).map(Label::Number),
    };
    let said = said.ok_or_else(|| missing(tensor, row))?;
    index(&task.classes, &said).map(Answer::Class)
}

fn probabilities(said: Vec<f64>, output: &str) -> Result<Answer, String> {
    let sum: f64 = said.iter().sum();
    let probable = said.iter().all(|value| (-ROUNDING..=1.0 + ROUNDING).contains(value));
    if said.is_empty() || !probable || (sum - 1.0).abs() > ROUNDING * said.len() as f64 {
        return Err(format!("output `{output}` holds no probabilities that sum to 1"));
    }
    Ok(Answer::Probabilities(said.into_iter().map(|value| value.clamp(0.0, 1.0)).collect()))
}

fn number(task: &Task, outputs: &[Tensor], row: usize) -> Result<Answer, String> {
    let named = named(task, outputs)?;
    let numbers =
        |tensor: &&Tensor| columns(tensor) == 1 && !matches!(tensor.datatype(), DataType::Bytes | DataType::Bool);
    let Some(tensor) = named.iter().copied().find(numbers) else { return Err("no output holds a number a row".into()) };
    let said = tensor.iter_numbers().nth(row).ok_or_else(|| missing(tensor, row))?;
    if said.is_finite() { Ok(Answer::Number(said)) } else { Err("the answer was no finite number".into()) }
}

/// The output that the task names, or all.
fn named<'a>(task: &Task, outputs: &'a [Tensor]) -> Result<Vec<&'a Tensor>, String> {
    let Some(name) = &task.output else { return Ok(outputs.iter().collect()) };
    match outputs.iter().find(|tensor| tensor.name() == name) {
        Some(tensor) => Ok(vec![tensor]),
        None => Err(format!("the answer has no output `{name}`, which spec.task names")),
    }
}

fn columns(tensor: &Tensor) -> usize {
    let rows = usize::try_from(tensor.rows()).unwrap_or(0);
    tensor.elements().checked_div(rows).unwrap_or(0)
}

fn missing(tensor: &Tensor, row: usize) -> String {
    format!("output `{}` has no row {row}", tensor.name())
}

/// What a label says. A class is found by its name, else by its number from 0; where a manifest names no classes, so many as
/// the answer has.
///
/// # Errors
/// Why it says nothing, in words.
pub(crate) fn truth(task: &Task, answer: &Answer, label: &Label) -> Result<Truth, String> {
    match answer {
        Answer::Number(_) => match label {
            Label::Number(number) if number.is_finite() => Ok(Truth::Number(*number)),
            _ => Err("the label is no number, and the answer is one".into()),
        },
        Answer::Class(_) => index(&task.classes, label).map(Truth::Class),
        Answer::Probabilities(said) => {
            let class = index(&task.classes, label)?;
            if class < said.len() {
                Ok(Truth::Class(class))
            } else {
                Err(format!("the label is class {class}, and the answer has {}", said.len()))
            }
        }
    }
}

/// Classes that are told by their numbers alone.
const UNNAMED: f64 = 65_536.0;

fn index(classes: &[String], label: &Label) -> Result<usize, String> {
    let by_name = |name: &str| classes.iter().position(|class| class == name);
    let found = match label {
        Label::Word(word) => return by_name(word).ok_or_else(|| format!("`{word}` is none of spec.task.classes")),
        Label::Flag(flag) => by_name(if *flag { "true" } else { "false" }).unwrap_or(usize::from(*flag)),
        Label::Number(number) => {
            if let Some(class) = by_name(&number.to_string()) {
                class
            } else if number.fract() == 0.0 && (0.0..UNNAMED).contains(number) {
                *number as usize
            } else {
                return Err(format!("{number} is the number of no class"));
            }
        }
    };
    if classes.is_empty() || found < classes.len() {
        Ok(found)
    } else {
        Err(format!("there is no class {found}: spec.task names {}", classes.len()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn task(kind: TaskKind, classes: &[&str], output: Option<&str>) -> Task {
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        Task { kind, output: output.map(str::to_owned), classes, positive: None }
    }

    fn floats(name: &str, shape: &[i64], values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(name, DataType::Fp32, shape.to_vec(), data.into()).unwrap()
    }

    fn wholes(name: &str, values: &[i64]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(name, DataType::Int64, vec![values.len() as i64], data.into()).unwrap()
    }

    #[test]
    fn probabilities_are_found_beside_labels() {
        let outputs = [wholes("label", &[1, 0]), floats("probabilities", &[2, 2], &[0.25, 0.75, 0.5, 0.5])];
        let task = task(TaskKind::Classification, &["ok", "fraud"], None);
        assert_eq!(answer(&task, &outputs, 0), Ok(Answer::Probabilities(vec![0.25, 0.75])));
        assert_eq!(answer(&task, &outputs[..1], 1), Ok(Answer::Class(0)));
        assert!(answer(&task, &outputs, 2).is_err(), "there is no third row");
        let scores = floats("scores", &[1, 2], &[-3.0, 5.0]);
        assert!(answer(&task, &[scores], 0).is_err(), "scores are no probabilities");
    }

    #[test]
    fn one_score_is_the_second_class_s() {
        let task = task(TaskKind::Classification, &["ok", "fraud"], Some("score"));
        let said = answer(&task, &[floats("score", &[2, 1], &[0.5, 0.25])], 1);
        assert_eq!(said, Ok(Answer::Probabilities(vec![0.75, 0.25])));
        assert!(answer(&task, &[floats("other", &[1, 1], &[0.5])], 0).is_err());
    }

    #[test]
    fn words_are_classes_by_their_names() {
        let words = Tensor::from_elements("label", vec![2], [b"fraud".as_slice(), b"odd"]).unwrap();
        let task = task(TaskKind::Classification, &["ok", "fraud"], None);
        assert_eq!(answer(&task, std::slice::from_ref(&words), 0), Ok(Answer::Class(1)));
        assert!(answer(&task, &[words], 1).is_err());
    }

    #[test]
    fn labels_are_names_numbers_or_flags() {
        let named = task(TaskKind::Classification, &["7", "0", "true"], None);
        let said = Answer::Probabilities(vec![0.5, 0.25, 0.25]);
        let of = |label| truth(&named, &said, &label);
        assert_eq!(of(Label::Word("7".into())), Ok(Truth::Class(0)));
        assert_eq!(of(Label::Number(7.0)), Ok(Truth::Class(0)), "a name first,");
        assert_eq!(of(Label::Number(2.0)), Ok(Truth::Class(2)), "then a number");
        assert_eq!(of(Label::Flag(true)), Ok(Truth::Class(2)));
        for wrong in [Label::Word("x".into()), Label::Number(3.0), Label::Number(0.5), Label::Number(-1.0)] {
            assert!(of(wrong.clone()).is_err(), "{wrong:?}");
        }
        let unnamed = task(TaskKind::Classification, &[], None);
        assert_eq!(truth(&unnamed, &said, &Label::Number(2.0)), Ok(Truth::Class(2)));
        assert!(truth(&unnamed, &said, &Label::Number(3.0)).is_err(), "more than the answer has");
    }

    #[test]
    fn regressions_take_numbers() {
        let task = task(TaskKind::Regression, &[], None);
        let outputs = [floats("value", &[2, 1], &[1.5, f32::NAN])];
        assert_eq!(answer(&task, &outputs, 0), Ok(Answer::Number(1.5)));
        assert!(answer(&task, &outputs, 1).is_err(), "NaN can't be judged");
        assert_eq!(truth(&task, &Answer::Number(1.5), &Label::Number(2.0)), Ok(Truth::Number(2.0)));
        assert!(truth(&task, &Answer::Number(1.5), &Label::Word("2".into())).is_err());
        let empty = Tensor::new("value", DataType::Fp32, vec![0, 1], Bytes::new()).unwrap();
        assert!(answer(&task, &[empty], 0).is_err());
    }
}
