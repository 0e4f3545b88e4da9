//! Reads an ONNX file without running it: what goes in, what comes out, and what can't be served.
//!
//! Only the fields that matter are declared; weights are skipped, not copied. `count` bounds
//! what reading takes, and `supply` what a graph may bring with it.

mod count;
mod proto;
mod supply;

use prost::Message as _;
use types::{Code, DataType, Refusal, infer::TensorSpec};

use proto::{Dimension, ModelProto, ValueInfoProto};

/// What a graph declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Its inputs, in order, without those that are weights.
    pub inputs: Vec<TensorSpec>,
    /// Names of its outputs, in order.
    pub outputs: Vec<String>,
}

/// Reads a file.
///
/// # Errors
/// `model_invalid` for what is no ONNX, `model_unsupported` for what can't be served, both with the command that
/// helps.
pub fn read(data: &[u8]) -> Result<Graph, Refusal> {
    if let Some(refusal) = other_format(data) {
        return Err(refusal);
    }
    let invalid = |why: &str| {
        Refusal::new(Code::ModelInvalid, format!("the file is no valid ONNX model: {why}"))
            .hint("check it with `python -c \"import onnx; onnx.checker.check_model('model.onnx')\"`")
    };
    count::check(data).map_err(|refused| match refused {
        count::Refused::Malformed => invalid("it is no message of ONNX"),
        count::Refused::TooMany => supply::too_much("parts", count::MOST),
    })?;
    let model = ModelProto::decode(data).map_err(|error| invalid(&error.to_string()))?;
    let graph = model.graph.ok_or_else(|| invalid("it has no graph"))?;
    if model.ir_version <= 0 || graph.output.is_empty() || graph.node.is_empty() {
        return Err(invalid("it has no version, no nodes or no outputs"));
    }
    supply::check(&graph, &model.functions, data.len() as u64)?;
    let weight = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    let inputs = graph.input.iter().filter(|input| !weight(&input.name)).map(input).collect::<Result<_, _>>()?;
    let outputs = graph.output.iter().map(output).collect::<Result<_, _>>()?;
    Ok(Graph { inputs, outputs })
}

fn unsupported(what: &str, name: &str, why: &str) -> Refusal {
    Refusal::new(Code::ModelUnsupported, format!("{what} `{name}` {why}, which the protocol can't carry"))
        .hint("export the model with tensors only; with skl2onnx: `to_onnx(model, X, options={'zipmap': False})`")
}

fn input(value: &ValueInfoProto) -> Result<TensorSpec, Refusal> {
    let tensor = value.kind.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let tensor = tensor.ok_or_else(|| unsupported("input", &value.name, "is no tensor"))?;
    let datatype = datatype(tensor.elem_type)
        .ok_or_else(|| unsupported("input", &value.name, &format!("has element type {}", tensor.elem_type)))?;
    let dimension = |dimension: &Dimension| match dimension.value {
        Some(value) if value >= 0 && dimension.parameter.is_none() => value,
        _ => -1,
    };
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dimension).collect());
    let shape = shape.ok_or_else(|| unsupported("input", &value.name, "declares no shape"))?;
    Ok(TensorSpec { name: value.name.clone(), datatype, shape, classes: Vec::new() })
}

fn output(value: &ValueInfoProto) -> Result<String, Refusal> {
    let Some(kind) = &value.kind else { return Ok(value.name.clone()) };
    if let Some(tensor) = &kind.tensor_type {
        return match datatype(tensor.elem_type) {
            Some(_) => Ok(value.name.clone()),
            None => Err(unsupported("output", &value.name, &format!("has element type {}", tensor.elem_type))),
        };
    }
    let scores = kind.sequence_type.as_ref().and_then(|s| s.elem_type.as_ref()).and_then(|e| e.map_type.as_ref());
    let is_scores = scores.is_some_and(|map| {
        let value = map.value_type.as_ref().and_then(|value| value.tensor_type.as_ref());
        matches!(map.key_type, 7 | 8) && value.is_some_and(|tensor| tensor.elem_type == 1)
    });
    if is_scores { Ok(value.name.clone()) } else { Err(unsupported("output", &value.name, "is no tensor")) }
}

/// The protocol's type for ONNX's number of an element type.
fn datatype(number: i32) -> Option<DataType> {
    Some(match number {
        1 => DataType::Fp32,
        2 => DataType::Uint8,
        3 => DataType::Int8,
        4 => DataType::Uint16,
        5 => DataType::Int16,
        6 => DataType::Int32,
        7 => DataType::Int64,
        8 => DataType::Bytes,
        9 => DataType::Bool,
        10 => DataType::Fp16,
        11 => DataType::Fp64,
        12 => DataType::Uint32,
        13 => DataType::Uint64,
        16 => DataType::Bf16,
        _ => return None,
    })
}

/// Files that people try first, each with the command that converts it.
fn other_format(data: &[u8]) -> Option<Refusal> {
    let (what, hint) = match data {
        [] => ("is empty", "export the model again"),
        [0x80, 2..=5, ..] => (
            "is a Python pickle",
            "convert it where it is trusted: `python -c \"import joblib, skl2onnx, numpy as np; m = joblib.load('model.pkl'); \
             open('model.onnx', 'wb').write(skl2onnx.to_onnx(m, np.zeros((1, m.n_features_in_), 'f4'), \
             options={'zipmap': False}).SerializeToString())\"`",
        ),
        [b'P', b'K', 3, 4, ..] => (
            "is a zip archive, as PyTorch writes",
            "convert it where it is trusted: `python -c \"import torch; m = torch.load('model.pt', weights_only=False).eval(); \
             torch.onnx.export(m, EXAMPLE_INPUT, 'model.onnx')\"`",
        ),
        [0x89, b'H', b'D', b'F', ..] => {
            ("is HDF5, as Keras writes", "convert it: `python -m tf2onnx.convert --keras model.h5 --output model.onnx`")
        }
        _ if is_json(data) => (
            "is JSON, as XGBoost writes",
            "convert it: `python -c \"import xgboost, onnxmltools; from onnxmltools.convert.common.data_types import \
             FloatTensorType as T; m = xgboost.XGBClassifier(); m.load_model('model.json'); \
             onnxmltools.utils.save_model(onnxmltools.convert_xgboost(m, initial_types=[('input', T([None, \
             m.n_features_in_]))]), 'model.onnx')\"`",
        ),
        _ => return None,
    };
    Some(Refusal::new(Code::ModelInvalid, format!("the file {what}, not ONNX")).hint(hint))
}

fn is_json(data: &[u8]) -> bool {
    let text = data.trim_ascii_start();
    text.starts_with(b"{\"") || text.starts_with(b"{\n") || text.starts_with(b"[{")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{
        proto::{EXTERNAL, GraphProto, NodeProto, Shape, TensorProto, TensorType, TypeProto},
        *,
    };

    /// The smallest file that reads as a model: one FP32 input and output of these dimensions, one node.
    pub(crate) fn tiny(dims: &[i64]) -> Vec<u8> {
        let value = |name: &str| ValueInfoProto {
            name: name.into(),
            kind: Some(TypeProto {
                tensor_type: Some(TensorType {
                    elem_type: 1,
                    shape: Some(Shape {
                        dim: dims
                            .iter()
                            .map(|d| Dimension {
                                value: (*d >= 0).then_some(*d),
                                parameter: (*d < 0).then(|| "batch".into()),
                            })
                            .collect(),
                    }),
                }),
                ..TypeProto::default()
            }),
        };
        let graph = GraphProto {
            node: vec![NodeProto { op_type: "Identity".into(), ..NodeProto::default() }],
            input: vec![value("x")],
            output: vec![value("y")],
            initializer: vec![],
        };
        ModelProto { ir_version: 8, graph: Some(graph), functions: vec![] }.encode_to_vec()
    }

    #[test]
    fn a_graph_tells_its_inputs_and_outputs() {
        let graph = read(&tiny(&[-1, 4])).unwrap();
        assert_eq!((graph.inputs[0].name.as_str(), graph.inputs[0].shape.as_slice()), ("x", &[-1, 4][..]));
        assert_eq!(graph.outputs, ["y"]);
    }

    #[test]
    fn other_files_are_named_with_their_cure() {
        for (data, part) in [
            (&b""[..], "empty"),
            (b"\x80\x04\x95....", "pickle"),
            (b"PK\x03\x04....", "PyTorch"),
            (b"{\"learner\": 1}", "XGBoost"),
            (b"\x89HDF\r\n", "Keras"),
            (b"not a model at all", "no valid ONNX"),
        ] {
            let refusal = read(data).unwrap_err();
            assert_eq!(refusal.code, Code::ModelInvalid);
            assert!(refusal.message.contains(part) && refusal.hint.is_some(), "{part}: {}", refusal.message);
        }
        let whole = tiny(&[1]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn weights_in_other_files_and_outputs_without_a_form_are_refused() {
        let mut model = ModelProto::decode(tiny(&[1]).as_slice()).unwrap();
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.push(TensorProto { name: "w".into(), data_location: EXTERNAL, dims: vec![] });
        assert_eq!(read(&model.encode_to_vec()).unwrap_err().code, Code::ModelUnsupported);
        let graph = model.graph.as_mut().unwrap();
        graph.initializer.clear();
        graph.output[0].kind = Some(TypeProto { sequence_type: Some(Box::default()), ..TypeProto::default() });
        let refusal = read(&model.encode_to_vec()).unwrap_err();
        assert!(refusal.hint.unwrap().contains("zipmap"));
    }
}
