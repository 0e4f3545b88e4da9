//! Small ONNX models, made here: field numbers as in `onnx.proto` of the ONNX project.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<Opset>,
}

#[derive(Clone, PartialEq, Message)]
struct Opset {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Operation>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<Weights>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "4")]
    op_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct Weights {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(message, optional, tag = "1")]
    tensor: Option<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    parameter: Option<String>,
}

const FLOAT: i32 = 1;
const INT64: i32 = 7;
const STRING: i32 = 8;

fn value(name: &str, elem_type: i32, dims: &[i64]) -> Value {
    let dimension = |d: &i64| Dimension { value: (*d >= 0).then_some(*d), parameter: (*d < 0).then(|| "n".into()) };
    let shape = Shape { dim: dims.iter().map(dimension).collect() };
    Value { name: name.into(), kind: Some(Kind { tensor: Some(Tensor { elem_type, shape: Some(shape) }) }) }
}

fn operation(op_type: &str, input: &[&str], output: &str) -> Operation {
    let input = input.iter().map(|name| (*name).to_owned()).collect();
    Operation { input, output: vec![output.into()], op_type: op_type.into() }
}

fn floats(name: &str, values: &[f32]) -> Weights {
    let dims = vec![i64::try_from(values.len()).unwrap_or(0)];
    Weights { dims, data_type: FLOAT, float_data: values.to_vec(), name: name.into() }
}

fn model(node: Vec<Operation>, initializer: Vec<Weights>, input: Value, output: Value) -> Vec<u8> {
    let graph = Graph { node, name: "add".into(), initializer, input: vec![input], output: vec![output] };
    let opset_import = vec![Opset { domain: String::new(), version: 13 }];
    Model { ir_version: 8, graph: Some(graph), opset_import }.encode_to_vec()
}

/// A model with one FP32 input `x` and one output `y` of shape `[-1, 4]`, where `y = x + offset`; each offset is
/// another file.
pub fn add(offset: f32) -> Vec<u8> {
    let nodes = vec![operation("Add", &["x", "offset"], "y")];
    model(nodes, vec![floats("offset", &[offset])], value("x", FLOAT, &[-1, 4]), value("y", FLOAT, &[-1, 4]))
}

/// As [`add`], but `y = x - mean(x)` over all rows: a row's answer depends on its neighbours.
pub fn centre() -> Vec<u8> {
    let nodes = vec![operation("ReduceMean", &["x"], "mean"), operation("Sub", &["x", "mean"], "y")];
    model(nodes, Vec::new(), value("x", FLOAT, &[-1, 4]), value("y", FLOAT, &[-1, 4]))
}

/// As [`add`], for one row exactly.
pub fn add_to_one(offset: f32) -> Vec<u8> {
    let nodes = vec![operation("Add", &["x", "offset"], "y")];
    model(nodes, vec![floats("offset", &[offset])], value("x", FLOAT, &[1, 4]), value("y", FLOAT, &[1, 4]))
}

/// As [`add`], but what is added is another number each time.
pub fn dice() -> Vec<u8> {
    let nodes = vec![operation("RandomUniformLike", &["x"], "eyes"), operation("Add", &["x", "eyes"], "y")];
    model(nodes, Vec::new(), value("x", FLOAT, &[-1, 4]), value("y", FLOAT, &[-1, 4]))
}

/// A model with an FP32 input `x` and an FP32 output `y`, one number a row: `y = x · factor`.
pub fn scale(factor: f32) -> Vec<u8> {
    let nodes = vec![operation("Mul", &["x", "factor"], "y")];
    model(nodes, vec![floats("factor", &[factor])], value("x", FLOAT, &[-1]), value("y", FLOAT, &[-1]))
}

/// A model with an INT64 input `x` and an FP32 output `y` of shape `[-1]`: 0 to 3 become 0, 10, 20, 30, and anything
/// beyond fails.
pub fn look_up() -> Vec<u8> {
    look_up_in(&[0.0, 10.0, 20.0, 30.0])
}

/// As [`look_up`], in this table.
pub fn look_up_in(table: &[f32]) -> Vec<u8> {
    let nodes = vec![operation("Gather", &["table", "x"], "y")];
    model(nodes, vec![floats("table", table)], value("x", INT64, &[-1]), value("y", FLOAT, &[-1]))
}

/// A model with a BYTES input `x` and a BYTES output `y`, the same words.
pub fn echo() -> Vec<u8> {
    model(vec![operation("Identity", &["x"], "y")], Vec::new(), value("x", STRING, &[-1]), value("y", STRING, &[-1]))
}

/// The request that [`add`] answers with `offset + 1 … offset + 4`.
pub fn add_request() -> serde_json::Value {
    serde_json::json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4] }] })
}
