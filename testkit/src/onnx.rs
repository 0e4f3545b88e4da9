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

fn value(name: &str, dims: &[i64]) -> Value {
    let dimension = |d: &i64| Dimension { value: (*d >= 0).then_some(*d), parameter: (*d < 0).then(|| "n".into()) };
    let shape = Shape { dim: dims.iter().map(dimension).collect() };
    Value { name: name.into(), kind: Some(Kind { tensor: Some(Tensor { elem_type: FLOAT, shape: Some(shape) }) }) }
}

/// A model with one FP32 input `x` and one output `y` of shape `[-1, 4]`, where `y = x + offset`; each offset is
/// another file.
pub fn add(offset: f32) -> Vec<u8> {
    let graph = Graph {
        node: vec![Operation {
            input: vec!["x".into(), "offset".into()],
            output: vec!["y".into()],
            op_type: "Add".into(),
        }],
        name: "add".into(),
        initializer: vec![Weights { dims: vec![1], data_type: FLOAT, float_data: vec![offset], name: "offset".into() }],
        input: vec![value("x", &[-1, 4])],
        output: vec![value("y", &[-1, 4])],
    };
    let opset_import = vec![Opset { domain: String::new(), version: 13 }];
    Model { ir_version: 8, graph: Some(graph), opset_import }.encode_to_vec()
}

/// The request that [`add`] answers with `offset + 1 … offset + 4`.
pub fn add_request() -> serde_json::Value {
    serde_json::json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4] }] })
}
